"""Calls by which a process gives up rights for good: namespaces entered, capabilities, resource limits, the seccomp filter.

Runs in the box (Linux only), before any student code. Only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from grader.inside import seccomp

__all__ = ["ALL_NAMESPACES", "drop_privileges", "enter", "limit", "reap_orphans", "sole_thread"]

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


def drop_privileges() -> None:
    """Give up every capability, forbid new privileges and load the seccomp filter, where there is one. Raises OSError."""
    for capability in range(64):
        if _prctl(_CAPBSET_DROP, capability) != 0:
            break
    _prctl(_CAP_AMBIENT, 4)  # clear all; kernels without ambient capabilities have nothing to clear
    header = struct.pack("Ii", 0x20080522, 0)
    _check(_libc().capset(ctypes.c_char_p(header), ctypes.c_char_p(b"\0" * 24)), "capset")
    _check(_prctl(_NO_NEW_PRIVS, 1), "PR_SET_NO_NEW_PRIVS")
    _check(_prctl(_DUMPABLE, 1), "PR_SET_DUMPABLE")
    if code := seccomp.program(os.getpid()):
        buffer = ctypes.create_string_buffer(code, len(code))
        program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
        _check(_libc().prctl(ctypes.c_int(_SECCOMP), ctypes.c_ulong(2), ctypes.byref(program), 0, 0), "seccomp")
