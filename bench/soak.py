"""Many short submissions, two at a time, a third of them hostile: does anything pile up, and is every outcome the right one?

`python -m bench.soak [--submissions 300] [--mode warm] [--no-control-groups]`: every submission has the outcome it is expected to
have, and processes (zombies too), descriptors, threads, folders, shared memory, control groups and memory are counted before and
after; exit status 1 when an outcome is another one, or when more is left than was there before.

What is expected follows from one principle: the first limit a submission meets names its outcome; who meets none has completed,
whatever it leaves behind, and what it leaves behind is ended with it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from bench.measure import machine
from grader.errors import SandboxError
from grader.sandbox.conformance import host_processes, traces
from grader.sandbox.contract import Limits, Outcome
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

MIB = 1 << 20
LIMITS = Limits(
    cpu_seconds=2, wall_seconds=60, memory_bytes=700 * MIB, processes=48, disk_bytes=32 * MIB, files=500,
    output_bytes=MIB, output_messages=1000, message_bytes=2 * MIB,
)  # fmt: skip
SLEEPY = replace(LIMITS, idle_seconds=2)
SETTLE_SECONDS = 5.0
"""What has just ended may be accounted as gone a moment later."""
GROWTH_MIB = 32
"""How much larger the grader's process may be afterwards: allocators keep what they had once."""

BEFORE, AFTER = "x = sum(range(1000))", "print(x)"
HONEST = (
    "import torch\ny = torch.ones(3).sum().item()",
    "import pandas as pd\nframe = pd.DataFrame({'a': range(100)}).describe()",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()",
    "import subprocess\nsubprocess.run(['true'], check=True)",
    "open('/tmp/notes', 'w').write('x' * 1000)\n1 / 0",
    "import time\nend = time.thread_time() + 0.5\nwhile time.thread_time() < end: pass",
)


@dataclass(frozen=True)
class Hostile:
    """One attack and what has to become of it."""

    name: str
    source: str
    expected: Outcome
    limits: Limits = field(default=LIMITS)


HOSTILE = (
    Hostile("endless loop", "while True: pass", Outcome.TIMED_OUT),
    Hostile(
        "loop that swallows interrupts",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        Outcome.TIMED_OUT,
    ),
    Hostile("sleeps forever", "import time\ntime.sleep(3600)", Outcome.IDLE, SLEEPY),
    Hostile("polls forever", "import time\nwhile True: time.sleep(0.01)", Outcome.IDLE, SLEEPY),
    Hostile("waits for a lock", "import threading\nlock = threading.Lock()\nlock.acquire(); lock.acquire()", Outcome.IDLE, SLEEPY),
    Hostile("waits for a program", "import subprocess\nsubprocess.run(['sleep', '3600'])", Outcome.IDLE, SLEEPY),
    Hostile(
        "processes that wait for each other",
        "import os, time\nfor _ in range(12):\n    if os.fork() == 0:\n        while True: time.sleep(0.2 - time.time() % 0.2)\n"
        "time.sleep(3600)",
        Outcome.IDLE, SLEEPY,
    ),
    Hostile(
        "sleeps on when interrupted", "import time\nwhile True:\n    try: time.sleep(3600)\n    except BaseException: pass",
        Outcome.IDLE, SLEEPY,
    ),
    Hostile("exit", "import os\nos._exit(1)", Outcome.KERNEL_DIED),
    Hostile("segmentation fault", "import ctypes\nctypes.string_at(0)", Outcome.KERNEL_DIED),
    Hostile("kills all it sees", "import os\nos.kill(-1, 9)\nos.kill(os.getpid(), 9)\nos.abort()", Outcome.KERNEL_DIED),
    Hostile(
        "closes its socket",
        "get_ipython().kernel.shell_stream.socket.close(linger=0)\nimport time; time.sleep(60)",
        Outcome.KERNEL_DIED,
    ),
    Hostile("endless output", "while True: print('x' * 100_000)", Outcome.OUTPUT_LIMIT),
    Hostile("memory", "x = []\nwhile True: x.append(bytearray(10 << 20))", Outcome.OUT_OF_MEMORY),
    Hostile(
        "memory of many",
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = bytearray(b'x') * (150 << 20); time.sleep(600)\n"
        "time.sleep(30)",
        Outcome.OUT_OF_MEMORY,
    ),
    Hostile(
        "children without end", "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(600)", Outcome.PROCESS_LIMIT
    ),
    Hostile(
        "fork bomb", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", Outcome.PROCESS_LIMIT
    ),
    Hostile("fills /tmp", "open('/tmp/x', 'wb').write(bytes(100 << 20))", Outcome.DISK_LIMIT),
    Hostile("fills /dev/shm", "open('/dev/shm/x', 'wb').write(bytes(100 << 20))", Outcome.DISK_LIMIT),
    Hostile("a million files", "for n in range(10**6): open(f'/tmp/{n}', 'w').close()", Outcome.DISK_LIMIT),
    # those meet no limit: they only want to stay
    Hostile(
        "daemon",
        "import os, signal, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    for n in range(1, 65):\n        try: signal.signal(n, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n"
        "    while True: time.sleep(600)",
        Outcome.COMPLETED,
    ),
    Hostile(
        "threads that stay", "import threading, time\nfor _ in range(5): threading.Thread(target=time.sleep, args=(600,)).start()",
        Outcome.COMPLETED,
    ),
    Hostile("refuses to end", "import atexit, time\natexit.register(time.sleep, 600)", Outcome.COMPLETED),
    Hostile(
        "keeps shared memory",
        "from multiprocessing import shared_memory, resource_tracker\nresource_tracker.register = lambda *a: None\n"
        "kept = shared_memory.SharedMemory(create=True, size=1 << 20)",
        Outcome.COMPLETED,
    ),
)  # fmt: skip


