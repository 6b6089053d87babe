"""Checks of what a box hides and refuses: files, network, processes, rights, identity, environment."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

from grader.sandbox.conformance.attempts import CANARY, LIMITS, Breach, all_refused, attempts, box_check
from grader.sandbox.host import interpreter_folders, package_folder
from grader.sandbox.pool import KernelPool
from grader.sandbox.seccomp import DENIED
from grader.sandbox.session import KernelSession

__all__: list[str] = []


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
    places = ["/usr/x", "/x", "/dev/x", "/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/sys/x"]
    places += [str(folder / "x") for folder in interpreter_folders()] + [str(package_folder() / "inside" / "x.py")]
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


@box_check("processes")
async def _processes(pool: KernelPool) -> None:
    """Other processes are out of sight and out of reach."""
    code = f"""
attempt('kill the grader', lambda: os.kill({os.getpid()}, 0))
attempt('memory of process 1', lambda: open('/proc/1/mem', 'rb').read(1))
attempt('pidfd of the grader', lambda: os.pidfd_open({os.getpid()}))
"""
    all_refused(await attempts(pool, code))
    visible = await attempts(pool, "attempt('number', lambda: len([p for p in os.listdir('/proc') if p.isdigit()]))")
    if int(visible["number"].removeprefix("done: ")) > 6:
        raise Breach(f"sees {visible['number'].removeprefix('done: ')} processes")


@box_check("rights")
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
    all_refused(await attempts(pool, "\n".join(lines)))
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


@box_check("identity")
async def _identity(pool: KernelPool) -> None:
    """On the host the submission is an ordinary user, never root."""
    async with KernelSession(pool, None, LIMITS) as session:
        uids = session.host_user_ids()
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
