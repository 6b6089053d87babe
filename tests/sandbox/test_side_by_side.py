"""Many sessions in one event loop on one pool: nothing that blocks runs in the loop, and each gets its own results."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from dataclasses import replace

import psutil
import pytest

import grader.sandbox.provisioner
import grader.sandbox.zygote
from grader.errors import SandboxError
from grader.sandbox.bubblewrap import Box
from grader.sandbox.cgroup import ControlGroup
from grader.sandbox.conformance import traces
from grader.sandbox.contract import Outcome
from grader.sandbox.meter import BoxMeter
from grader.sandbox.pool import KernelPool
from grader.sandbox.provisioner import PlainKernel
from grader.sandbox.session import KernelSession
from grader.sandbox.zygote import Zygote

from .conftest import SMALL, box_missing, run_in

pytestmark = pytest.mark.box

LOOP = "while True: pass"
BLOCKING = ((grader.sandbox.provisioner, "build"), (Box, "end"), (ControlGroup, "remove"), (Zygote, "request"),
            (Zygote, "ready"), (PlainKernel, "end"))  # fmt: skip


@pytest.fixture
def in_threads(monkeypatch):
    """The names of what blocks and was called in a thread of its own; a call in the event loop's thread is an error."""
    called = set()

    def elsewhere(name, function):
        def call(*arguments, **options):
            assert threading.current_thread() is not threading.main_thread(), f"{name} blocks the event loop"
            called.add(name)
            return function(*arguments, **options)

        return call

    for owner, name in BLOCKING:
        monkeypatch.setattr(owner, name, elsewhere(f"{owner.__name__}.{name}", getattr(owner, name)))
    return called


def test_eight_sessions_at_once(warm_pool, in_threads):
    async def all_at_once():
        cells = [[f"x = {number}", f"print(x * 2, {number})"] for number in range(6)]
        spinning = replace(SMALL, cpu_seconds=1)
        return await asyncio.gather(
            *(run_in(warm_pool, each) for each in cells),
            run_in(warm_pool, [LOOP], spinning),
            run_in(warm_pool, ["import os; os._exit(3)"]),
        )

    *honest, endless, dead = asyncio.run(all_at_once())
    assert [ran.text for ran in honest] == [f"{2 * number} {number}\n" for number in range(6)]
    assert {ran.mode for ran in (*honest, endless, dead)} == {"warm"}
    assert {ran.outcome for ran in honest} == {Outcome.COMPLETED}
    assert (endless.outcome, dead.outcome) == (Outcome.TIMED_OUT, Outcome.KERNEL_DIED)
    assert {"grader.sandbox.provisioner.build", "Box.end", "Zygote.request"} <= in_threads


def test_plain_kernels_end_in_threads(in_threads):
    async def both(pool):
        return await asyncio.gather(run_in(pool, ["print(1)"]), run_in(pool, ["print(2)"]))

    with KernelPool("none", preload=()) as pool:
        assert [ran.text for ran in asyncio.run(both(pool))] == ["1\n", "2\n"]
    assert in_threads == {"PlainKernel.end"}


@pytest.mark.slow
def test_limits_are_watched_while_a_start_hangs(monkeypatch):
    monkeypatch.setattr(grader.sandbox.zygote, "_ANSWER_SECONDS", 6.0)

    async def talk(pool):
        async with KernelSession(pool, limits=replace(SMALL, cpu_seconds=1)) as session:
            os.kill(pool.zygote.pid, signal.SIGSTOP)
            hanging = asyncio.create_task(run_in(pool, ["print(1)"]))
            cell = await session.run_cell(LOOP, 0)
            return cell.status, session.outcome, hanging.done(), (await hanging).mode

    if why := box_missing():
        pytest.skip(why)
    with KernelPool("warm", preload=()) as pool:
        pool.warm_up()
        assert asyncio.run(talk(pool)) == ("killed", Outcome.TIMED_OUT, False, "cold")


@pytest.mark.slow
def test_a_long_reading_of_one_box_blocks_nobody(warm_pool, monkeypatch):
    sample = BoxMeter.sample

    def slow(meter):
        time.sleep(2.0)
        return sample(meter)

    async def longest_gap(running):
        gap, last = 0.0, time.monotonic()
        while not running.done():
            await asyncio.sleep(0.02)
            gap, last = max(gap, time.monotonic() - last), time.monotonic()
        return gap

    async def talk():
        async with KernelSession(warm_pool, limits=SMALL) as session:
            with monkeypatch.context() as patch:
                patch.setattr(BoxMeter, "sample", slow)
                running = asyncio.create_task(session.run_cell("import time; time.sleep(3)", 0))
                gap = await longest_gap(running)
            return gap, (await running).status

    gap, status = asyncio.run(talk())
    assert status == "ok"
    assert gap < 1.5


def test_a_start_that_waits_for_imports_can_be_cancelled():
    async def talk(pool):
        starting = asyncio.create_task(run_in(pool, ["1"]))
        await asyncio.sleep(0.3)
        starting.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return time.monotonic() - began

    if why := box_missing():
        pytest.skip(why)
    with KernelPool("warm", preload=()) as pool:
        os.kill(pool.zygote.pid, signal.SIGSTOP)  # it never reports
        assert asyncio.run(talk(pool)) < 5


@pytest.mark.parametrize("mode", ["warm", "none"])
def test_a_closing_pool_ends_a_session_that_just_starts(mode, monkeypatch):
    session_folder, reached, go_on = KernelPool.session_folder, threading.Event(), threading.Event()

    def held_up(pool):
        folder = session_folder(pool)
        reached.set()
        go_on.wait(30)
        return folder

    async def close_while_starting(pool):
        session = KernelSession(pool, limits=SMALL)
        starting = asyncio.create_task(session.__aenter__())
        await asyncio.to_thread(reached.wait, 30)
        threading.Timer(0.2, go_on.set).start()  # `close` waits in the loop's thread
        pool.close()
        assert session.kernel.pid
        with contextlib.suppress(psutil.NoSuchProcess):
            assert (
                psutil.Process(session.kernel.pid).status() == psutil.STATUS_ZOMBIE
            )  # until the host's first process reaps it
        with pytest.raises(SandboxError):
            await starting

    if why := box_missing():
        pytest.skip(why)
    monkeypatch.setattr(KernelPool, "session_folder", held_up)
    with KernelPool(mode, preload=()) as pool:
        pool.warm_up()
        asyncio.run(close_while_starting(pool))


def test_a_cancelled_start_leaves_nothing(warm_pool):
    async def cancel_while_starting(after):
        session = KernelSession(warm_pool, limits=SMALL)
        starting = asyncio.create_task(session.__aenter__())
        await asyncio.sleep(after)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return session

    for after in (0.0, 0.01, 0.03, 0.06):
        session = asyncio.run(cancel_while_starting(after))
        assert not traces(session)
    assert warm_pool.running == set()


def test_pool_that_ends_leaves_the_groups_of_another_alone():
    """Two graders may be open in one process, as `agrade` has them."""
    with KernelPool("warm", preload=()) as pool:
        group = pool.control_group(SMALL, pool.session_folder())
        if group is None:
            pytest.skip("no control groups here")
        with KernelPool("warm", preload=()):
            pass
        assert group.memory.is_dir() and group.pids.is_dir()
        group.remove()
