"""A Dask cluster in processes of its own: equal to the local run, unequal workers refused, lost workers made up for."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from pathlib import Path

import distributed
import psutil
import pytest

from grader.errors import EngineError
from grader.runs.directory import RunDirectory
from grader.runs.engines import choose_engine
from grader.runs.engines.dask import DaskEngine
from tests.engines.toys import ADD, CLASS, SHOUT, grade_on, reports_of, totals
from tests.pipeline.chaos import Batch, calls_itself
from tests.pipeline.conftest import notebook_bytes


def slow(name: str) -> str:
    return f"{calls_itself(name)}\nimport time\ntime.sleep(6)"


pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def engine_for(processes) -> DaskEngine:
    return DaskEngine(processes.address, tls=processes.tls)


def worker_of(nanny: int) -> psutil.Process:
    """The worker process under a nanny: the one that holds zygote and boxes."""
    [worker] = [p for p in psutil.Process(nanny).children() if "resource_tracker" not in " ".join(p.cmdline())]
    return worker


def test_a_worker_killed_midway_costs_nobody_anything_and_nothing_is_left(processes, local, tmp_path) -> None:
    """Equal to the run on this machine, although a worker is killed while it runs a submission."""
    nannies = [processes.worker("one"), processes.worker("two")]
    killed: list[int] = []

    def kill(event) -> None:
        if event.kind == "finished" and not killed:
            worker = worker_of(nannies[0])
            killed.append(worker.pid)
            worker.kill()

    assert grade_on(engine_for(processes), tmp_path / "run", CLASS, kill) == local
    assert totals(local) == [9, 3, 6, 6]
    assert killed
    for nanny in nannies:  # the cluster goes on, without our zygotes
        assert not [p for p in psutil.Process(nanny).children(recursive=True) if "zygote" in " ".join(p.cmdline())]
    with pytest.raises((OSError, TimeoutError)):  # who has no certificate is not let in
        distributed.Client(processes.address.replace("tls://", "tcp://"), timeout=5)


@pytest.mark.attack
def test_a_worker_started_beside_what_was_handed_in(processes, local, tmp_path, monkeypatch) -> None:
    """As docs/clusters.md starts it; without the variable its nanny's first import would be this one."""
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    for name in ("multiprocessing", "runpy", "uvloop", "cupy"):
        (processes.folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + chr(10))\n"
        )
    processes.worker("one", slots=2)
    assert grade_on(engine_for(processes), tmp_path / "run", CLASS) == local
    assert not (tmp_path / "ran").exists()


def test_stages_come_over_the_wire(processes, tmp_path) -> None:
    processes.worker("one", slots=2)
    stages: dict[str, list[str]] = {}
    ready: list[str] = []

    def on_event(event) -> None:
        if event.kind == "stage":
            stages.setdefault(event.submission.id, []).append(event.detail)
            ready.append(event.submission.id)

    grade_on(engine_for(processes), tmp_path / "run", CLASS, on_event)
    assert len(stages) == len(CLASS)
    for heard in stages.values():
        assert any(stage.startswith("cell 1 of") for stage in heard)
    assert "asking questions" in {stage for heard in stages.values() for stage in heard}
    first = ready[0]
    last_of_first = len(ready) - 1 - ready[::-1].index(first)
    assert set(ready[:last_of_first]) != {first}, "two run side by side in one worker"


def test_a_submission_that_takes_its_workers_along_needs_review(processes, tmp_path) -> None:
    """Bounded tries, and never a zero."""
    nanny = processes.worker("one")
    over, begun = threading.Event(), threading.Event()
    killed: set[int] = set()

    def kill_whoever_runs_a_box() -> None:
        begun.wait(60)  # a worker tries its sandbox when it begins
        while not over.wait(0.2):
            with contextlib.suppress(psutil.Error, ValueError):
                worker = worker_of(nanny)
                if any(p.name() == "bwrap" for p in worker.children(recursive=True)):
                    killed.add(worker.pid)
                    worker.kill()

    killer = threading.Thread(target=kill_whoever_runs_a_box)
    killer.start()
    try:
        sleeper = [("import time; time.sleep(30)", ADD, SHOUT)]
        reports = grade_on(engine_for(processes), tmp_path / "run", sleeper, lambda _event: begun.set())
    finally:
        over.set()
        begun.set()
        killer.join()
    assert totals(reports) == [None]
    # twice by Dask, twice more when it runs alone; one that only tries its sandbox as it starts may be hit, too
    assert 4 <= len(killed) <= 6


