"""What every box must withstand, tried on this host: the list behind `grader doctor`, and part of the test suite.

Trusted code; each check starts boxes of its own and runs harmless attempts in them. A check fails with the sentence that says what
got through. The grader's own files, processes and sockets stand in for what a submission must not reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grader.errors import GraderError
from grader.kernel import KernelSession
from grader.sandbox.contract import BoxSpec, EvidenceTooLarge, KernelGone, Limits, Outcome
from grader.sandbox.host import available_modes, interpreter_folders, package_folder
from grader.sandbox.pool import KernelPool
from grader.sandbox.seccomp import DENIED

__all__ = ["CHECKS", "Finding", "conform", "host_facts"]

MIB = 1 << 20
LIMITS = Limits(
    cpu_seconds=20, wall_seconds=120, memory_bytes=700 * MIB, processes=64, disk_bytes=48 * MIB, files=1500,
    output_bytes=2 * MIB, output_messages=2000, message_bytes=4 * MIB,
)  # fmt: skip
"""Small limits, so that meeting them takes a moment; one more process than a few is enough for torch."""

CANARY = "DAT450_CANARY"


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


class Breach(Exception):  # noqa: N818 - what a check reports
    """Something got through; the text says what."""


Check = Callable[[KernelPool], Awaitable[None]]
CHECKS: dict[str, tuple[str, Check]] = {}
"""Name -> promise and the coroutine function that tries it, in the order of the report."""


def _check(name: str) -> Callable[[Check], Check]:
    def keep(function: Check) -> Check:
        CHECKS[name] = ((function.__doc__ or "").strip(), function)
        return function

    return keep


_TRY = """
import os, socket, ctypes, json, signal
_libc, _seen = ctypes.CDLL(None, use_errno=True), {}
def attempt(name, action):
    try: _seen[name] = "done: " + str(action())[:80]
    except BaseException as error: _seen[name] = "refused: " + type(error).__name__ + ": " + str(error)[:80]
def call(number, *arguments):
    if _libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), "refused")
def report(): print("SEEN" + json.dumps(_seen))
"""


async def _attempts(pool: KernelPool, code: str, spec: BoxSpec | None = None) -> dict[str, str]:
    """Run a cell that makes attempts; attempt -> `done: ...` or `refused: ...`."""
    async with KernelSession(pool, spec, LIMITS) as session:
        run = await session.run_cell(f"{_TRY}\n{code}\nreport()", 0)
        if run.status != "ok" or "SEEN" not in run.output:
            raise Breach(f"the probe itself did not run ({run.status}: {run.error}, {session.outcome})")
        seen: dict[str, str] = json.loads(run.output.split("SEEN", 1)[1].splitlines()[0])
        return seen


def _all_refused(seen: dict[str, str]) -> None:
    through = [f"{name} ({what})" for name, what in seen.items() if not what.startswith("refused")]
    if through:
        raise Breach(f"got through: {'; '.join(through)}")


async def _outcome(pool: KernelPool, code: str, limits: Limits) -> tuple[Outcome, bool, str]:
    """Run one cell; the outcome, whether the kernel lived on, and the cell's status."""
    session = KernelSession(pool, None, limits)
    async with session:
        run = await session.run_cell(code, 0)
        alive = session.alive
    return session.outcome, alive, run.status


async def _expect(pool: KernelPool, code: str, wanted: Outcome, limits: Limits = LIMITS) -> None:
    outcome, _alive, status = await _outcome(pool, code, limits)
    if outcome is not wanted:
        raise Breach(f"ended as {outcome} (cell {status}), not as {wanted}")


@_check("files")
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
    _all_refused(await _attempts(pool, "\n".join(lines)))


@_check("read-only")
async def _read_only(pool: KernelPool) -> None:
    """The system, the interpreter and the devices cannot be written to."""
    places = ["/usr/x", "/x", "/dev/x", "/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/sys/x"]
    places += [str(folder / "x") for folder in interpreter_folders()] + [str(package_folder() / "inside" / "x.py")]
    _all_refused(
        await _attempts(pool, "\n".join(f"attempt({p!r}, lambda: open({p!r}, 'w').write('x'))" for p in places))
    )


@_check("network")
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
        _all_refused(await _attempts(pool, code))


