"""Points set by hand: one, a class, a table, taken back; what builds on them; who did it and when."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from grader.cli.main import main
from grader.records import Attempt, Evidence, Execution, Notebook, Observation, Outcome, SubmissionRun, Usage
from grader.runs.directory import Done, IntakeRecord, RunDirectory, RunInfo, load_context
from tests.pipeline.conftest import submission_of
from tests.toy import TOY

NAMES = {"1001": "Svensson, Åsa", "1002": "Bo Li", "1003": "Bo Li", "1004": "Cy Dee"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four students whose `add` is wrong for small numbers; what `shout` gives could not be read."""
    run = RunDirectory(tmp_path / "run")
    run.start(RunInfo("tests.toy:TOY", "standin", "", "", "none", "test"), b"a secret of judges")
    submissions = [replace(submission_of(name.encode(), student), display_name=name) for student, name in NAMES.items()]
    run.write("intake.json", IntakeRecord(tuple(submissions)))
    context = load_context(run.info(), run.secret())
    seen = {
        "add/sum": Observation(Attempt.VALUE, 1),
        "add/negative": Observation(Attempt.VALUE, -7),
        "shout/upper": Observation(Attempt.FAULT, error="It could not be read."),
    }
    for one in submissions:
        execution = Execution(Outcome.COMPLETED, (), Usage(), "none", {}, "standin")
        run.save_result(
            one.id, SubmissionRun(Notebook((), 0), execution, Evidence(context.seed(one), seen)), Done({}, 1.0, 1.0)
        )
    assert main(["rejudge", str(run.root)]) == 3
    return run.root


