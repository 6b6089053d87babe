"""Checks of what a box bounds (time, memory, processes, files, output), of its end, and that honest work still goes on in it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

from grader.errors import GraderError
from grader.sandbox.conformance.attempts import LIMITS, MIB, Breach, box_check, expect, outcome_of
from grader.sandbox.contract import BoxSpec, EvidenceTooLarge, KernelGone, Outcome
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

__all__: list[str] = []


@box_check("cpu-time")
async def _cpu_time(pool: KernelPool) -> None:
    """An endless loop ends by its CPU time, and what stood before it can still be asked for."""
    session = KernelSession(pool, None, replace(LIMITS, cpu_seconds=1))
    async with session:
        await session.run_cell("while True: pass", 0)
        alive = session.alive
    if session.outcome is not Outcome.TIMED_OUT or not alive:
        raise Breach(f"ended as {session.outcome}, alive: {alive}")


@box_check("stubborn-loop")
async def _stubborn_loop(pool: KernelPool) -> None:
    """A loop that ignores interrupts, in several processes, is killed."""
    code = (
        "import os, signal\nos.fork()\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass"
    )
    await expect(pool, code, Outcome.TIMED_OUT, replace(LIMITS, cpu_seconds=1, wall_seconds=15))


@box_check("sleep")
async def _sleep(pool: KernelPool) -> None:
    """A program that only sleeps ends by the wall clock."""
    await expect(
        pool, "import time\ntime.sleep(3600)", Outcome.TIMED_OUT, replace(LIMITS, cpu_seconds=1, wall_seconds=3)
    )


@box_check("memory")
async def _memory(pool: KernelPool) -> None:
    """One process cannot take more memory than allowed; the kernel survives the refusal."""
    await expect(pool, f"x = bytearray({LIMITS.memory_bytes * 2})", Outcome.OUT_OF_MEMORY)


@box_check("memory-of-many")
async def _memory_of_many(pool: KernelPool) -> None:
    """Several processes together cannot take more memory than allowed."""
    code = f"""
