"""Attacks on the machine's memory where no control group counts it: by what the kernel itself holds for a process."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

import grader.sandbox.meter
from grader.cli.main import main
from grader.inside.seccomp import DENIED
from grader.sandbox.bubblewrap import Box
from grader.sandbox.conformance import host_processes
from grader.sandbox.contract import BoxSpec, Limits, Outcome
from grader.sandbox.meter import BoxMeter
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession
from tests.pipeline.conftest import notebook_bytes
from tests.sandbox.conftest import MIB, SMALL, run_in

pytestmark = [pytest.mark.box, pytest.mark.attack]

FILL = """
import os, socket, time
def fill(one, size):
    one.setblocking(False)
    try:
        while True: one.send(bytes(size))
    except BlockingIOError: pass
"""
PAIRS = f"""
{FILL}
for _ in range(8):
    if not os.fork(): break
kept = []
while True:
    try: kept.append(socket.socketpair())
    except OSError: break
    for one in kept[-1]: fill(one, 4096)
time.sleep(60)
"""
IN_FLIGHT = f"""
{FILL}
import array
for _ in range(8):
    if not os.fork(): break
kept = [socket.socketpair()]
while True:
    try: inner = [socket.socketpair() for _ in range(4)]
    except OSError: break
    for one in sum(map(list, inner), []): fill(one, 4096)
    try:
        handed = array.array("i", [one.fileno() for pair in inner for one in pair])
        kept[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)])
    except OSError:
        kept.append(socket.socketpair())
    for pair in inner:
        for one in pair: one.close()
time.sleep(60)
"""
STREAMS = f"""
{FILL}
server = socket.create_server(("127.0.0.1", 0))
kept = []
while True:
    try:
        kept += [socket.create_connection(server.getsockname()), server.accept()[0]]
    except OSError: break
    for one in kept[-2:]: fill(one, 1 << 16)
    for one in kept[-2:]: fill(one, 1 << 16)
time.sleep(60)
"""


@pytest.mark.parametrize("cells", [PAIRS, IN_FLIGHT, STREAMS], ids=["pairs", "in-flight", "streams"])
def test_memory_that_sockets_hold(watched_pool, cells) -> None:
    """Each of these was held by nobody: hundreds of megabytes by one notebook, and all of a machine's by more processes."""
    ran = asyncio.run(run_in(watched_pool, [cells], Limits(cpu_seconds=20, wall_seconds=90, memory_bytes=300 * MIB)))
    assert ran.outcome is Outcome.OUT_OF_MEMORY
    assert ran.usage.peak_bytes > 300 * MIB


@pytest.mark.parametrize("ceiling", [0, 1 << 40])
def test_page_tables_are_counted(tmp_path, ceiling) -> None:
    """A process that reads gigabytes of nothing maps the one page of zeros everywhere: no memory of its own, but 2 MB of tables a GB."""
    for number in (1, 2):
        folder = tmp_path / "proc" / str(number)
        folder.mkdir(parents=True)
        (folder / "status").write_text("RssAnon:\t 100 kB\nRssShmem:\t 0 kB\nVmPTE:\t 8192 kB\n")
        (folder / "smaps_rollup").write_text("Private_Dirty: 100 kB\nPss_Anon: 100 kB\nPss_Shmem: 0 kB\n")
    meter = BoxMeter(cast(Box, SimpleNamespace(inside=tmp_path, init=0)), None, ceiling)
    assert meter.sample().memory_bytes == 2 * (8192 + 100) * 1024


@pytest.mark.parametrize("name", ["semget", "msgget"])
def test_system_v_is_refused(run, name) -> None:
    """A set of 32,000 semaphores is 2 MB of the kernel's memory, and a namespace may have as many sets."""
    assert name in DENIED
    arguments = "0, 32000, 0o600" if name == "semget" else "0, 0o600"
    code = f"import ctypes; print(ctypes.CDLL(None).{name}({arguments}))"
    assert run([code]).text.strip() == "-1"


