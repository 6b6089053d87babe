"""What every box must withstand, tried on this host: the list behind `grader doctor`, and part of the test suite.

Trusted code; each check starts boxes of its own and runs harmless attempts in them, whose words are believed since they are ours. A
check fails with the sentence that says what got through. The grader's own files, processes and sockets stand in for what a
submission must not reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from grader.errors import GraderError, SandboxError
from grader.inside.seccomp import DENIED
from grader.records import Outcome
from grader.sandbox.bubblewrap import FOLDERS
from grader.sandbox.cgroup import cores
from grader.sandbox.contract import BoxSpec, EvidenceTooLarge, Limits
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession
from grader.sandbox.shown import package_folder, shown

__all__ = ["CHECKS", "Finding", "canary", "conform", "examine", "host_processes", "traces"]

MIB = 1 << 20
LIMITS = Limits(
    cpu_seconds=20, wall_seconds=120, memory_bytes=700 * MIB, processes=64, disk_bytes=48 * MIB, files=1500,
    output_bytes=2 * MIB, output_messages=2000, message_bytes=4 * MIB,
)  # fmt: skip
"""Small limits, so that meeting them takes a moment; one more process than a few is enough for torch."""

CANARY = "DAT450_CANARY"


class Breach(Exception):  # noqa: N818 - what a check reports
    """Something got through; the text says what."""


BoxCheck = Callable[[KernelPool], Awaitable[None]]
CHECKS: dict[str, tuple[str, BoxCheck]] = {}
"""Name -> promise and the coroutine function that tries it, in the order of the report."""


def box_check(name: str) -> Callable[[BoxCheck], BoxCheck]:
    """Enter a check in the list; its docstring is the promise it tries."""

    def keep(function: BoxCheck) -> BoxCheck:
        CHECKS[name] = ((function.__doc__ or "").strip(), function)
        return function

    return keep


TRY = """
import os, socket, ctypes, json, signal
_libc, _seen = ctypes.CDLL(None, use_errno=True), {}
def attempt(name, action):
    try: _seen[name] = "done: " + str(action())[:80]
    except BaseException as error: _seen[name] = "refused: " + type(error).__name__ + ": " + str(error)[:80]
def call(number, *arguments):
    if _libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), "refused")
def report(): print("SEEN" + json.dumps(_seen))
"""


async def attempts(pool: KernelPool, code: str, spec: BoxSpec | None = None) -> dict[str, str]:
    """Run a cell that makes attempts; attempt -> `done: ...` or `refused: ...`."""
    async with KernelSession(pool, spec, LIMITS) as session:
        run = await session.run_cell(f"{TRY}\n{code}\nreport()", 0)
        if run.status != "ok" or "SEEN" not in run.output:
            raise Breach(f"the probe itself did not run ({run.status}: {run.error}, {session.outcome})")
        seen: dict[str, str] = json.loads(run.output.split("SEEN", 1)[1].splitlines()[0])
        return seen


def all_refused(seen: dict[str, str]) -> None:
    """Raise Breach, naming the attempts that were not refused."""
    through = [f"{name} ({what})" for name, what in seen.items() if not what.startswith("refused")]
    if through:
        raise Breach(f"got through: {'; '.join(through)}")


async def ends(pool: KernelPool, code: str, wanted: Outcome, *, alive: bool = False, **limits: Any) -> None:
    """Run one cell in a box under LIMITS with these changes; raise Breach unless that ends as `wanted`, a completed one without an error.

    `alive`: the kernel has to live on, too.
    """
    session = KernelSession(pool, None, replace(LIMITS, **limits))
    async with session:
        status = (await session.run_cell(code, 0)).status
        lives = session.alive
    well = session.outcome is wanted and (wanted is not Outcome.COMPLETED or status == "ok")
    if not well or (alive and not lives):
        raise Breach(f"ended as {session.outcome} (cell {status}, kernel alive: {lives}), not as {wanted}")


def cells_end(name: str, promise: str, wanted: Outcome, *cells: str, **how: Any) -> None:
    """Enter a check in the list: each of the cells, alone in a box, `ends` as `wanted`."""

    async def check(pool: KernelPool) -> None:
        for code in cells:
            await ends(pool, code, wanted, **how)

    CHECKS[name] = (promise, check)


def host_processes(session: KernelSession) -> list[int]:
    """Process ids, as seen from here, of everything in the process namespace of a session's kernel; empty when it has ended."""
    with contextlib.suppress(OSError):
        space = Path(f"/proc/{session.kernel.pid}/ns/pid").readlink()
        return [pid for pid in psutil.pids() if _namespace(pid) == space]
    return []


