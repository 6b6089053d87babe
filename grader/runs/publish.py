"""Judges what a run holds and writes what people read of it: pages per submission, one for the class, and tables.

Judging starts no kernel: stored evidence gives the same reports every time. The class's page is there from the start, too, while the
class is graded (`LivePage`).
"""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from grader.errors import GraderError, GuardError, StoreError, UsageError
from grader.grading.context import RunContext
from grader.grading.report import report_for
from grader.intake.names import safe_file_name
from grader.lms.feedback import canvas_feedback_zip
from grader.lms.others import gradescope_results, moodle_worksheet, prairielearn_results
from grader.records import Evidence, Execution, Notebook, Notice, Report, Submission, SubmissionRun
from grader.reports import (
    annotated_notebook,
    class_html,
    for_student,
    junit_xml,
    needs_review_csv,
    report_html,
    report_json,
    report_markdown,
    scores_csv,
)
from grader.rubric.numbers import written_in
from grader.runs.directory import IntakeRecord, RunDirectory, assignment_of, load_context, write_derived
from grader.runs.gradebook import scores_by_student, write_gradebook
from grader.runs.pseudonyms import with_ids
from grader.runs.results import notices_of_results
from grader.sandbox.cgroup import cores
from grader.sandbox.guard import guarded

if TYPE_CHECKING:  # judging needs nothing of what runs student code
    from grader.runs.batch import Event

__all__ = ["FEEDBACK", "FORMATS", "USUAL", "Judge", "LivePage", "Published", "judge_run", "publish", "rejudge"]

_NAMED = 5
_SECONDS = 10.0
"""Seconds between two versions of the page of a class that is being graded, at least: that of a large class takes a while."""
_UNJUDGED = "staff-unjudged"
_BLANK = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}'
FEEDBACK = "feedback.zip"
ANNOTATED, _PAGE = "annotated.ipynb", "report.html"
_PAGES = (
    "feedback.zip holds web pages: Canvas shows each under the name of the student's own upload (lab.ipynb), which then does not"
    " open. Without --feedback html it holds the notebooks with the verdicts in them."
)
_NO_NOTEBOOK = (
    "feedback.zip holds a web page for {count} who handed in no notebook that could be annotated: {names}. Canvas shows it under the"
    " name of the upload (lab.pdf), which then does not open; `grader canvas push` sends it under its own."
)
_FILES: dict[str, dict[str, Callable[[Report], str]]] = {
    "html": {_PAGE: lambda report: report_html(report, "student"), "instructor.html": report_html},
    "json": {"report.json": report_json},
    "md": {"report.md": lambda report: report_markdown(for_student(report))},
    "gradescope": {"results.json": lambda report: gradescope_results(for_student(report))},
    "prairielearn": {"prairielearn.json": lambda report: prairielearn_results(for_student(report))},
}
"""Format -> the files of one submission that have it, and how each is written."""
FORMATS = (*_FILES, "csv", "junit", "moodle")
USUAL = frozenset({"html", "json", "csv"})
"""What is written when nobody says what."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was written."""

    reports: tuple[Report, ...]
    """The reports in their order."""
    messages: tuple[str, ...]
    """Sentences on what could not be written, and why."""
    complete: bool = True
    """False when scores should be in a gradebook.csv that could not be written; none is there then."""


def rejudge(run: str | Path) -> dict[str, Report]:
    """Judge a run directory again without running any student code; returns the reports by submission id."""
    return {report.submission.id: report for report in judge_run(RunDirectory(Path(run)))}


def judge_run(
    run: RunDirectory, formats: frozenset[str] = frozenset(), judged: Mapping[str, Report] = MappingProxyType({})
) -> Iterator[Report]:
    """Judge the stored evidence of a run but for what was `judged` just now, and write pages; reports in the order of the run.

    What could not be judged beside a class that ran is tried again.
    """
    judge = Judge(run, formats)
    known = {name: report for name, report in judged.items() if report.execution is not None}
    with ThreadPoolExecutor(cores(), "judge") as side_by_side:
        yield from side_by_side.map(lambda one: known.get(one.id) or judge(one), run.submissions())


