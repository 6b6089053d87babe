"""Workers that Slurm starts as jobs: `slurm:PROFILE.yaml`. Needs the extra `cluster`; docs/clusters.md explains the profile.

Trusted. The scheduler runs in the coordinator's process and is reached over TLS alone, with certificates made for this batch; their
key lies on the shared file system for as long as the batch runs, readable by its owner only. Jobs that are lost are replaced.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import dask
import distributed
import msgspec
import yaml

from grader.errors import EngineError, UsageError
from grader.grading.context import RunContext
from grader.runs.directory import RunInfo
from grader.runs.engines import OnStage, Session
from grader.runs.engines.certificates import write_certificates
from grader.runs.engines.dask import lend

_signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
from dask_jobqueue import SLURMCluster  # noqa: E402 - it makes Ctrl-C end the process in silence, with exit code 0

if threading.current_thread() is threading.main_thread():
    for _number, _handler in _signals.items():
        signal.signal(_number, _handler)

__all__ = ["Profile", "SlurmEngine", "read_profile"]

_POLL_SECONDS = 5
# Our own: a lost job is replaced soon, a submission that takes its third worker along is given up, nothing is moved about.
_SETTINGS = {
    "distributed.deploy.lost-worker-timeout": "5s",
    "distributed.scheduler.allowed-failures": 2,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.profile.enabled": False,
}
# What is on disk and in memory of a worker is small; its boxes have limits of their own.
_WORKER_LINES = (
    "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=False",
    "export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False",
    "export OMP_NUM_THREADS=1 PYTHONSAFEPATH=1 DASK_DISTRIBUTED__WORKER__USE_FILE_LOCKING=False",
)


_Whole = Annotated[int, msgspec.Meta(ge=1)]


class _Job(msgspec.Struct):
    """What the grader reads of a profile's `job`; whatever else stands there is for `SLURMCluster`."""

    walltime: str
    memory: str
    processes: _Whole = 1
    cores: _Whole | None = None
    shared_temp_directory: str = "~/.grader/cluster"


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a site's Slurm is asked for workers."""

    job: _Job
    """Of one job; its `processes` are the submissions side by side in it."""
    max_jobs: _Whole = 4
    """Jobs at a time, at most."""
    start_minutes: _Whole = 60
    """How long to wait for the first job to start."""
    gpu_per_task: Annotated[int, msgspec.Meta(ge=0)] = 0
    """GPUs for each submission; 0 for none."""

    def jobs_for(self, left: int) -> int:
        """Jobs worth having for so many unfinished submissions."""
        return min(self.max_jobs, math.ceil(left / self.job.processes))


def read_profile(path: Path) -> tuple[Profile, dict[str, Any]]:
    """Read a profile, and all arguments of `dask_jobqueue.SLURMCluster` in it. Raises UsageError, naming what is missing or wrong."""
    try:
        found = msgspec.yaml.decode(path.read_bytes())
        profile = msgspec.convert(found, Profile)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}; docs/clusters.md has an example (a walltime needs quotes)") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    arguments: dict[str, Any] = found["job"]
    if forbidden := {"security", "protocol"} & set(arguments):
        raise UsageError(f"{path}: leave {' and '.join(sorted(forbidden))} out: workers are always reached over TLS")
    return profile, arguments


