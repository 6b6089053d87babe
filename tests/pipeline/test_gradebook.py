"""From Canvas's archive and gradebook to a gradebook that may be imported: no score is made up, and no file is stale."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from grader.cli.main import main
from tests.pipeline.conftest import notebook_bytes, told_without_a_kernel

EXPORT = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Lab (98765),Final Score\n    Points Possible,,,,,{points},(read only)\n"
    '"Alfa, Anna",{first},s1,anna,A,{grade},\n"Bravo, Bo",{second},s2,bo,A,5,\n'
)
PDFS = {"alfaanna_1001_5001_lab.pdf": b"%PDF-1.4", "bravobo_1002_5002_lab åäö作.pdf": b"%PDF-1.4 b"}
NOTEBOOK = notebook_bytes("def shout(text):\n    return text.upper()")
ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence of 3 points for every notebook, without a kernel."""
    ran.clear()
    told_without_a_kernel(monkeypatch, 2, lambda job: ran.append(job.submission.id))


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    def make(files: dict[str, bytes], methods: dict[str, int] | None = None) -> Path:
        path = tmp_path / "submissions.zip"
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in files.items():
                zipped.writestr(name, data, (methods or {}).get(name, zipfile.ZIP_STORED))
        return path

    return make


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    def write(*, points: str = "9", first: str = "1001", second: str = "1002", grade: str = "") -> Path:
        path = tmp_path / "export.csv"
        path.write_text(EXPORT.format(points=points, first=first, second=second, grade=grade), encoding="utf-8")
        return path

    return write


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def grade(source: Path, roster: Path, run: Path, *more: str) -> int:
    return main(
        ["grade", str(source), "--roster", str(roster), "--out", str(run), "--assignment", "tests.toy:TOY", *more]
    )


def scores(run: Path) -> dict[str, str]:
    """What would be imported: points by id."""
    with (run / "gradebook.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lab (98765)"]
    return {row[1]: row[-1] for row in rows}


def said(text: str) -> str:
    return " ".join(text.split())


def test_pdfs_have_no_score_until_somebody_decides(archive, export, run, capsys) -> None:
    source, roster = archive(PDFS), export()
    assert grade(source, roster, run) == 3
    output = said(capsys.readouterr().out)
    assert "2 handed in no notebook that can be read: no score until you decide." in output
    assert "0 with a final score, 2 to review" in output
    assert "Alfa, Anna: No notebook: decide." in output and "is a PDF file" in output
    assert scores(run) == {}
    assert "No notebook: decide." in (run / "needs_review.csv").read_text(encoding="utf-8")
    page = (run / "class.html").read_text(encoding="utf-8")
    assert "No notebook: decide." in page and "No submission has a final score yet." in page
    student = (run / "submissions" / "1001" / "report.html").read_text(encoding="utf-8")
    assert "is a PDF file" in student and "No notebook: decide" not in student
    # one by hand, then all, which is remembered and can be taken back
    assert main(["override", str(run), "1001", "add/sum", "3", "--reason", "it was on paper"]) == 3
    assert scores(run) == {"1001": "3"}
    capsys.readouterr()
    assert grade(source, roster, run, "--no-notebook", "0") == 0
    assert scores(run) == {"1001": "3", "1002": "0"}
    told = said(capsys.readouterr().out)
    assert "holds a web page for 2 who handed in no notebook that could be annotated: Alfa, Anna, Bravo, Bo." in told
    assert grade(source, roster, run) == 0
    assert main(["rejudge", str(run)]) == 0
    assert scores(run) == {"1001": "3", "1002": "0"}
    assert grade(source, roster, run, "--no-notebook", "decide") == 3
    assert scores(run) == {"1001": "3"}
    assert ran == []


