"""The grader's end of the warm start: starts the zygote, asks it for kernels, starts it again when it has died.

Trusted. One zygote per environment and process; what it does inside is in `grader/inside/zygote.py`.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grader.errors import SandboxError
from grader.imports import python_command
from grader.inside.zygote import receive, send
from grader.sandbox.host import PrivilegeDrop

__all__ = ["Zygote"]

_START_SECONDS = 600.0
_ANSWER_SECONDS = 60.0
_DYING_SECONDS = 0.5


class Zygote:
    """A running zygote. Raises SandboxError when it cannot be started; ask `alive` before each use."""

    def __init__(
        self, path: Path, privileges: PrivilegeDrop, environment: Mapping[str, str], preload: Sequence[str] | None
    ) -> None:
        """Start it, with its socket at `path`; it imports the modules of `preload`, or nothing where that is None."""
        self._path, self._log = path, path.with_suffix(".log")
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(self._path))
        self._path.chmod(0o600)
        listener.listen(64)
        with listener, self._log.open("ab") as errors:
            command = [*python_command("grader.inside.zygote"), str(listener.fileno()), json.dumps(preload)]
            self._process = subprocess.Popen(
                [*privileges.prefix(), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd="/",
                pass_fds=[*privileges.descriptors(), listener.fileno()], env=dict(environment),
            )  # fmt: skip
        self.ready: dict[str, Any] | None = None
        self.refused = ""
        """Why it would not serve, in its own words; starting it again would not help. Empty for one that was killed."""

    @property
    def pid(self) -> int:
        """The zygote's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def wait(self) -> dict[str, Any]:
        """Wait until its imports are done; its report. Raises SandboxError."""
        if self.ready is None:
            assert self._process.stdout
            line = b""
            try:
                if select.select([self._process.stdout], [], [], _START_SECONDS)[0]:
                    line = self._process.stdout.readline()
                answer = json.loads(line)
                self.refused = str(answer.get("error", ""))
            except ValueError:
                answer = {"error": f"it ended while importing: {self._last_words()}"}
            if "error" in answer:
                self.stop()
                raise SandboxError(f"no kernel can be forked here: {answer['error']}")
            self.ready = answer
        return self.ready

    def _wait_for_exit(self) -> None:
        """Give a zygote that is just dying the moment it takes until that can be seen."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DYING_SECONDS)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace").strip()[-400:]
        return ""

    def request(self, message: Mapping[str, Any], descriptors: Sequence[int]) -> tuple[socket.socket, int, int]:
        """Ask for one kernel: the open connection, its process id and a descriptor of the process.

        The kernel waits until `go` is sent on the connection. Raises SandboxError; a zygote that does not answer is ended first.
        """
        self.wait()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(_ANSWER_SECONDS)
        started = time.monotonic()
        try:
            connection.connect(str(self._path))
            send(connection, dict(message), tuple(descriptors))
            text, received = receive(connection)
            answer = json.loads(text or b'{"error": "it ended"}')
            if not text:
                self._wait_for_exit()
        except (OSError, ValueError) as error:
            connection.close()
            waited = time.monotonic() - started
            self.stop()  # dead, or as good as dead: the next session gets a new one
            raise SandboxError(f"the zygote did not answer ({error}, after {waited:.0f} s)") from error
        if "error" in answer or len(received) != 1:
            connection.close()
            raise SandboxError(f"the zygote could not fork: {answer.get('error', 'no process descriptor')}")
        return connection, int(answer["pid"]), received[0]

    def kill(self) -> None:
        """Kill it without waiting for its end."""
        self._process.kill()

    def stop(self) -> None:
        """End it; kernels that run go on. Its socket's name stays: the next zygote may have taken it over already."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
