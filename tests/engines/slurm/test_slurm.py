"""A real Slurm on loopback: what is graded through `slurm:profile.yaml` equals the run on this machine, whatever jobs do.

`start.sh` installs Debian's packages where root may, and starts munge, slurmctld and five slurmd in a folder of the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from grader.errors import EngineError
from grader.runs.directory import RunDirectory
from grader.runs.engines import LocalEngine, choose_engine
from tests.engines.slurm.cluster import ROOT, NoSlurmError, becomes, jobs_of, no_jobs_of, profile, slurm
from tests.engines.toys import ADD, CLASS, SHOUT, grade_on, reports_of, totals
from tests.pipeline.chaos import Batch, calls_itself
from tests.pipeline.conftest import notebook_bytes

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.serial,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

JOBS = 4
TIMES = 3
SAMPLE = ROOT / "data" / "sample_class"
SLOW = tuple((f"import time\ntime.sleep(2)\nprint({number})", *cells) for number, cells in enumerate(CLASS))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    try:
        with slurm(JOBS + 1) as folder, pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            patch.setenv("PYTHONPATH", str(ROOT))
            yield folder
    except NoSlurmError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def walltime_run(cluster) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A class on one job that Slurm ends after a minute, by the command line; it runs beside the other tests."""
    folder = cluster / "class"
    folder.mkdir()
    for number in range(11):
        data = notebook_bytes(f"import time\ntime.sleep(8)\nprint({number})", ADD, SHOUT)
        (folder / f"student{number:02d}.ipynb").write_bytes(data)
    words = [
        "grade",
        str(folder),
        "--assignment",
        "tests.toy:TOY",
        "--out",
        str(cluster / "run"),
        "--cpu-seconds",
        "20",
    ]
    engine = profile(cluster, "walltime", jobs=1, walltime="00:01:00")
    with (cluster / "walltime.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "grader", *words, "--executor", engine], stdout=log, stderr=log, cwd=ROOT
        )
    try:
        yield process, cluster / "run"
    finally:
        process.terminate()
        process.wait()


def test_a_profile_that_slurm_does_not_take_is_said(cluster, tmp_path) -> None:
    engine = choose_engine(profile(cluster, "wrong", jobs=JOBS, queue="nowhere"), slots=1)
    with pytest.raises(EngineError, match=r"(?i)slurm does not take the job of this profile.*partition"):
        grade_on(engine, tmp_path / "run", CLASS)
    assert not list((cluster / "wrong").iterdir())


@pytest.mark.usefixtures("walltime_run")
def test_four_jobs_a_scancel_and_fewer_towards_the_end(cluster, tmp_path, monkeypatch) -> None:
    """Up to four jobs, one cancelled midway and replaced, fewer as the work ends, none afterwards; equal to the local run.

    All of it from a folder of submissions with modules that Dask's workers import: they ran as the one who grades.
    """
    finished, cancelled = 0, list[str]()
    submissions = tmp_path / "submissions"
    submissions.mkdir()
    for name in ("multiprocessing", "distributed", "asyncio", "tornado", "grader"):
        (submissions / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__ + chr(10))\n")
    monkeypatch.chdir(submissions)

    def step(event) -> None:  # while the coordinator waits here, nothing new is handed out: no race to lose
        nonlocal finished
        if event.kind != "finished":
            return
        finished += 1
        if finished == 1:
            assert becomes(lambda: len(jobs_of("four", "R")) == JOBS)
        elif finished == 3:
            cancelled.append(jobs_of("four", "R")[0])
            subprocess.run(["scancel", cancelled[0]], check=True)
            assert becomes(lambda: len(jobs_of("four", "R")) == JOBS and cancelled[0] not in jobs_of("four", "R"))
        elif finished == len(SLOW) * TIMES - 1:
            assert becomes(lambda: len(jobs_of("four", "R,PD")) == 1)

    graded = grade_on(choose_engine(profile(cluster, "four", jobs=JOBS), slots=1), tmp_path / "run", SLOW * TIMES, step)
    local = list(grade_on(LocalEngine(2), tmp_path / "local", SLOW).values())
    assert list(graded.values()) == local * TIMES
    assert totals(graded) == [9, 3, 6, 6] * TIMES
    assert cancelled
    assert no_jobs_of("four")
    assert not list((cluster / "four").iterdir())  # neither keys nor logs are left
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("walltime_run")
def test_ctrl_c_twice_gives_the_jobs_back(cluster) -> None:
    """At once: what runs is dropped, no job is left behind, nothing is half-written."""
    folder = cluster / "interrupted"
    (folder / "in").mkdir(parents=True)
    (folder / "secret").write_text("a secret of interruptions")
    for number in range(3):
        data = notebook_bytes(
            ADD, f"{calls_itself(f'twice {os.getpid()}')}\nimport time\ntime.sleep(20 + {number})", SHOUT
        )
        (folder / "in" / f"student{number}.ipynb").write_bytes(data)
    engine = profile(cluster, "twice", jobs=2)
    batch = Batch(folder, 3, 2, extra=("--executor", engine))
    process = batch.start()
    assert becomes(lambda: any(p.info["name"] == f"twice {os.getpid()}" for p in psutil.process_iter(["name"])))
    batch.interrupt(process, 2)
    assert batch.end_of(process) == 130, batch.output()
    assert batch.done() == set()
    assert not list(batch.run.rglob("*.part"))
    assert no_jobs_of("twice")