def test_who_handed_in_something_nobody_knows_whose_handed_in_something(archive, export, run, tmp_path) -> None:
    (tmp_path / "mail").mkdir()
    for name in ("Anna Alfa", "1001"):
        (tmp_path / "mail" / f"{name}.ipynb").write_bytes(NOTEBOOK)
    assert grade(tmp_path / "mail", export(), run) == 3
    with (run / "gradebook-preview.csv").open(encoding="utf-8", newline="") as file:
        why = {row["ID"]: row["Why"] for row in csv.DictReader(file)}
    assert why["1001"] == "nothing is known to be theirs" and why["1002"] == "handed in nothing"


@pytest.mark.parametrize("name", ["alfaanna_1001_text.html", "alfaanna_1001_link.html", "alfaanna_1001_5001_lab.ipynb"])
def test_a_text_a_link_and_an_empty_file_are_nobodys_zero(name, archive, export, run) -> None:
    assert grade(archive({name: b"", "bravobo_1002_5002_lab.ipynb": NOTEBOOK}), export(), run) == 3
    assert scores(run) == {"1002": "3"}
    assert "1 with a final score" not in (run / "class.html").read_text(encoding="utf-8").replace("\n", " ")


def test_a_damaged_member_is_nobodys_zero_and_the_others_are_read(archive, export, run, capsys) -> None:
    files = {f"{who}_5001_lab.ipynb": NOTEBOOK for who in ("alfaanna_1001", "bravobo_1002", "cici_1003")}
    methods = dict(zip(files, (zipfile.ZIP_LZMA, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2), strict=True))
    source = archive(files, methods)
    source.write_bytes(source.read_bytes().replace(b"return text.upper()", b"return text.Upper()"))
    assert grade(source, export(), run) == 3
    assert sorted(ran) == ["1001", "1003"]
    assert scores(run) == {"1001": "3"}
    told = said(capsys.readouterr().out)
    assert "Bravo, Bo: No notebook: decide." in told
    assert "could not be taken in: its bytes in the archive are damaged" in told


def test_points_that_do_not_fit_are_told_before_anything_is_run(archive, export, run, capsys) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, export(), run) == 0
    assert scores(run) == {"1001": "3"}
    ran.clear()
    for points, worth in (("10", "10"), ('"1,000"', "1000")):
        assert grade(source, export(points=points), run, "--force") == 2
        told = said(capsys.readouterr().err)
        assert (
            f"“Lab (98765)” is worth {worth} points in Canvas, but these scores are out of 9: convert them with --scale"
            in told
        )
        assert not (run / "gradebook.csv").exists()
    assert ran == []
    assert grade(source, export(), run) == 0
    assert scores(run) == {"1001": "3"}


@pytest.mark.parametrize("columns", ["Lab (98765),Lab (98766)", "Group", "Lab (98765),Lab (98765)"])
def test_a_column_that_is_not_there_or_not_the_only_one(columns, archive, export, run, capsys) -> None:
    roster = export(points="9,9" if "," in columns else "9")
    roster.write_text(roster.read_text().replace("Lab (98765)", columns))
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, roster, run) == 2
    assert "--column" in capsys.readouterr().err and ran == []
    if "98766" in columns:
        assert grade(source, roster, run, "--column", "98765") == 0
        assert scores(run) == {"1001": "3"}


@pytest.mark.parametrize("command", ["rejudge", "report"])
def test_what_turns_up_when_reports_are_written_leaves_no_old_file(command, archive, export, run, capsys) -> None:
    assert grade(archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK}), export(), run) == 0
    (run / "roster.csv").write_bytes(export(points="10").read_bytes())
    assert main([command, str(run)]) == 2
    assert "gradebook.csv was not written: “Lab (98765)” is worth 10 points" in said(capsys.readouterr().out)
    assert not (run / "gradebook.csv").exists()
    assert (run / "scores.csv").exists()


def test_a_list_of_names_makes_no_gradebook_and_leaves_none(archive, export, run, tmp_path) -> None:
    source, names = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK}), tmp_path / "names.csv"
    names.write_text("id,name\n1001,Anna\n")
    assert grade(source, export(), run) == 0 and (run / "gradebook.csv").exists()
    assert grade(source, names, run) == 0 and not (run / "gradebook.csv").exists()


