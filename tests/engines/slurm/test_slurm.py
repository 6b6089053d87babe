"""A real Slurm on loopback: what is graded through `slurm:profile.yaml` equals the run on this machine, whatever jobs do.

`start.sh` installs Debian's packages where root may, and starts munge, slurmctld and five slurmd in a folder of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from grader.engines import LocalEngine, choose_engine
from grader.errors import EngineError
from grader.store import RunDirectory
from tests.engines.slurm.cluster import ROOT, NoSlurmError, becomes, jobs_of, no_jobs_of, profile, slurm
from tests.engines.toys import ADD, CLASS, SHOUT, grade_on, said, totals
from tests.pipeline.chaos import Batch
from tests.pipeline.conftest import notebook_bytes

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

JOBS = 4
TIMES = 3
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
            [sys.executable, "-m", "grader.cli", *words, "--executor", engine], stdout=log, stderr=log, cwd=ROOT
        )
    try:
        yield process, cluster / "run"
    finally:
        process.terminate()
        process.wait()


def test_a_profile_that_slurm_does_not_take_is_said(cluster, tmp_path) -> None:
    engine = choose_engine(profile(cluster, "wrong", jobs=JOBS, queue="nowhere"), workers=1)
    with pytest.raises(EngineError, match=r"(?i)slurm does not take the job of this profile.*partition"):
        grade_on(engine, tmp_path / "run", CLASS)
    assert not list((cluster / "wrong").iterdir())


@pytest.mark.usefixtures("walltime_run")
def test_four_jobs_a_scancel_and_fewer_towards_the_end(cluster, tmp_path) -> None:
    """Up to four jobs, one cancelled midway and replaced, fewer as the work ends, none afterwards; equal to the local run."""
    finished, cancelled = 0, list[str]()

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

    graded = grade_on(
        choose_engine(profile(cluster, "four", jobs=JOBS), workers=1), tmp_path / "run", SLOW * TIMES, step
    )
    local = list(grade_on(LocalEngine(2), tmp_path / "local", SLOW).values())
    assert list(graded.values()) == local * TIMES
    assert totals(graded) == [9, 3, 6, 6] * TIMES
    assert cancelled
    assert no_jobs_of("four")
    assert not list((cluster / "four").iterdir())  # neither keys nor logs are left


@pytest.mark.usefixtures("walltime_run")
def test_ctrl_c_twice_gives_the_jobs_back(cluster) -> None:
    """At once: what runs is dropped, no job is left behind, nothing is half-written."""
    folder = cluster / "interrupted"
    (folder / "in").mkdir(parents=True)
    (folder / "secret").write_text("a secret of interruptions")
    for number in range(3):
        data = notebook_bytes(ADD, f"import time\ntime.sleep(20)\nprint({number})", SHOUT)
        (folder / "in" / f"student{number}.ipynb").write_bytes(data)
    engine = profile(cluster, "twice", jobs=2)
    batch = Batch(folder, 3, 2, extra=("--executor", engine))
    process = batch.start()
    stages = batch.run / ".stages"
    assert becomes(lambda: any("cell 2" in path.read_text() for path in stages.glob("*")))
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
    assert batch.end_of(process) == 130, batch.said()
    assert batch.done() == set()
    assert not list(batch.run.rglob("*.part"))
    assert no_jobs_of("twice")


@pytest.mark.usefixtures("walltime_run")
def test_notebooks_of_the_sample_class_are_graded_as_labelled(cluster) -> None:
    """Two real notebooks, one wrong in a detail, one that raises, on two jobs by the command line."""
    data = ROOT / "data" / "sample_class"
    expected = json.loads((data / "expected.json").read_text(encoding="utf-8"))["files"]
    chosen = [name for name, entry in expected.items() if entry["user"] in (41010, 41013)]
    with zipfile.ZipFile(data / "submissions.zip") as archive, zipfile.ZipFile(cluster / "real.zip", "w") as real:
        for name in chosen:
            real.writestr(name, archive.read(name))
    engine, run = profile(cluster, "real", jobs=2), cluster / "real-run"
    words = ["grade", str(cluster / "real.zip"), "--out", str(run), "--executor", engine]
    done = subprocess.run([sys.executable, "-m", "grader.cli", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in run.glob("submissions/*/report.json")]
    earned = {
        report["submission"]["id"]: {c["id"]: c["earned"] for c in report["score"]["criteria"]} for report in reports
    }
    assert earned == {str(expected[name]["user"]): expected[name]["earned"] for name in chosen}
    assert no_jobs_of("real")


def test_a_walltime_that_is_hit_costs_nobody_anything(cluster, walltime_run) -> None:
    """One job ends at its time limit with a submission in it; another takes its place and runs that submission again."""
    process, root = walltime_run
    code = process.wait(timeout=500)
    assert code == 0, (cluster / "walltime.log").read_text()
    assert totals(said(RunDirectory(root))) == [9] * 11
    assert "Time limit exhausted" in (cluster / "slurmctld.log").read_text()
    assert no_jobs_of("walltime")
