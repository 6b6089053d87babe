"""Out of memory is the student's only where the submission's own limit was met: else the machine was short, and it is run again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from grader.bundles.bundle import load_bundle
from grader.grading.pipeline import Grader, RunContext, report_for
from grader.sandbox.cgroup import ControlGroup
from grader.sandbox.contract import Limits, Outcome
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession
from tests.pipeline.conftest import notebook_bytes, submission_of
from tests.toy import TOY

from .conftest import MIB, SMALL, Ran, run_in

pytestmark = pytest.mark.box

TAKE = f"block = bytearray({200 * MIB})\nfor start in range(0, len(block), 4096): block[start] = 1"
"""Less than a submission may use."""
TAKERS = {
    "by the kernel": TAKE,
    "by a child": f"import os\nif os.fork() == 0:\n    {TAKE.replace(chr(10), chr(10) + '    ')}\n    os._exit(0)\nos.wait()",
    "by a program": f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {TAKE!r}])",
}
WORKS = "def add(a, b): return a + b\ndef shout(text): return text.upper()"


@contextlib.contextmanager
def crowd(name: str, memory: int) -> Iterator[Callable[[Limits, Path], ControlGroup | None]]:
    """A group that has less memory than one of those in it may use; makes groups below it, as a pool does."""
    above = ControlGroup.create(Limits(memory_bytes=memory, disk_bytes=1), name)
    if above is None:
        pytest.skip("no control groups can be made here")
    folders = dict.fromkeys((above.memory, above.pids, above.cpu))
    names = ("",) if above.unified else ("memory", "pids", "cpuacct")
    root = Path("/sys/fs/cgroup")
    own = "".join(
        f"1:{controller}:/{folder.relative_to(root / controller)}\n"
        for controller, folder in zip(names, (above.memory, above.pids, above.cpu), strict=False)
    )
    try:
        yield lambda limits, folder: ControlGroup.create(limits, f"{name}-{folder.name}", own=own)
    finally:
        assert not [left for folder in folders for left in folder.iterdir() if left.is_dir()]
        above.remove()


@pytest.fixture
def crowded(warm_pool: KernelPool, monkeypatch) -> Iterator[KernelPool]:
    with crowd(warm_pool.folder.name + "-crowd", 120 * MIB) as group:
        monkeypatch.setattr(warm_pool, "control_group", group)
        yield warm_pool


@pytest.mark.attack
@pytest.mark.parametrize("code", TAKERS.values(), ids=TAKERS)
def test_a_kill_for_the_machines_sake_is_not_the_submissions(crowded, code):
    ran = asyncio.run(run_in(crowded, [code]))
    assert ran.outcome is Outcome.SANDBOX_FAILED


@pytest.mark.attack
def test_who_meets_the_own_limit_is_out_of_memory(warm_pool):
    child = f"if os.fork() == 0:\n        block = bytearray(b'x') * {200 * MIB}\n        time.sleep(60)"
    many = f"import os, time\nfor _ in range(4):\n    {child}\ntime.sleep(10)"
    assert asyncio.run(run_in(warm_pool, [many])).outcome is Outcome.OUT_OF_MEMORY


def kill_somebody_for_memory() -> None:
    """Let the kernel really kill a process of ours for memory, so that the machine counts it."""
    group = ControlGroup.create(Limits(memory_bytes=40 * MIB, disk_bytes=1), f"victim-{os.getpid()}")
    if group is None:
        pytest.skip("no control groups can be made here")
    code = f"open({str(group.memory / 'cgroup.procs')!r}, 'w').write('0')\nblock = bytearray(b'x') * {100 * MIB}"
    try:
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    finally:
        group.remove()


@pytest.mark.parametrize("short", [False, True])
def test_without_control_groups_the_machines_count_tells(watched_pool, short):
    async def run() -> Ran:
        async with KernelSession(watched_pool, limits=SMALL) as session:
            if short:
                kill_somebody_for_memory()
            task = asyncio.create_task(session.run_cell("import time\ntime.sleep(60)", 0))
            await asyncio.sleep(0.5)
            os.kill(session.kernel.pid, signal.SIGKILL)
            cells = [await task]
        return Ran(cells, session.outcome)

    wanted = Outcome.SANDBOX_FAILED if short else Outcome.KERNEL_DIED
    assert asyncio.run(run()).outcome is wanted


@pytest.mark.parametrize("times", [1, 2])
def test_it_is_run_again_and_needs_a_person_when_it_recurs(monkeypatch, times):
    context = RunContext.create(TOY, load_bundle(None), b"a secret for tests")
    limits = replace(SMALL, wall_seconds=300)
    data = notebook_bytes(f"{WORKS}\n{TAKE}")
    with Grader(context, limits=limits) as grader, crowd(grader.pool.folder.name + "-crowd", 120 * MIB) as group:
        plain, made = grader.pool.control_group, []

        def control_group(limits: Limits, folder: Path) -> ControlGroup | None:
            made.append(folder)
            return (group if len(made) <= times else plain)(limits, folder)

        monkeypatch.setattr(grader.pool, "control_group", control_group)
        run = asyncio.run(grader.run(submission_of(data), data))
        report = report_for(context, submission_of(data), run)
    assert len(made) == 2
    if times == 1:
        assert (run.execution.outcome, report.score.total) == (Outcome.COMPLETED, 9)
    else:
        assert (run.execution.outcome, report.score.total) == (Outcome.SANDBOX_FAILED, None)
