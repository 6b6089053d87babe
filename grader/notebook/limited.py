"""Read a notebook under limits of time and memory, in one long-lived process that is replaced when it dies.

Trusted code over untrusted bytes. Whatever a file does to the reader, the process that grades a class goes on meanwhile, and its other
submissions with it. Where a system has no such limits (Windows), the process alone remains.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import struct
import subprocess
import sys
import threading
from typing import IO

import msgspec

from grader.errors import InfrastructureError, SubmissionError
from grader.imports import python_command
from grader.notebook.reader import read_notebook as read_freely
from grader.records import Notebook

__all__ = ["main", "read_notebook"]

_LENGTH = struct.Struct("<q")
_CPU_SECONDS, _SECONDS_PER_MB = 20.0, 0.2
_MEMORY, _MEMORY_PER_BYTE = 512 << 20, 12
"""Bytes: an honest file is there as bytes, as text of up to four bytes a character, and as values."""
_LARGE = 4 << 20
_TRIES = 2
_HOW = 'Clear the outputs ("Edit > Clear all outputs"), check that the notebook opens in Jupyter, and submit it again.'


class Answer(msgspec.Struct):
    """What came of one file: a notebook, or a sentence that says why there is none."""

    notebook: Notebook | None = None
    error: str = ""


def read_notebook(data: bytes) -> Notebook:
    """The notebook in `data`, as `grader.notebook.reader.read_notebook` reads it; callable from any thread.

    Raises `SubmissionError`, with a sentence for the student, when it is none, or reading it takes too much time or memory, and
    InfrastructureError when the process that reads is killed again and again.
    """
    answer = _reader.ask(data)
    if answer.notebook is None:
        raise SubmissionError(answer.error)
    return answer.notebook


class _Reader:
    """The process, from its first file to the end of ours."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.end)

    def ask(self, data: bytes) -> Answer:
        """Let it read one file."""
        with self._lock:
            for _try in range(_TRIES):
                process = self._process = self._process or _started()
                assert process.stdin and process.stdout
                with contextlib.suppress(OSError):
                    _put(process.stdin, data)
                    if said := _take(process.stdout):
                        if len(data) > _LARGE:
                            self._end()  # it may keep the memory, which the next file would be charged with
                        return msgspec.json.decode(said, type=Answer)
                died = self._end()
                if died != -getattr(signal, "SIGKILL", 9):  # by itself, or at a limit: it would again
                    why = (
                        "takes more time than it may" if died == -getattr(signal, "SIGXCPU", 24) else "ended its reader"
                    )
                    return Answer(error=f"The file could not be read: doing so {why}. {_HOW}")
        raise InfrastructureError(
            "the process that reads notebooks was killed, perhaps since the machine is short of memory"
        )

    def _end(self) -> int:
        """End it; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                assert pipe
                pipe.close()
        return process.wait()

    def end(self) -> None:
        """End it for good; it goes by itself when we are killed."""
        with self._lock:
            self._end()


_reader = _Reader()


def _started() -> subprocess.Popen[bytes]:
    command = python_command("grader.notebook.limited")
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/")


def _put(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _take(pipe: IO[bytes]) -> bytes:
    """One message; nothing when there is none any more."""
    head = pipe.read(_LENGTH.size)
    return pipe.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""


def _limit(size: int) -> None:
    """Allow this process what a file of `size` bytes may take from now on."""
    if sys.platform == "win32":
        return
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime + _CPU_SECONDS + _SECONDS_PER_MB * size / 1e6)
    for kind, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, _MEMORY + _MEMORY_PER_BYTE * size)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))


def _answer(data: bytes) -> Answer:
    try:
        return Answer(read_freely(data))
    except SubmissionError as error:
        return Answer(error=str(error))
    except MemoryError:
        return Answer(error=f"The file could not be read: doing so takes more memory than it may. {_HOW}")


def main() -> None:
    """Answer one file after the other until the parent goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is the parent's business
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    while len(head := incoming.read(_LENGTH.size)) == _LENGTH.size:
        size = _LENGTH.unpack(head)[0]
        _limit(size)
        _put(outgoing, msgspec.json.encode(_answer(incoming.read(size))))


if __name__ == "__main__":
    main()