def _namespace(pid: int) -> Path | None:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/pid").readlink()
    return None


def traces(session: KernelSession) -> list[Path]:
    """The folders made for a session that are still there, control groups included; empty once it has ended well."""
    folder = session.kernel.folder
    if folder is None:
        return []
    groups = (Path(place) for place, _folders, _files in os.walk("/sys/fs/cgroup"))
    return [
        *([folder] if folder.exists() else []),
        *(group for group in groups if group.name.endswith(f"-{folder.name}")),
    ]


# ---- what a box hides and refuses: files, network, processes, rights, identity, environment ----


@box_check("files")
async def _files(pool: KernelPool) -> None:
    """Files of the host and of the grader are out of sight."""
    home, package = Path.home(), package_folder()
    hidden = {
        "passwords": "/etc/shadow", "accounts": "/etc/passwd", "home": str(home / ".bashrc"), "sandbox code": str(package / "sandbox"),
        "assignments": str(package / "assignments"), "zygote socket": str(pool.folder / "zygote"), "pool": str(pool.folder),
        "root of process 1": f"/proc/1/root{package}/records.py", "checkout": str(package.parent / "pyproject.toml"),
    }  # fmt: skip
    lines = [f"attempt({name!r}, lambda: os.stat({path!r}))" for name, path in hidden.items()]
    lines.append("def other():\n    import grader.records\nattempt('import of the grader', other)")
    lines.append("attempt('other folders', lambda: {}[tuple(n for n in os.listdir('/tmp') if not n.startswith('.'))])")
    all_refused(await attempts(pool, "\n".join(lines)))


@box_check("read-only")
async def _read_only(pool: KernelPool) -> None:
    """The system, the interpreter and the devices cannot be written to."""
    places = ["/usr/x", "/dev/x", "/etc/ld.so.cache", "/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern"]
    places += [str(folder / "x") for folder in shown().paths] + [str(package_folder() / "inside" / "x.py")]
    all_refused(await attempts(pool, "\n".join(f"attempt({p!r}, lambda: open({p!r}, 'w').write('x'))" for p in places)))


@box_check("network")
async def _network(pool: KernelPool) -> None:
    """No network, no abstract socket of the host, no odd socket family."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        name = f"\0dat450-{os.getpid()}"
        abstract.bind(name)
        abstract.listen()
        code = f"""
attempt('loopback of the host', lambda: socket.create_connection(('127.0.0.1', {tcp.getsockname()[1]}), 2))
attempt('abstract socket', lambda: socket.socket(socket.AF_UNIX).connect({name!r}))
attempt('name resolution', lambda: socket.getaddrinfo('example.org', 443))
attempt('outside', lambda: socket.create_connection(('192.0.2.1', 80), 2))
for family in ('AF_VSOCK', 'AF_PACKET', 'AF_ALG', 'AF_BLUETOOTH'):
    if hasattr(socket, family):
        attempt(family, lambda: socket.socket(getattr(socket, family), socket.SOCK_RAW if family == 'AF_PACKET' else socket.SOCK_SEQPACKET))
attempt('raw netlink', lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9))
"""
        all_refused(await attempts(pool, code))


def _itself() -> tuple[int, str]:
    """The number of this process, and when it began, as /proc says it."""
    return os.getpid(), Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]


@box_check("processes")
async def _processes(pool: KernelPool) -> None:
    """Other processes are out of sight and out of reach."""
    # in a container the grader's number may be that of a process in the box, which has another start time
    code = f"""
number, started = {_itself()}
def at_grader(reach):
    try: found = open(f'/proc/{{number}}/stat').read().rpartition(')')[2].split()[19]
    except OSError: found = started
    if found != started: raise ProcessLookupError('another process has its number here')
    return reach(number)
