"""Starts, watches and ends one kernel per submission: warm or cold in a box, or as a plain subprocess (mode `none`).

Trusted. The listening sockets are made here and handed over, so that no folder at all is shared between host and box. Mode `none`
isolates nothing, on any system: student code runs with all rights of the caller. It is for one's own notebook (`grader check`), or
on the explicit wish of a person; every report says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
from jupyter_client.connect import write_connection_file
from jupyter_client.session import new_id_bytes

from grader.errors import SandboxError
from grader.imports import python_command
from grader.inside.zygote import CHANNELS
from grader.sandbox.bubblewrap import Box, build
from grader.sandbox.cgroup import ControlGroup
from grader.sandbox.contract import BOX, BoxSpec, Limits
from grader.sandbox.environment import environment
from grader.sandbox.handed import HandedOut
from grader.sandbox.meter import BoxMeter, Meter, TreeMeter, anonymous_bytes, first_to_be_killed, tree
from grader.sandbox.pool import KernelPool
from grader.sandbox.zygote import ZygoteGone

__all__ = ["PlainKernel", "Provisioner"]

_DESCRIPTORS, _UNCOUNTED = 1024, 400
"""Files and sockets that a process may have open, and where no control group counts what they hold; a kernel has some 80."""
_IN_FLIGHT = 300
"""By so much less than we may have ourselves: Linux counts descriptors that were sent and not received for all processes of a user
together, with the sender's own limit (and 253 that were sent at once), and beyond it none of ours could be sent to a kernel."""


def _most_descriptors(*, counted: bool) -> int:
    """How many files and sockets a process in a box may have open."""
    import resource  # not there on Windows, where no box can be built

    ours = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(_DESCRIPTORS if counted else _UNCOUNTED, max(100, ours - _IN_FLIGHT))


@dataclass(slots=True)
class PlainKernel:
    """A kernel process and its descendants, without a box."""

    process: subprocess.Popen[bytes]
    """The kernel itself."""

    @classmethod
    def start(cls, spec: BoxSpec, work: Path, request: dict[str, Any], log: int) -> Self:
        """Fill the work folder and start the kernel there. Raises SandboxError."""
        work.mkdir(mode=0o700)
        (work / ".tmp").mkdir()
        try:
            for name, source in {**spec.files, **spec.binds}.items():
                target = work / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(source, bytes):
                    target.write_bytes(source)
                elif source.is_dir():
                    shutil.copytree(source, target, dirs_exist_ok=True)
                else:
                    shutil.copyfile(source, target)
        except OSError as error:
            raise SandboxError(f"the work folder could not be filled: {error}") from error
        process = subprocess.Popen(
            python_command("grader.inside.kernel"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log,
            env=request["environment"], cwd=work, start_new_session=True,
            pass_fds=list(request["descriptors"].values()) if sys.platform != "win32" else (),
        )  # fmt: skip
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        return cls(process)

    def end(self) -> None:
        """Kill the kernel, its descendants and its process group, as far as they can be found. Idempotent."""
        for process in reversed(tree(self.process.pid) if self.process.poll() is None else []):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, 9)
        self.process.kill()
        self.process.wait()