@dataclass
class Tally:
    """What has become of the submissions so far."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(what was handed in, how it ended) -> how often."""
    wrong: list[str] = field(default_factory=list)
    """Outcomes that are not as expected, and processes that were left, as sentences."""
    done: int = 0


def counts(pool: KernelPool, temporary: Path) -> dict[str, int]:
    """What could pile up."""
    own = psutil.Process()
    below = own.children(recursive=True)
    zygote = pool.zygote
    return {
        "processes": len(below),
        "zombies": sum(process.status() == psutil.STATUS_ZOMBIE for process in below),
        "descriptors": own.num_fds(),
        "zygote's descriptors": len(list(Path(f"/proc/{zygote.pid}/fd").iterdir())) if zygote else 0,
        # the pool's own threads wait for the next session
        "threads": own.num_threads() - sum(thread.name.startswith("box") for thread in threading.enumerate()),
        "folders in temp": len(list(temporary.iterdir())) + len(list(pool.folder.iterdir())),
        "files in /dev/shm": len(list(Path("/dev/shm").iterdir())),
        "control groups": sum(
            Path(folder).name.startswith(f"{pool.folder.name}-") for folder, _, _ in os.walk("/sys/fs/cgroup")
        ),
        "MiB of the grader": own.memory_info().rss // MIB,
        "MiB of the zygote": psutil.Process(zygote.pid).memory_info().rss // MIB if zygote else 0,
    }


