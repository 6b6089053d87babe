"""Choosing an engine, what is refused and in which words, what makes workers unequal; no worker is started here."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import pytest

from grader.errors import EngineError, UsageError
from grader.records import Evidence, Execution, Notebook, Outcome, SubmissionRun, Usage
from grader.runs.batch import run_batch, slots_for
from grader.runs.directory import RunInfo
from grader.runs.engines import Job, LocalEngine, Session, WorkerLostError, choose_engine, worker
from grader.runs.engines.certificates import write_certificates
from grader.runs.engines.slurm import SlurmEngine, read_profile
from grader.runs.plan import load_job
from tests.engines.toys import ADD, LIMITS, SHOUT, reports_of, totals, toy_class

PROFILE = """
max_jobs: 3
job:
  queue: main
  cores: 2
  processes: 2
  memory: 4GB
  walltime: "00:30:00"
"""


def refused(text: str, **options) -> str:
    with pytest.raises(UsageError) as error:
        choose_engine(text, slots=2, **options)
    return str(error.value)


def test_local_is_the_default_and_takes_a_number() -> None:
    for text, slots in (("local", 2), ("local:7", 7)):
        engine = choose_engine(text, slots=2)
        assert isinstance(engine, LocalEngine)
        assert engine.slots == slots
    assert "whole number" in refused("local:many")
    assert "whole number" in refused("local:0")


def test_what_is_no_engine_is_said_with_the_forms() -> None:
    for text in ("", "slurm", "dask:", "nowhere_at_all:factory", "os:path", "slrum:profile.yaml"):
        assert "is none of local[:N], dask:ADDRESS or slurm:PROFILE.yaml" in refused(text)


def test_plain_tcp_beyond_this_machine_is_refused_without_the_flag() -> None:
    for host in ("10.0.0.7", "node7.example.org", "[2001:db8::7]", "localhost.example.org", "127.0.0.1.example.org"):
        assert "--insecure-tcp" in refused(f"dask:tcp://{host}:8786"), host
        assert choose_engine(f"dask:tcp://{host}:8786", slots=1, insecure_tcp=True).name
    for host in ("127.0.0.1", "localhost", "[::1]", "127.8.9.1"):
        assert choose_engine(f"dask:tcp://{host}:8786", slots=1).name


def test_tls_is_the_default_and_needs_certificates(tmp_path) -> None:
    assert "needs certificates" in refused("dask:node7:8786")
    assert "is not there" in refused("dask:node7:8786", tls=tmp_path)
    _, key = write_certificates(tmp_path / "tls")
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    engine = choose_engine("dask:node7:8786", slots=1, tls=tmp_path / "tls")
    assert engine.name == "the Dask cluster at tls://node7:8786"
    assert engine.security.require_encryption
    with pytest.raises(UsageError, match="holds certificates already"):
        write_certificates(tmp_path / "tls")


def test_a_missing_extra_is_one_line_that_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['distributed', 'dask', 'dask_jobqueue']))\n"
        "from grader.cli.main import main\n"
        "from grader.runs.engines import choose_engine\n"
        "from grader.errors import UsageError\n"
        "for text in ('dask:127.0.0.1:8786', 'slurm:profile.yaml'):\n"
        "    try:\n        choose_engine(text, slots=1)\n"
        "    except UsageError as error:\n        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("pip install 'dat450-grader[cluster]'" in line for line in lines)


def test_a_profile_says_what_is_wrong_with_it(tmp_path) -> None:
    path = tmp_path / "profile.yaml"

    def refusal(text: str) -> str:
        path.write_text(text)
        with pytest.raises(UsageError) as error:
            read_profile(path)
        return str(error.value)

    assert "missing required field `job`" in refusal("max_jobs: 3")
    assert "unknown field `max_job`" in refusal(PROFILE.replace("max_jobs", "max_job"))
    no_quotes = refusal(PROFILE.replace('"00:30:00"', "4:00:00"))
    assert "Expected `str`, got `int` - at `$.job.walltime`" in no_quotes
    assert "needs quotes" in no_quotes
    assert "missing required field `memory`" in refusal(PROFILE.replace("  memory: 4GB\n", ""))
    assert "Expected `int` >= 1 - at `$.max_jobs`" in refusal(PROFILE.replace("max_jobs: 3", "max_jobs: 0"))
    assert "`$.job.processes`" in refusal(PROFILE.replace("processes: 2", "processes: two"))
    assert "over TLS" in refusal(PROFILE + "  security: null\n")
    assert "cannot be read" in refusal("job: [")
    assert "cannot be read" in refusal("a: \0")
    path.write_text(PROFILE)
    profile, arguments = read_profile(path)
    assert arguments["queue"] == "main"
    assert [profile.jobs_for(left) for left in (100, 3, 0)] == [3, 2, 0]


def test_slurm_without_its_commands(tmp_path, monkeypatch) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="sbatch"):
        SlurmEngine(path)


def test_dask_jobqueue_leaves_ctrl_c_alone() -> None:
    """Imported as it is, it makes Ctrl-C end the process in silence, with exit code 0."""
    code = (
        "import signal; before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
        "import grader.runs.engines.slurm\n"
        "assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def order_for(context) -> worker.Order:
    info = RunInfo("tests.toy:TOY", "standin", "", "", "auto", "test")
    return worker.Order(info, context.secret, worker.identity(context), "token")


def test_an_order_keeps_its_secret_out_of_logs_and_can_travel(tmp_path) -> None:
    order = order_for(toy_class(tmp_path / "run", [(ADD, SHOUT)])[1])
    assert {"torch", "grader", "grader's code", "bundle", "questions"} <= set(order.identity)
    assert "a secret for engines" not in repr(order)
    assert pickle.loads(pickle.dumps(order)) == order
    error = pickle.loads(pickle.dumps(EngineError("what differs")))
    assert str(error) == "what differs"
    error = pickle.loads(pickle.dumps(WorkerLostError("gone")))
    assert str(error) == "gone"


def test_an_unequal_worker_begins_nothing(tmp_path) -> None:
    _, context, jobs = toy_class(tmp_path / "run", [(ADD, SHOUT)])
    order = order_for(context)
    known = {name: value for name, value in order.identity.items() if name != "bundle"}
    wrong = replace(order, identity={**known, "torch": "0.1"})
    there = re.escape(
        f"(bundle: absent here, {order.identity['bundle']} there; torch: 0.1 here, {version('torch')} there)"
    )
    with pytest.raises(EngineError, match=there):
        worker.serve(wrong, jobs[0], lambda _id, _stage: None)


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_reports_nothing(tmp_path, monkeypatch) -> None:
    """Slurm signals kernels and workers at once: what looks like a dead kernel must not be charged to a student."""
    run, context, jobs = toy_class(tmp_path / "run", [(ADD, SHOUT)])
    order = order_for(context)
    handled = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: handled.set())
    monkeypatch.setattr(worker, "_told_to_end", threading.Event())
    stages: list[str] = []

    def on_stage(submission_id: str, stage: str) -> None:
        stages.append(stage)
        if stage == "asking questions":
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with pytest.raises(WorkerLostError, match="told to end"):
            worker.serve(order, load_job(run, jobs[0]), on_stage)
        assert handled.is_set()  # what was there before still hears it
        assert "cell 1 of 2" in stages
    finally:
        worker.end(order.token)
        signal.signal(signal.SIGTERM, before)


class FakeEngine:
    """An engine whose slots are made of `answers`: for each submission, what its runs bring, one after the other."""

    name = "nothing at all"

    def __init__(self, answers: Callable[[Job], object] = lambda _job: None) -> None:
        self.answers = answers
        self.opened: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def open(self, _info, _context, _on_stage):
        self.opened()
        yield Session(self.submit, 1)

    def submit(self, job: Job) -> cf.Future:
        future: cf.Future = cf.Future()
        answer = self.answers(job)
        future.set_exception(answer) if isinstance(answer, Exception) else future.set_result(answer)
        return future


class ThreadsEngine:
    """An engine whose two slots are threads that call `run`."""

    name = "two threads"

    def __init__(self, run: Callable[[Job], object]) -> None:
        self.run = run

    @contextlib.contextmanager
    def open(self, _info, _context, _on_stage):
        with cf.ThreadPoolExecutor(2) as threads:
            yield Session(lambda job: threads.submit(self.run, job), 2)


def test_ctrl_c_before_anything_runs_stops_at_once(tmp_path) -> None:
    """Its first worker is long in coming, e.g. behind a queue: there is nothing to finish, and nobody says so."""
    run, context, jobs = toy_class(tmp_path / "run", [(ADD, SHOUT)])
    before, messages, engine = signal.getsignal(signal.SIGINT), [], FakeEngine()
    engine.opened = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_batch(run, context, jobs, engine, messages.append, lambda: messages.append("finishing"))
    assert messages == []
    assert signal.getsignal(signal.SIGINT) is before


def nothing_seen() -> SubmissionRun:
    return SubmissionRun(Notebook((), 0), Execution(Outcome.COMPLETED, (), Usage(), "none", {}, ""), Evidence("", {}))


@pytest.mark.parametrize("repeatedly", [False, True])
def test_who_loses_every_worker_needs_review_and_its_neighbours_are_graded(tmp_path, repeatedly) -> None:
    """The cause takes its neighbour's worker along, too; in the end each of them runs alone."""
    run, context, jobs = toy_class(tmp_path / "run", [(ADD, SHOUT), (ADD, SHOUT, "1"), (ADD, SHOUT, "2")])
    cause, neighbour, other = (job.submission.id for job in jobs)
    sent: list[str] = []
    running: set[str] = set()
    beside: dict[str, int] = {}

    def answer(job: Job) -> object:
        name = job.submission.id
        sent.append(name)
        running.add(name)
        time.sleep(0.1)  # so that the one beside it has begun
        beside[name] = len(running) - 1
        time.sleep(0.1)
        running.discard(name)
        lost = name == cause or (name == neighbour and sent.count(name) < (2 if repeatedly else 3))
        if lost:
            raise WorkerLostError("it is gone", repeatedly=repeatedly)
        return nothing_seen()

    run_batch(run, context, jobs, ThreadsEngine(answer))
    done = {job.submission.id: run.done(job.submission.id) for job in jobs}
    assert done[cause].fault == "the worker was lost 3 times while it ran this submission: it is gone"
    assert done[neighbour].fault == done[other].fault == ""
    assert sent.count(cause) == (2 if repeatedly else 3)
    assert (beside[cause], beside[neighbour]) == (0, 0), "the last time each runs alone"
    assert done[other].outcome == Outcome.COMPLETED
    names = ("cpu_seconds", "wall_seconds", "memory_bytes")
    assert done[other].limits == {name: getattr(LIMITS, name) for name in names}