attempt('kill the grader', lambda: at_grader(lambda it: os.kill(it, 0)))
attempt('memory of process 1', lambda: open('/proc/1/mem', 'rb').read(1))
attempt('pidfd of the grader', lambda: at_grader(os.pidfd_open))
attempt('number', lambda: len([p for p in os.listdir('/proc') if p.isdigit()]))
"""
    seen = await attempts(pool, code)
    number = seen.pop("number").removeprefix("done: ")
    all_refused(seen)
    if int(number) > 6:
        raise Breach(f"sees {number} processes")


@box_check("rights")
async def _rights(pool: KernelPool) -> None:
    """No capability, no way to new ones, dangerous system calls are refused."""
    column = 0 if platform.machine() == "x86_64" else 1
    calls = {name: numbers[column] for name, numbers in DENIED.items() if numbers[column] is not None}
    lines = [f"attempt({name!r}, lambda: call({number}, 0, 0, 0, 0))" for name, number in calls.items()]
    lines += [
        f"attempt('clone a user namespace', lambda: call({(56, 220)[column]}, 0x10000000 | 17, 0, 0, 0, 0))",
        "import resource; attempt('raise a limit', lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1 << 20, 1 << 20)))",
        "attempt('become root', lambda: os.setuid(0))",
    ]
    all_refused(await attempts(pool, "\n".join(lines)))
    async with KernelSession(pool, None, LIMITS) as session:
        run = await session.run_cell("print(open('/proc/self/status').read())", 0)
    kept = dict(line.split(":\t", 1) for line in run.output.splitlines() if ":\t" in line)
    wanted = dict.fromkeys(("CapEff", "CapPrm", "CapBnd"), "0" * 16) | {"NoNewPrivs": "1", "Seccomp": "2"}
    if wrong := {name: kept.get(name, "?") for name, value in wanted.items() if kept.get(name) != value}:
        raise Breach(f"rights kept: {wrong}")


@box_check("identity")
async def _identity(pool: KernelPool) -> None:
    """On the host the submission is an ordinary user, never root."""
    async with KernelSession(pool, None, LIMITS) as session:
        uids = {Path(f"/proc/{pid}").stat().st_uid for pid in host_processes(session)}
    if not uids or 0 in uids:
        raise Breach(f"its processes have the user ids {sorted(uids)}")


@box_check("environment")
async def _environment(pool: KernelPool) -> None:
    """No variable of the grader's environment is inherited."""
    code = f"""
attempt('variable', lambda: os.environ[{CANARY!r}])
paths = [f'/proc/{{p}}/environ' for p in os.listdir('/proc') if p.isdigit() and os.access(f'/proc/{{p}}/environ', 4)]
everything = b''.join(open(path, 'rb').read() for path in paths)
attempt('in /proc', lambda: everything.index({CANARY.encode()!r}))
"""
    all_refused(await attempts(pool, code))


# ---- what a box bounds, its end, and that honest work goes on in it ----


cells_end(
    "cpu-time", "An endless loop ends by its CPU time, and what stood before it can still be asked for.", Outcome.TIMED_OUT,
    "while True: pass", cpu_seconds=1, alive=True,
)  # fmt: skip
cells_end(
    "stubborn-loop", "A loop that ignores interrupts, in several processes, is killed.", Outcome.TIMED_OUT,
    "import os, signal\nos.fork()\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
    cpu_seconds=1, wall_seconds=15,
)  # fmt: skip
cells_end(
    "sleep", "A program that only sleeps is interrupted, and ended where it sleeps on.", Outcome.IDLE,
    "import time\ntime.sleep(3600)",
    "import time\nwhile True:\n    try: time.sleep(3600)\n    except BaseException: pass",
    idle_seconds=2,
)  # fmt: skip


@box_check("busy-machine")
async def _busy_machine(pool: KernelPool) -> None:
    """Who computes beside many others that want the same processors is not taken for a sleeper."""
    burn = "import time\nend = time.thread_time() + {}\nwhile time.thread_time() < end: pass"
    many = f"import os\nfor _ in range({min(48, 6 * cores())}):\n    if os.fork() == 0: break\n{burn.format(0.5)}"
    async with KernelSession(pool, None, replace(LIMITS, cpu_seconds=60)) as crowd:
        work = ends(pool, burn.format(0.3), Outcome.COMPLETED, idle_seconds=1)
        await asyncio.gather(crowd.run_cell(many, 0), work)


cells_end(
    "memory", "One process cannot take more memory than allowed; the kernel survives the refusal.", Outcome.OUT_OF_MEMORY,
    f"x = bytearray({LIMITS.memory_bytes * 2})",
)  # fmt: skip
cells_end(
    "memory-of-many", "Several processes together cannot take more memory than allowed.", Outcome.OUT_OF_MEMORY,
    f"""
import os, time
for child in range(8):
    if os.fork() == 0:
        block = bytearray({LIMITS.memory_bytes // 4})
        for start in range(0, len(block), 4096): block[start] = 1
        time.sleep(30); os._exit(0)
time.sleep(20)
""",
)  # fmt: skip


