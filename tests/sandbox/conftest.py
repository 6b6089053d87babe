"""One pool for all box tests: the zygote's imports cost seconds, a box a tenth of one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from grader.records import CellRun
from grader.sandbox.conformance import host_processes, traces
from grader.sandbox.contract import BoxSpec, Limits, Outcome, Usage
from grader.sandbox.host import why_no_box
from grader.sandbox.meter import tree
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

MIB = 1 << 20
SMALL = Limits(
    cpu_seconds=20, wall_seconds=90, memory_bytes=600 * MIB, processes=60, disk_bytes=64 * MIB, files=2000, output_bytes=4 * MIB,
    output_messages=3000, message_bytes=8 * MIB,
)  # fmt: skip


@dataclass
class Ran:
    """What became of a list of cells."""

    cells: list[CellRun] = field(default_factory=list)
    outcome: Outcome = Outcome.COMPLETED
    usage: Usage = field(default_factory=Usage)
    alive: bool = False
    mode: str = ""
    detail: str = ""

    @property
    def text(self) -> str:
        return "".join(cell.output for cell in self.cells)


def box_missing() -> str:
    return why_no_box()


@contextlib.contextmanager
def process_space(pids: list[int]) -> Iterator[Callable[[], list[str]]]:
    """The process namespace of these processes, kept open so that its number is not given to another: yields who is in it."""

    def members() -> list[str]:
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and (folder / "ns/pid").stat().st_ino == own:
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                    found += [folder.name] * (
                        state != "Z"
                    )  # the box's first process waits a moment for the host's to reap it
        return found

    with Path(f"/proc/{pids[0]}/ns/pid").open("rb") as held:
        own = os.fstat(held.fileno()).st_ino
        yield members


@contextlib.contextmanager
def throttled(session: KernelSession, share: float) -> Iterator[None]:
    """Give a session's processes this share of a processor: to them that is a machine too busy, and to nobody else."""
    folder = Path("/sys/fs/cgroup/cpu") / f"{session.kernel.pid}-throttled"
    try:
        folder.mkdir()
        (folder / "cpu.cfs_quota_us").write_text(str(int(100_000 * share)))
    except OSError as error:
        pytest.skip(f"no processor time can be held back here: {error}")
    try:
        for process in tree(session.kernel.pid):
            (folder / "cgroup.procs").write_text(str(process.pid))
        yield
    finally:
        while folder.exists():  # what was killed in there takes its time, with so little of a processor
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (folder.parent / "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                folder.rmdir()
            time.sleep(0.02)


async def run_in(pool: KernelPool, cells: list[str], limits: Limits = SMALL, spec: BoxSpec | None = None) -> Ran:
    ran = Ran()
    session = KernelSession(pool, spec or BoxSpec(), limits)
    with contextlib.ExitStack() as stack:
        async with session:
            ran.mode = session.kernel.mode
            if ran.mode != "none":
                members = stack.enter_context(process_space(host_processes(session)))
            for index, source in enumerate(cells):
                ran.cells.append(await session.run_cell(source, index))
                if not session.alive:
                    break
            ran.alive = session.alive
        assert traces(session) == [], "folders or control groups are left behind"
        assert ran.mode == "none" or members() == [], "processes are left behind"
    ran.outcome, ran.usage = session.outcome, session.usage
    return ran


@pytest.fixture(scope="session")
def warm_pool() -> Iterator[KernelPool]:
    if why := box_missing():
        pytest.skip(why)
    with KernelPool("warm") as pool:
        pool.warm_up()
        yield pool


@pytest.fixture
def watched_pool(warm_pool: KernelPool, monkeypatch: pytest.MonkeyPatch) -> KernelPool:
    """The same pool without control groups, as an ordinary user usually has to do."""
    monkeypatch.setattr(warm_pool, "_control_groups", False)
    return warm_pool


@pytest.fixture
def run(warm_pool: KernelPool) -> Callable[..., Ran]:
    return lambda cells, limits=SMALL, spec=None: asyncio.run(run_in(warm_pool, cells, limits, spec))
