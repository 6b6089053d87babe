"""A kernel that is killed from outside between two requests is known to be dead by the next one: nobody is told that all went well."""

from __future__ import annotations

import asyncio
import os
import select
import signal

import pytest

from grader.sandbox.contract import BoxSpec, KernelGone, Outcome
from grader.sandbox.session import KernelSession
from tests.sandbox.conftest import SMALL

pytestmark = pytest.mark.box


def kill(session: KernelSession) -> None:
    """Kill the kernel and let the session hear of it, but let its watchdog not come round before the next request."""
    provisioner = session.kernel
    os.kill(session.kernel.pid, signal.SIGKILL)
    assert select.select([provisioner._pidfd], [], [], 10)[0]
    provisioner._has_ended()


def test_the_next_cell_says_so(warm_pool) -> None:
    async def run() -> tuple[str, str, Outcome]:
        async with KernelSession(warm_pool, BoxSpec(), SMALL) as session:
            first = await session.run_cell("x = 1", 0)
            kill(session)
            second = await session.run_cell("y = 2", 1)
            return first.status, second.status, session.outcome

    assert asyncio.run(run()) == ("ok", "killed", Outcome.KERNEL_DIED)


def test_the_next_question_says_so(warm_pool) -> None:
    async def run() -> tuple[Outcome, Outcome]:
        async with KernelSession(warm_pool, BoxSpec(), SMALL) as session:
            await session.run_cell("x = 1", 0)
            kill(session)
            with pytest.raises(KernelGone) as gone:
                await session.ask({"op": "adaptations", "params": {}}, cpu_seconds=10)
            return gone.value.outcome, session.outcome

    assert asyncio.run(run()) == (Outcome.KERNEL_DIED, Outcome.KERNEL_DIED)