def test_ids_that_a_spreadsheet_made_decimal_numbers(archive, export, run) -> None:
    assert grade(archive(PDFS), export(first="1001.0", second="1002.0"), run, "--no-notebook", "0") == 0
    assert scores(run) == {"1001": "0", "1002": "0"}


def test_who_is_excused_stays_so(archive, export, run, capsys) -> None:
    files = {"alfaanna_1001_5001_lab.ipynb": NOTEBOOK, "bravobo_1002_5002_lab.ipynb": NOTEBOOK}
    assert grade(archive(files), export(grade="EX"), run) == 0
    assert scores(run) == {"1002": "3"}
    assert "gradebook.csv leaves out 1 excused in Canvas (EX): Alfa, Anna." in said(capsys.readouterr().out)


def packed(run: Path) -> dict[str, bytes]:
    """What goes back to students."""
    with zipfile.ZipFile(run / "feedback.zip") as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def test_the_students_own_notebook_goes_back_with_verdicts(archive, export, run, capsys) -> None:
    source = archive({"alfaanna_1001_5001_lab 1.ipynb": NOTEBOOK})
    assert grade(source, export(), run) == 0
    assert f"To send back with Upload Submissions: {run}/feedback.zip" in capsys.readouterr().out.replace("\n", "")
    files = packed(run)
    assert list(files) == ["alfaanna_1001_5001_lab 1-graded.ipynb"]
    cells = nbformat.reads(files["alfaanna_1001_5001_lab 1-graded.ipynb"].decode(), as_version=4).cells
    names = [cell.metadata.get("grader", cell.source) for cell in cells]
    assert names == ["summary", "def shout(text):\n    return text.upper()", "below-0"], "below where it is defined"
    assert "3 / 3" in cells[2].source and "add" not in cells[2].source
    assert grade(source, export(), run, "--feedback", "html") == 0
    assert list(packed(run)) == ["alfaanna_1001_5001_report.html"]
    assert "which then does not open" in said(capsys.readouterr().out)
    assert grade(source, export(), run) == 0
    assert list(packed(run)) == ["alfaanna_1001_5001_report.html"], "remembered"


def test_who_handed_in_an_archive_gets_an_archive(archive, export, run) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as zipped:
        zipped.writestr("my/lab.ipynb", NOTEBOOK)
    assert grade(archive({"alfaanna_1001_5001_all.zip": inner.getvalue()}), export(), run) == 0
    ((name, data),) = packed(run).items()
    assert name == "alfaanna_1001_5001_lab-graded.zip", "Canvas shows it as all.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        assert zipped.namelist() == ["lab-graded.ipynb"]
        assert (
            nbformat.reads(zipped.read("lab-graded.ipynb").decode(), as_version=4).cells[0].metadata.grader == "summary"
        )


def test_who_has_no_score_any_more_gets_no_old_notebook(archive, export, run) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, export(), run) == 0
    annotated = run / "submissions" / "1001" / "annotated.ipynb"
    assert annotated.is_file()
    (run / "submissions" / "1001" / "evidence.json").write_text("{", encoding="utf-8")
    assert main(["rejudge", str(run)]) == 4
    assert not annotated.exists() and packed(run) == {}


def preview(run: Path) -> dict[str, list[str]]:
    """The preview: cell in Canvas, what is imported, and why, by id."""
    with (run / "gradebook-preview.csv").open(encoding="utf-8", newline="") as file:
        return {row[1]: row[2:] for row in list(csv.reader(file))[1:]}


def test_to_whom_it_is_not_assigned_gets_nothing(archive, export, run, capsys) -> None:
    files = {"alfaanna_1001_5001_lab.ipynb": NOTEBOOK, "bravobo_1002_5002_lab.ipynb": NOTEBOOK}
    assert grade(archive(files), export(grade="N/A"), run) == 0
    assert scores(run) == {"1002": "3"}
    assert "leaves out 1 to whom it is not assigned in Canvas (N/A): Alfa, Anna." in said(capsys.readouterr().out)
    assert preview(run) == {"1001": ["N/A", "", "not assigned in Canvas"], "1002": ["5", "3", "changed"]}