class Provisioner:
    """The process of one session's kernel, from `start` to `end`."""

    def __init__(self, pool: KernelPool, spec: BoxSpec, limits: Limits, handed: HandedOut | None = None) -> None:
        """Remember what to start, under which limits, and what the kernel may read; nothing is started yet."""
        self.pool, self.spec, self.limits = pool, spec, limits
        self._handed = handed or HandedOut()
        self.mode = pool.mode
        """How the kernel really runs; `cold` instead of `warm` while the zygote cannot serve."""
        self.folder: Path | None = None
        """Private folder of the session on the host, with the sockets; the control group has its name. None until the start."""
        self.pid = 0
        """Process id of the kernel as seen from here."""
        self.meter: Meter | None = None
        self.ended = asyncio.Event()
        self._walls: Box | PlainKernel | None = None
        self._group: ControlGroup | None = None
        self._pidfd = -1
        self._log = -1
        self._words = b""
        self._ending: asyncio.Task[None] | None = None

    async def start(self) -> dict[str, Any]:
        """Start the kernel; what a client needs to connect to it. Raises SandboxError."""
        self.pool.running.add(self.abandon)
        await self.pool.wait_for_zygote()
        info = await self.pool.in_thread(self._start)
        if self._pidfd >= 0:
            asyncio.get_running_loop().add_reader(self._pidfd, self._has_ended)
        return info

    def handed_out(self) -> HandedOut:
        """The file that the last question handed out; to be read when the session has ended, since no code can write it then."""
        assert self.folder is not None
        inside = self._walls.inside if isinstance(self._walls, Box) else self.folder
        work = BOX[1:] if isinstance(self._walls, Box) else "work"
        return HandedOut.take(inside, work, self.pool.folder / f"{self.folder.name}-handed-out")

    def interrupt(self) -> None:
        """Send SIGINT to the kernel process."""
        if self.ended.is_set():
            return
        with contextlib.suppress(OSError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGINT)
            elif isinstance(self._walls, PlainKernel):
                self._walls.process.send_signal(signal.SIGINT)

    @property
    def uncounted(self) -> bool:
        """Whether no control group counts what is done to the processes."""
        return self._group is None

    # ---- the three ways: all of it blocks, and runs in a thread of the pool ----

    def _start(self) -> dict[str, Any]:
        self.folder = self.pool.session_folder()
        # Unix sockets in a private folder; TCP on Windows
        place = {} if sys.platform == "win32" else {"transport": "ipc", "ip": str(self.folder / "k")}
        _path, found = write_connection_file(str(self.folder / "connection.json"), key=new_id_bytes(), **place)
        info: dict[str, Any] = {**found}
        listeners = self._listen(info)
        try:
            if self.mode == "none":
                self._start_plain(info, listeners)
            else:
                self._group = self.pool.control_group(self.limits, self.folder)
                self._start_boxed(info, listeners)
        except (OSError, SandboxError) as error:
            what = str(error) if isinstance(error, SandboxError) else f"the kernel could not be started: {error}"
            why = self.last_words().rpartition("\n")[2]  # bubblewrap's own, as a rule
            raise SandboxError(f"{what}: {why}" if why and why not in what else what) from error
        finally:
            for listener in listeners:
                listener.close()
        return info

    def _listen(self, info: dict[str, Any]) -> list[socket.socket]:
        listeners = []
        if sys.platform != "win32":
            for channel in CHANNELS:
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(f"{info['ip']}-{info[f'{channel}_port']}")
                listener.listen(8)
                listener.setblocking(False)
                listeners.append(listener)
        return listeners

    def _request(
        self, info: dict[str, Any], listeners: list[socket.socket], work: str = BOX, *, isolated: bool = True
    ) -> dict[str, Any]:
        return {
            "info": info,
            "descriptors": dict(zip((*CHANNELS, "handed"), self._descriptors(listeners), strict=False))
            | ({"handed": str(self._handed.path)} if self._handed.path else {}),
            "environment": environment(work, isolated=isolated),
            "cwd": work,
            "seed": self.spec.seed,
            "preload": self.pool.preload if self.mode == "cold" else None,
            "watch": self.pool.watch,
            "limits": {
                "core": 0,
                # where a control group counts them, a refusal by it leaves a trace that can be told in the report
                "nproc": self.limits.processes + (16 if self._group else 0),
                "memory": self.limits.memory_bytes,
                **({"nofile": _most_descriptors(counted=self._group is not None)} if isolated else {}),
            },
        }

    def _descriptors(self, listeners: list[socket.socket]) -> list[int]:
        """What the kernel gets: its channels, and the file that it may read."""
        handed = [self._handed.descriptor] if self._handed.descriptor >= 0 else []
        return [*(listener.fileno() for listener in listeners), *handed]

    def _start_boxed(self, info: dict[str, Any], listeners: list[socket.socket]) -> None:
        """Fork a zygote into a box: the one that has imported all, else, where it cannot serve, the one that has imported nothing."""
        zygote, shared = self.pool.zygote, 0
        with self._log_pipe() as log:
            self._walls = box = build(self.spec, self.limits, self.pool.privileges, log)
            handed = [*self._descriptors(listeners), log, box.init_fd]
            try:
                if zygote is None:
                    raise ZygoteGone("nobody asked for one")
                forked = zygote.request(self._request(info, listeners), handed)
                shared = anonymous_bytes(zygote.pid)
            except ZygoteGone:
                self.mode = "cold"
                forked = self.pool.bare_zygote().request(self._request(info, listeners), handed)
        connection, self.pid, self._pidfd = forked
        with connection:
            self._account(box.init, self.pid)
            connection.send(b"go")
        self.meter = BoxMeter(box, self._group, self.limits.memory_bytes, shared)

    def _start_plain(self, info: dict[str, Any], listeners: list[socket.socket]) -> None:
        assert self.folder is not None
        work = self.folder / "work"
        request = self._request(info, listeners, str(work), isolated=False)
        with self._log_pipe() as log:
            self._walls = plain = PlainKernel.start(self.spec, work, request, log)
        self.pid = plain.process.pid
        self._account(self.pid)
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.pid)
        self.meter = TreeMeter(self.pid)

    def _account(self, *pids: int) -> None:
        for pid in pids:
            first_to_be_killed(Path(f"/proc/{pid}"))  # done by root, nobody in the box can take it back
        if self._group is not None:
            for pid in pids:
                self._group.add(pid)

    # ---- the kernel's last words ----

    @contextlib.contextmanager
    def _log_pipe(self) -> Iterator[int]:
        """The writing end of a pipe for bubblewrap's and the kernel's own standard error; whoever fills it loses the rest."""
        self._log, writer = os.pipe()
        if sys.platform != "win32":
            os.set_blocking(self._log, False)
            os.set_blocking(writer, False)
        try:
            yield writer
        finally:
            os.close(writer)

    def last_words(self) -> str:
        """The end of what the kernel's process wrote to its own standard error; untrusted text."""
        if self._log >= 0 and sys.platform != "win32":
            with contextlib.suppress(OSError):
                self._words = (self._words + os.read(self._log, 1 << 16))[-4000:]
        return self._words.decode(errors="replace").strip()

    # ---- the end ----

    def _has_ended(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
        self.ended.set()

    @property
    def finished(self) -> bool:
        """Whether everything is, or is being, ended from here: there is nothing left to measure."""
        return self._ending is not None

    def end(self) -> asyncio.Task[None]:
        """Begin to kill all that the submission has started, and to remove every trace, in a thread; done with the task. Idempotent."""
        if self._ending is None:
            self._has_ended()
            self._ending = asyncio.create_task(self._end())
        return self._ending

    async def _end(self) -> None:
        await self.pool.in_thread(self.abandon)
        self.pool.running.discard(self.abandon)
        self.last_words()
        for descriptor in (self._pidfd, self._log):
            if descriptor >= 0:
                os.close(descriptor)
        self._pidfd = self._log = -1

    def abandon(self) -> None:
        """Kill everything in the box and remove every trace, from whatever thread: also where the pool is closed with us in it."""
        if self._walls is not None:
            self._walls.end()
        if self._group is not None:
            self._group.remove()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
