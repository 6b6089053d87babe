"""Choosing an engine, what is refused and in which words, what makes workers unequal; no worker is started here."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from grader.errors import EngineError, InfrastructureError, UsageError
from grader.runs.batch import run_batch, workers_for
from grader.runs.engines import LocalEngine, choose_engine, worker
from grader.runs.engines.certificates import write_certificates
from grader.runs.engines.contract import Session
from grader.runs.engines.slurm import SlurmEngine, read_profile
from tests.engines.toys import ADD, SHOUT, grade_on, totals, toy_class

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
        choose_engine(text, workers=2, **options)
    return str(error.value)


def test_local_is_the_default_and_takes_a_number() -> None:
    for text, workers in (("local", 2), ("local:7", 7)):
        engine = choose_engine(text, workers=2)
        assert isinstance(engine, LocalEngine)
        assert engine.workers == workers
    assert "whole number" in refused("local:many")
    assert "whole number" in refused("local:0")


def test_what_is_no_engine_is_said_with_the_forms() -> None:
    for text in ("", "slurm", "dask:", "nowhere_at_all:factory", "os:path"):
        assert "slurm:PROFILE.yaml" in refused(text) or "no engine" in refused(text), text


def test_plain_tcp_beyond_this_machine_is_refused_without_the_flag() -> None:
    for host in ("10.0.0.7", "node7.example.org", "[2001:db8::7]", "localhost.example.org", "127.0.0.1.example.org"):
        assert "--insecure-tcp" in refused(f"dask:tcp://{host}:8786"), host
        assert choose_engine(f"dask:tcp://{host}:8786", workers=1, insecure_tcp=True).name
    for host in ("127.0.0.1", "localhost", "[::1]", "127.8.9.1"):
        assert choose_engine(f"dask:tcp://{host}:8786", workers=1).name


def test_tls_is_the_default_and_needs_certificates(tmp_path) -> None:
    assert "needs certificates" in refused("dask:node7:8786")
    assert "is not there" in refused("dask:node7:8786", tls=tmp_path)
    _, key = write_certificates(tmp_path / "tls")
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    engine = choose_engine("dask:node7:8786", workers=1, tls=tmp_path / "tls")
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
        "    try:\n        choose_engine(text, workers=1)\n"
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

    assert "job" in refusal("max_jobs: 3")
    assert "unknown key max_job;" in refusal(PROFILE.replace("max_jobs", "max_job"))
    assert "job.walltime" in refusal(PROFILE.replace('"00:30:00"', "4:00:00"))
    assert "job.memory" in refusal(PROFILE.replace("  memory: 4GB\n", ""))
    assert "max_jobs is 0" in refusal(PROFILE.replace("max_jobs: 3", "max_jobs: 0"))
    assert "over TLS" in refusal(PROFILE + "  security: null\n")
    assert "cannot be read" in refusal("job: [")
    path.write_text(PROFILE)
    profile = read_profile(path)
    assert (profile.slots, profile.jobs_for(100), profile.jobs_for(3), profile.jobs_for(0)) == (6, 3, 2, 0)


def test_slurm_without_its_commands(tmp_path, monkeypatch) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="sbatch"):
        SlurmEngine(read_profile(path))


def test_dask_jobqueue_leaves_ctrl_c_alone() -> None:
    """Imported as it is, it makes Ctrl-C end the process in silence, with exit code 0."""
    code = (
        "import signal; before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
        "import grader.runs.engines.slurm\n"
        "assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_what_differs_is_named() -> None:
    here = {"torch": "2.13.0", "bundle": "standin 0a1b", "numpy": "2.4"}
    assert worker.differences(here, dict(here)) == []
    assert worker.differences(here, {**here, "torch": "2.12.0"}) == ["torch: 2.13.0 here, 2.12.0 there"]
    assert worker.differences(here, {"torch": "2.13.0", "numpy": "2.4"}) == ["bundle: standin 0a1b here, absent there"]


def test_the_order_of_a_batch_keeps_its_secret_out_of_logs_and_can_travel(tmp_path) -> None:
    _, order, _ = toy_class(tmp_path / "run", [(ADD, SHOUT)])
    assert {"torch", "grader", "grader's code", "code in the box", "bundle", "questions"} <= set(order.identity)
    assert "a secret for engines" not in repr(order)
    assert pickle.loads(pickle.dumps(order)) == order
    error = pickle.loads(pickle.dumps(EngineError("what differs")))
    assert str(error) == "what differs"


def test_an_unequal_worker_begins_nothing(tmp_path) -> None:
    _, order, jobs = toy_class(tmp_path / "run", [(ADD, SHOUT)])
    wrong = replace(order, identity={**order.identity, "torch": "0.1"})
    with pytest.raises(EngineError, match=r"torch: 0\.1 here"):
        worker.serve(wrong, jobs[0])


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_reports_nothing(tmp_path, monkeypatch) -> None:
    """Slurm signals kernels and workers at once: what looks like a dead kernel must not be charged to a student."""
    _, order, jobs = toy_class(tmp_path / "run", [(ADD, SHOUT)])
    heard = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: heard.set())
    monkeypatch.setattr(worker, "_told_to_end", threading.Event())

    class Told:
        def __init__(self, place) -> None:
            self.place = place

        async def run(self, *given):
            result = await self.place.run(*given)
            os.kill(os.getpid(), signal.SIGTERM)
            return result

    try:
        worker.begin(order)
        place = worker._graders[order.token]
        monkeypatch.setitem(worker._graders, order.token, Told(place))
        with pytest.raises(InfrastructureError, match="told to end"):
            worker.serve(order, jobs[0])
        assert heard.is_set()  # what was there before still hears it
    finally:
        worker._graders[order.token] = place
        worker.end(order.token)
        signal.signal(signal.SIGTERM, before)


class StoppedWhileOpening:
    """An engine whose first worker is long in coming, e.g. behind a queue; Ctrl-C is pressed meanwhile."""

    name = "none yet"

    @contextlib.contextmanager
    def open(self, order):
        signal.raise_signal(signal.SIGINT)
        yield Session(cf.ThreadPoolExecutor(1), 1)


def test_ctrl_c_before_anything_runs_stops_at_once(tmp_path) -> None:
    """There is nothing to finish, and nobody says so."""
    run, order, jobs = toy_class(tmp_path / "run", [(ADD, SHOUT)])
    before, events = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt):
        run_batch(run, order, jobs, StoppedWhileOpening(), events.append, lambda: events.append("finishing"))
    assert events == []
    assert signal.getsignal(signal.SIGINT) is before


class ThreadsEngine:
    """What a site may bring itself: `tests.engines.test_engines:threads`."""

    name = "one thread of this process"

    def open(self, order):
        @contextlib.contextmanager
        def opened():
            with cf.ThreadPoolExecutor(1) as executor:
                try:
                    yield Session(executor, 1)
                finally:
                    worker.end(order.token)

        return opened()


def threads() -> ThreadsEngine:
    return ThreadsEngine()


@pytest.mark.slow
def test_an_engine_of_ones_own(tmp_path) -> None:
    engine = choose_engine("tests.engines.test_engines:threads", workers=1)
    assert totals(grade_on(engine, Path(tmp_path) / "run", [(ADD, SHOUT), (ADD,)])) == [9, 6]


@pytest.mark.parametrize(
    ("cores", "gib", "model_mb", "workers"),
    [
        (2, 24, 1, 2),  # cores are what is scarce
        (16, 9, 1, 7),  # memory is
        (16, 32, 268, 7),  # the real DistilBERT: three gigabytes more each
        (4, 0.5, 1, 1),  # one always runs
    ],
)
def test_as_many_workers_as_cores_and_memory_allow(cores, gib, model_mb, workers):
    assert workers_for(cores, int(gib * 2**30), model_mb * 10**6) == workers