def test_a_grade_set_by_hand_since_the_export_stays(archive, export, run, capsys) -> None:
    files = {"alfaanna_1001_5001_lab.ipynb": NOTEBOOK, "bravobo_1002_5002_lab.ipynb": NOTEBOOK}
    source = archive(files)
    assert grade(source, export(grade="1"), run) == 0
    assert scores(run) == {"1001": "3", "1002": "3"}, "what was there at the first export is shown and overwritten"
    assert grade(source, export(grade="3.00"), run) == 0, "imported, and exported again"
    assert preview(run) == {"1001": ["3.00", "3", "as it is in Canvas"], "1002": ["5", "3", "changed"]}
    for _ in range(2):  # once seen, it stays
        assert grade(source, export(grade="7.5"), run) == 0
        assert scores(run) == {"1002": "3"}
        told = said(capsys.readouterr().out)
        assert "1 whose grade was set by hand in Canvas since it was first exported: Alfa, Anna (7.5)." in told
    assert main(["override", str(run), "1001", "add/sum", "3", "--reason", "on paper"]) == 0
    assert scores(run) == {"1002": "3"}, "also when its own score changes"
    assert grade(source, export(grade=""), run) == 0
    assert scores(run) == {"1001": "6", "1002": "3"}, "who clears the cell gives it back"


def test_scores_are_converted_when_asked_and_that_is_remembered(archive, export, run) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, export(points="4.5"), run) == 2
    assert grade(source, export(points="4.5"), run, "--scale") == 0
    assert scores(run) == {"1001": "1.5"}
    assert main(["rejudge", str(run)]) == 0
    assert scores(run) == {"1001": "1.5"}
    assert grade(source, export(points="4.5"), run, "--no-scale") == 2
    assert not (run / "gradebook.csv").exists() and not (run / "gradebook-preview.csv").exists()


def test_what_the_command_was_told_is_remembered(archive, export, run) -> None:
    source, roster = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK}), export(points="9,9")
    roster.write_text(roster.read_text().replace("Lab (98765)", "Lab (98765),Lab (98766)"))
    assert grade(source, roster, run, "--column", "98765", "--title", "Lab two") == 0
    again = ["grade", str(source), "--out", str(run), "--assignment", "tests.toy:TOY"]
    assert main([*again, "--force"]) == 0
    assert scores(run) == {"1001": "3"}
    assert "Lab two" in (run / "class.html").read_text(encoding="utf-8")
    assert main([*again, "--column", "98766", "--title", ""]) == 0
    assert "Lab (98766)" in (run / "gradebook.csv").read_text(encoding="utf-8")
    assert "Lab two" not in (run / "class.html").read_text(encoding="utf-8")


def test_another_assignment_leaves_the_gradebook_of_a_run_alone(archive, export, run, capsys) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, export(), run) == 0
    before = (run / "gradebook.csv").read_bytes()
    other = ["grade", str(source), "--roster", str(export(points="10")), "--out", str(run)]
    assert main(other) == 2
    assert "holds a run of tests.toy:TOY" in said(capsys.readouterr().err)
    assert (run / "gradebook.csv").read_bytes() == before


def test_the_preview_names_everybody_and_why(archive, export, run) -> None:
    files = {"alfaanna_1001_5001_lab.ipynb": NOTEBOOK, "bravobo_1002_5002_lab.pdf": b"%PDF-1.4"}
    roster = export()
    roster.write_text(roster.read_text() + '"=Cai, Cy",1003,s3,cy,A,,\n')
    assert grade(archive(files), roster, run) == 3
    assert preview(run) == {
        "1001": ["", "3", "new"],
        "1002": ["5", "", "no notebook: decide"],
        "1003": ["", "", "handed in nothing"],
    }
    assert '"=""=Cai, Cy""",1003' in (run / "gradebook-preview.csv").read_text(encoding="utf-8")