def test_evidence_that_crashes_its_judge_ends_no_worker(processes, tmp_path) -> None:
    worker = worker_of(processes.worker("one"))
    odd = [(f"def odd(): return {value!r}",) for value in ("crash", 3, "leave", "killed")]
    faults: list[str] = []

    def on_event(event) -> None:
        if event.kind == "fault":
            faults.append(event.detail)

    reports = grade_on(engine_for(processes), tmp_path / "run", odd, on_event, "tests.pipeline.fragile:FRAGILE")
    assert totals(reports) == [None, 4, None, None]
    assert faults == []
    assert worker.is_running()


def test_ctrl_c_once_and_twice_and_the_workers_are_free_again(processes, tmp_path) -> None:
    """Once: what is with the workers is finished. Twice: it is dropped, its box ends. The same command then comes to the end."""
    nanny = processes.worker("one")
    (tmp_path / "in").mkdir()
    for number, cells in enumerate(
        [(ADD, SHOUT), (ADD, slow("student 1"), SHOUT), (ADD, SHOUT, "1"), (ADD, slow("student 3"), SHOUT)]
    ):
        (tmp_path / "in" / f"student{number}_{number}_9{number}_lab.ipynb").write_bytes(notebook_bytes(*cells))
    (tmp_path / "secret").write_text("a secret of interruptions")
    batch = Batch(tmp_path, 4, 1, extra=("--executor", f"dask:{processes.address}", "--tls", str(processes.tls)))

    def names() -> set[str]:
        found = set()
        for process in psutil.Process(nanny).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # some live for a moment only
                found.add(process.name())
        return found

    def interrupted(name: str, times: int) -> None:
        process = batch.start()
        while name not in names():
            assert process.poll() is None, batch.said()
            time.sleep(0.05)
        batch.interrupt(process, times)
        assert batch.end_of(process) == 130, batch.said()

    interrupted("student 1", 1)
    assert batch.done() == {"0", "1", "2"}  # the third was with the worker already
    interrupted("student 3", 2)
    assert batch.done() == {"0", "1", "2"}
    assert "bwrap" not in names()
    assert batch.finish() == 0, batch.output()
    assert batch.done() == {"0", "1", "2", "3"}
    assert not list(batch.run.rglob("*.part"))
    assert totals(reports_of(RunDirectory(batch.run))) == [9] * 4


def test_an_unequal_worker_is_refused_by_name(processes, tmp_path) -> None:
    """A worker with another grader than ours: nothing is run, and the sentence names what differs."""
    other = tmp_path / "other"
    source = Path(__file__).parents[2] / "grader"
    other.mkdir()
    subprocess.run(["cp", "-r", str(source), str(other / "grader")], check=True)
    init = other / "grader" / "__init__.py"
    init.write_text(init.read_text().replace('__version__ = "', '__version__ = "9.'))
    for name in ("data", "reference_solution", "student_template"):
        (other / name).symlink_to(source.parent / name)
    processes.worker("equal")
    processes.worker("unequal", path=str(other))
    with pytest.raises(EngineError) as refused:
        grade_on(engine_for(processes), tmp_path / "run", CLASS)
    text = str(refused.value)
    assert "1 of 2 workers are unfit; nothing was run" in text
    assert "grader: " in text and "here, 9." in text and "grader's code" in text
    assert "torch" not in text
    assert not list((tmp_path / "run").rglob("done.json"))


def test_a_worker_without_the_grader_is_refused(processes, tmp_path) -> None:
    empty = tmp_path / "empty" / "grader"
    empty.mkdir(parents=True)
    (empty / "__init__.py").write_text("")
    processes.worker("bare", path=str(empty.parent))
    with pytest.raises(EngineError, match="grader"):
        grade_on(engine_for(processes), tmp_path / "run", CLASS)


def test_nobody_answers(tmp_path, certificates, monkeypatch) -> None:
    monkeypatch.setattr("grader.runs.engines.dask._CONNECT_SECONDS", 2)
    engine = choose_engine("dask:tls://127.0.0.1:9", slots=1, tls=certificates)
    with pytest.raises(EngineError, match=r"no Dask scheduler answers at tls://127\.0\.0\.1:9"):
        grade_on(engine, tmp_path / "run", CLASS)
