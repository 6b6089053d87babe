"""Gradescope and Moodle."""

from __future__ import annotations

import json

import pytest

from grader.errors import UsageError
from grader.lms import gradescope_results, moodle_worksheet
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
    results = gradescope_results(report(execution=ran))
    assert json.loads(json.dumps(results)) == results
    assert sum(test["max_score"] for test in results["tests"]) == 29
    assert sum(test["score"] for test in results["tests"]) == results["score"] == 8
    assert [test.get("status") for test in results["tests"]] == ["passed", "failed", "failed", None]
    assert results["tests"][1]["output"] == "7 seen\nHint: Try it."
    assert results["tests"][3]["output"].startswith("Needs review")
    assert "Needs review: b/two" in results["output"] and "late" in results["output"]
    assert results["execution_time"] == 136
    formats = {
        results["output_format"],
        *(test[key] for test in results["tests"] for key in ("output_format", "name_format")),
    }
    assert formats == {"text"}, "nothing a student wrote is rendered"


def test_gradescope_without_a_run() -> None:
    results = gradescope_results(report(problem="No notebook was handed in."))
    assert results["output"].startswith("No notebook was handed in.") and "execution_time" not in results


SHEET = (
    "\ufeffIdentifier,Full name,Status,Grade,Maximum Grade,Last modified (grade),Feedback comments\n"
    'Participant 12,"Å, B",Submitted,,"100,00",-,\nParticipant 13,C,Submitted,50.00,100.00,-,old\n'
)


def test_moodle_worksheet() -> None:
    text = moodle_worksheet(SHEET, {"12": 85, "13": None, "99": 1}, {"12": "Well, done", "13": "new"})
    assert text == (
        "Identifier,Full name,Status,Grade,Maximum Grade,Last modified (grade),Feedback comments\n"
        'Participant 12,"Å, B",Submitted,85,"100,00",-,"Well, done"\nParticipant 13,C,Submitted,50.00,100.00,-,old\n'
    )


def test_moodle_comments_are_text() -> None:
    text = moodle_worksheet(SHEET, {"12": 1, "13": 2}, {"12": "=1+1", "13": "a <script>\nb"})
    assert ", =1+1\n" in text and "a &lt;script&gt;<br>b" in text


def test_moodle_worksheet_refuses_what_it_cannot_fill_in() -> None:
    with pytest.raises(UsageError, match="maximum is 100"):
        moodle_worksheet(SHEET, {"12": 101})
    for text in ("", "Bezeichner,Bewertung\n1,2\n"):
        with pytest.raises(UsageError, match="Identifier and Grade are needed"):
            moodle_worksheet(text, {})
