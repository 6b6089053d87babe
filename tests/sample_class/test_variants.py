"""The sample class as courses have it: a group, a late archive, a PDF, somebody excused, ten points. Out to Canvas in every way."""

from __future__ import annotations

import csv
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from grader.cli.main import main
from tests.canvas.conftest import push
from tests.canvas.fake import TOKEN, Canvas, Student, Upload, serving
from tests.pipeline.conftest import told_without_a_kernel

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "data" / "sample_class"
PAGE = (ROOT / "docs" / "canvas.md").read_text(encoding="utf-8").partition("\n---\n")[0]
PDF, EXCUSED, TEAM, ABSENT, LATE = "41016", "41001", "41009", "41017", "41014"
GROUPS = f"name,canvas_user_id,group_name\nA,{TEAM},team_7\nB,{ABSENT},team_7\n"


@pytest.fixture
def files() -> dict[str, bytes]:
    with zipfile.ZipFile(FOLDER / "submissions.zip") as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def ids(name: str) -> tuple[str, int, str]:
    """User, attachment and the student's own name in the name of a file of the sample class."""
    user, attachment, own = re.search(r"_(41\d{3})_(7001\d\d)_(.+)", name).groups()
    return user, int(attachment), own


@pytest.fixture
def canvas(files, monkeypatch) -> Iterator[Canvas]:
    """The class in a Canvas of our own: who uploaded what, and who is excused."""
    uploads: dict[str, list[Upload]] = {}
    for name, data in files.items():
        user, attachment, own = ids(name)
        uploads.setdefault(user, []).append(Upload(attachment, own, data))
    with (FOLDER / "gradebook.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[3:-1]
    students = [
        Student(int(row[1]), row[0], row[0], uploads.get(row[1], []), excused=row[1] == EXCUSED) for row in rows
    ]
    for student in students:
        if str(student.id) in (TEAM, ABSENT):
            student.group, student.uploads = (7, "team_7"), uploads[TEAM]
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setenv("CANVAS_API_TOKEN", TOKEN)
    with serving(Canvas(students, points=10.0, groups=True)) as made:
        monkeypatch.setenv("CANVAS_API_URL", made.url)
        yield made


@pytest.fixture
def lab(tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """What lies in the teacher's folder: the download in two parts, the export with ten points and `EX`, and the groups."""
    monkeypatch.chdir(tmp_path)
    late = {name for name in files if ids(name)[0] == LATE}
    for archive, names in (("submissions.zip", files.keys() - late), ("late.zip", late)):
        with zipfile.ZipFile(archive, "w") as zipped:
            for name in sorted(names):
                zipped.writestr(name, files[name])
    export = (FOLDER / "gradebook.csv").read_text(encoding="utf-8").replace(",100,(read only)", ",10,(read only)")
    excused = f"{EXCUSED},chs-0001,stud01,DAT450 LP2,"
    assert excused in export
    Path("gradebook.csv").write_text(export.replace(excused, f"{excused}EX"), encoding="utf-8")
    Path("groups.csv").write_text(GROUPS, encoding="utf-8")
    return tmp_path


def cells(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row[1]: row[-1] for row in list(csv.reader(file))[1:]}


def documented(*words: str) -> list[str]:
    """A command as it stands on the page."""
    assert f"\ngrader {' '.join(words)}\n" in PAGE or f"`{' '.join(words[-2:])}`" in PAGE
    return list(words)


GRADE = ("grade", "submissions.zip", "--roster", "gradebook.csv", "--groups", "groups.csv", "--scale", "--out", "run")


def test_from_archive_to_gradebook_feedback_and_api(lab, canvas, monkeypatch, capsys) -> None:
    told_without_a_kernel(monkeypatch, 2, lambda _job: None)
    toy = ("--assignment", "tests.toy:TOY")
    assert main([*documented(*GRADE), *toy]) == 3
    points = dict.fromkeys(cells(Path("run/gradebook.csv")), "3.33")
    assert cells(Path("run/gradebook.csv")) == points
    assert {TEAM, ABSENT} <= points.keys() and not {PDF, EXCUSED, LATE} & points.keys() and len(points) == 14
    assert main([*documented("grade", "late.zip", "--roster", "gradebook.csv", "--out", "run"), *toy]) == 3
    assert cells(Path("run/gradebook.csv")) == points | {LATE: "3.33"}
    assert main([*GRADE, *toy, *documented("--no-notebook", "0")]) == 0
    assert cells(Path("run/gradebook.csv")) == points | {LATE: "3.33", PDF: "0"}
    assert cells(Path("run/gradebook-preview.csv"))[EXCUSED] == "excused in Canvas"
    with zipfile.ZipFile("run/feedback.zip") as zipped:
        assert len(zipped.namelist()) == 16 and sum(name.endswith(".ipynb") for name in zipped.namelist()) == 15
    assert push(Path("run"), "--send") == 0
    scores = {str(student.id): student.score for student in canvas.students if student.score is not None}
    assert scores == dict.fromkeys(points, 3.33) | {LATE: 3.33, PDF: 0.0}
    assert {len(canvas.student(int(user)).comments) for user in points.keys() - {ABSENT}} == {1}


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.timeout(2400)
def test_the_same_with_what_was_really_run(sample_class, lab, canvas, capsys) -> None:
    shutil.copytree(sample_class.run, "run")
    before = cells(Path("run/gradebook.csv"))
    capsys.readouterr()
    assert main([*GRADE, "--cpu-seconds", "100"]) == 3
    assert "0 to run" in capsys.readouterr().out
    after = cells(Path("run/gradebook.csv"))
    tenth = {user: f"{int(points) / 10:.1f}".removesuffix(".0") for user, points in before.items()}
    assert after == {user: points for user, points in tenth.items() if user != EXCUSED} | {ABSENT: tenth[TEAM]}
    assert push(Path("run"), "--send") == 0
    assert {user: canvas.student(int(user)).score for user in after} == {
        user: float(points) for user, points in after.items()
    }