def test_a_bug_of_an_engine_is_a_fault_of_ours_and_stops_nobody_else(tmp_path) -> None:
    run, context, jobs = toy_class(tmp_path / "run", [(ADD,), (SHOUT,)])
    answers = {jobs[0].submission.id: ZeroDivisionError("a bug"), jobs[1].submission.id: nothing_seen()}
    events = []
    run_batch(run, context, jobs, FakeEngine(lambda job: answers[job.submission.id]), events.append)
    assert [run.done(job.submission.id).fault for job in jobs] == ["ZeroDivisionError: a bug", ""]
    assert [event.kind for event in events] == ["started", "fault", "started", "finished"]
    unfit = FakeEngine(lambda _job: EngineError("an unequal worker"))
    with pytest.raises(EngineError, match="an unequal worker"):
        run_batch(run, context, jobs, unfit)


@pytest.mark.slow
def test_submissions_run_side_by_side_in_this_process(tmp_path) -> None:
    run, context, jobs = toy_class(
        tmp_path / "run", [(ADD, SHOUT, f"import time; time.sleep({n})") for n in (1, 1.1, 0)]
    )
    events = []

    def on_event(event) -> None:
        events.append(event)
        if event.kind == "stage":
            raise OSError("nobody looks")  # which is no reason to fail

    run_batch(run, context, jobs, LocalEngine(2), on_event)
    kinds = [event.kind for event in events if event.kind != "stage"]
    assert kinds[:3] == ["started", "started", "finished"]
    assert sorted(kinds[3:]) == ["finished", "finished", "started"]
    assert totals(reports_of(run)) == [9, 9, 9]
    first, second = (jobs[n].submission.id for n in (0, 1))
    stages = [event.submission.id for event in events if event.kind == "stage"]
    assert {first, second} <= set(stages[: len(stages) - stages[::-1].index(first)])
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("cores", "gib", "model_mb", "slots"),
    [
        (2, 24, 1, 2),  # cores are what is scarce
        (16, 9, 1, 7),  # memory is
        (16, 32, 268, 7),  # the real DistilBERT: three gigabytes more each
        (4, 0.5, 1, 1),  # one always runs
    ],
)
def test_as_many_slots_as_cores_and_memory_allow(cores, gib, model_mb, slots):
    assert slots_for(cores, int(gib * 2**30), model_mb * 10**6) == slots
