"""The grader's end of the warm start: starts the zygote, asks it for kernels, starts it again when it has died.

Trusted. One zygote per environment and process; what it does inside is in `grader/inside/zygote.py`.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grader.errors import SandboxError
from grader.imports import python_command
from grader.inside.zygote import receive, send
from grader.sandbox.host import PrivilegeDrop

__all__ = ["Zygote", "ZygoteGone"]

_START_SECONDS = 600.0
_ANSWER_SECONDS = 60.0
_DYING_SECONDS = 0.5
_RESTARTS = 3
"""So many deaths without a single kernel between them, and it is not started again. One that has imported nothing always is."""


class ZygoteGone(SandboxError):  # noqa: N818 - kernels can start cold
    """The zygote has died, refuses, or does not answer."""


class Zygote:
    """A process that forks kernels; one that has died is started again, as long as that may help."""

    def __init__(
        self, path: Path, privileges: PrivilegeDrop, environment: Mapping[str, str], preload: Sequence[str] | None
    ) -> None:
        """Start it, with its socket at `path`; it imports the modules of `preload`, or nothing where that is None."""
        self._path, self._log = path, path.with_suffix(".log")
        self._privileges, self._environment, self._preload = privileges, dict(environment), preload
        self._process: subprocess.Popen[bytes]
        self._ready: dict[str, Any] | None = None
        self._refused = self._closed = False
        self._deaths = 0
        self._serving = threading.Lock()
        self.failure = ""
        """Why it cannot serve just now; empty when it can, or is not asked for yet."""
        self._start()

    def _start(self) -> None:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        listener.listen(64)
        with listener, self._log.open("ab") as errors:
            command = [*python_command("grader.inside.zygote"), str(listener.fileno()), json.dumps(self._preload)]
            self._process = subprocess.Popen(
                [*self._privileges.prefix(), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd="/",
                pass_fds=[*self._privileges.descriptors(), listener.fileno()], env=self._environment,
            )  # fmt: skip
        self._ready = None

    @property
    def pid(self) -> int:
        """The zygote's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def gone_for_good(self) -> bool:
        """Whether it is not started again: it refuses to serve, or has died too often without forking a kernel between."""
        too_often = self._preload is not None and self._deaths >= _RESTARTS
        return not self.alive and (self._refused or self._closed or too_often)

    def ready(self) -> dict[str, Any] | None:
        """Its report when its imports are done, started again if it has died; None, and `failure` says why, when it cannot serve.

        Waits while it imports, as long as a cold kernel would for the same; callable from any thread.
        """
        with self._serving:
            if not self.alive and not self.gone_for_good:
                self._deaths += 1
                _end(self._process)
                self._start()
            if not self.alive and not self._refused:
                self.failure = "the zygote died too often"
            elif self.alive:
                self.failure = self._why_not_ready()
            return None if self.failure else self._ready

    def _why_not_ready(self) -> str:
        """Wait until its imports are done; why no kernel can be forked then."""
        if self._ready is None:
            assert self._process.stdout
            line = b""
            try:
                if select.select([self._process.stdout], [], [], _START_SECONDS)[0]:
                    line = self._process.stdout.readline()
                answer = json.loads(line)
                self._refused = "error" in answer  # it would refuse again
            except ValueError:
                answer = {"error": f"it ended while importing: {self._last_words()}"}
            if "error" in answer:
                _end(self._process)
                return f"no kernel can be forked here: {answer['error']}"
            self._ready = answer
        return ""

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace").strip()[-400:]
        return ""

    def request(self, message: Mapping[str, Any], descriptors: Sequence[int]) -> tuple[socket.socket, int, int]:
        """Ask for one kernel: the open connection, its process id and a descriptor of the process.

        The kernel waits until `go` is sent on the connection. Raises ZygoteGone where it cannot serve (one that does not answer is ended
        first), and SandboxError where it could not fork.
        """
        if self.ready() is None:
            raise ZygoteGone(self.failure)
        process = self._process  # another thread may start the next one meanwhile
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(_ANSWER_SECONDS)
        started = time.monotonic()
        try:
            connection.connect(str(self._path))
            send(connection, dict(message), tuple(descriptors))
            text, received = receive(connection)
            answer = json.loads(text or b'{"error": "it ended"}')
            if not text:  # it may be just dying: give it the moment it takes until that can be seen
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_DYING_SECONDS)
        except (OSError, ValueError) as error:
            connection.close()
            waited = time.monotonic() - started
            _end(process)  # dead, or as good as dead: the next session gets a new one
            raise ZygoteGone(f"the zygote did not answer ({error}, after {waited:.0f} s)") from error
        if "error" in answer or len(received) != 1:
            connection.close()
            gone = SandboxError if process.poll() is None else ZygoteGone
            raise gone(f"the zygote could not fork: {answer.get('error', 'no process descriptor')}")
        self._deaths = 0
        return connection, int(answer["pid"]), received[0]

    def kill(self) -> None:
        """Kill it for good, without waiting for its end."""
        self._closed = True
        self._process.kill()

    def stop(self) -> None:
        """End it; kernels that run go on. Its socket's name stays: the next one may have taken it over already."""
        _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with process:  # closes its streams, and waits
        pass