@_check("processes")
async def _processes(pool: KernelPool) -> None:
    """Other processes are out of sight and out of reach."""
    code = f"""
attempt('kill the grader', lambda: os.kill({os.getpid()}, 0))
attempt('memory of process 1', lambda: open('/proc/1/mem', 'rb').read(1))
attempt('pidfd of the grader', lambda: os.pidfd_open({os.getpid()}))
"""
    _all_refused(await _attempts(pool, code))
    visible = await _attempts(pool, "attempt('number', lambda: len([p for p in os.listdir('/proc') if p.isdigit()]))")
    if int(visible["number"].removeprefix("done: ")) > 6:
        raise Breach(f"sees {visible['number'].removeprefix('done: ')} processes")


@_check("rights")
async def _rights(pool: KernelPool) -> None:
    """No capability, no way to new ones, dangerous system calls are refused."""
    column = 0 if platform.machine() == "x86_64" else 1
    names = (
        "ptrace",
        "unshare",
        "mount",
        "setns",
        "bpf",
        "io_uring_setup",
        "keyctl",
        "userfaultfd",
        "process_vm_readv",
        "shmget",
    )
    lines = [f"attempt({name!r}, lambda: call({DENIED[name][column]}, 0, 0, 0, 0))" for name in names]
    clone = (56, 220)[column]
    lines.append(f"attempt('clone a user namespace', lambda: call({clone}, 0x10000000 | 17, 0, 0, 0, 0))")
    lines.append(
        "import resource; attempt('raise a limit', lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1 << 20, 1 << 20)))"
    )
    lines.append("attempt('become root', lambda: os.setuid(0))")
    _all_refused(await _attempts(pool, "\n".join(lines)))
    async with KernelSession(pool, None, LIMITS) as session:
        run = await session.run_cell("print(open('/proc/self/status').read())", 0)
    status = dict(line.split(":", 1) for line in run.output.splitlines() if ":" in line)
    wanted = {
        "CapEff": "0000000000000000",
        "CapPrm": "0000000000000000",
        "CapBnd": "0000000000000000",
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    wrong = {
        name: status.get(name, "?").strip() for name, value in wanted.items() if status.get(name, "?").strip() != value
    }
    if wrong:
        raise Breach(f"rights kept: {wrong}")


@_check("identity")
async def _identity(pool: KernelPool) -> None:
    """On the host the submission is an ordinary user, never root."""
    async with KernelSession(pool, None, LIMITS) as session:
        uids = session.host_user_ids()
    if not uids or 0 in uids:
        raise Breach(f"its processes have the user ids {sorted(uids)}")


@_check("environment")
async def _environment(pool: KernelPool) -> None:
    """No variable of the grader's environment is inherited."""
    code = f"""
attempt('variable', lambda: os.environ[{CANARY!r}])
paths = [f'/proc/{{p}}/environ' for p in os.listdir('/proc') if p.isdigit() and os.access(f'/proc/{{p}}/environ', 4)]
everything = b''.join(open(path, 'rb').read() for path in paths)
attempt('in /proc', lambda: everything.index({CANARY.encode()!r}))
"""
    _all_refused(await _attempts(pool, code))


@_check("cpu-time")
async def _cpu_time(pool: KernelPool) -> None:
    """An endless loop ends by its CPU time, and what stood before it can still be asked for."""
    session = KernelSession(pool, None, replace(LIMITS, cpu_seconds=1))
    async with session:
        await session.run_cell("while True: pass", 0)
        alive = session.alive
    if session.outcome is not Outcome.TIMED_OUT or not alive:
        raise Breach(f"ended as {session.outcome}, alive: {alive}")


@_check("stubborn-loop")
async def _stubborn_loop(pool: KernelPool) -> None:
    """A loop that ignores interrupts, in several processes, is killed."""
    code = (
        "import os, signal\nos.fork()\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass"
    )
    await _expect(pool, code, Outcome.TIMED_OUT, replace(LIMITS, cpu_seconds=1, wall_seconds=15))


@_check("sleep")
async def _sleep(pool: KernelPool) -> None:
    """A program that only sleeps ends by the wall clock."""
    await _expect(
        pool, "import time\ntime.sleep(3600)", Outcome.TIMED_OUT, replace(LIMITS, cpu_seconds=1, wall_seconds=3)
    )


@_check("memory")
async def _memory(pool: KernelPool) -> None:
    """One process cannot take more memory than allowed; the kernel survives the refusal."""
    await _expect(pool, f"x = bytearray({LIMITS.memory_bytes * 2})", Outcome.OUT_OF_MEMORY)


@_check("memory-of-many")
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
    await _expect(pool, code, Outcome.OUT_OF_MEMORY)


@_check("process-number")
async def _process_number(pool: KernelPool) -> None:
    """A fork bomb is refused, and a sibling beside it works on."""
    bomb = "import os, time\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60); os._exit(0)\nexcept OSError: pass"
    work = "import subprocess\nfor _ in range(20): subprocess.run(['true'], check=True)"
    (outcome, _alive, _status), (other, _other_alive, other_status) = await asyncio.gather(
        _outcome(pool, bomb, LIMITS), _outcome(pool, work, LIMITS)
    )
    if outcome is not Outcome.PROCESS_LIMIT:
        raise Breach(f"ended as {outcome}")
    if other is not Outcome.COMPLETED or other_status != "ok":
        raise Breach(f"a sibling was hurt: {other}, its cell {other_status}")


@_check("disk-bytes")
async def _disk_bytes(pool: KernelPool) -> None:
    """Work folder, /tmp and /dev/shm hold no more bytes than allowed."""
    for folder in ("/box", "/tmp", "/dev/shm"):  # noqa: S108 - the box's own
        code = f"with open('{folder}/big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))"
        await _expect(pool, code, Outcome.DISK_LIMIT)


@_check("file-number")
async def _file_number(pool: KernelPool) -> None:
    """A million empty files are not written."""
    code = "for number in range(1_000_000): open(f'/tmp/{number}', 'w').close()"
    await _expect(pool, code, Outcome.DISK_LIMIT)


@_check("output")
async def _output(pool: KernelPool) -> None:
    """Endless printing ends, in large pieces, in small ones and in one huge message."""
    for code in (
        "while True: print('x' * 100_000)",
        "import sys\nwhile True: print('x'); sys.stdout.flush()",
        f"from IPython.display import publish_display_data\npublish_display_data({{'text/plain': 'x' * {8 * LIMITS.output_bytes}}})",
    ):
        await _expect(pool, code, Outcome.OUTPUT_LIMIT)


@_check("large-answer")
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


@_check("death")
async def _death(pool: KernelPool) -> None:
    """A kernel that ends or kills itself is noticed."""
    for code in ("import os; os._exit(0)", "import ctypes; ctypes.string_at(0)", "import os; os.kill(-1, 9)"):
        await _expect(pool, code, Outcome.KERNEL_DIED)


@_check("nothing-left")
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


@_check("random")
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


@_check("training")
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
    outcome, alive, status = await _outcome(pool, code, limits)
    if outcome is not Outcome.COMPLETED or status != "ok" or not alive:
        raise Breach(f"ended as {outcome}, cell {status}")


@contextlib.contextmanager
def _canary() -> Iterator[None]:
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


def conform(
    mode: str = "auto", told: Callable[[Finding], Any] = lambda _finding: None, **options: Any
) -> list[Finding]:
    """Run all checks in `mode` on this host, telling each finding as it comes; `options` go to the pool.

    Raises SandboxError when no box can be built at all (its text says what to install).
    """
    findings = []
    with _canary(), KernelPool(mode, **options) as pool:
        pool.warm_up()
        for name in CHECKS:
            finding = asyncio.run(examine(pool, name))
            findings.append(finding)
            told(finding)
    return findings


def host_facts() -> dict[str, str]:
    """What makes results reproducible on this host: versions and settings, name -> value."""
    facts = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.platform()}
    for name in ("torch", "transformers", "datasets", "evaluate", "peft", "accelerate", "tokenizers", "numpy", "ipykernel", "nbclient",
                 "jupyter_client"):  # fmt: skip
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "missing"
    facts["processors"] = str(os.cpu_count() or "?")
    for mode, why in available_modes().items():
        facts[f"sandbox {mode}"] = why or "works"
    return facts


def main() -> int:
    """Print the findings as a plain table; 0 when all promises hold. `python -m grader.sandbox.conformance [mode]`."""
    mode = sys.argv[1] if len(sys.argv) > 1 else "auto"
    groups = "--no-control-groups" not in sys.argv
    findings = conform(
        mode,
        lambda f: print(
            f"{'ok  ' if f.ok else 'FAIL'} {f.name:16} {f.seconds:5.1f} s  {f.why or f.promise}", flush=True
        ),
        control_groups=groups,
    )
    return 0 if all(finding.ok for finding in findings) else 1


if __name__ == "__main__":
    raise SystemExit(main())