@box_check("process-number")
async def _process_number(pool: KernelPool) -> None:
    """A fork bomb is refused, and a sibling beside it works on."""
    bomb = "import os, time\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60); os._exit(0)\nexcept OSError: pass"
    work = "import subprocess\nfor _ in range(20): subprocess.run(['true'], check=True)"
    await asyncio.gather(ends(pool, bomb, Outcome.PROCESS_LIMIT), ends(pool, work, Outcome.COMPLETED))


cells_end(
    "disk-bytes", "Work folder, /tmp, /dev/shm and all other folders hold no more bytes than allowed.", Outcome.DISK_LIMIT,
    *(f"with open('{folder}/big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))" for folder in FOLDERS),
)  # fmt: skip
cells_end(
    "file-number", "Hundreds of thousands of empty files are not written.", Outcome.DISK_LIMIT,
    f"for number in range({200 * LIMITS.files}): open(f'/tmp/{{number}}', 'w').close()",
)  # fmt: skip
cells_end(
    "output", "Endless printing ends, in large pieces, in small ones and in one huge message.", Outcome.OUTPUT_LIMIT,
    "while True: print('x' * 100_000)",
    "import sys\nwhile True: print('x'); sys.stdout.flush()",
    f"from IPython.display import publish_display_data\npublish_display_data({{'text/plain': 'x' * {8 * LIMITS.output_bytes}}})",
)  # fmt: skip


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
        _content, buffers = await session.ask({"size": 10}, cpu_seconds=10)
        if buffers != [bytes(10)]:
            raise Breach("the next answer was wrong")


cells_end(
    "death", "A kernel that ends or kills itself is noticed.", Outcome.KERNEL_DIED,
    "import os; os._exit(0)", "import ctypes; ctypes.string_at(0)", "import os; os.abort()",
)  # fmt: skip


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
        inside = host_processes(session)
        if len(inside) < 2:
            raise Breach("the daemon could not be started, so nothing was tried")
    if alive := [pid for pid in inside if Path(f"/proc/{pid}").exists()]:
        raise Breach(f"processes left: {alive}")
    if left := traces(session):
        raise Breach(f"left behind: {left}")


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


cells_end(
    "training", "After the fork torch works: several threads, gradients, workers that load data.", Outcome.COMPLETED,
    """
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.set_num_threads(2)
layer = torch.nn.Linear(300, 300)
layer(torch.randn(2000, 300)).pow(2).mean().backward()
loader = DataLoader(TensorDataset(torch.arange(64.0)), batch_size=16, num_workers=2)
total = sum(batch[0].sum().item() for batch in loader)
assert total == 2016 and layer.weight.grad.abs().sum() > 0
""",
    memory_bytes=2048 * MIB, disk_bytes=256 * MIB, processes=256, alive=True,
)  # fmt: skip


# ---- all of it ----


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found on this host."""

    name: str
    """Stable name of the check."""
    promise: str
    """What holds when it is well, as a sentence."""
    ok: bool
    """Whether it holds."""
    why: str
    """What got through, or why it could not be tried; empty when well."""
    seconds: float
    """How long it took."""


@contextlib.contextmanager
def canary() -> Iterator[None]:
    """Put a variable into this process's environment that no box may see."""
    os.environ[CANARY] = CANARY
    try:
        yield
    finally:
        del os.environ[CANARY]


async def examine(pool: KernelPool, name: str) -> Finding:
    """Run one check on an open pool. Never raises for what it finds."""
    promise, check = CHECKS[name]
    began = time.monotonic()
    why = ""
    try:
        await check(pool)
    except Breach as breach:
        why = str(breach)
    except (GraderError, OSError) as error:
        why = f"could not be tried: {error}"
    return Finding(name, promise, not why, why, time.monotonic() - began)


def conform(on_start: Callable[[str], None]) -> Iterator[Finding]:
    """Try all promises on this host, one after the other.

    `on_start` gets first why kernels start cold although they were to start warm, empty when they do start warm. Raises SandboxError
    when no box can be built at all (its text says what to install).
    """
    with canary(), KernelPool("warm") as pool:
        with contextlib.suppress(SandboxError):  # then they start cold, in the same box
            pool.warm_up()
        on_start(pool.zygote.failure if pool.zygote else "")
        for name in CHECKS:
            yield asyncio.run(examine(pool, name))
