"""Cells that do not compute: they are interrupted, the notebook goes on, and nobody who computes or is held up is taken for one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from grader.sandbox.contract import Limits, Outcome
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

from .conftest import SMALL, Ran, run_in, throttled

pytestmark = pytest.mark.box

SLEEPY = replace(SMALL, idle_seconds=2)
SLEEPERS = {
    "a sleep": "import time\ntime.sleep(600)",
    "a lock that nobody opens": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    "a pipe that nobody writes to": "import os\nos.read(os.pipe()[0], 1)",
    "polling": "import time\nwhile True: time.sleep(0.01)",
    "a worker that never answers": (
        "import multiprocessing, time\ncontext = multiprocessing.get_context('fork')\nqueue = context.Queue()\n"
        "context.Process(target=time.sleep, args=(600,), daemon=True).start()\nqueue.get()"
    ),
    "a thread that waits for input": (
        "import threading, os\nthread = threading.Thread(target=os.read, args=(os.pipe()[0], 1))\nthread.start()\nthread.join()"
    ),
    "a program that waits": "import subprocess\nsubprocess.run(['sleep', '600'])",
}
DEAF = {
    "a sleep that swallows interrupts": "import time\nwhile True:\n    try: time.sleep(600)\n    except BaseException: pass",
    "a sleep that interrupts do not reach": (
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\ntime.sleep(600)"
    ),
}
BUSY = {
    "computing": "import time\nend = time.thread_time() + 3\nwhile time.thread_time() < end: pass",
    "a program that computes": (
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c',\n"
        "    'import time\\nend = time.thread_time() + 3\\nwhile time.thread_time() < end: pass'])"
    ),
}


@pytest.fixture(params=["control group", "watchdog"])
def pool(request):
    return request.getfixturevalue("warm_pool" if request.param == "control group" else "watched_pool")


@pytest.mark.attack
@pytest.mark.parametrize("code", SLEEPERS.values(), ids=SLEEPERS)
def test_a_sleeper_is_interrupted_and_the_notebook_goes_on(warm_pool, code):
    ran = asyncio.run(run_in(warm_pool, ["x = 6", code, "print(7 * x)"], SLEEPY))
    assert [cell.status for cell in ran.cells] == ["ok", "error", "ok"]
    assert ran.cells[1].error.name == "Asleep"
    assert "next to no CPU time" in ran.cells[1].error.message
    # on a busy machine a second interrupt may come as the cell ends, and IPython prints its name
    assert (ran.cells[2].output.replace("KeyboardInterrupt", "").strip(), ran.outcome, ran.alive) == (
        "42",
        Outcome.IDLE,
        True,
    )


@pytest.mark.attack
def test_a_sleeper_is_noticed_without_control_groups(watched_pool):
    ran = asyncio.run(run_in(watched_pool, [SLEEPERS["a sleep"], "print(42)"], SLEEPY))
    assert (ran.cells[0].error.name, ran.text, ran.outcome) == ("Asleep", "42\n", Outcome.IDLE)


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize("code", DEAF.values(), ids=DEAF)
def test_a_sleeper_that_does_not_wake_up_is_ended(warm_pool, code):
    ran = asyncio.run(run_in(warm_pool, [code, "print(42)"], SLEEPY))
    assert ([cell.status for cell in ran.cells], ran.outcome) == (["killed"], Outcome.IDLE)


@pytest.mark.attack
def test_the_third_sleeper_ends_the_kernel(warm_pool):
    ran = asyncio.run(run_in(warm_pool, ["import time"] + ["time.sleep(600)"] * 5, SLEEPY))
    assert ([cell.status for cell in ran.cells], ran.outcome) == (["ok", "error", "error", "killed"], Outcome.IDLE)


@pytest.mark.parametrize("code", BUSY.values(), ids=BUSY)
def test_who_computes_is_no_sleeper(pool, code):
    ran = asyncio.run(run_in(pool, [code, "print(42)"], replace(SMALL, idle_seconds=1)))
    assert ([cell.status for cell in ran.cells], ran.outcome) == (["ok", "ok"], Outcome.COMPLETED)


async def run_throttled(pool: KernelPool, code: str, limits: Limits) -> Ran:
    """Run a cell that gets a fiftieth of a processor."""
    async with KernelSession(pool, limits=limits) as session:
        with throttled(session, 0.02):
            cells = [await session.run_cell(code, 0)]
    return Ran(cells, session.outcome, detail=str(session.fault))


def test_who_gets_no_processor_is_no_sleeper(pool):
    code = "import time\nend = time.thread_time() + 0.12\nwhile time.thread_time() < end: pass\nprint(42)"
    ran = asyncio.run(run_throttled(pool, code, SLEEPY))
    assert (ran.text, ran.outcome) == ("42\n", Outcome.COMPLETED)


def test_the_wall_net_on_a_busy_machine_is_nobodys_fault(warm_pool):
    ran = asyncio.run(run_throttled(warm_pool, "while True: pass", replace(SLEEPY, cpu_seconds=4, wall_seconds=4)))
    assert (ran.cells[0].status, ran.outcome) == ("killed", Outcome.SANDBOX_FAILED)
    assert "too busy" in ran.detail