def points(run: Path, student: str) -> dict[str, str]:
    with (run / "scores.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["submission"] == student)
    return {name: row[name] for name in ("total", "certain", *TOY.checks)}


def by_hand(run: Path, *words: str) -> int:
    return main(["override", str(run), *words])


def test_what_builds_on_a_settled_criterion_is_judged_again(run) -> None:
    assert points(run, "1001") == {"total": "", "certain": "0", "add/sum": "0", "add/negative": "0", "shout/upper": ""}
    assert by_hand(run, "1001", "add/sum", "3.5", "--reason", "nearly") == 3
    assert points(run, "1001")["add/negative"] == "0", "it did not get all its points"
    assert by_hand(run, "1001", "add/sum", "4", "--reason", "the numbers were too small to tell") == 3
    assert points(run, "1001")["add/negative"] == "2"


def test_what_builds_on_a_review_is_settled_with_it(run) -> None:
    directory = RunDirectory(run)
    name = "submissions/1002/evidence.json"
    evidence = directory.read(name, Evidence)
    unread = Observation(Attempt.FAULT, error="It could not be read.")
    directory.write(name, replace(evidence, observations={**evidence.observations, "add/sum": unread}))
    assert by_hand(run, "1002", "shout/upper", "3", "--reason", "looked at") == 3
    assert points(run, "1002")["add/negative"] == "", "what it builds on needs review"
    assert by_hand(run, "1002", "add/sum", "1", "--reason", "wrong, but tried") == 3
    assert points(run, "1002") == {
        "total": "4",
        "certain": "4",
        "add/sum": "1",
        "add/negative": "0",
        "shout/upper": "3",
    }
    assert by_hand(run, "1002", "add/sum", "4", "--reason", "right") == 3
    assert points(run, "1002")["total"] == "9"


@pytest.mark.parametrize("who", ["1001", "Svensson, Åsa", "åsa svensson"])
def test_half_points_by_id_or_name_and_back(who, run, capsys) -> None:
    assert by_hand(run, who, "shout/upper", "2,5", "--reason", "in a comment") == 3
    assert "shout/upper review -> 2.5" in capsys.readouterr().out
    assert points(run, "1001") == {
        "total": "2.5", "certain": "2.5", "add/sum": "0", "add/negative": "0", "shout/upper": "2.5"
    }  # fmt: skip
    report = json.loads((run / "submissions/1001/report.json").read_text(encoding="utf-8"))
    assert (report["score"]["total"], report["score"]["possible"]) == (2.5, 9)
    assert "2.5" in (run / "submissions/1001/report.html").read_text(encoding="utf-8")
    assert by_hand(run, who, "add/sum", "0.5", "--reason", "the idea") == 3
    assert points(run, "1001")["total"] == "3", "two halves are a whole point"
    assert by_hand(run, who, "shout/upper", "--undo") == 3
    assert points(run, "1001")["total"] == ""


def test_a_whole_class_at_once(run, capsys) -> None:
    assert by_hand(run, "--all", "shout/upper", "3", "--reason", "the question was unclear") == 0
    assert "4 criteria changed." in capsys.readouterr().out
    assert [points(run, student)["total"] for student in NAMES] == ["3"] * 4
    assert by_hand(run, "--all", "shout/upper", "--undo") == 3
    assert [points(run, student)["total"] for student in NAMES] == [""] * 4


def test_a_submission_without_a_notebook_is_told_once(run, capsys) -> None:
    directory = RunDirectory(run)
    paper, *others = directory.submissions()
    paper = replace(paper, path="", problem="It is a PDF.")
    directory.write("intake.json", IntakeRecord((paper, *others)))
    assert main(["rejudge", str(run)]) == 3
    capsys.readouterr()
    assert by_hand(run, "1001", "shout/upper", "3", "--reason", "read on paper") == 3
    assert capsys.readouterr().out.startswith("Svensson, Åsa: review -> 3\n1 criterion changed.\n")
    assert points(run, "1001")["total"] == "3"
    assert by_hand(run, "1001", "shout/upper", "--undo") == 3
    assert "Svensson, Åsa: 3 -> review\n" in capsys.readouterr().out


def test_points_for_a_class_decide_on_no_pdf(run, capsys) -> None:
    directory = RunDirectory(run)
    paper, *others = directory.submissions()
    directory.write("intake.json", IntakeRecord((replace(paper, path="", problem="It is a PDF."), *others)))
    assert main(["rejudge", str(run)]) == 3
    assert by_hand(run, "--all", "shout/upper", "3", "--reason", "the question was unclear") == 3
    assert "Left out, without a notebook and not decided yet: Svensson, Åsa." in capsys.readouterr().out
    assert [points(run, student)["total"] for student in NAMES] == ["", "3", "3", "3"]


def test_points_for_a_pdf_do_not_count_for_the_notebook_after_it(run, tmp_path) -> None:
    directory = RunDirectory(run)
    file, *others = directory.submissions()
    paper = replace(file, path="", sha256="0" * 64, problem="It is a PDF.")
    directory.write("intake.json", IntakeRecord((paper, *others)))
    assert main(["rejudge", str(run)]) == 3
    (tmp_path / "filled.csv").write_text("submission,criterion,give,explanation\n1001,,0,a PDF\n")
    assert by_hand(run, "--from", str(tmp_path / "filled.csv")) == 3
    assert points(run, "1001")["total"] == "0"
    assert by_hand(run, "1002", "shout/upper", "3", "--reason", "looked at") == 3
    newer = replace(others[0], sha256="1" * 64)
    directory.write("intake.json", IntakeRecord((file, newer, *others[1:])))
    assert main(["rejudge", str(run)]) == 3
    assert points(run, "1001")["total"] == "", "the notebook is judged as if nothing had been set"
    assert points(run, "1002")["total"] == "3", "what a person set for a notebook wins over a newer one, too"
    page = (run / "class.html").read_text(encoding="utf-8")
    assert "replaced since do not count" in page and "replaced since still count" in page
    student = (run / "submissions/1001/report.html").read_text(encoding="utf-8")
    assert "replaced since" not in student


def test_the_review_table_filled_in(run, tmp_path) -> None:
    with (run / "needs_review.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, give in zip(rows, ("3", "1,5", "", "0"), strict=True):
        row |= {"give": give, "explanation": "looked at" if give else ""}
    filled = tmp_path / "filled.csv"
    for separator in ",;":  # as a spreadsheet saves it
        with filled.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
            writer.writeheader()
            writer.writerows(rows)
        assert by_hand(run, "--from", str(filled)) == 3
        assert [points(run, student)["total"] for student in NAMES] == ["3", "1.5", "", "0"]
        assert by_hand(run, "--all", "shout/upper", "--undo") == 3


def test_without_a_criterion_only_nothing_is_given(run, tmp_path, capsys) -> None:
    filled = tmp_path / "filled.csv"
    filled.write_text("submission,criterion,give,explanation\n1004,,0,nothing was handed in\n")
    assert by_hand(run, "--from", str(filled)) == 3
    assert points(run, "1004")["total"] == "0"
    filled.write_text("submission,criterion,give,explanation\n1004,,9,all\n")
    assert by_hand(run, "--from", str(filled)) == 2
    assert "without a criterion only 0 can be given" in " ".join(capsys.readouterr().err.split())


HEAD = "submission,criterion,give,explanation\n1001,shout/upper,3,fine\n"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (HEAD + "77,shout/upper,3,x\n", "row 3: no submission '77'; nothing was set"),
        (HEAD + "1002,nothing,3,x\n", "row 3: no criterion 'nothing'"),
        (HEAD + "1002,shout/upper,9,x\n", "row 3: shout/upper has 3 points; 9 is out of range"),
        (HEAD + "1002,shout/upper,2.25,x\n", "row 3: 2.25 is not a number of points"),
        (HEAD + "1002,shout/upper,2,\n", "row 3: `explanation` is empty"),
        ("submission,criterion,give,explanation\n1001,shout/upper,,\n", "has nothing in its column `give`"),
        ("a,b\n1,2\n", "has no column submission, criterion, give, explanation"),
    ],
)
def test_a_table_with_a_fault_sets_nothing(table, words, run, tmp_path, capsys) -> None:
    filled = tmp_path / "filled.csv"
    filled.write_text(table)
    assert by_hand(run, "--from", str(filled)) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (run / "overrides.jsonl").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["Bo Li", "shout/upper", "3", "--reason", "x"], "Bo Li is the name of several: 1002, 1003; give the id"),
        (["1001", "shout/upper", "2.25", "--reason", "x"], "2.25 is not a number of points; whole and half ones"),
        (["1001", "shout/upper", "nan", "--reason", "x"], "nan is not a number of points"),
        (["1001", "shout/upper", "--reason", "x"], "give WHO, CRITERION, POINTS after the run"),
        (["--all", "1001", "shout/upper", "3", "--reason", "x"], "give CRITERION, POINTS after the run"),
        (["1001", "shout/upper", "3", "--undo"], "give WHO, CRITERION after the run"),
        (["1001", "--from", "FILE"], "--from takes everything from the table"),
    ],
)
def test_a_command_with_a_fault_sets_nothing(command, words, run, tmp_path, capsys) -> None:
    (tmp_path / "filled.csv").write_text(HEAD)
    assert by_hand(run, *(str(tmp_path / "filled.csv") if word == "FILE" else word for word in command)) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (run / "overrides.jsonl").exists()


def test_the_ledger_says_who_and_when(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "teacher")
    for _ in range(2):
        assert by_hand(run, "1001", "shout/upper", "3", "--reason", "fine") == 3
    lines = [json.loads(line) for line in (run / "overrides.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 and lines[0]["by"] == "teacher"
    assert lines[0]["at"].endswith("+00:00") and len(lines[0]["at"]) == 25


def test_part_of_a_name_is_answered_with_the_name(run, capsys) -> None:
    assert by_hand(run, "svens", "add/sum", "3", "--reason", "x") == 2
    assert "no submission 'svens'; did you mean Svensson, Åsa?" in capsys.readouterr().err
