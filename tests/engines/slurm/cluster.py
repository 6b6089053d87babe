"""A real Slurm on loopback for tests and scripts, a profile for it, and its jobs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
START = Path(__file__).with_name("start.sh")


class NoSlurmError(Exception):
    """Why Slurm cannot be started here."""


@contextlib.contextmanager
def slurm(nodes: int) -> Iterator[Path]:
    """Install Debian's packages where root may, start all daemons in a short-lived folder, and end them."""
    if os.geteuid() != 0:
        raise NoSlurmError("starting Slurm's daemons needs root")
    installed = subprocess.run(["bash", str(START), "install"], capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        raise NoSlurmError(f"no Slurm here: {installed.stderr.strip()}")
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:  # sockets need a short path
        folder = Path(name)
        try:
            with (folder / "up.log").open("wb") as log:  # daemons keep it open: a pipe would never end
                environment = {**os.environ, "NODES": str(nodes)}
                up = subprocess.run(
                    ["bash", str(START), "up", name], stdout=log, stderr=log, env=environment, check=False
                )
            assert up.returncode == 0, (folder / "up.log").read_text()
            yield folder
        finally:
            subprocess.run(["bash", str(START), "down", name], check=False)


def profile(folder: Path, name: str, *, jobs: int, walltime: str = "00:10:00", queue: str = "main") -> str:
    """Write a profile for up to so many jobs called `name`; what `--executor` takes."""
    path = folder / f"{name}.yaml"
    path.write_text(f"""
max_jobs: {jobs}
start_minutes: 3
job:
  job_name: {name}
  queue: {queue}
  cores: 1
  processes: 1
  memory: 1GB
  walltime: "{walltime}"
  shared_temp_directory: {folder}/{name}
  local_directory: {folder}
  scheduler_options: {{host: 127.0.0.1}}
  worker_extra_args: ["--host", "127.0.0.1"]
""")
    return f"slurm:{path}"


def jobs_of(name: str, state: str = "all") -> list[str]:
    """Numbers of the jobs of a name."""
    listed = subprocess.run(
        ["squeue", "-h", "-n", name, "-t", state, "-o", "%A"], capture_output=True, text=True, check=True
    )
    return listed.stdout.split()


def becomes(condition: Callable[[], bool]) -> bool:
    """Whether something comes true in time (Slurm and busy machines take a while)."""
    tick = threading.Event()
    return any(condition() or tick.wait(0.5) for _ in range(240))


def no_jobs_of(name: str) -> bool:
    """Whether all jobs of a name come to their end."""
    return becomes(lambda: not [job for job in jobs_of(name, "R,PD,CG") if job])