class Judge:
    """Judges submissions of a run, and writes their pages in some formats; call it with one after the other.

    Each submission is judged and rendered in a process of its own: where that ends badly, whatever the evidence did, the submission
    needs review, and the others are as they would be without it. One whose files are damaged is to be run again.
    """

    def __init__(self, run: RunDirectory, formats: frozenset[str] = frozenset()) -> None:
        """Read what all submissions share. Raises StoreError or UsageError when the run cannot be read."""
        self.run, self.formats, self.info, self.overrides = run, formats, run.info(), run.overrides()
        self.context = load_context(self.info, run.secret())
        nobody = Submission("", (), "", "", "", "")
        report = self._report(nobody, self.context.unseen(nobody, ""))
        _pages(run, formats, report)  # else each guard would import and compile anew, for a tenth of a second and more
        if "csv" in formats:
            annotated_notebook(_BLANK, for_student(report))

    def __call__(self, submission: Submission) -> Report:
        """The report, when its pages are written. Raises StoreError when the disk refuses."""
        try:
            return guarded(lambda: self._judged(submission), Report)
        except GuardError as error:
            why = f"Judging what {submission.display_name} ({submission.id}) brought ended badly: it {error}. A person has to look."
            report = self._report(submission, replace(self.context.unseen(submission, why), fault=""))
            report = replace(report, execution=None, notices=(*report.notices, Notice(_UNJUDGED, why)))
            _write(self.run.folder(submission.id), _pages(self.run, self.formats, report))
            return report

    def _judged(self, submission: Submission) -> Report:
        try:
            report = self._report(submission, _stored_run(self.run, self.context, submission))
            pages = _pages(self.run, self.formats, report)
        except GraderError as error:  # of what was read; the disk's refusal comes below
            raise GuardError(f"raised {type(error).__name__}: {error}") from error
        _write(self.run.folder(submission.id), pages)
        return report

    def _report(self, submission: Submission, result: SubmissionRun | None) -> Report:
        settled, zero = [*self.overrides.get(submission.id, {}).values()], self.info.no_notebook_is_zero
        earlier = [one for one in settled if one.file not in (None, submission.sha256)]
        void = [one for one in earlier if not one.notebook and submission.problem is None]
        by_hand = {
            one.criterion: (one.points, one.reason) for one in settled if one.points is not None and one not in void
        }
        done = self.run.done(submission.id) if result is not None else None
        limits = done.limits if done is not None else {}
        report = report_for(self.context, submission, result, by_hand, no_notebook_is_zero=zero, limits=limits)
        with written_in(self.info.settings.language):
            notices = (*report.notices, *notices_of_results(self.run, submission))
        if earlier:
            count = "do not count: that was no notebook" if void else "still count: look whether they are right"
            criteria = ", ".join(f"`{one.criterion}`" for one in void or earlier)
            text = f"Points set by hand for a file that was replaced since {count} ({criteria})."
            notices = (*notices, Notice("staff-earlier-points", text))
        return replace(report, notices=notices)


def _stored_run(run: RunDirectory, context: RunContext, submission: Submission) -> SubmissionRun | None:
    """What running a submission brought; None where there was nothing to run."""
    if submission.problem is not None or not submission.path:
        return None
    base, done = f"submissions/{submission.id}", run.done(submission.id)
    if done is None:
        return context.unseen(submission, "it has not been run yet; run `grader grade` on the same folder again")
    try:
        notebook, execution = run.read(f"{base}/notebook.json", Notebook), run.read(f"{base}/execution.json", Execution)
        return SubmissionRun(notebook, execution, run.read(f"{base}/evidence.json", Evidence), done.fault)
    except StoreError as error:
        run.forget(submission.id)
        return context.unseen(submission, f"{error}; run `grader grade` on the same folder again")