def more(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """What has grown by more than it may."""
    return [name for name in before if after[name] > before[name] + (GROWTH_MIB if name.startswith("MiB") else 0)]


def counts_at_rest(count: Callable[[], dict[str, int]], before: dict[str, int]) -> dict[str, int]:
    """The counts once nothing is too many, or after a few seconds."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while more(before, after := count()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return after


async def one(pool: KernelPool, number: int, tally: Tally) -> None:
    """Run one submission and hold it against what is expected of it."""
    hostile = HOSTILE[number // 3 % len(HOSTILE)] if number % 3 == 2 else None
    middle = hostile.source if hostile else HONEST[number % len(HONEST)]
    name = hostile.name if hostile else "honest"
    expected = hostile.expected if hostile else Outcome.COMPLETED
    pids: list[int] = []
    try:
        async with KernelSession(pool, None, hostile.limits if hostile else SLEEPY) as session:
            runs = [await session.run_cell(source, index) for index, source in enumerate((BEFORE, middle, AFTER))]
            pids = host_processes(session) if session.alive else []
    except SandboxError as error:
        tally.wrong.append(f"{name}: could not be started: {error}")
    else:
        tally.outcomes[name, session.outcome.value] += 1
        message = f"{name}: {session.outcome.value}, {expected.value} is right; cells {[run.status for run in runs]}"
        if session.outcome is not expected or (session.outcome is Outcome.COMPLETED and runs[-1].output != "499500\n"):
            tally.wrong.append(message)
        if session.kernel.mode != pool.mode:
            tally.wrong.append(f"{name}: started {session.kernel.mode}: {pool.zygote and pool.zygote.failure}")
        if left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            tally.wrong.append(f"{name}: processes left: {left}")
        if folders := traces(session):
            tally.wrong.append(f"{name}: folders left: {folders}")
    tally.done += 1


async def soak(pool: KernelPool, submissions: int, tally: Tally, beside: int = 2) -> None:
    gate, began = asyncio.Semaphore(beside), time.monotonic()

    async def gated(number: int) -> None:
        async with gate:
            await one(pool, number, tally)
        if tally.done % 20 == 0:
            print(
                f"{tally.done:5} of {submissions}, {time.monotonic() - began:4.0f} s, {len(tally.wrong)} wrong",
                flush=True,
            )

    await asyncio.gather(*(gated(number) for number in range(submissions)))


def main() -> int:
    parser = argparse.ArgumentParser(description="many short submissions, a third of them hostile")
    parser.add_argument("--submissions", type=int, default=300)
    parser.add_argument("--mode", choices=("warm", "cold"), default="warm")
    parser.add_argument("--no-control-groups", action="store_true", help="as an ordinary user: the watchdog alone")
    parser.add_argument(
        "--beside", type=int, default=2, help="so many at a time: more than cores make an oversubscribed machine"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        tempfile.tempdir = folder  # all that is made from here on lies in a folder that is ours alone
        temporary = Path(folder)
        temporary.chmod(0o755)
        with KernelPool(options.mode, control_groups=not options.no_control_groups) as pool:
            pool.warm_up()
            asyncio.run(soak(pool, 12, Tally()))  # what is created once is there before the first count

            def count() -> dict[str, int]:
                return counts(pool, temporary)

            before = counts_at_rest(count, dict.fromkeys(count(), 0))
            tally, began = Tally(), time.monotonic()
            asyncio.run(soak(pool, options.submissions, tally, options.beside))
            seconds, after = time.monotonic() - began, counts_at_rest(count, before)
    enforced = "the watchdog alone" if options.no_control_groups else "control groups where they can be made"
    print(f"\n{tally.done} submissions, {options.beside} at a time, {options.mode}, {enforced}: {seconds:.0f} s\n")
    print("| submission | outcome | times |\n|---|---|---|")
    for (name, outcome), number in sorted(tally.outcomes.items()):
        print(f"| {name} | {outcome} | {number} |")
    print("\n| | before | after |\n|---|---|---|")
    for name in before:
        print(f"| {name} | {before[name]} | {after[name]} |")
    print(f"\n{machine()}")
    grown = more(before, after)
    for sentence in tally.wrong:
        print("WRONG:", sentence)
    for name in grown:
        print(f"LEFT: {name}: {before[name]} before, {after[name]} after")
    print("NOT WELL" if tally.wrong or grown else "All outcomes as expected; nothing is left.")
    return int(bool(tally.wrong or grown))


if __name__ == "__main__":
    raise SystemExit(main())
