"""Attacks on memory and on neighbours: each meets its own limit, leaves nothing behind, and hurts nobody beside it."""

from __future__ import annotations

import asyncio
import errno
import resource
from dataclasses import replace

import pytest

from grader.sandbox.contract import BoxSpec, Outcome
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

from .conftest import SMALL, box_missing, run_in

pytestmark = [pytest.mark.box, pytest.mark.attack]

FILL = "for start in range(0, len(block), 4096): block[start] = 1\nprint('got it all')"
MEMORY = {
    "a mapped file in /dev/shm": (
        f"import mmap\nfile = open('/dev/shm/x', 'w+b')\nfile.truncate({2 * SMALL.disk_bytes})\n"
        f"block = mmap.mmap(file.fileno(), 0)\n{FILL}",
        (Outcome.DISK_LIMIT,),
    ),
    "a mapped file that has no name any more": (
        f"import mmap, os, tempfile\nfile = tempfile.TemporaryFile(dir='/dev/shm')\nfile.truncate({2 * SMALL.disk_bytes})\n"
        f"block = mmap.mmap(file.fileno(), 0)\n{FILL}",
        (Outcome.DISK_LIMIT, Outcome.KERNEL_DIED),  # it goes with its process: a crash, when nobody looked just before
    ),
    "POSIX shared memory": (
        "from multiprocessing.shared_memory import SharedMemory\n"
        f"memory = SharedMemory('x', create=True, size={2 * SMALL.disk_bytes})\nblock = memory.buf\n{FILL}",
        (Outcome.DISK_LIMIT, Outcome.KERNEL_DIED),  # its tracker removes the name as soon as the process is gone
    ),
    "anonymous memory shared by children": (
        f"import mmap, os, time\nblock = mmap.mmap(-1, {2 * SMALL.memory_bytes})\nif os.fork() == 0: time.sleep(60)\n{FILL}",
        (Outcome.OUT_OF_MEMORY,),
    ),
    "memory that only the parent of a dead child holds": (
        f"import mmap, os\nblocks = []\nfor _ in range(12):\n    blocks.append(mmap.mmap(-1, {SMALL.memory_bytes // 8}))\n"
        "    if os.fork() == 0:\n"
        "        for start in range(0, len(blocks[-1]), 4096): blocks[-1][start] = 1\n"
        "        os._exit(0)\n    os.wait()\nprint('got it all')",
        (Outcome.OUT_OF_MEMORY,),
    ),
}


@pytest.fixture(params=["control group", "watchdog"])
def pool(request):
    return request.getfixturevalue("warm_pool" if request.param == "control group" else "watched_pool")


@pytest.mark.parametrize(("code", "outcomes"), MEMORY.values(), ids=MEMORY)
def test_shared_memory_is_bounded_in_every_form(pool, code, outcomes):
    ran = asyncio.run(run_in(pool, [code], replace(SMALL, wall_seconds=40)))
    assert "got it all" not in ran.text
    assert ran.outcome in outcomes


@pytest.mark.parametrize(
    ("times", "text", "outcome"),
    [
        (20, "'x' * 100_000", Outcome.COMPLETED),
        (60, "'x' * 100_000", Outcome.OUTPUT_LIMIT),  # bytes: few messages
        (4000, "'x'", Outcome.OUTPUT_LIMIT),  # messages: few bytes
    ],
)
def test_output_is_bounded_in_bytes_and_in_messages(warm_pool, times, text, outcome):
    code = f"import sys\nfor _ in range({times}):\n    print({text})\n    sys.stdout.flush()"
    assert asyncio.run(run_in(warm_pool, [code])).outcome is outcome


@pytest.mark.parametrize("call", ["os.memfd_create('x')", "ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600)"])
def test_memory_that_no_limit_would_count_is_refused(warm_pool, call):
    ran = asyncio.run(run_in(warm_pool, [f"import ctypes, os\nprint({call})"]))
    assert ran.text == "-1\n" if "shmget" in call else ran.cells[0].error.name == "PermissionError"


IN_FLIGHT = """
import array, os, resource, socket
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
null, kept = os.open(os.devnull, os.O_RDONLY), []
try:
    while True:
        kept.append(socket.socketpair())
        for _ in range(8):
            kept[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * 250))])
except OSError as error: print(error.errno)
"""


@pytest.mark.parametrize("may_open", [1024, None])
def test_descriptors_that_nobody_receives_keep_no_other_kernel_from_starting(may_open):
    """Linux counts them for all processes of a user, and refuses to send any more: also to the zygote and to kernels."""
    if why := box_missing():
        pytest.skip(why)
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def both():
        async with KernelSession(pool, BoxSpec(), SMALL) as attacker:
            held = await attacker.run_cell(IN_FLIGHT, 0)
            return held.output, (await run_in(pool, ["print('here')"])).text

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (may_open or ours[0], ours[1]))
        with KernelPool("warm", preload=()) as pool:
            held, beside = asyncio.run(both())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, ours)
    assert held == f"{errno.ETOOMANYREFS}\n"
    assert beside == "here\n"


def test_no_lease_makes_others_wait_for_a_file(warm_pool):
    """Who opens a file with a lease waits 45 s for it; a box reads files that belong to the grader's own user."""
    code = "import fcntl\nopen('x', 'w').close()\nfile = open('x')\nfcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_{})"
    ran = asyncio.run(run_in(warm_pool, [code.format("WRLCK"), code.format("RDLCK"), "fcntl.flock(file, 1)"]))
    assert [cell.error and cell.error.name for cell in ran.cells] == ["PermissionError", "PermissionError", None]


WORK = """
import hashlib, subprocess
data = bytes(1 << 20)
for _ in range(400): data = hashlib.sha256(data).digest() * (1 << 15)
for number in range(20): open(f"{number}.txt", "w").write("x" * 1000)
subprocess.run(["true"], check=True)
block = bytearray(100 << 20)
print(data[:4].hex(), len(block))
"""
NEIGHBOURS = {
    "endless loops": "import os\nfor _ in range(6): os.fork()\nwhile True: pass",
    "a fork bomb": "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(60)",
    "memory without end": "x = []\nwhile True: x.append(bytearray(10 << 20))",
    "disk without end": "n = 0\nwhile True: n += 1; open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))",
    "output without end": "while True: print('x' * 100_000)",
    "signals to everybody": """
import os
while True:
    for pid in (-1, *range(2, 4000)):
        try: os.kill(pid, 9)
        except OSError: pass
""",
}


@pytest.fixture(scope="module")
def alone(warm_pool):
    return asyncio.run(run_in(warm_pool, [WORK, WORK, WORK]))


@pytest.mark.parametrize("attack", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_work_beside_an_attacker_is_charged_for_nothing_else(warm_pool, alone, attack):
    async def both():
        small = replace(SMALL, cpu_seconds=3, wall_seconds=60)
        return await asyncio.gather(run_in(warm_pool, [attack], small), run_in(warm_pool, [WORK, WORK, WORK]))

    attacker, beside = asyncio.run(both())
    assert attacker.outcome is not Outcome.COMPLETED
    assert (beside.outcome, beside.text) == (Outcome.COMPLETED, alone.text)
    assert [cell.status for cell in beside.cells] == ["ok"] * 3
    # in CPU seconds, not wall: two who share a processor's caches and threads slow each other by less than this
    assert beside.usage.cpu_seconds < 3 * alone.usage.cpu_seconds + 0.5
    assert beside.usage.peak_bytes < 2 * alone.usage.peak_bytes
