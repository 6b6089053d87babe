"""One submission run again by hand: all results are kept, one counts, the pages say which, and a kill or a fault loses none."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grader.cli.main import main
from grader.records import Attempt, Observation, Outcome, SubmissionRun
from grader.runs.directory import RunDirectory, load_context
from grader.runs.engines import Job, LocalEngine, Session
from tests.pipeline.conftest import notebook_bytes, told_without_a_kernel
from tests.pipeline.test_gradebook import NOTEBOOK, archive, export, grade, run, said, scores

__all__ = ["archive", "export", "run"]

FILES = {"alfaanna_1001_5001_lab.ipynb": NOTEBOOK, "bravobo_1002_5002_lab.ipynb": NOTEBOOK}


@pytest.fixture(autouse=True)
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What is run, without a kernel: 3 of 9 points with more than 1,000 CPU seconds, else none; a fault of ours with 1 GiB."""
    ran: list[Job] = []
    told_without_a_kernel(monkeypatch, 2, ran.append)
    opened = LocalEngine.open

    @contextlib.contextmanager
    def open_told(*given: Any) -> Iterator[Session]:
        with opened(*given) as session:

            def told(job: Job) -> Future[SubmissionRun]:
                result = session.submit(job).result()
                limits = job.limits
                if limits.cpu_seconds <= 1000:
                    seen = {"shout/upper": Observation(Attempt.VALUE, "hej")}
                    result = replace(result, evidence=replace(result.evidence, observations=seen))
                if limits.memory_bytes == 1 << 30:
                    execution = replace(result.execution, outcome=Outcome.SANDBOX_FAILED)
                    result = replace(result, execution=execution, fault="no box could be built")
                future: Future[SubmissionRun] = Future()
                future.set_result(result)
                return future

            yield replace(session, submit=told)

    monkeypatch.setattr(LocalEngine, "open", open_told)
    return ran


@pytest.fixture
def graded(archive, export, run) -> Callable[..., int]:
    """A class of two, graded; call it to grade again."""

    def again(*more: str) -> int:
        return grade(archive(FILES), export(), run, *more)

    assert again() == 0
    return again


def regrade(run: Path, *more: str) -> int:
    return main(["regrade", str(run), *more])


def page(run: Path, name: str) -> str:
    return said((run / "submissions/1001" / name).read_text(encoding="utf-8"))


def test_both_results_are_kept_and_the_newer_counts(graded, run, jobs, capsys) -> None:
    jobs.clear()
    capsys.readouterr()
    assert regrade(run, "Anna Alfa", "--cpu-seconds", "1800", "--reason", "the machine was busy") == 0
    told = said(capsys.readouterr().out)
    assert "Alfa, Anna: shout/upper 0 -> 3" in told and "Result 2 of Alfa, Anna counts; all are kept in" in told
    assert [(job.submission.id, job.limits.cpu_seconds) for job in jobs] == [("1001", 1800)]
    assert scores(run) == {"1001": "3", "1002": "0"}
    for name in ("report.html", "instructor.html"):
        assert "run again on 20" in page(run, name) and "(the machine was busy). Result 2 of 2 counts." in page(
            run, name
        )
    assert "1: 0 of 9 points, 900 CPU seconds, 6 GiB, with the class; 2: 1,800 CPU seconds" in page(
        run, "instructor.html"
    )
    assert "CPU seconds" not in page(run, "report.html"), "who and how is for staff"
    kept = {
        number: json.loads((run / f"submissions/1001/results/{number}/report.json").read_text())["score"]["total"]
        for number in (1, 2)
    }
    assert kept == {1: 0, 2: 3}


def test_it_is_taken_back_and_used_again(graded, run, capsys) -> None:
    assert regrade(run, "1001", "--cpu-seconds", "1800") == 0
    assert regrade(run, "1001", "--undo") == 0
    assert scores(run)["1001"] == "0" and "Result 1 of 2 counts" in page(run, "report.html")
    assert regrade(run, "1001", "--use", "2") == 0
    assert scores(run)["1001"] == "3" and "Result 2 of 2 counts" in page(run, "report.html")
    assert regrade(run, "1001", "--use", "3") == 2
    assert regrade(run, "1002", "--undo") == 2
    for both in (["--use", "1", "--undo"], ["--use", "1", "--cpu-seconds", "9"], ["--undo", "--other-seed"]):
        assert regrade(run, "1001", *both) == 2, "one of them would be passed over without a word"
    assert "Bravo, Bo has 1 results, counted from 1; there is no 0" in said(capsys.readouterr().err)