def test_an_archive_that_yields_nothing_is_an_error_with_its_reason(archive, export, run, capsys) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    data = bytearray(source.read_bytes())
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.find(mark) + flags] |= 1
    source.write_bytes(data)
    assert grade(source, export(), run) == 2
    assert "was left out because it is encrypted" in said(capsys.readouterr().err)


def test_a_list_of_another_course_stops_before_anything_is_run(archive, export, run, capsys) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, export(first="2001", second="2002"), run) == 2
    told = said(capsys.readouterr().err)
    assert "nobody who handed in stands in the class list" in told and "Alfa, Anna (2001)" in told
    assert ran == [] and not (run / "roster.csv").exists()
    assert grade(source, export(first="1001", second="2002"), run) == 0


@pytest.mark.parametrize(
    "claims",
    [
        {"1001.ipynb": NOTEBOOK, "Anna Alfa.ipynb": NOTEBOOK},
        {"dropped_999_5002_x_1001_5003_lab.ipynb": NOTEBOOK},
    ],
)
def test_what_may_be_two_peoples_counts_for_nobody(
    claims: dict[str, bytes], archive: Callable[..., Path], export: Callable[..., Path], run: Path
) -> None:
    assert grade(archive({**claims, "bravobo_1002_5004_lab.ipynb": NOTEBOOK}), export(), run) == 3
    assert set(scores(run)) <= {"1002"}
    assert "Whose it is: decide." in (run / "needs_review.csv").read_text(encoding="utf-8")
    doubtful = [folder for folder in (run / "submissions").iterdir() if folder.name.startswith("undecided-")]
    assert doubtful and {folder.name for folder in doubtful} <= set(ran), "judged, so that a person can decide"
    for folder in doubtful:
        assert "Alfa, Anna" in (folder / "instructor.html").read_text(encoding="utf-8")
        assert "Alfa, Anna" not in (folder / "report.html").read_text(encoding="utf-8")
    with zipfile.ZipFile(run / "feedback.zip") as feedback:
        assert not [name for name in feedback.namelist() if "_1001_" in name]


def test_a_late_archive_adds_to_the_class(archive, export, run, capsys) -> None:
    roster = export()
    assert grade(archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK}), roster, run) == 0
    late = archive({"bravobo_LATE_1002_5002_lab.ipynb": NOTEBOOK})
    capsys.readouterr()
    assert grade(late, roster, run) == 0
    assert scores(run) == {"1001": "3", "1002": "3"}
    assert ran == ["1001", "1002"], "what was run is not run again"
    said_so = "1 in none of today's sources, kept from earlier ones (--replace leaves them out): Alfa, Anna."
    assert said_so in said(capsys.readouterr().out) and "kept from earlier ones" in (run / "class.html").read_text()
    assert grade(late, roster, run, "--replace") == 0
    assert scores(run) == {"1002": "3"}


def test_groups_are_given_once_and_remembered(archive, export, run, tmp_path) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text(
        "name,canvas_user_id,user_id,login_id,sections,group_name\nAnna,1001,,,A,Team 7\nBo,1002,,,A,Team 7\n"
    )
    source = archive({"team7_1002_5002_lab.ipynb": NOTEBOOK})
    assert grade(source, export(), run, "--groups", str(groups)) == 0
    assert scores(run) == {"1001": "3", "1002": "3"}
    groups.unlink()
    for more in ([], ["--roster", str(export())]):
        command = ["grade", str(source), "--out", str(run), "--assignment", "tests.toy:TOY", "--force", *more]
        assert main(command) == 0
        assert scores(run) == {"1001": "3", "1002": "3"}


def test_groups_need_a_class_list(archive, run, tmp_path, capsys) -> None:
    (tmp_path / "groups.csv").write_text("canvas_user_id,name,group_name\n1,A,T\n")
    source = str(archive(PDFS))
    assert main(["grade", source, "--out", str(run), "--groups", str(tmp_path / "groups.csv")]) == 2
    assert "give the class list, too, with --roster" in said(capsys.readouterr().err)
