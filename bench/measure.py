"""Wall and CPU seconds of a command with all that it starts, boxes and orphans included.

CPU time is read from a control group of the command's own where one may be made (usually by root): what ends in a process
namespace is then counted, too. Elsewhere it is what the operating system counts for a process and the children it waited for.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.grading.fingerprint import versions

_GROUPS = Path("/sys/fs/cgroup")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a command took."""

    wall: float
    """Seconds on the clock."""
    cpu: float
    """CPU seconds, user and system."""
    code: int
    """Exit code."""
    output: str
    """The end of what it printed."""


def machine() -> str:
    """What figures were measured on, in two lines."""
    cores = len(os.sched_getaffinity(0))
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"machine: {platform.machine()}, {cores} cores, {platform.system()} {platform.release()}\nversions: {told}"


def spent(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, shown: bool = False) -> Spent:
    """Run a command to its end; `shown` lets it print on standard error meanwhile."""
    surroundings = {**os.environ, **ONE_THREAD, **(env or {})}
    with _group() as group, tempfile.TemporaryFile() as out:
        joined = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
        before, began = os.times(), time.monotonic()
        done = subprocess.run(
            joined if group else list(command), cwd=cwd, env=surroundings, stdin=subprocess.DEVNULL,
            stdout=out, stderr=None if shown else out, check=False,
        )  # fmt: skip
        wall, after = time.monotonic() - began, os.times()
        waited = after.children_user + after.children_system - before.children_user - before.children_system
        cpu = _usage(group) if group else waited
        out.seek(0)
        return Spent(wall, cpu, done.returncode, out.read().decode(errors="replace")[-3000:])


@contextlib.contextmanager
def _group() -> Iterator[Path | None]:
    folder = (_GROUPS if (_GROUPS / "cgroup.controllers").exists() else _GROUPS / "cpuacct") / f"bench-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        yield None
        return
    try:
        _usage(folder)
        yield folder
    finally:
        for _ in range(100):  # processes that were killed take a moment to be gone
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)


def _usage(group: Path) -> float:
    version_1 = group / "cpuacct.usage"
    if version_1.exists():
        return int(version_1.read_text()) / 1e9
    lines = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(lines["usage_usec"]) / 1e6
