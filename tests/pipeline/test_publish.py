"""Judging what a run holds: the same reports and pages every time, whatever has become of single submissions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from grader import rejudge
from grader.errors import StoreError, UsageError
from grader.records import (
    Adaptation,
    Attempt,
    CellError,
    CellRun,
    Evidence,
    Execution,
    Notebook,
    Observation,
    Outcome,
    SubmissionRun,
    Usage,
)
from grader.runs.directory import Done, IntakeRecord, Override, RunDirectory, RunInfo, load_context
from grader.runs.publish import judge_run, publish
from tests.pipeline.conftest import submission_of
from tests.toy import TOY

COUNT = 30
NOT_RUN, UNREADABLE, BY_HAND, DAMAGED = "student03", "student05", "student07", "student11"
CELLS = (CellRun(0, "ok", 1.0, 1.0, output="much"), CellRun(1, "error", 1.0, 1.0, CellError("E", "why", "line 1")))


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A class with stored evidence, and every kind of trouble once."""
    run = RunDirectory(tmp_path / "run")
    run.start(RunInfo("tests.toy:TOY", "standin", "", "", "none", "test"), b"a secret of judges")
    submissions = [submission_of(f"# {n}".encode(), f"student{n:02}") for n in range(COUNT)]
    submissions[5] = replace(submissions[5], path="", problem="It is a PDF.")
    run.write("intake.json", IntakeRecord(tuple(submissions)))
    context = load_context(run.info(), run.secret())
    notebook = Notebook((), 0, (Adaptation(0, "magic", "!pip", "", "It is there."),))
    for number, one in enumerate(submissions):
        if one.id not in (NOT_RUN, UNREADABLE):
            seen = {name: Observation(Attempt.VALUE, number) for name in TOY.questions}
            execution = Execution(Outcome.COMPLETED, CELLS, Usage(), "none", {}, "standin")
            result = SubmissionRun(notebook, execution, Evidence(context.seed(one), seen))
            run.save_result(one.id, result, Done({}, 1.0, 1.0))
    run.override([Override(BY_HAND, "shout/upper", 2, "she explained it")])
    return run


def pages(run: RunDirectory) -> dict[str, bytes]:
    names = ("*.html", "*.csv", "*.zip", "*.xml", "submissions/*/report.*", "submissions/*/instructor.html")
    return {str(path.relative_to(run.root)): path.read_bytes() for name in names for path in run.root.glob(name)}


def test_judging_again_says_the_same_and_starts_no_kernel(run, monkeypatch) -> None:
    monkeypatch.setattr("grader.sandbox.session.KernelSession.__init__", None)
    reports = list(judge_run(run))
    assert [report.submission.id for report in reports] == [one.id for one in run.submissions()]
    assert list(judge_run(run)) == reports
    assert rejudge(run.root) == {report.submission.id: report for report in reports}
    known = {report.submission.id: report for report in reports}
    assert known[BY_HAND].score.criteria[2].earned == 2
    assert known[UNREADABLE].score.total is None
    assert known[NOT_RUN].score.total is None
    assert "it has not been run yet" in known[NOT_RUN].score.review[0]


def test_damaged_evidence_needs_review_and_is_run_again(run) -> None:
    (run.folder(DAMAGED) / "evidence.json").write_text("{", encoding="utf-8")
    known = {report.submission.id: report for report in judge_run(run)}
    assert known[DAMAGED].score.total is None
    assert "evidence.json" in known[DAMAGED].score.review[0]
    assert run.done(DAMAGED) is None


def test_pages_are_the_same_every_time(run) -> None:
    formats = ("html", "json", "csv", "junit", "md")
    published = publish(run, formats)
    first = pages(run)
    assert len(first) == 4 * COUNT + len({"class.html", "junit.xml", "feedback.zip"} | {"scores", "review", "manifest"})
    for name in first:
        (run.root / name).unlink()
    assert publish(run, formats) == published
    assert pages(run) == first
    assert run.reports() == published.reports


def test_a_page_that_cannot_be_written_is_said_as_it_is(run) -> None:
    (run.folder("student20") / "report.html").mkdir()
    with pytest.raises(StoreError, match=r"report\.html"):
        publish(run)


def test_nobody_publishes_while_another_process_writes(run) -> None:
    publish(run)
    first = pages(run)
    run.override([Override("student20", "shout/upper", 1, "")])
    with RunDirectory(run.root).lock(), pytest.raises(UsageError, match="another grader writes"):
        publish(run)
    assert pages(run) == first
    with pytest.raises(UsageError, match="unknown format pdf"):
        publish(run, ["pdf"])
    assert Path(run.root / ".lock").stat().st_size == 0
