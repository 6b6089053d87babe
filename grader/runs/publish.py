"""Judges what a run holds and writes what people read of it: pages per submission, one for the class, and tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.errors import UsageError
from grader.intake import Roster, read_roster
from grader.lms import Feedback, canvas_feedback_zip, canvas_gradebook, gradescope_results, moodle_worksheet
from grader.records import CriterionResult, Report
from grader.reports import (
    brief,
    class_html,
    for_student,
    junit_xml,
    needs_review_csv,
    report_html,
    report_json,
    report_markdown,
    scores_csv,
)
from grader.rubric.assignment import Assignment
from grader.runs.directory import IntakeRecord, RunDirectory, write_derived
from grader.runs.rejudging import judge_each

__all__ = ["CLASS_FILES", "FORMATS", "PAGES", "Published", "gradebook", "publish"]

_NAMED = 5
FORMATS = ("html", "json", "csv", "junit", "md", "gradescope", "moodle")
PAGES = ("report.html", "instructor.html", "report.json")
"""What every submission gets by default."""
CLASS_FILES = ("class.html", "scores.csv", "needs_review.csv", "feedback.zip", "feedback-manifest.csv", "gradebook.csv")
"""What the class gets by default; the last one only with a roster."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was written."""

    reports: tuple[Report, ...]
    """The reports in brief (see `grader.reports.brief`), in their order; whole ones where JUnit was asked for."""
    messages: tuple[str, ...]
    """Sentences on what could not be written, and why."""


def publish(
    run: RunDirectory,
    assignment: Assignment,
    formats: Iterable[str] = ("html", "json", "csv"),
    *,
    kept: Mapping[str, Report] | None = None,
    written: Callable[[Report], None] = lambda _report: None,
) -> Published:
    """Judge a run and write its reports, one after the other, then what is for the class.

    Per submission: `report.html` for the student, `instructor.html`, `report.json`; for the class: `class.html`,
    `scores.csv`, `needs_review.csv`, `feedback.zip` and its manifest, `gradebook.csv` (with a roster). On demand, per
    submission `report.md` and Gradescope's `results.json`, for the class `junit.xml` and `moodle.csv`. `kept` are reports in
    brief, by submission id, that still hold and whose pages are there already; `written` is called when those of another are.
    Raises StoreError when the disk refuses.
    """
    wanted = frozenset(formats)
    unknown = wanted - set(FORMATS)
    if unknown:
        raise UsageError(f"unknown format {', '.join(sorted(unknown))}; there are {', '.join(FORMATS)}")
    known = kept or {}
    alike: dict[CriterionResult, CriterionResult] = {}
    found: list[Report] = []
    for report in judge_each(run, known, then=functools.partial(_paged, run.root, wanted)):
        if report.submission.id not in known:
            written(report)
        # in brief already, but for those of JUnit; here they share what is alike in the class
        found.append(report if "junit" in wanted else brief(report, alike))
    intake = run.read("intake.json", IntakeRecord)
    if "html" in wanted:
        title = run.info().title or assignment.title
        write_derived(run.root / "class.html", class_html(found, intake.missing, title, intake.notices))
    if "junit" in wanted:
        write_derived(run.root / "junit.xml", junit_xml(found))
    messages = _tables(run, assignment, found) if "csv" in wanted else []
    if "moodle" in wanted:
        messages += _moodle(run, found)
    return Published(tuple(found), tuple(messages))


def _paged(root: Path, wanted: frozenset[str], report: Report) -> Report:
    """Write the pages of one submission, where it was judged; what is left of its report is what the class needs."""
    folder = RunDirectory(root).folder(report.submission.id)
    student = for_student(report)
    if "html" in wanted:
        write_derived(folder / "report.html", report_html(student, "student"))
        write_derived(folder / "instructor.html", report_html(report, "instructor"))
    if "json" in wanted:
        write_derived(folder / "report.json", report_json(report))
    if "md" in wanted:
        write_derived(folder / "report.md", report_markdown(student))
    if "gradescope" in wanted:
        write_derived(folder / "results.json", gradescope_results(student))
    return report if "junit" in wanted else brief(report)


def _tables(run: RunDirectory, assignment: Assignment, reports: Sequence[Report]) -> list[str]:
    write_derived(run.root / "scores.csv", scores_csv(reports))
    write_derived(run.root / "needs_review.csv", needs_review_csv(reports))
    messages: list[str] = []
    pages = (run.folder(report.submission.id) / "report.html" for report in reports)
    bundle = canvas_feedback_zip(
        Feedback(report.submission, "report.html", page)
        for report, page in zip(reports, pages, strict=True)
        if report.score.total is not None and page.is_file()
    )
    write_derived(run.root / "feedback.zip", bundle.data)
    write_derived(run.root / "feedback-manifest.csv", bundle.manifest)
    messages += _left_out([notice.text for notice in bundle.left_out])
    roster = read_roster(run.root / "roster.csv") if run.info().roster else None
    if roster is None:
        return messages
    try:
        write_derived(run.root / "gradebook.csv", gradebook(run, assignment, reports, roster))
    except UsageError as error:
        messages.append(f"gradebook.csv was not written: {error}")
    return messages


def _left_out(texts: Sequence[str]) -> list[str]:
    """Who gets no file by feedback.zip, the first few by name: their reports have to be handed out in another way."""
    if not texts:
        return []
    more = f" And {len(texts) - _NAMED} more." if len(texts) > _NAMED else ""
    return [f"feedback.zip leaves out {len(texts)}: {' '.join(texts[:_NAMED])}{more}"]


def gradebook(run: RunDirectory, assignment: Assignment, reports: Sequence[Report], roster: Roster) -> str:
    """CSV for Canvas's gradebook import: only students with a final score. Raises UsageError naming what is unclear."""
    column = run.info().column or None
    scores = _scores(reports)
    return canvas_gradebook(roster, scores, column, title=assignment.title, possible=assignment.possible)


def _moodle(run: RunDirectory, reports: Sequence[Report]) -> list[str]:
    if not run.info().roster:
        return ["moodle.csv was not written: give Moodle's grading worksheet as --roster when you grade"]
    try:
        write_derived(run.root / "moodle.csv", moodle_worksheet(run.root / "roster.csv", _scores(reports)))
    except UsageError as error:
        return [f"moodle.csv was not written: {error}"]
    return []


def _scores(reports: Sequence[Report]) -> dict[str, float | None]:
    return {student: report.score.total for report in reports for student in report.submission.student_ids}
