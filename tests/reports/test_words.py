"""That everything a reader needs is told: outcomes, overrides, root causes, reasons for a review, and the way between pages."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from grader.records import Notice, Outcome, Status, Verdict
from grader.reports import (
    class_html,
    class_table,
    for_student,
    needs_review_csv,
    report_html,
    report_json,
    report_markdown,
    submission_panel,
    summarize,
)
from grader.reports.sanitize import line
from grader.reports.view import headline, outcome_sentence, outcome_word, review_reasons, status_of
from tests.reports import samples
from tests.reports.helpers import Shape, flat, in_every_format, printed


@pytest.mark.parametrize("outcome", Outcome)
def test_every_format_has_the_outcome(outcome: Outcome) -> None:
    report = replace(samples.perfect(), execution=samples.execution(outcome=outcome))
    assert outcome_sentence(report) == outcome.sentence
    for name, text in in_every_format(report).items():
        assert outcome.sentence in text.replace("&apos;", "'"), name
    assert json.loads(report_json(report))["execution"]["outcome"] == outcome.value
    for text in (Shape(class_html([report])).text, flat(printed(class_table([report])))):
        assert outcome_word(report)[:13] in text


def test_no_two_outcomes_read_the_same() -> None:
    reports = [replace(samples.perfect(), execution=samples.execution(outcome=outcome)) for outcome in Outcome]
    assert len({outcome_word(report) for report in reports}) == len(Outcome)
    assert len({outcome_sentence(report) for report in reports}) == len(Outcome)


def test_points_set_by_hand_overrule_the_verdict() -> None:
    report = samples.group()
    (by_hand,) = (result for result in report.score.criteria if result.override)
    assert by_hand.verdict.status is Status.FAILED and status_of(by_hand) is Status.PASSED
    assert headline(report) == "All 16 criteria passed, 1 of them set by hand."
    assert headline(samples.perfect()) == "All 16 criteria passed."
    for name, text in in_every_format(report).items():
        assert "Agreed by e-mail: the deadline build had an older threshold." in text, name
    assert re.search(r'id="full/accuracy">\s*<span class="icon passed">', report_html(report))
    assert "10 of 10, set by hand" in Shape(class_html([report])).text
    share = {criterion.id: criterion for criterion in summarize([report]).criteria}["full/accuracy"]
    assert (share.passed, share.failed) == (1, 0)
    lowered = replace(by_hand, earned=3)
    assert status_of(lowered) is Status.FAILED


def test_skipped_names_the_root_cause() -> None:
    report = samples.mistakes()
    skipped = [result for result in report.score.criteria if result.verdict.status is Status.SKIPPED]
    assert {result.id for result in skipped} == {"head/trained", "head/accuracy"}
    for name, text in in_every_format(report).items():
        assert text.count("it builds on head/frozen") == 2, name
    page = report_html(report)
    assert page.count('<a href="#head/frozen">Go there</a>') == 2
    assert json.loads(report_json(report))["score"]["criteria"][6]["verdict"]["because"] == "head/frozen"


def test_review_reason_appears_once_with_its_criteria() -> None:
    whole = "The grader or its machine failed: the kernel could not be started"
    unseen = Verdict(Status.ERROR, "the kernel could not be started")
    report = replace(
        samples.sandbox_failed(), score=samples.score({id_: unseen for id_, _, _ in samples.RUBRIC}, (whole,))
    )
    (reason,) = review_reasons(report)
    assert reason.text == whole and len(reason.criteria) == 16
    assert reason.where == "count/distilbert, count/frozen, count/any-module and 13 more"
    assert [reason.where for reason in review_reasons(samples.review())] == ["lora/forward", "lora/rank-scaling"]
    assert review_reasons(samples.perfect()) == ()
    for page in (report_html(report), class_html([report])):
        assert Shape(page).text.count("The grader or its machine failed") == 1
    assert needs_review_csv([report]).count("could not be started") == 16, "a row for each criterion"
    assert "and 13 more: The grader or its machine failed" in flat(printed(class_table([report])))


def test_whose_it_is_and_what_it_is_are_both_to_be_decided() -> None:
    problem, whose = "It is a PDF file.", "Whose it is: decide. Two students have this name."
    unread = {id_: Verdict(Status.ERROR, problem) for id_, _, _ in samples.RUBRIC}
    score = samples.score(unread, review=(f"No notebook: decide. {problem}", whose))
    report = replace(samples.nothing(), submission=samples.submission("Bo", problem=problem), score=score)
    assert [(reason.text, reason.criteria) for reason in review_reasons(report)] == [(score.review[0], ()), (whose, ())]


def test_review_without_a_reason_shows_up() -> None:
    score = replace(samples.score(), total=None)
    report = replace(samples.perfect(), score=score)
    assert "No reason was given." in needs_review_csv([report])
    assert "No reason was given." in Shape(class_html([report])).text


def test_terminal_announces_a_review_to_the_student() -> None:
    text = flat(printed(submission_panel(for_student(samples.review()))))
    assert "A person has to look at a part of this submission" in text and "IndexError" not in text


@pytest.mark.parametrize("name", samples.SAMPLES)
@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    report = samples.SAMPLES[name]()
    for shown in (submission_panel(report), class_table([report, *samples.a_class(12)])):
        assert max(cell_len(row) for row in printed(shown, width).split("\n")) <= width


def test_class_table_shows_every_symbol() -> None:
    text = printed(class_table(samples.a_class(40)))
    for report in samples.a_class(40):
        assert line(report.submission.display_name)[:20] in text
    assert text.count("✓✓✓ ✓✓ ✓✓✓ ✓✓ ✓✓✗✓✓✓") >= 5


def test_pages_lead_to_each_other() -> None:
    report = samples.perfect()
    assert "submissions/12345/instructor.html" in Shape(class_html([report])).links
    assert "../../class.html" in Shape(report_html(report)).links
    assert "../../class.html" not in Shape(report_html(report, "student")).links


def test_class_page_counts_endings_and_slowest() -> None:
    reports = samples.a_class(30)
    summary = summarize(reports)
    assert summary.endings[0][0] == "completed" and sum(number for _, number in summary.endings) == 30
    text = Shape(class_html(reports)).text
    for word, number in summary.endings:
        assert f"{number} {word}" in text
    assert re.search(r"Slowest Fatima al-Zahra \S+ out of time 15 min", text)


@pytest.mark.parametrize("kind", ["not-in-roster", "ambiguous-name", "duplicate-student", "staff-anything"])
def test_staff_notice_is_flagged_and_hidden_from_student(kind: str) -> None:
    notice = (Notice(kind, "Probably Oskar (20031)."),)
    report = samples.perfect()
    first = report.score.criteria[0]
    criteria = (replace(first, verdict=replace(first.verdict, notices=notice)), *report.score.criteria[1:])
    report = replace(
        report,
        notices=notice,
        submission=replace(report.submission, notices=notice),
        execution=replace(report.execution, notices=notice),
        score=replace(report.score, criteria=criteria),
    )
    assert report_json(report).count("20031") == 4
    assert "20031" not in report_json(for_student(report))
    assert [reasons[0].text for _, reasons in summarize([report]).suspicious] == ["Probably Oskar (20031)."]


def test_name_match_is_for_staff_and_not_suspicious() -> None:
    report = replace(samples.perfect(), notices=(Notice("matched-by-name", "Matched to Oskar (20031)."),))
    assert "20031" in report_html(report) and "20031" not in report_html(report, "student")
    assert not summarize([report]).suspicious


def test_long_class_scrolls_inside_its_card() -> None:
    short, long = (class_html(samples.a_class(size)) for size in (20, 60))
    assert '<div class="scroll"' in short and '<div class="scroll tall"' in long
    assert re.search(r"\.scroll \{ overflow-x: auto", long) and re.search(r"\.grid \.name \{ position: sticky", long)


def test_student_reads_the_hint_of_a_review() -> None:
    """The message of a review is for staff; its hint is for the student, wherever it is read."""
    verdict = Verdict(Status.ERROR, "the inside of the grader", "Train for three epochs.")
    score = samples.score({"lora/accuracy": verdict}, ("lora/accuracy: the inside of the grader",))
    report = for_student(replace(samples.perfect(), score=score))
    for text in (report_markdown(report), report_html(report), flat(printed(submission_panel(report)))):
        assert "Train for three epochs." in text
        assert "the inside of the grader" not in text


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_students_read_no_word_of_the_graders_inside(name: str) -> None:
    report = for_student(samples.SAMPLES[name]())
    for kind, text in in_every_format(report).items():
        assert not re.findall(r"bundle|stand-?in|needs review|window", text, re.IGNORECASE), kind