def test_a_walltime_that_is_hit_costs_nobody_anything(cluster, walltime_run) -> None:
    """One job ends at its time limit with a submission in it; another takes its place and runs that submission again."""
    process, root = walltime_run
    code = process.wait(timeout=500)
    assert code == 0, (cluster / "walltime.log").read_text()
    assert totals(reports_of(RunDirectory(root))) == [9] * 11
    assert "Time limit exhausted" in (cluster / "slurmctld.log").read_text()
    assert no_jobs_of("walltime")


# ---------------------------------------------------------------- the sample class


OPTIONS = ("--roster", str(SAMPLE / "gradebook.csv"), "--title", "Sample class", "--cpu-seconds", "100")
"""As scripts/sample-class.sh has them; one notebook loops for ever."""
MEASURED = {"seconds", "cpu_seconds", "log"}
"""Seconds, and the log of a `Trainer`, which is full of them: the only things in evidence that two runs may differ in."""


def without_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_measured(part) for key, part in value.items() if key not in MEASURED}
    return [without_measured(part) for part in value] if isinstance(value, list) else value


def outcome_of(run: Path) -> dict[str, Any]:
    """All that was seen and judged, down to every logit and the digest of every trained tensor."""
    found: dict[str, Any] = {
        name: (run / name).read_text(encoding="utf-8") for name in ("gradebook.csv", "needs_review.csv")
    }
    for path in run.glob("submissions/*/report.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: report[name] for name in ("submission", "score", "adaptations", "notices", "metrics")}
        ended = (report["execution"] or {}).get("outcome")
        evidence = path.with_name("evidence.json")
        seen = json.loads(evidence.read_text(encoding="utf-8")) if evidence.exists() else None
        found[path.parent.name] = without_measured({**parts, "outcome": ended, "evidence": seen})
    return found


def disturb(process: subprocess.Popen[bytes], batch: Batch) -> tuple[list[int], str, str]:
    """Cancel a job and let another run into its walltime, all four being there; how many ran over time, and who was ended."""
    counts = list[int]()
    cancelled = limited = ""
    while process.poll() is None:
        running = jobs_of("sample", "R")
        counts.append(len(running))
        done = len(batch.done())
        if len(running) == JOBS and done >= 1 and not cancelled:
            cancelled = min(running, key=int)
            subprocess.run(["scancel", cancelled], check=True)
        elif len(running) == JOBS and done >= 3 and cancelled not in running and not limited:
            limited = min(running, key=int)  # the oldest, which has run for more than its new limit of a minute
            subprocess.run(["scontrol", "update", f"JobId={limited}", "TimeLimit=1"], check=True)
        time.sleep(1)
    return counts, cancelled, limited


@pytest.mark.timeout(5000)
def test_the_sample_class_on_four_jobs_equals_the_run_on_this_machine(cluster, sample_class) -> None:
    """One job is cancelled in the middle, one runs into its walltime; both are replaced, and jobs go back when work ends."""
    folder = cluster / "sample-class"
    folder.mkdir()
    shutil.copy(sample_class.secret, folder / "secret")
    engine = profile(cluster, "sample", jobs=JOBS, walltime="00:50:00")
    source = SAMPLE / "submissions.zip"
    there = Batch(folder, 16, JOBS, "there", (*OPTIONS, "--executor", engine), "finetuning", source)
    process = there.start()
    try:
        counts, cancelled, limited = disturb(process, there)
    finally:
        process.terminate()
    assert process.returncode in (0, 3), there.output()
    assert cancelled
    assert limited
    assert f"Time limit exhausted for JobId={limited}" in (cluster / "slurmctld.log").read_text()
    assert max(counts) == JOBS
    last = len(counts) - 1 - counts[::-1].index(JOBS)
    assert set(counts[last + 1 :]) & set(range(1, JOBS)), "fewer jobs towards the end"
    assert no_jobs_of("sample")
    assert not list((cluster / "sample").iterdir())  # neither keys nor logs are left
    compared = subprocess.run(
        [sys.executable, str(SAMPLE / "compare.py"), str(there.run)], capture_output=True, text=True
    )
    assert compared.returncode == 0, compared.stdout
    here, other = outcome_of(sample_class.run), outcome_of(there.run)
    assert here.keys() == other.keys()
    assert [name for name in here if here[name] != other[name]] == []
