"""Calls by which a process gives up rights for good: namespaces entered, capabilities, resource limits, the seccomp filter.

Runs in the box (Linux only), before any student code. Only the standard library; the filter's bytes come from outside.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ALL_NAMESPACES", "drop_privileges", "enter", "limit", "reap_orphans", "sole_thread", "spare"]

ALL_NAMESPACES = 0x10000000 | 0x20000 | 0x20000000 | 0x40000000 | 0x8000000 | 0x4000000 | 0x2000000
"""user, mount, pid, network, IPC, UTS and control group namespaces, for one `setns` call."""

_DUMPABLE, _SECCOMP, _CAPBSET_DROP, _SUBREAPER, _NO_NEW_PRIVS, _CAP_AMBIENT = 4, 22, 24, 36, 38, 47


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, *values: int) -> int:
    padded = [*values, 0, 0, 0, 0][:4]
    return int(_libc().prctl(ctypes.c_int(option), *[ctypes.c_ulong(value) for value in padded]))


def enter(pidfd: int) -> None:
    """Enter all namespaces of the process behind `pidfd` in one call; children are born in its pid namespace. Raises OSError."""
    _check(_libc().setns(pidfd, ALL_NAMESPACES), "setns")


def reap_orphans() -> None:
    """Become the parent of orphaned descendants. Raises OSError."""
    _check(_prctl(_SUBREAPER, 1), "PR_SET_CHILD_SUBREAPER")


def sole_thread() -> list[str]:
    """Names of the threads of this process beyond the first one; empty when forking is safe."""
    tasks = Path("/proc/self/task").iterdir()
    return [(task / "comm").read_text().strip() for task in tasks if int(task.name) != os.getpid()]


def limit(limits: Mapping[str, int]) -> None:
    """Set resource limits, soft and hard alike, e.g. `{"nproc": 256}`.

    `memory` is special: bytes of address space beyond what the process has mapped already. Raises ValueError, OSError.
    """
    import resource  # not there on Windows, where nobody calls this

    for name, value in limits.items():
        if name == "memory":
            value += int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            name = "as"
        kind = getattr(resource, f"RLIMIT_{name.upper()}")
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


_SIGNALLING = {
    # audit architecture, kill, tkill, tgkill
    "x86_64": (0xC000003E, 62, 200, 234),
    "aarch64": (0xC00000B7, 129, 130, 131),
}
_ENDING = (1, 3, 9, 15, 19, 20)
"""HUP, QUIT, KILL, TERM, STOP, TSTP: what a notebook restarts its kernel with. A crash (ABRT, SEGV) stays one."""


def spare(pid: int) -> bytes:
    """A filter by which a signal that would end process `pid` is sent without effect, whoever in the box sends it.

    Also one to its group or to all processes; those of the box's outside do not pass it. Empty where no table of calls exists.
    """
    if platform.machine() not in _SIGNALLING:
        return b""
    arch, kill, tkill, tgkill = _SIGNALLING[platform.machine()]
    load, equal, give = 0x20, 0x15, 0x06
    targets = [pid, -pid & 0xFFFFFFFF, 0, 0xFFFFFFFF]
    code = [
        (load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, 0x7FFF0000), (load, 0, 0, 0),
        (equal, 0, 1, 424), (give, 0, 0, 0x00050000 | errno.ENOSYS),  # pidfd_send_signal: a filter cannot see to whom
        (equal, 5, 0, kill), (equal, 4, 0, tkill), (equal, 1, 0, tgkill), (give, 0, 0, 0x7FFF0000),
        (load, 0, 0, 32), (equal, 1, 1, 0xFFFFFFFF), (load, 0, 0, 24),  # the signal, behind two numbers or one
        *[(equal, len(_ENDING) - place, 0, signal) for place, signal in enumerate(_ENDING)],
        (give, 0, 0, 0x7FFF0000), (load, 0, 0, 16),
        *[(equal, len(targets) - place, 0, target) for place, target in enumerate(targets)],
        (give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x00050000),  # "failed", with the error 0
    ]  # fmt: skip
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def drop_privileges(seccomp: bytes) -> None:
    """Give up every capability, forbid new privileges and load the seccomp filters (classic BPF). Raises OSError."""
    for capability in range(64):
        if _prctl(_CAPBSET_DROP, capability) != 0:
            break
    _prctl(_CAP_AMBIENT, 4)  # clear all; kernels without ambient capabilities have nothing to clear
    header = struct.pack("Ii", 0x20080522, 0)
    _check(_libc().capset(ctypes.c_char_p(header), ctypes.c_char_p(b"\0" * 24)), "capset")
    _check(_prctl(_NO_NEW_PRIVS, 1), "PR_SET_NO_NEW_PRIVS")
    _check(_prctl(_DUMPABLE, 1), "PR_SET_DUMPABLE")
    for code in filter(None, (spare(os.getpid()), seccomp)):
        buffer = ctypes.create_string_buffer(code, len(code))
        program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
        _check(_libc().prctl(ctypes.c_int(_SECCOMP), ctypes.c_ulong(2), ctypes.byref(program), 0, 0), "seccomp")
