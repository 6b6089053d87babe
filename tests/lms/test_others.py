"""Gradescope, PrairieLearn and Moodle."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from grader.cli.main import main
from grader.errors import UsageError
from grader.intake import read_roster
from grader.lms.others import gradescope_results, moodle_worksheet, prairielearn_results
from grader.records import (
    CriterionResult,
    Execution,
    Notice,
    Outcome,
    Report,
    Score,
    Status,
    Submission,
    Usage,
    Verdict,
)


def report(*, problem: str | None = None, execution: Execution | None = None) -> Report:
    criteria = (
        CriterionResult("a/one", "Counts.", 8, 8, Verdict(Status.PASSED, "12 seen")),
        CriterionResult("a/two", "Freezes <b>.", 6, 0, Verdict(Status.FAILED, "7 seen", "Try it.")),
        CriterionResult("b/one", "Trains.", 5, 0, Verdict(Status.SKIPPED, because="a/two")),
        CriterionResult("b/two", "Learns.", 10, None, Verdict(Status.ERROR, "our fault")),
    )
    return Report(
        assignment="finetuning",
        assignment_title="Fine-tuning",
        submission=Submission("1", ("1",), "Å", "lab.ipynb", "x", "y", problem=problem),
        execution=execution,
        adaptations=(),
        notices=(Notice("late", "Handed in late."),),
        score=Score(criteria, 29, None, ("b/two: the check broke",)),
    )


def test_gradescope() -> None:
    ran = Execution(Outcome.COMPLETED, (), Usage(wall_seconds=136.4), "warm", {}, "standin")
    results = json.loads(gradescope_results(report(execution=ran)))
    assert sum(test["max_score"] for test in results["tests"]) == 29
    assert sum(test["score"] for test in results["tests"]) == results["score"] == 8
    assert [test.get("status") for test in results["tests"]] == ["passed", "failed", "failed", None]
    assert results["tests"][1]["output"] == "Seen: 7 seen\nTry: Try it."
    assert results["tests"][3]["output"].startswith("Not decided yet")
    assert "Not final yet: b/two" in results["output"] and "late" in results["output"]
    assert results["execution_time"] == 136
    formats = {
        results["output_format"],
        *(test[key] for test in results["tests"] for key in ("output_format", "name_format")),
    }
    assert formats == {"text"}, "nothing a student wrote is rendered"


def test_points_set_by_hand_are_told_as_such() -> None:
    made = report()
    lost = made.score.criteria[1]
    by_hand = replace(lost, earned=lost.points, override="She explained it.")
    made = replace(made, score=replace(made.score, criteria=(by_hand,)))
    (test,) = json.loads(gradescope_results(made))["tests"]
    assert test["status"] == "passed" and "by hand: She explained it." in test["output"]
    (test,) = json.loads(prairielearn_results(made))["tests"]
    assert "by hand: She explained it." in test["message"]


def test_gradescope_without_a_run() -> None:
    results = json.loads(gradescope_results(report(problem="No notebook was handed in.")))
    assert results["output"].startswith("No notebook was handed in.") and "execution_time" not in results


# The published rules of PrairieLearn's external graders.
PRAIRIELEARN = {
    "type": "object",
    "required": ["gradable"],
    "additionalProperties": False,
    "properties": {
        "gradable": {"type": "boolean"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "message": {"type": "string"},
        "output": {"type": "string"},
        "format_errors": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "points", "max_points"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "description": {"type": "string"},
                    "points": {"type": "number"},
                    "max_points": {"type": "number"},
                    "message": {"type": "string"},
                    "output": {"type": "string"},
                },
            },
        },
    },
}


def test_prairielearn() -> None:
    unsettled = report()
    results = json.loads(prairielearn_results(unsettled))
    jsonschema.validate(results, PRAIRIELEARN)
    assert results["gradable"] is False and results["score"] == 0
    assert results["format_errors"] == ["Not final yet: b/two: the check broke"]
    settled = replace(unsettled, score=replace(unsettled.score, total=8, review=()))
    results = json.loads(prairielearn_results(settled))
    jsonschema.validate(results, PRAIRIELEARN)
    assert results["gradable"] is True and results["score"] == pytest.approx(8 / 29)
    assert sum(test["points"] for test in results["tests"]) == 8
    assert sum(test["max_points"] for test in results["tests"]) == 29
    assert results["tests"][1]["message"] == "Seen: 7 seen\nTry: Try it."


def test_prairielearn_takes_at_most_a_megabyte() -> None:
    words = tuple(Notice("x", "å" * 50_000) for _ in range(40))
    assert len(prairielearn_results(replace(report(), notices=words)).encode()) < 1_000_000


SHEET = (
    "\ufeffIdentifier,Full name,Status,Grade,Maximum Grade,Last modified (grade),Feedback comments\n"
    'Participant 12,"Å, B",Submitted,,"100,00",-,\nParticipant 13,C,Submitted,50.00,100.00,-,old\n'
)


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "roster.csv"
    path.write_text(SHEET, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_moodle_worksheet(sheet: Path, separator: str) -> None:
    rows = csv.reader(io.StringIO(SHEET))
    with sheet.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    assert moodle_worksheet(sheet, {"12": 85, "13": None, "99": 1}) == (
        "Identifier,Full name,Status,Grade,Maximum Grade,Last modified (grade),Feedback comments\n"
        'Participant 12,"Å, B",Submitted,85,"100,00",-,\nParticipant 13,C,Submitted,50.00,100.00,-,old\n'
    )


def test_moodle_worksheet_is_a_class_list(sheet: Path) -> None:
    assert [(entry.id, entry.name) for entry in read_roster(sheet).entries] == [("12", "Å, B"), ("13", "C")]


def test_moodle_worksheet_refuses_what_it_cannot_fill_in(sheet: Path) -> None:
    with pytest.raises(UsageError, match="maximum is 100"):
        moodle_worksheet(sheet, {"12": 101})
    sheet.write_text("Bezeichner,Bewertung\n1,2\n")
    with pytest.raises(UsageError, match="Identifier and Grade are needed"):
        moodle_worksheet(sheet, {})


def test_report_writes_for_gradescope_and_moodle(
    tmp_path: Path, sheet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in" / "Å, B_12_assignsubmission_file_"
    source.mkdir(parents=True)
    (source / "lab.pdf").write_bytes(b"%PDF")
    run = str(tmp_path / "run")
    command = ["grade", str(tmp_path / "in"), "--roster", str(sheet), "--out", run]
    assert main(command) == 3
    assert main(["report", run, "--format", "moodle"]) == 3
    assert 'Participant 12,"Å, B",Submitted,,"100,00"' in (tmp_path / "run" / "moodle.csv").read_text()
    assert main([*command, "--no-notebook", "0"]) == 0
    capsys.readouterr()
    assert main(["report", run, "--format", "gradescope,moodle"]) == 0
    assert "not written" not in capsys.readouterr().out
    assert 'Participant 12,"Å, B",Submitted,0,"100,00"' in (tmp_path / "run" / "moodle.csv").read_text()
    results = json.loads((tmp_path / "run" / "submissions" / "12" / "results.json").read_text())
    assert results["score"] == 0 and "PDF" in results["output"]
    (tmp_path / "run" / "roster.csv").write_text("id,name\n12,B\n")
    assert main(["report", run, "--format", "moodle"]) == 2
    assert "moodle.csv was not written" in capsys.readouterr().err