def test_another_seed_asks_other_questions(graded, run, jobs) -> None:
    for draw in (1, 2):
        assert regrade(run, "1001", "--other-seed") == 0
        assert jobs[-1].again.draw == draw
    directory = RunDirectory(run)
    context = load_context(directory.info(), directory.secret())
    seeds = {context.seed(directory.submissions()[0], {}, draw) for draw in range(3)}
    assert len(seeds) == 3


def test_grading_on_leaves_it_as_it_is(graded, run, jobs) -> None:
    assert regrade(run, "1001", "--cpu-seconds", "1800") == 0
    jobs.clear()
    assert graded() == 0 and jobs == [] and scores(run)["1001"] == "3"
    assert graded("--force") == 0, "as after a change of the grader"
    assert {job.submission.id: job.limits.cpu_seconds for job in jobs} == {"1001": 1800, "1002": 900}
    assert scores(run) == {"1001": "3", "1002": "0"}
    jobs.clear()
    assert graded("--force", "--cpu-seconds", "3600") == 0
    assert [job.limits.cpu_seconds for job in jobs if job.again] == [3600], "never less than the class"


def test_a_new_upload_is_run_with_the_class(graded, archive, export, run, jobs, capsys) -> None:
    assert regrade(run, "1001", "--cpu-seconds", "1800") == 0
    jobs.clear()
    newer = archive({"alfaanna_1001_6001_lab-1.ipynb": notebook_bytes("def shout(text):\n    return text")})
    assert grade(newer, export(), run) == 0
    assert [(job.submission.id, job.again) for job in jobs] == [("1001", None)] and scores(run)["1001"] == "0"
    assert "run again" not in page(run, "report.html")
    assert regrade(run, "1001", "--use", "2") == 2
    assert "is of a file that was replaced since" in said(capsys.readouterr().err)


def test_a_fault_of_the_machine_leaves_the_result(graded, run, capsys) -> None:
    assert regrade(run, "1001", "--cpu-seconds", "1800") == 0
    assert regrade(run, "1001", "--memory-gib", "1") == 4
    assert "the earlier result stays: no box could be built" in said(capsys.readouterr().out)
    assert scores(run)["1001"] == "3" and "Result 2 of 2 counts" in page(run, "report.html")


def test_a_kill_loses_no_result(graded, run, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("grader.cli.runs._judge_again", lambda *_given, **_more: 1 / 0)
        assert regrade(run, "1001", "--cpu-seconds", "1800") == 4
    assert main(["rejudge", str(run)]) == 0
    assert "Result 2 of 2 counts" in page(run, "report.html") and scores(run)["1001"] == "3"
    folder = run / "submissions/1001"
    (folder / "done.json").unlink()
    shutil.copytree(folder / "results/1", folder / "results/.part")
    assert main(["rejudge", str(run)]) == 4, "none counts now"
    assert regrade(run, "1001", "--cpu-seconds", "1800") == 0
    assert "Result 2 of 2 counts" in page(run, "report.html") and scores(run)["1001"] == "3"


def test_points_set_by_hand_stay(graded, run) -> None:
    assert main(["override", str(run), "1001", "add/sum", "2", "--reason", "nearly"]) == 0
    assert regrade(run, "1001", "--cpu-seconds", "1800") == 0
    assert scores(run)["1001"] == "5"


@pytest.mark.parametrize("who", ["1002", "77"])
def test_nothing_to_run_is_said(who, archive, export, run, capsys) -> None:
    assert grade(archive({**FILES, "bravobo_1002_5002_lab.ipynb": b"%PDF-1.4"}), export(), run) == 3
    assert regrade(run, who) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.box
def test_a_notebook_that_was_out_of_time(archive, export, run, monkeypatch) -> None:
    monkeypatch.undo()
    cells = (
        "import time\nwhile time.process_time() < 4: pass\nhow = getattr(str, 'upper')",
        "def shout(text):\n    return how(text)",
    )
    source, roster = archive({"alfaanna_1001_5001_lab.ipynb": notebook_bytes(*cells)}), export()
    assert grade(source, roster, run, "--cpu-seconds", "2") == 0
    assert scores(run)["1001"] == "0"
    assert regrade(run, "1001", "--cpu-seconds", "60", "--other-seed") == 0
    assert scores(run)["1001"] == "3"
    assert regrade(run, "1001", "--undo") == 0
    assert scores(run)["1001"] == "0"
