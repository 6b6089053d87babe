"""Many short submissions, two at a time, a third of them hostile: does anything pile up?

`python bench/soak.py [--submissions 300] [--mode warm]`: counts descriptors, threads, processes, folders, control groups and memory
before and after; exit status 1 when more than the pool's own is left, or when an honest submission was hurt.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from grader.errors import SandboxError
from grader.kernel import KernelSession
from grader.sandbox.cgroup import PREFIX
from grader.sandbox.contract import Limits, Outcome
from grader.sandbox.pool import KernelPool

MIB = 1 << 20
LIMITS = Limits(
    cpu_seconds=2, wall_seconds=30, memory_bytes=400 * MIB, processes=48, disk_bytes=32 * MIB, files=500,
    output_bytes=MIB, output_messages=1000, message_bytes=2 * MIB,
)  # fmt: skip
HOSTILE = (
    "while True: pass",
    "import os\nos._exit(1)",
    "while True: print('x' * 100_000)",
    "x = []\nwhile True: x.append(bytearray(10 << 20))",
    "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(60)",
    "import os, signal, time\nif os.fork() == 0:\n    os.setsid(); signal.signal(15, signal.SIG_IGN); time.sleep(600)",
    "open('/tmp/x', 'wb').write(bytes(100 << 20))",
    "get_ipython().kernel.shell_stream.socket.close(linger=0)\nimport time; time.sleep(60)",
    "import ctypes\nctypes.string_at(0)",
    "for n in range(10**6): open(f'/tmp/{n}', 'w').close()",
)


def counts(pool: KernelPool) -> dict[str, int]:
    """What could pile up."""
    own = psutil.Process()
    groups = list(Path("/sys/fs/cgroup").rglob(f"{PREFIX}{os.getpid()}-*")) if pool.mode != "none" else []
    return {
        "descriptors": own.num_fds(), "threads": own.num_threads(), "processes": len(own.children(recursive=True)),
        "folders": len(list(pool.folder.iterdir())) + len(list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))),
        "control groups": len(groups), "MiB": own.memory_info().rss // MIB,
    }  # fmt: skip


async def one(pool: KernelPool, number: int) -> str:
    """One submission: its outcome, or what went wrong with an honest one."""
    hostile = number % 3 == 2
    cells = [
        "x = sum(range(1000))",
        HOSTILE[number // 3 % len(HOSTILE)] if hostile else "import torch\ny = torch.ones(3).sum().item()",
        "print(x)",
    ]
    try:
        async with KernelSession(pool, None, LIMITS) as session:
            runs = [await session.run_cell(source, index) for index, source in enumerate(cells)]
    except SandboxError as error:
        return f"FAILED TO START: {error}"
    if not hostile and (session.outcome is not Outcome.COMPLETED or runs[-1].output != "499500\n"):
        return f"HONEST ONE HURT: {session.outcome}, {[run.status for run in runs]}"
    return f"{'hostile' if hostile else 'honest'}: {session.outcome.value}"


async def soak(pool: KernelPool, submissions: int) -> Counter[str]:
    gate = asyncio.Semaphore(2)

    async def gated(number: int) -> str:
        async with gate:
            return await one(pool, number)

    return Counter(await asyncio.gather(*(gated(number) for number in range(submissions))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=300)
    parser.add_argument("--mode", default="warm")
    options = parser.parse_args()
    with KernelPool(options.mode) as pool:
        pool.warm_up()
        asyncio.run(soak(pool, 6))  # what is created once is there before the first count
        before, began = counts(pool), time.monotonic()
        outcomes = asyncio.run(soak(pool, options.submissions))
        seconds, after = time.monotonic() - began, counts(pool)
    print(f"{options.submissions} submissions in {seconds:.0f} s")
    for outcome, number in sorted(outcomes.items()):
        print(f"  {number:4} {outcome}")
    for name in before:
        print(f"  {name:15} {before[name]:5} -> {after[name]:5}")
    leaked = [name for name in before if name != "MiB" and after[name] > before[name]]
    hurt = [outcome for outcome in outcomes if outcome.isupper() or outcome.startswith(("FAILED", "HONEST"))]
    if leaked or hurt or after["MiB"] > before["MiB"] + 64:
        print("NOT WELL:", leaked, hurt)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
