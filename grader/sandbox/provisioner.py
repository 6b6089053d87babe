"""jupyter_client's extension point: one kernel per submission, warm or cold in a box, or as a plain subprocess.

Trusted. The listening sockets are made here and handed over, so that no folder at all is shared between host and box.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

from grader.errors import SandboxError
from grader.inside.zygote import CHANNELS
from grader.sandbox.bubblewrap import Box, build
from grader.sandbox.cgroup import ControlGroup
from grader.sandbox.contract import BOX, BoxSpec, Limits
from grader.sandbox.environment import environment
from grader.sandbox.meter import BoxMeter, Meter, TreeMeter, anonymous_bytes, tree
from grader.sandbox.pool import KernelPool
from grader.sandbox.seccomp import program
from grader.sandbox.subprocess import PlainKernel
from grader.sandbox.zygote import python_command

__all__ = ["BoxProvisioner"]


class BoxProvisioner(KernelProvisionerBase):
    """Starts, watches and ends the kernel of one session. `prepare` must be called before the launch."""

    def prepare(self, pool: KernelPool, spec: BoxSpec, limits: Limits) -> None:
        """What to start, and under which limits."""
        self.pool, self.spec, self.limits = pool, spec, limits
        self.mode = pool.mode
        self.box: Box | None = None
        self.plain: PlainKernel | None = None
        self.group: ControlGroup | None = None
        self.meter: Meter | None = None
        self.folder: Path | None = None
        self.folders: list[Path] = []
        """Every folder made on the host for this session."""
        self.finished = False
        """True once everything was ended from here: there is nothing left to measure."""
        self.ended = asyncio.Event()
        self._pid = 0
        self._pidfd = -1
        self._watched = False
        self._log = -1
        self._words = b""
        self._ending: asyncio.Task[None] | None = None

    # ---- what jupyter_client calls ----

    @property
    def has_process(self) -> bool:
        """Whether a kernel was started and not yet waited for."""
        return self._pid != 0

    async def poll(self) -> int | None:
        """None while the kernel runs."""
        if self.plain is not None and self.plain.process.poll() is not None:
            self.ended.set()
        return 0 if self.ended.is_set() or not self.has_process else None

    async def wait(self) -> int | None:
        """Wait for the kernel's end."""
        await self.ended.wait()
        self._pid = 0
        return 0

    async def send_signal(self, signum: int) -> None:
        """Signal the kernel process."""
        if not self.has_process or self.ended.is_set():
            return
        with contextlib.suppress(OSError):
            if self.mode == "cold" and self.box is not None:
                for pid in _children(self.box.init):  # the first process is bubblewrap's
                    os.kill(pid, signum)
            elif self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signum)
            elif self.plain is not None:
                self.plain.process.send_signal(signum)

    async def kill(self, restart: bool = False) -> None:  # noqa: ARG002
        """End everything at once."""
        await asyncio.shield(self.end())

    async def terminate(self, restart: bool = False) -> None:  # noqa: ARG002
        """End everything at once: a submission gets no say in its end."""
        await asyncio.shield(self.end())

    async def cleanup(self, restart: bool = False) -> None:  # noqa: ARG002
        """End everything and remove every trace."""
        await asyncio.shield(self.end())
        await self.pool.in_thread(self._remove_traces)
        self.pool.running.discard(self)

    def _remove_traces(self) -> None:
        if self.group is not None:
            self.group.remove()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    async def pre_launch(self, **options: Any) -> dict[str, Any]:
        """Choose the connection: Unix sockets in a private folder, TCP on Windows."""
        self.pool.running.add(self)
        self.folder = self.pool.session_folder()
        self.folders = [self.folder]
        manager = self.parent
        if sys.platform == "win32":
            manager.cache_ports = True
        else:
            manager.transport, manager.ip = "ipc", str(self.folder / "k")
            for number, channel in enumerate((*CHANNELS, "hb"), 1):
                setattr(manager, f"{channel}_port", number)
        manager.connection_file = str(
            self.folder / "connection.json"
        )  # else beside all folders, where a kill leaves it
        self.connection_info = manager.get_connection_info()
        options.pop("extra_arguments", None)
        return await super().pre_launch(cmd=[], **options)

    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:  # noqa: ARG002
        """Start the kernel. Raises SandboxError."""
        info = {
            key: value.decode() if isinstance(value, bytes) else value for key, value in self.connection_info.items()
        }
        await self.pool.in_thread(self._launch, info)
        if self._pidfd >= 0:
            asyncio.get_running_loop().add_reader(self._pidfd, self._has_ended)
            self._watched = True
        return self.connection_info

    # ---- the three ways: all that follows blocks, and runs in a thread of the pool ----

    def _launch(self, info: dict[str, Any]) -> None:
        listeners = self._listen(info)
        try:
            if self.mode == "none":
                self._launch_plain(info, listeners)
                return
            self.group = self.pool.control_group(self.limits)
            self.folders += self.group.folders if self.group else ()
            zygote = self.pool.ready_zygote() if self.mode == "warm" else None
            if zygote is not None:
                try:
                    self._launch_warm(info, listeners, zygote)
                    return
                except SandboxError:
                    if zygote.alive:
                        raise
                    self._kill_all()  # it died just now, or did not answer; the box is built anew for a cold start
            self.mode = "cold"
            self._launch_cold(info, listeners)
        except OSError as error:
            raise SandboxError(f"the kernel could not be started: {error}") from error
        finally:
            for listener in listeners:
                listener.close()

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

    def _request(self, info: dict[str, Any], work: str = BOX, *, isolated: bool = True) -> dict[str, Any]:
        values = environment(
            {**self.pool.environment, **self.spec.environment}, self.spec.threads, work, isolated=isolated
        )
        return {
            "info": info,
            "environment": values,
            "cwd": work,
            "seed": self.spec.seed,
            "threads": self.spec.threads,
            "preload": self.pool.preload,
            "watch": self.pool.watch,
            "limits": {
                "core": 0,
                # where a control group counts them, a refusal by it leaves a trace that can be told in the report
                "nproc": self.limits.processes + (16 if self.group else 0),
                # the driver of a GPU reserves address space by the terabyte; memory in use is watched all the same
                **({} if self.pool.devices else {"memory": self.limits.memory_bytes}),
            },
            "seccomp": program().hex() if isolated else None,
        }

    def _launch_warm(self, info: dict[str, Any], listeners: list[socket.socket], zygote: Any) -> None:
        self.box = build(self.spec, self.limits, self.pool.privileges)
        log = self._log_pipe()
        try:
            connection, self._pid, self._pidfd = zygote.request(
                self._request(info), [*(listener.fileno() for listener in listeners), log, self.box.init_fd]
            )
        finally:
            os.close(log)
        with connection:
            self._account(self.box.init, self._pid)
            connection.send(b"go")
        self.pool.served()
        self.meter = BoxMeter(self.box, self.group, self.limits.memory_bytes, anonymous_bytes(zygote.pid))

    def _launch_cold(self, info: dict[str, Any], listeners: list[socket.socket]) -> None:
        request = self._request(info)
        request["descriptors"] = dict(zip(CHANNELS, (listener.fileno() for listener in listeners), strict=True))
        log = self._log_pipe()
        try:
            self.box = build(
                self.spec, self.limits, self.pool.privileges, command=python_command("grader.inside.kernel", self.pool.python),
                interpreter=self.pool.interpreter, devices=self.pool.devices, environment=request["environment"],
                descriptors=[*request["descriptors"].values()], log=log,
            )  # fmt: skip
        finally:
            os.close(log)
        self._pid, self._pidfd = self.box.init, os.dup(self.box.init_fd)
        self._account(self.box.init)
        self._account(*_children(self.box.init))  # those born before; later ones are born in the group
        assert self.box.holder.stdin
        self.box.holder.stdin.write(json.dumps(request).encode())
        self.box.holder.stdin.close()
        self.meter = BoxMeter(self.box, self.group, self.limits.memory_bytes)

    def _launch_plain(self, info: dict[str, Any], listeners: list[socket.socket]) -> None:
        assert self.folder is not None
        work = self.folder / "work"
        request = self._request(info, str(work), isolated=False)
        request["descriptors"] = dict(zip(CHANNELS, (listener.fileno() for listener in listeners), strict=False))
        log = self._log_pipe()
        try:
            self.plain = PlainKernel.start(self.spec, work, request, log, self.pool.python)
        finally:
            os.close(log)
        self._pid = self.plain.process.pid
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self._pid)
        self.meter = TreeMeter(self._pid)

    def _log_pipe(self) -> int:
        """The writing end of a pipe for the kernel's own standard error; whoever fills it loses the rest."""
        self._close_log()  # of a warm start that failed
        self._log, writer = os.pipe()
        if sys.platform != "win32":
            os.set_blocking(self._log, False)
            os.set_blocking(writer, False)
        return writer

    def last_words(self) -> str:
        """The end of what the kernel's process wrote to its own standard error; untrusted text."""
        if self._log >= 0 and sys.platform != "win32":
            with contextlib.suppress(OSError):
                self._words = (self._words + os.read(self._log, 1 << 16))[-4000:]
        return self._words.decode(errors="replace").strip()

    def _close_log(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _account(self, *pids: int) -> None:
        if self.group is not None:
            for pid in pids:
                self.group.add(pid)

    # ---- the end ----

    def _has_ended(self) -> None:
        self._unwatch()
        self.ended.set()

    def _unwatch(self) -> None:
        if self._watched:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            self._watched = False

    def end(self) -> asyncio.Task[None]:
        """Begin to kill everything the submission has started, which a thread waits for; all is gone when the task is done. Idempotent."""
        if self._ending is None:
            self._unwatch()
            self.finished = True
            self.ended.set()
            self._ending = asyncio.create_task(self._end())
        return self._ending

    async def _end(self) -> None:
        await self.pool.in_thread(self._kill_all)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.last_words()
        self._close_log()

    def _kill_all(self) -> None:
        if self.plain is not None:
            self.plain.end()
        if self.box is not None:
            self.box.end()

    def abandon(self) -> None:
        """Kill everything in the box and remove its control group, from whatever thread: the pool is closed with us in it."""
        self._kill_all()
        if self.group is not None:
            self.group.remove()

    def host_processes(self) -> list[int]:
        """Process ids, as seen from here, of the submission's processes; of the box its first one and all below, and the kernel."""
        if self.plain is not None:
            return [process.pid for process in tree(self._pid)]
        if self.box is None:
            return []
        space = Path(f"/proc/{self._pid}/ns/pid").readlink()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if (folder / "ns/pid").readlink() == space:
                        found.append(int(folder.name))
        return found


def _children(pid: int) -> list[int]:
    """Process ids of the children of a process; empty when it is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
