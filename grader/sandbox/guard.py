"""A process of its own for work on what a submission brought: whatever that does there, the others' work goes on.

Trusted code on untrusted data. The process is a fork of this one, so it costs milliseconds and starts with all that is loaded; it gives
back one record as JSON, never a pickle. Nothing may be left to it that another thread of this process could hold at the moment of the
fork: files and pure functions, no sockets and no terminal. Only Linux has it; elsewhere, where nobody but the author of a notebook
grades it, the work is done here.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from grader import errors, serialization
from grader.errors import GraderError, GuardError

__all__ = ["GuardKilledError", "GuardLimits", "guarded"]

T = TypeVar("T")
_forking = threading.Lock()
_OK, _BROKEN = "ok", ""
_ERRORS = {name: getattr(errors, name) for name in errors.__all__}


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """What work in a guard may use."""

    memory_bytes: int = 1 << 30
    """Bytes of memory beyond what this process has."""
    cpu_seconds: int = 20
    """CPU seconds."""
    wall_seconds: float = 200.0
    """Wall seconds: for work that waits."""
    answer_bytes: int = 64 << 20
    """Bytes of the record that it gives back, as JSON."""


def guarded(work: Callable[[], T], cls: type[T], limits: GuardLimits = GuardLimits()) -> T:
    """Do `work` in a process of its own and return what it returns, a record of type `cls`.

    A GraderError that it raises is raised here, too. Raises GuardError, to be read after "it", for all else: another exception, the end
    of the process, a limit. What may have been the machine's doing is tried once more; GuardKilledError when it happens again.
    """
    if sys.platform != "linux":
        return work()
    try:
        tag, value = _tried(work, limits)
    except GuardKilledError:
        tag, value = _tried(work, limits)
    if tag == _OK:
        return serialization.from_plain(value, cls)
    raise _ERRORS.get(tag, GuardError)(value)


class GuardKilledError(GuardError):
    """The process was killed from outside, or stood still."""


def _tried(work: Callable[[], Any], limits: GuardLimits) -> tuple[str, Any]:
    with _forking:  # else a guard beside this one would hold the end that it writes to
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                _be_guard(work, writing, limits)
            os._exit(1)  # whatever happens: never back into the copy of the caller
        os.close(writing)
    data = None
    try:
        data = _read(reading, limits)
    finally:
        os.close(reading)
        if data is None or len(data) > limits.answer_bytes:  # too late, a Ctrl-C, or it would write on
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if data is None:
        raise GuardKilledError(f"did not end within {limits.wall_seconds:g} s")
    if len(data) > limits.answer_bytes:
        raise GuardError("gave back more than can be read")
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        raise GuardError(f"took more than {limits.cpu_seconds} s of CPU time")
    if code == -signal.SIGKILL:
        raise GuardKilledError("was killed")
    if code != 0 or not data:
        raise GuardError(f"ended by {signal.Signals(-code).name}" if code < 0 else "ended without a result")
    return serialization.loads(data, tuple[str, Any])


def _read(descriptor: int, limits: GuardLimits) -> bytes | None:
    """All that comes, or more than may come; None when the time is over first."""
    deadline, parts, size = time.monotonic() + limits.wall_seconds, list[bytes](), 0
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while size <= limits.answer_bytes:
        if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        part = os.read(descriptor, 1 << 20)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _be_guard(work: Callable[[], Any], writing: int, limits: GuardLimits) -> None:
    """Work under limits, write the outcome, and end."""
    import resource  # not there on Windows

    gc.freeze()  # looking for cycles among the caller's objects would copy their memory
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a first Ctrl-C lets finish what runs; who really stops ends us
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    memory = pages * resource.getpagesize() + limits.memory_bytes
    for name, most in (("CORE", 0), ("AS", memory), ("CPU", limits.cpu_seconds)):
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, hard))
    outcome: tuple[str, Any]
    try:
        outcome = _OK, work()
        text = serialization.dumps(outcome, compact=True)
    except GraderError as error:
        text = serialization.dumps((type(error).__name__, str(error)))
    except MemoryError:
        text = serialization.dumps((_BROKEN, f"took more than {limits.memory_bytes >> 20} MiB of memory"))
    except BaseException as error:
        text = serialization.dumps((_BROKEN, f"raised {type(error).__name__}: {str(error)[:300]}"))
    data = memoryview(text.encode("utf-8", "replace"))
    while data:
        data = data[os.write(writing, data) :]
    os._exit(0)
