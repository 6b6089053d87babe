"""One pool for all box tests: the zygote's imports cost seconds, a box a tenth of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from grader.kernel import KernelSession
from grader.records import CellRun
from grader.sandbox.contract import BoxSpec, Limits, Outcome, Usage
from grader.sandbox.host import available_modes
from grader.sandbox.pool import KernelPool

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
    return available_modes()["warm"]


async def run_in(pool: KernelPool, cells: list[str], limits: Limits = SMALL, spec: BoxSpec | None = None) -> Ran:
    ran = Ran()
    session = KernelSession(pool, spec or BoxSpec(), limits)
    async with session:
        ran.mode = session.mode
        for index, source in enumerate(cells):
            ran.cells.append(await session.run_cell(source, index))
            if not session.alive:
                break
        ran.alive = session.alive
    ran.outcome, ran.usage, ran.detail = session.outcome, session.usage, session.detail
    return ran


@pytest.fixture(scope="session")
def warm_pool() -> Iterator[KernelPool]:
    if why := box_missing():
        pytest.skip(why)
    with KernelPool("warm") as pool:
        pool.warm_up()
        yield pool


@pytest.fixture(scope="session")
def watched_pool() -> Iterator[KernelPool]:
    """Without control groups, as an ordinary user usually has to do."""
    if why := box_missing():
        pytest.skip(why)
    with KernelPool("warm", control_groups=False) as pool:
        pool.warm_up()
        yield pool


@pytest.fixture
def run(warm_pool: KernelPool) -> Callable[..., Ran]:
    return lambda cells, limits=SMALL, spec=None: asyncio.run(run_in(warm_pool, cells, limits, spec))