def test_a_socket_is_given_no_larger_buffer(run) -> None:
    code = """
import socket
one, other = socket.socketpair()
before = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
for option in (socket.SO_SNDBUF, socket.SO_RCVBUF, 32, 33):
    one.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
print(before == one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
print(one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
"""
    assert run([code]).text == "True\n1\n"


def test_descriptors_are_few_without_a_group_and_enough(watched_pool) -> None:
    code = """
import os, resource, socket
print(resource.getrlimit(resource.RLIMIT_NOFILE))
files = []
try:
    while True: files.append(os.open(os.devnull, os.O_RDONLY))
except OSError: print(len(files) > 250)
for file in files: os.close(file)
from torch.utils.data import DataLoader
print(sum(len(batch) for batch in DataLoader(list(range(512)), batch_size=8, num_workers=2)))
"""
    assert asyncio.run(run_in(watched_pool, [code], SMALL)).text == "(400, 400)\nTrue\n512\n"


@pytest.mark.parametrize("mode", ["warm", pytest.param("cold", marks=pytest.mark.slow)])
def test_kernels_are_the_first_to_be_killed(watched_pool, monkeypatch, mode) -> None:
    """Also those that a cell has started, and one that has taken it back."""
    monkeypatch.setattr(watched_pool, "mode", mode)
    code = """
import os, time
for value in ("0", "-1000"):
    try: open("/proc/self/oom_score_adj", "w").write(value)
    except OSError as error: print(error.strerror)
if not os.fork(): time.sleep(5)
time.sleep(1)
print(open("/proc/self/oom_score_adj").read())
"""

    async def scores() -> tuple[set[str], str]:
        async with KernelSession(watched_pool, BoxSpec(), SMALL) as session:
            cell = await session.run_cell(code, 0)
            found = set()
            for pid in host_processes(session):
                with contextlib.suppress(OSError):
                    found.add(Path(f"/proc/{pid}/oom_score_adj").read_text().strip())
            return found, cell.output

    found, said = asyncio.run(scores())
    assert found == {"1000"}
    assert said.endswith("1000\n\n")


def test_a_machine_without_memory_ends_the_largest_box(watched_pool, monkeypatch) -> None:
    """Nobody is charged; the smaller one beside it lives on."""
    largest = []  # while its processes are there the machine is short of memory
    monkeypatch.setattr(grader.sandbox.meter, "_is_short", lambda: any(meter._folders() for meter in largest))

    async def both() -> tuple[KernelSession, KernelSession, bool]:
        one, other = (KernelSession(watched_pool, BoxSpec(), SMALL) for _ in range(2))
        async with one, other:
            await one.run_cell("x = bytearray(200 << 20)", 0)
            await other.run_cell("x = bytearray(20 << 20)", 0)
            largest.append(one.kernel.meter)
            while one.alive:
                await asyncio.sleep(0.05)
            return one, other, other.alive

    one, other, lives = asyncio.run(both())
    assert lives
    assert one.outcome is Outcome.SANDBOX_FAILED
    assert "memory" in str(one.fault)
    assert other.outcome is Outcome.COMPLETED


def test_a_class_without_groups_is_told_so(tmp_path, monkeypatch, capsys) -> None:
    """On the terminal and on the class page, once; students do not read of it."""
    monkeypatch.setattr(KernelPool, "_try_groups", lambda _pool: "nobody gives any")
    source, run = tmp_path / "in", tmp_path / "run"
    source.mkdir()
    for name in ("ann_100_900_lab.ipynb", "bo_101_901_lab.ipynb"):
        (source / name).write_bytes(notebook_bytes("x = 1"))
    main(["grade", str(source), "--out", str(run), "--assignment", "tests.toy:TOY", "--workers", "2"])
    said = "There were no control groups (nobody gives any): memory and processes of submissions were watched"
    assert " ".join(capsys.readouterr().out.split()).count(said) == 1
    assert (run / "class.html").read_text().count(said) == 1
    pages = [path.read_text() for path in (run / "submissions").glob("*/report.html")]
    assert len(pages) == 2
    assert not any("control groups" in page for page in pages)