def publish(
    run: RunDirectory, formats: Iterable[str] = USUAL, judged: Mapping[str, Report] = MappingProxyType({})
) -> Published:
    """Judge a run and write its reports, then what is for the class; what was `judged` just now, by id, has its pages already.

    Per submission: `report.html` and `annotated.ipynb` for the student, `instructor.html`, `report.json`; for the class: `class.html`,
    `scores.csv`, `needs_review.csv`, `feedback.zip` and its manifest, `gradebook.csv` and its preview (with a roster). On demand, per
    submission `report.md`, Gradescope's `results.json` and `prairielearn.json`, for the class `junit.xml` and `moodle.csv`.
    Raises UsageError for a format that there is not or while another process writes, StoreError when the disk refuses.
    """
    wanted = frozenset(formats)
    unknown = wanted - set(FORMATS)
    if unknown:
        raise UsageError(f"unknown format {', '.join(sorted(unknown))}; there are {', '.join(FORMATS)}")
    with run.lock():
        reports = tuple(judge_run(run, wanted, judged))
        if "html" in wanted:
            _write_class_page(run, reports)
        if "junit" in wanted:
            write_derived(run.root / "junit.xml", junit_xml(reports))
        messages = [n.text for report in reports for n in report.notices if n.kind == _UNJUDGED][:_NAMED]
        linked = with_ids(run, reports)
        messages += _tables(run, reports, linked) if "csv" in wanted else []
        complete = "csv" not in wanted or write_gradebook(run, linked, messages)
        if "moodle" in wanted:
            _write_moodle(run, linked)
    return Published(reports, tuple(messages), complete)


def _write_class_page(
    run: RunDirectory, reports: Sequence[Report], progress: str = "", *, reload: bool = False
) -> None:
    """Write class.html; `progress` says how far the class is, and with `reload` the page looks again by itself."""
    intake, info = run.read("intake.json", IntakeRecord), run.info()
    title = info.title or assignment_of(info).title
    page = class_html(reports, intake.missing, title, intake.notices, progress=progress, reload=reload)
    write_derived(run.root / "class.html", page)


class LivePage:
    """The class's page while a batch runs: takes in its events, and shows what has ended; a context manager.

    What has ended is judged here, once, and its own pages are written. The class's page is for looking only: whatever goes wrong with
    it is passed over, since it is written anew at the end, which says what is wrong.
    """

    def __init__(self, run: RunDirectory, done: Sequence[Submission], total: int) -> None:
        """`done` are submissions that need not be run, of `total` in the class. Raises GraderError when the run cannot be read."""
        self.run, self.total, self.written = run, total, 0.0
        self.judge = Judge(run, USUAL)
        self.judged: dict[str, Report] = {}
        """What was judged here, by id."""
        self.before = {one.id: report for one in done if (report := run.report(one.id)) is not None}
        for submission in done:
            if submission.id not in self.before:
                self._judge(submission)

    def __enter__(self) -> LivePage:
        """Write the page for the first time."""
        self._write(reload=True)
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        """Stop the page from reloading where the batch was stopped; else it is written anew anyway."""
        if kind is not None:
            self._write(reload=False)

    def __call__(self, event: Event) -> None:
        """Judge what has ended, and write the page when the last version is some seconds old."""
        if event.kind in ("finished", "fault"):
            self._judge(event.submission)
            if time.monotonic() - self.written >= _SECONDS:
                self._write(reload=True)

    def _judge(self, submission: Submission) -> None:
        with contextlib.suppress(GraderError, OSError):
            self.judged[submission.id] = self.judge(submission)

    def _write(self, *, reload: bool) -> None:
        reports = (*self.before.values(), *self.judged.values())
        state = "" if reload else " when grading was stopped"
        progress = f"{len(reports)} of {self.total} have been graded{state}."
        with contextlib.suppress(GraderError, OSError):
            _write_class_page(self.run, reports, progress, reload=reload)
        self.written = time.monotonic()


