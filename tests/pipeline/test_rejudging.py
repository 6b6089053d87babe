"""A large class is judged by several processes: the same reports in the same order, also when processes are killed."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from grader.errors import GraderError, StoreError
from grader.records import Attempt, Evidence, Execution, Notebook, Observation, Outcome, Usage
from grader.reports import brief
from grader.runs import rejudging
from grader.runs.directory import Done, IntakeRecord, RunDirectory, RunInfo, load_context
from grader.runs.plan import content_parts
from grader.runs.publish import CLASS_FILES, PAGES, publish
from grader.runs.rejudging import judge_each, processes_for
from tests.pipeline.conftest import submission_of
from tests.toy import TOY

COUNT = 30
NOT_RUN, UNREADABLE, BY_HAND, DAMAGED = "student03", "student05", "student07", "student11"


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """A class with stored evidence, and every kind of trouble once."""
    run = RunDirectory(tmp_path / "run")
    run.start(RunInfo("tests.toy:TOY", "standin", "", "", "none", "test"), b"a secret of judges")
    submissions = [submission_of(f"# {n}".encode(), f"student{n:02}") for n in range(COUNT)]
    submissions[5] = replace(submissions[5], path="", problem="It is a PDF.")
    run.write("intake.json", IntakeRecord(tuple(submissions)))
    context = load_context(run.info(), run.secret())
    for number, one in enumerate(submissions):
        if one.id not in (NOT_RUN, UNREADABLE):
            seen = {name: Observation(Attempt.VALUE, number) for name in TOY.questions}
            done = Done(str(number), 1.0, 1.0, "", content_parts(context, one, {}))
            execution = Execution(Outcome.COMPLETED, (), Usage(), "none", {}, "standin")
            run.save_result(one.id, Notebook((), 0), execution, Evidence(context.seed(one), seen), done)
    run.override(BY_HAND, "shout/upper", 2, "she explained it")
    return run


def damage(run: RunDirectory) -> None:
    (run.folder(DAMAGED) / "evidence.json").write_text("{", encoding="utf-8")


def children() -> list[int]:
    return [process.pid for process in multiprocessing.active_children()]


def ignores_ctrl_c(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"SigIgn:\s*(\w+)", status)[1], 16) & 1 << signal.SIGINT - 1)


@pytest.mark.slow
def test_several_processes_say_what_one_says(run) -> None:
    alone = list(judge_each(run, processes=1))
    assert len({report.score.total for report in alone}) > 2
    assert list(judge_each(run, processes=2)) == alone
    kept = {report.submission.id: replace(report, assignment_title="kept") for report in alone[:20]}
    mixed = list(judge_each(run, kept, processes=2))
    assert mixed == [*kept.values(), *alone[20:]]
    done = run.done(DAMAGED)
    damage(run)
    alone = list(judge_each(run, processes=1))
    assert run.done(DAMAGED) is None
    run.write(f"submissions/{DAMAGED}/done.json", done)
    assert list(judge_each(run, processes=2)) == alone
    assert run.done(DAMAGED) is None
    assert children() == []


@pytest.mark.slow
def test_judges_that_are_killed_cost_nothing(run) -> None:
    alone, reports = list(judge_each(run, processes=1)), judge_each(run, processes=2)
    found = [next(reports)]
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    assert [*found, *reports] == alone
    assert children() == []


@pytest.mark.slow
def test_judges_end_when_nobody_wants_more_and_leave_ctrl_c_to_the_one_who_asked(run) -> None:
    reports = judge_each(run, processes=2)
    next(reports)
    started = children()
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not all(map(ignores_ctrl_c, started)):
        time.sleep(0.05)
    for pid in started:
        os.kill(pid, signal.SIGINT)
    assert [next(reports).submission.id for _ in range(20)][-1] == "student20"
    assert children() == started
    reports.close()
    assert children() == []


@pytest.mark.slow
def test_a_fault_of_ours_is_raised_as_it_is(run) -> None:
    (run.root / "run.json").write_text((run.root / "run.json").read_text().replace("tests.toy:TOY", "tests.toy:NONE"))
    for processes in (1, 2):
        with pytest.raises(GraderError, match="NONE"):
            list(judge_each(run, processes=processes))


def pages(run: RunDirectory) -> dict[str, bytes]:
    return {
        str(path.relative_to(run.root)): path.read_bytes()
        for path in run.root.rglob("*")
        if path.name in {*PAGES, *CLASS_FILES} or path.name == "junit.xml"
    }


@pytest.mark.slow
def test_pages_are_the_same_whoever_writes_them(run, monkeypatch) -> None:
    found = []
    for processes in (1, 2):
        for name in pages(run):
            (run.root / name).unlink()
        monkeypatch.setattr(rejudging, "processes_for", lambda _count, n=processes: n)
        written: list[str] = []
        published = publish(
            run, TOY, ("html", "json", "csv", "junit"), written=lambda r, to=written: to.append(r.submission.id)
        )
        assert written == [one.id for one in run.submissions()]
        found.append((published, pages(run)))
    assert found[0] == found[1]
    assert len(found[0][1]) == COUNT * len(PAGES) + len({*CLASS_FILES, "junit.xml"}) - 1  # there is no roster
    kept = {report.submission.id: brief(report) for report in found[0][0].reports[:-1]}
    for name in pages(run):
        (run.root / name).unlink()
    again = publish(run, TOY, kept=kept)
    assert [brief(report) for report in found[0][0].reports] == list(again.reports)
    assert len([name for name in pages(run) if name.startswith("submissions/")]) == len(PAGES)


@pytest.mark.slow
def test_a_page_that_cannot_be_written_is_said_as_it_is(run, monkeypatch) -> None:
    (run.folder("student20") / "report.html").mkdir()
    for processes in (1, 2):
        monkeypatch.setattr(rejudging, "processes_for", lambda _count, n=processes: n)
        with pytest.raises(StoreError, match=r"report\.html"):
            publish(run, TOY)
        assert children() == []


def test_a_small_class_needs_no_further_process(monkeypatch) -> None:
    monkeypatch.setattr(rejudging, "cores", lambda: 64)
    assert [processes_for(count) for count in (0, 30, 79, 80, 300, 10_000)] == [1, 1, 1, 2, 7, 8]
    monkeypatch.setattr(rejudging, "cores", lambda: 1)
    assert processes_for(10_000) == 1
