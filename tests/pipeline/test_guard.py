"""Whatever one submission's evidence does where it is judged and rendered, the class gets its pages, and the message names the one."""

from __future__ import annotations

import asyncio
import csv
import functools
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import grader.sandbox.guard
from grader import rejudge
from grader.cli.main import main
from grader.errors import GuardError, StoreError, SubmissionError
from grader.grading.execution import RunRequest
from grader.grading.reruns import rerun_close_results
from grader.records import Attempt, Evidence, Execution, Notebook, Observation, Outcome, SubmissionRun, Usage
from grader.reports.audience import for_student
from grader.runs.directory import Done, IntakeRecord, Override, RunDirectory, RunInfo, load_context
from grader.runs.publish import publish
from grader.sandbox.guard import GuardLimits, guarded
from tests.pipeline.conftest import submission_of
from tests.pipeline.fragile import DOES, FRAGILE, HARMLESS, METRICS

SMALL = GuardLimits(memory_bytes=256 << 20, cpu_seconds=1, wall_seconds=120.0, answer_bytes=1 << 20)


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    monkeypatch.setattr(grader.sandbox.guard.guarded, "__defaults__", (SMALL,))


@pytest.fixture
def class_with(tmp_path):
    """A function that makes a class of three in which the second one's evidence holds this value."""

    def make(value) -> RunDirectory:
        run = RunDirectory(tmp_path / "run")
        run.start(RunInfo("tests.pipeline.fragile:FRAGILE", "standin", "", "", "none", "test"), b"a secret of guards")
        submissions = [submission_of(name.encode(), name) for name in ("anna", "bo", "cem")]
        run.write("intake.json", IntakeRecord(tuple(submissions)))
        for one in submissions:
            run.save_result(one.id, brought(run, one, value if one.id == "bo" else 3), Done({}, 1.0, 1.0))
        return run

    return make


def brought(run, submission, value) -> SubmissionRun:
    context = load_context(run.info(), run.secret())
    execution = Execution(Outcome.COMPLETED, (), Usage(), "none", {}, "standin")
    seen = {"odd": Observation(Attempt.VALUE, value)}
    return SubmissionRun(Notebook((), 0), execution, Evidence(context.seed(submission), seen))


def totals(run: RunDirectory) -> dict[str, str]:
    with (run.root / "scores.csv").open(encoding="utf-8", newline="") as file:
        return {row["submission"]: row["total"] for row in csv.DictReader(file)}


def told(published) -> list[str]:
    """What was said of single submissions' judging."""
    return [message for message in published.messages if not message.startswith("feedback.zip ")]


WHY = {
    "crash": "SIGSEGV", "leave": "without a result",  "base exception": "no ordinary one", "terminate": "SIGTERM",
    "spin": "CPU time", "killed": "was killed", "stand still": "did not end", "odd metrics": "StoreError",
    "metrics of gigabytes": "256 MiB",
}  # fmt: skip


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.slow) if what == "stand still" else what for what in WHY]
)
def test_the_class_is_published_whatever_one_does_to_its_judge(class_with, what, monkeypatch) -> None:
    if what == "stand still":
        monkeypatch.setattr(grader.sandbox.guard.guarded, "__defaults__", (replace(SMALL, wall_seconds=6.0),))
    run = class_with(what)
    published = publish(run, ("html", "json", "csv", "junit", "md", "gradescope"))
    assert totals(run) == {"anna": "4", "bo": "", "cem": "4"}
    assert [report.score.total for report in published.reports] == [4, None, 4]
    assert published.complete
    (message,) = told(published)
    assert "bo (bo)" in message
    assert WHY[what] in message
    pages = {path.name for path in run.folder("bo").iterdir()} - {
        "notebook.json",
        "execution.json",
        "evidence.json",
        "done.json",
    }
    assert pages == {"report.html", "instructor.html", "report.json", "report.md", "results.json"}
    assert WHY[what] in (run.folder("bo") / "instructor.html").read_text()
    assert WHY[what] not in (run.folder("bo") / "report.html").read_text()
    assert for_student(published.reports[1]).notices == ()
    assert (run.root / "class.html").is_file()
    assert not list(run.root.glob("**/*.part"))


