"""What a course lets students see of a criterion holds wherever a student looks, whichever criterion it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import nbformat
import pytest

from grader.assignments.finetuning import ASSIGNMENT
from grader.lms.others import gradescope_results, prairielearn_results
from grader.records import CriterionResult, Notice, Reading, Report, Status, Verdict
from grader.reports import (
    annotated_notebook,
    for_student,
    junit_xml,
    report_html,
    report_json,
    report_markdown,
    submission_panel,
)
from grader.rubric.shown import FURTHER, redacted, with_numbers
from grader.selfcheck.card import Card, Row
from tests.reports import samples
from tests.reports.helpers import printed

NOTEBOOK = nbformat.writes(
    nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"x = {number}") for number in range(30)])
).encode()


def rows(report: Report) -> list[Row]:
    return [Row.of(result, result.verdict) for result in report.score.criteria]


OUTPUTS: dict[str, Callable[[Report], str]] = {
    "page": lambda report: report_html(report, "student"),
    "JSON": report_json,
    "Markdown": report_markdown,
    "JUnit": lambda report: junit_xml([report]),
    "terminal": lambda report: printed(submission_panel(report), 10_000),
    "annotated notebook": lambda report: annotated_notebook(NOTEBOOK, report) or "",
    "Gradescope": gradescope_results,
    "PrairieLearn": prairielearn_results,
    "card": lambda report: str(Card("", rows(report))),
    "card in a notebook": lambda report: Card("", rows(report))._repr_html_(),
}
"""Everything that a student can look at; each starts from `for_student`."""
TITLE = "SecretTitle"
DETAILS = ("SecretSeen", "SecretTry", "SecretNote", "SecretPage", "secret.example", "0.4321")


def report(show: str, status: Status = Status.FAILED, override: str = "", of: str = "lora/accuracy") -> Report:
    """A report with words of their own at one criterion, of which another one speaks by name."""
    verdict = Verdict(status, "SecretSeen", "SecretTry", notices=(Notice("renamed", "SecretNote"),))
    made = samples.score(
        {"head/trained": Verdict(Status.FAILED, f"That follows from `{of}`.", f"See {of}.", because=of)}
    )
    page = Reading("SecretPage", "https://secret.example/page")

    def one(result: CriterionResult) -> CriterionResult:
        if result.id != of:
            return result
        changed = replace(result, title=TITLE, verdict=verdict, override=override, show=show, cell=7, read=page)
        return replace(changed, earned={Status.PASSED: result.points, Status.ERROR: None}.get(status, 0))

    metrics = {"methods": {"lora": {"accuracy": 0.4321, "threshold": 0.8}, "full": {"accuracy": 0.9}}, "runs_seen": 3}
    told = (
        f"Points: {of} 4.",
        "Minimum accuracy: lora 0.4321.",
        "Limits: cpu_seconds 901.",
        f"Students see: {of} {show}.",
    )
    return replace(
        samples.perfect(), settings=told, metrics=metrics, score=replace(made, criteria=tuple(map(one, made.criteria)))
    )


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("show", ["all", "titles", "nothing"])
def test_students_see_as_much_as_the_course_says(show: str, status: Status, output: str) -> None:
    text = OUTPUTS[output](for_student(report(show, status)))
    assert (TITLE in text) is (show != "nothing")
    assert ("lora/accuracy" in text or "accuracy: SecretTitle" in text) <= (show != "nothing"), "nor its name"
    if show == "all" and status is Status.FAILED:
        assert {"SecretSeen", "SecretTry"} <= {detail for detail in DETAILS if detail in text}
    if show != "all":
        assert [detail for detail in DETAILS if detail in text] == []
    if show == "nothing":
        assert FURTHER.rstrip(".") in text


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_reason_by_hand_is_hidden_with_the_criterion(output: str) -> None:
    told = {show: OUTPUTS[output](for_student(report(show, override="SecretReason"))) for show in ("titles", "nothing")}
    assert "SecretReason" not in told["nothing"]
    assert ("SecretReason" in told["titles"]) is (not output.startswith("card")), "nobody decides on a self-check"


def test_values_are_told_where_all_is_shown() -> None:
    told = {show: for_student(report(show)).settings for show in ("all", "titles", "nothing")}
    assert told["nothing"] == ("Limits: cpu_seconds 901.",)
    assert told["titles"] == ("Points: lora/accuracy 4.", "Limits: cpu_seconds 901.")
    assert told["all"] == ("Points: lora/accuracy 4.", "Minimum accuracy: lora 0.4321.", "Limits: cpu_seconds 901.")


def test_points_are_always_shown() -> None:
    for show in ("titles", "nothing"):
        shown = for_student(report(show)).score
        assert (shown.total, [result.points for result in shown.criteria]) == (
            report(show).score.total,
            [check.points for check in ASSIGNMENT.checks.values()],
        )


def test_twice_is_as_once() -> None:
    for show in ("all", "titles", "nothing"):
        once = for_student(report(show))
        assert for_student(once) == once
        assert redacted(once.score.criteria) == once.score.criteria


def test_hidden_names_are_counted_within_their_part() -> None:
    made = [replace(result, show="nothing") for result in samples.score().criteria]
    names = [result.id for result in redacted(made)]
    assert names[:4] == ["count/further-1", "count/further-2", "count/further-3", "full/further-1"]
    assert len(set(names)) == len(names) == 16


def test_numbers_are_shown_of_parts_that_are_shown_whole() -> None:
    assert with_numbers(report("all").score.criteria) == {"count", "full", "head", "layers", "lora"}
    assert with_numbers(report("titles").score.criteria) == {"count", "full", "head", "layers"}
    shown = json.loads(report_json(for_student(report("titles"))))["metrics"]
    assert shown == {"methods": {"full": {"accuracy": 0.9}}, "runs_seen": 3}


def test_staff_sees_everything() -> None:
    assert all(word in report_html(report("nothing")) for word in (TITLE, "SecretSeen", "SecretTry", "0.432"))