def _pages(run: RunDirectory, wanted: frozenset[str], report: Report) -> dict[str, bytes | str | None]:
    """What people read of one submission, by file name; None for one that must not be there."""
    files = [file for kind in wanted for file in _FILES.get(kind, {}).items()]
    pages: dict[str, bytes | str | None] = {name: written(report) for name, written in files}
    return pages | ({ANNOTATED: _annotated(run, report)} if "csv" in wanted else {})


def _annotated(run: RunDirectory, report: Report) -> bytes | str | None:
    """The student's notebook with its verdicts; None where there is no score, or no notebook that ran to write them in."""
    notebook = run.root / report.submission.path
    if report.score.total is None or report.execution is None or not notebook.is_file():
        return None
    return annotated_notebook(notebook.read_bytes(), for_student(report))


def _write(folder: Path, pages: Mapping[str, bytes | str | None]) -> None:
    """Write pages, or remove what an earlier score left there. Raises StoreError."""
    for name, page in pages.items():
        if page is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_derived(folder / name, page)


def _tables(run: RunDirectory, reports: Sequence[Report], linked: Sequence[Report]) -> list[str]:
    write_derived(run.root / "scores.csv", scores_csv(reports))
    write_derived(run.root / "needs_review.csv", needs_review_csv(reports))
    pages = run.info().feedback == "html"
    packed = [item for report in linked if (item := _feedback(run, report, page=pages)) is not None]
    feedback = canvas_feedback_zip(packed)
    write_derived(run.root / FEEDBACK, feedback.data)
    write_derived(run.root / "feedback-manifest.csv", feedback.manifest)
    messages = [_PAGES] if pages else []
    if not pages and (without := [submission.display_name for submission, name, _ in packed if name == _PAGE]):
        more = f" and {len(without) - _NAMED} more" if len(without) > _NAMED else ""
        messages.append(_NO_NOTEBOOK.format(count=len(without), names=", ".join(without[:_NAMED]) + more))
    if texts := feedback.left_out:  # their reports have to be handed out in another way
        more = f" And {len(texts) - _NAMED} more." if len(texts) > _NAMED else ""
        messages.append(f"feedback.zip leaves out {len(texts)}: {' '.join(texts[:_NAMED])}{more}")
    return messages


def _feedback(run: RunDirectory, report: Report, *, page: bool) -> tuple[Submission, str, bytes] | None:
    """The file that goes back to a student: the annotated notebook, or the page where that is wanted or there is no notebook."""
    folder, submission = run.folder(report.submission.id), report.submission
    if report.score.total is None:
        return None
    if not page and (folder / ANNOTATED).is_file():
        name, content = f"{Path(submission.file_name).stem}-graded", (folder / ANNOTATED).read_bytes()
        if any(notice.kind == "opened-archive" for notice in submission.notices):  # which Canvas shows as lab.zip
            return submission, f"{name}.zip", _zipped(f"{name}.ipynb", content)
        return submission, f"{name}.ipynb", content
    if (folder / _PAGE).is_file():
        return submission, _PAGE, (folder / _PAGE).read_bytes()
    return None


def _zipped(name: str, content: bytes) -> bytes:
    """An archive with one file; the same bytes every time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(safe_file_name(name)), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _write_moodle(run: RunDirectory, reports: Sequence[Report]) -> None:
    """Write the worksheet, which is only written when asked for. Raises UsageError where the class list is none."""
    if not run.info().roster:
        raise UsageError("moodle.csv was not written: give Moodle's grading worksheet as --roster when you grade")
    try:
        write_derived(run.root / "moodle.csv", moodle_worksheet(run.root / "roster.csv", scores_by_student(reports)))
    except UsageError as error:
        raise UsageError(f"moodle.csv was not written: {error}") from error