@pytest.mark.parametrize("what", HARMLESS)
def test_what_a_check_raises_costs_its_criterion_alone(class_with, what) -> None:
    run = class_with(what)
    published = publish(run)
    assert [result.earned for result in published.reports[1].score.criteria] == [None, 1]
    assert told(published) == []


@pytest.mark.parametrize("command", [["rejudge"], ["report"]])
def test_commands_on_a_run_go_on_and_name_the_one(class_with, command, capsys) -> None:
    run = class_with("crash")
    assert main([*command, str(run.root)]) == 3
    assert "bo (bo)" in " ".join("".join(capsys.readouterr()).split())
    assert totals(run) == {"anna": "4", "bo": "", "cem": "4"}
    assert [report.score.total for report in rejudge(run.root).values()] == [4, None, 4]


def test_points_set_by_hand_settle_it(class_with) -> None:
    run = class_with("crash")
    run.override([Override("bo", "odd/value", 2, "seen"), Override("bo", "odd/shown", 0, "seen")])
    publish(run)
    assert totals(run) == {"anna": "4", "bo": "2", "cem": "4"}


def test_a_repaired_one_is_as_if_nothing_had_been(class_with) -> None:
    run = class_with("crash")
    publish(run)
    (bo,) = (one for one in run.submissions() if one.id == "bo")
    run.save_result("bo", brought(run, bo, 3), Done({}, 1.0, 1.0))
    assert told(publish(run)) == []
    assert totals(run)["bo"] == "4"


def test_a_shown_answer_of_megabytes_swells_no_page(class_with) -> None:
    run = class_with("x" * 900_000)
    publish(run)
    assert totals(run)["bo"] == "1"
    assert sum(path.stat().st_size for path in run.folder("bo").glob("*.html")) < 200_000


@pytest.mark.parametrize("what", ["crash", "leave", "base exception"])
def test_a_run_goes_on_where_judging_it_ends_badly(class_with, what) -> None:
    run = class_with(what)
    (_, bo, _) = run.submissions()
    first, context = brought(run, bo, what), load_context(run.info(), run.secret())
    request = RunRequest(None, first.notebook, context.questions(first.evidence.seed))  # where nothing can be run
    assert asyncio.run(rerun_close_results(FRAGILE, request, first)) is first


# ---------------------------------------------------------------- the guard itself


def test_a_record_comes_back_as_it_is() -> None:
    submission = replace(submission_of(b"x", "åsa"), companions=("a\ud800".encode("utf-8", "replace").decode(), "b"))
    assert guarded(lambda: submission, type(submission)) == submission
    assert guarded(lambda: [os.getpid()], list) != [os.getpid()]


@pytest.mark.parametrize("error", [StoreError("no room"), SubmissionError("no notebook")])
def test_errors_of_the_tree_come_back_as_they_are(error) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        guarded(work, str)


def test_more_than_may_come_back_is_refused() -> None:
    with pytest.raises(GuardError, match="more than can be read"):
        guarded(lambda: "x" * (2 << 20), str)


def test_what_the_machine_killed_is_tried_once_more(tmp_path: Path) -> None:
    def work(times: int) -> str:
        mark = tmp_path / str(len(list(tmp_path.iterdir())))
        mark.touch()
        if len(list(tmp_path.iterdir())) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    assert guarded(functools.partial(work, 1), str) == "done"
    with pytest.raises(GuardError, match="was killed"):
        guarded(functools.partial(work, 9), str)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_first_ctrl_c_ends_no_judging() -> None:
    def work() -> str:
        os.kill(os.getpid(), signal.SIGINT)  # as the terminal sends it to all
        return "done"

    assert guarded(work, str) == "done"


def test_ctrl_c_leaves_no_process_behind(monkeypatch, tmp_path) -> None:
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    before = set(psutil.Process().children())  # what other tests of this process have started and keep
    monkeypatch.setattr(grader.sandbox.guard, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guarded(lambda: time.sleep(60), str)
    assert set(psutil.Process().children()) <= before


def test_it_gets_on_with_less_than_it_may_have(monkeypatch) -> None:
    import resource

    hard = 1 << 40
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (hard, hard))
    assert guarded(lambda: json.dumps([1]), str) == "[1]"


def test_every_deed_is_tried() -> None:
    assert {*DOES, *METRICS} == {*WHY, *HARMLESS}