class SlurmEngine:
    """Jobs of a Slurm cluster, as many as there is work for, up to the profile's `max_jobs`."""

    def __init__(self, profile: Path) -> None:
        """Take the file of a profile. Raises UsageError for what is wrong in it, or where Slurm's commands are missing."""
        self.profile, self.arguments = read_profile(profile)
        for command in ("sbatch", "scancel"):
            if shutil.which(command) is None:
                raise UsageError(
                    f"`{command}` is not found: slurm:PROFILE.yaml runs on a login node of a Slurm cluster"
                )
        self.slots = self.profile.job.processes
        self.name = f"up to {self.profile.max_jobs} Slurm jobs with {self.slots} side by side in each"

    @contextlib.contextmanager
    def open(self, info: RunInfo, context: RunContext, on_stage: OnStage) -> Iterator[Session]:
        """Submit jobs, wait for the first, check and lend them; at the end all jobs are cancelled."""
        shared = Path(os.path.expandvars(self.profile.job.shared_temp_directory)).expanduser()
        try:
            shared.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = tempfile.TemporaryDirectory(prefix="batch-", dir=shared, ignore_cleanup_errors=True)
        except OSError as error:
            raise EngineError(f"cannot write in {shared} (job.shared_temp_directory): {error.strerror}") from error
        with folder as name, dask.config.set(_SETTINGS), self._cluster(Path(name)) as cluster:
            _try_script(cluster.job_script())
            wanted = self.profile.max_jobs
            adaptive = cluster.adapt(minimum_jobs=wanted, maximum_jobs=wanted, interval="1s")
            try:
                with distributed.Client(cluster, set_as_default=False) as client:
                    self._first_worker(client, Path(name))
                    slots = self.profile.max_jobs * self.slots
                    with lend(client, info, context, slots, on_stage, self._scaler(adaptive)) as session:
                        yield session
            finally:
                adaptive.stop()

    @contextlib.contextmanager
    def _cluster(self, folder: Path) -> Iterator[Any]:
        slots, job = self.slots, dict(self.arguments)
        gpus = self.profile.gpu_per_task * slots
        job.update(
            processes=1, cores=self.profile.job.cores or slots, security=_security(folder / "tls"), protocol="tls://"
        )
        job.pop("shared_temp_directory", None)
        extra = job.get("worker_extra_args", [])
        job["worker_extra_args"] = [*extra, "--nthreads", str(slots), "--dashboard-address", "127.0.0.1:0"]
        job["job_extra_directives"] = [*job.get("job_extra_directives", []), *([f"--gres=gpu:{gpus}"] if gpus else [])]
        # where the grader was started lies, perhaps, what was handed in
        lines = [*_WORKER_LINES, *job.get("job_script_prologue", []), f"cd {shlex.quote(str(folder))}"]
        job["job_script_prologue"] = lines
        job["scheduler_options"] = {
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            **job.get("scheduler_options", {}),
        }
        job.setdefault("log_directory", str(folder))
        job.setdefault("local_directory", str(folder))  # next to nothing lies there, and on a node it would stay
        job.setdefault("job_name", "grader")
        try:
            cluster = SLURMCluster(**job)
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise EngineError(f"Dask's Slurm cluster cannot be made of this profile: {error}") from error
        try:
            yield cluster
        finally:
            cluster.close()

    def _scaler(self, adaptive: Any) -> Callable[[int], None]:
        """Let the jobs that nobody needs any more go."""

        def expect(left: int) -> None:
            jobs = max(1, self.profile.jobs_for(left))
            if jobs < adaptive.maximum:
                adaptive.minimum = adaptive.maximum = jobs

        return expect

    def _first_worker(self, client: distributed.Client, logs: Path) -> None:
        waits = max(1, round(self.profile.start_minutes * 60 / _POLL_SECONDS))
        for _ in range(waits):
            try:
                client.wait_for_workers(1, timeout=_POLL_SECONDS)
            except TimeoutError:
                words = _failed_jobs(logs)
                if words:
                    raise EngineError(f"Slurm started jobs, but no worker came up: {words}") from None
            else:
                return
        raise EngineError(
            f"no Slurm job has started within {self.profile.start_minutes} minutes; look at `squeue --me`, and raise"
            " start_minutes in the profile when the queue is that long"
        )


def _security(folder: Path) -> distributed.Security:
    """Certificates of this batch as files: those that dask-jobqueue writes by itself outlive the folder that they lie in."""
    certificate, key = (str(path) for path in write_certificates(folder))
    roles = {
        f"tls_{role}_{part}": path
        for role in ("scheduler", "worker", "client")
        for part, path in (("cert", certificate), ("key", key))
    }
    return distributed.Security(require_encryption=True, tls_ca_file=certificate, **roles)


def _try_script(script: str) -> None:
    """Let Slurm look at the job before it is submitted. Raises EngineError with Slurm's own words."""
    done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = re.sub(r"\s+", " ", (done.stderr or done.stdout).strip())
        raise EngineError(f"Slurm does not take the job of this profile: {words[:400]}")


def _failed_jobs(logs: Path) -> str:
    """The last words of jobs that ended badly; empty while nothing of the kind is to be seen."""
    for path in sorted(logs.glob("*.err")):
        with contextlib.suppress(OSError):
            lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
            if lines and re.match(
                r"(\w+(\.\w+)*(Error|Exception)\b|slurmstepd: error|/.*: (not found|No such file))", lines[-1]
            ):
                return lines[-1][:300]
    return ""