import os, time
for child in range(8):
    if os.fork() == 0:
        block = bytearray({LIMITS.memory_bytes // 4})
        for start in range(0, len(block), 4096): block[start] = 1
        time.sleep(30); os._exit(0)
time.sleep(20)
"""
    await expect(pool, code, Outcome.OUT_OF_MEMORY)


@box_check("process-number")
async def _process_number(pool: KernelPool) -> None:
    """A fork bomb is refused, and a sibling beside it works on."""
    bomb = "import os, time\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60); os._exit(0)\nexcept OSError: pass"
    work = "import subprocess\nfor _ in range(20): subprocess.run(['true'], check=True)"
    (outcome, _alive, _status), (other, _other_alive, other_status) = await asyncio.gather(
        outcome_of(pool, bomb, LIMITS), outcome_of(pool, work, LIMITS)
    )
    if outcome is not Outcome.PROCESS_LIMIT:
        raise Breach(f"ended as {outcome}")
    if other is not Outcome.COMPLETED or other_status != "ok":
        raise Breach(f"a sibling was hurt: {other}, its cell {other_status}")


@box_check("disk-bytes")
async def _disk_bytes(pool: KernelPool) -> None:
    """Work folder, /tmp and /dev/shm hold no more bytes than allowed."""
    for folder in ("/box", "/tmp", "/dev/shm"):  # noqa: S108 - the box's own
        code = f"with open('{folder}/big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))"
        await expect(pool, code, Outcome.DISK_LIMIT)


@box_check("file-number")
async def _file_number(pool: KernelPool) -> None:
    """A million empty files are not written."""
    code = "for number in range(1_000_000): open(f'/tmp/{number}', 'w').close()"
    await expect(pool, code, Outcome.DISK_LIMIT)


@box_check("output")
async def _output(pool: KernelPool) -> None:
    """Endless printing ends, in large pieces, in small ones and in one huge message."""
    for code in (
        "while True: print('x' * 100_000)",
        "import sys\nwhile True: print('x'); sys.stdout.flush()",
        f"from IPython.display import publish_display_data\npublish_display_data({{'text/plain': 'x' * {8 * LIMITS.output_bytes}}})",
    ):
        await expect(pool, code, Outcome.OUTPUT_LIMIT)


@box_check("large-answer")
async def _large_answer(pool: KernelPool) -> None:
    """An answer that is too large is refused, and the next question is answered."""
    async with KernelSession(pool, None, LIMITS) as session:
        await session.run_cell(
            "import sys, types, importlib\nagent = importlib.import_module('grader.inside.agent')\n"
            "agent.handle = lambda kernel, content, buffers: ({}, [bytes(content['size'])])",
            0,
        )
        with contextlib.suppress(EvidenceTooLarge):
            await session.ask({"size": 2 * LIMITS.message_bytes}, cpu_seconds=10)
            raise Breach("it was taken")
        try:
            _content, buffers = await session.ask({"size": 10}, cpu_seconds=10)
        except (KernelGone, GraderError) as error:
            raise Breach(f"the next question was not answered: {error}") from error
        if buffers != [bytes(10)]:
            raise Breach("the next answer was wrong")


@box_check("death")
async def _death(pool: KernelPool) -> None:
    """A kernel that ends or kills itself is noticed."""
    for code in (
        "import os; os._exit(0)",
        "import ctypes; ctypes.string_at(0)",
        "import os\ntry: os.kill(-1, 9)\nexcept OSError: pass\nos.kill(os.getpid(), 9)",
    ):
        await expect(pool, code, Outcome.KERNEL_DIED)


@box_check("nothing-left")
async def _nothing_left(pool: KernelPool) -> None:
    """Daemons that ignore every signal end with the submission, and no folder or control group stays."""
    code = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        while True: time.sleep(1)
    os._exit(0)
time.sleep(0.3)
"""
    session = KernelSession(pool, None, LIMITS)
    async with session:
        await session.run_cell(code, 0)
        inside = session.host_processes()
        if len(inside) < 2:
            raise Breach("the daemon could not be started, so nothing was tried")
    left = [pid for pid in inside if Path(f"/proc/{pid}").exists()]
    if left:
        raise Breach(f"processes left: {left}")
    if session.traces:
        raise Breach(f"left behind: {session.traces}")


@box_check("random")
async def _random(pool: KernelPool) -> None:
    """Two kernels draw different random numbers, and the same ones with the same seed."""
    code = "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), torch.rand(1).item())"
    drawn = []
    for seed in (None, None, 7, 7):
        async with KernelSession(pool, BoxSpec(seed=seed), LIMITS) as session:
            await session.run_cell("import random, numpy, torch", 0)
            drawn.append((await session.run_cell(code, 1)).output)
    if drawn[0] == drawn[1]:
        raise Breach("two kernels drew the same numbers")
    if pool.mode == "warm" and drawn[2] != drawn[3]:
        raise Breach("one seed gave different numbers")


@box_check("training")
async def _training(pool: KernelPool) -> None:
    """After the fork torch works: several threads, gradients, workers that load data."""
    code = """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.set_num_threads(2)
layer = torch.nn.Linear(300, 300)
layer(torch.randn(2000, 300)).pow(2).mean().backward()
loader = DataLoader(TensorDataset(torch.arange(64.0)), batch_size=16, num_workers=2)
total = sum(batch[0].sum().item() for batch in loader)
assert total == 2016 and layer.weight.grad.abs().sum() > 0
"""
    limits = replace(LIMITS, memory_bytes=2048 * MIB, disk_bytes=256 * MIB, processes=256)
    outcome, alive, status = await outcome_of(pool, code, limits)
    if outcome is not Outcome.COMPLETED or status != "ok" or not alive:
        raise Breach(f"ended as {outcome}, cell {status}")
