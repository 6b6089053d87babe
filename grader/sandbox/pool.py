"""What the sessions of one worker process share: the mode, the drop to an ordinary user, the zygote, and the cleaning up.

Trusted. A pool is a context manager; whatever way it ends, also by SIGKILL of the worker, nothing is left: a janitor (a shell that
waits for the end of a pipe) then removes its folder and its control groups, and boxes and zygote die with their pipes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from grader.errors import SandboxError
from grader.inside.zygote import PRELOAD
from grader.sandbox.cgroup import PREFIX, ControlGroup
from grader.sandbox.contract import Limits
from grader.sandbox.environment import environment
from grader.sandbox.host import PrivilegeDrop, choose, interpreter_folders
from grader.sandbox.zygote import Zygote

__all__ = ["KernelPool", "Running"]

_LONGEST_SOCKET_PATH = 100
_MOST_THREADS = 64
_RESTARTS = 3
"""So many deaths without a single kernel between them, and it is not started again."""

_T = TypeVar("_T")


class Running(Protocol):
    """A session as the pool sees it."""

    def abandon(self) -> None:
        """Kill everything in the box and remove its control group, from whatever thread."""
        ...


class KernelPool:
    """Starts kernels in one sandbox mode, for any number of sessions after or beside each other.

    `mode`: `auto`, `warm`, `cold` or `none`; `readable`: host folders that boxes bind read-only (`BoxSpec.binds`);
    `environment`: added to the clean environment already when the zygote imports (see `BoxSpec.environment`);
    `control_groups`: False keeps to the watchdog; `python`: another interpreter for the kernels; `devices`: device files of the
    host that boxes show, such as a GPU's. Neither can be had from a fork of the zygote: such kernels start cold, and
    `zygote_failure` says why. `preload`: the modules that kernels have imported before their first cell (by default torch
    and all that goes with it); `watch`: what gives the witness of trainings inside (see
    `Assignment`). Entering may raise SandboxError or UsageError.
    """

    def __init__(
        self, mode: str = "auto", *, readable: Sequence[Path] = (), environment: Mapping[str, str] | None = None,
        threads: int = 1, control_groups: bool = True, python: Path | None = None, devices: Sequence[Path] = (),
        preload: Sequence[str] | None = None, watch: str = "",
    ) -> None:  # fmt: skip
        self.requested = mode
        self.mode = mode
        self.environment = dict(environment or {})
        self.threads = threads
        self.preload = tuple(PRELOAD if preload is None else preload)
        """Modules that are imported before a box is entered."""
        self.watch = watch
        """`module:function` that gives the witness of trainings; empty where none is watched."""
        self.zygote_failure = ""
        """Why the warm start does not work just now; sessions start cold meanwhile. Empty when it does, or was not asked for."""
        self.python = str(python or sys.executable)
        """The interpreter that kernels run with."""
        self.devices = tuple(devices)
        """Device files of the host that boxes show."""
        self.interpreter: tuple[Path, ...] = ()
        """Folders that boxes show read-only for that interpreter."""
        self._readable = tuple(readable)
        self._control_groups = control_groups
        self._restarts = 0
        self._folder: Path | None = None
        self._privileges: PrivilegeDrop | None = None
        self._zygote: Zygote | None = None
        self._janitor: subprocess.Popen[bytes] | None = None
        self._zygote_lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self.running: set[Running] = set()
        """Sessions that have begun and not ended: they are ended with the pool, when a worker is told to end in the middle."""

    @property
    def folder(self) -> Path:
        """Private folder of this pool (mode 0700)."""
        assert self._folder is not None, "the pool is not open"
        return self._folder

    @property
    def privileges(self) -> PrivilegeDrop:
        """How helpers are started as an ordinary user."""
        assert self._privileges is not None, "the pool is not open"
        return self._privileges

    def __enter__(self) -> Self:
        self.mode = choose(self.requested)
        self.interpreter = tuple(interpreter_folders(self.python))
        if self.mode == "warm" and (why := self._cannot_fork()):
            self.mode, self.zygote_failure = "cold", why
        self._folder = _short_folder()
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="box")
        try:
            if os.name == "posix":
                self._janitor = _start_janitor(self._folder)
            if self.mode != "none":
                other = () if self.python == sys.executable else self.interpreter
                self._privileges = PrivilegeDrop.open((*self._readable, *other))
                if self._privileges.user:
                    os.chown(self._folder, *self._privileges.user)
            if self.mode == "warm":
                self._start_zygote()
        except BaseException:
            self.close()
            raise
        return self

    def _cannot_fork(self) -> str:
        """Why no fork of the zygote could do what this pool is for; empty when it can."""
        if self.devices:
            return "a GPU cannot be used after a fork: kernels with device files start cold"
        if self.python != sys.executable:
            return f"another interpreter ({self.python}) cannot be forked from ours: its kernels start cold"
        return ""

    @property
    def cold_for_good(self) -> str:
        """Why all further sessions of a pool that was to be warm start cold; empty while there is, or will be, a zygote."""
        lasting = self.mode != "warm" or (
            self._zygote is not None and not self._zygote.alive and not self._may_restart()
        )
        return self.zygote_failure if lasting else ""

    def _may_restart(self) -> bool:
        return self._zygote is not None and not self._zygote.refused and self._restarts < _RESTARTS

    def _start_zygote(self) -> None:
        values = environment(self.environment, self.threads)
        # what the zygote was started with can be read in /proc by every fork: it holds nothing but this
        self._zygote = Zygote(self.folder, self.privileges, values, self.folder / "zygote.log", self.preload)

    async def in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function that blocks in a thread of the pool, so that other sessions of the event loop go on.

        The thread lives as long as the pool, since bubblewrap ends with the thread that started it. Who is cancelled waits for the
        function all the same: what it has made has to be known to be removed.
        """
        if self._threads is None:  # closed with the session in it
            return function(*arguments)
        work = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    def ready_zygote(self) -> Zygote | None:
        """The zygote, started again if it has died; None (and `zygote_failure` says why) when a session has to start cold.

        Waits for one that is importing for the first time; callable from any thread.
        """
        with self._zygote_lock:
            return self._ready_zygote()

    def _ready_zygote(self) -> Zygote | None:
        if self.mode != "warm" or self._zygote is None:
            return None
        try:
            if not self._zygote.alive and self._may_restart():
                self._restarts += 1
                self._zygote.stop()
                self._start_zygote()
                self.zygote_failure = "the zygote died and is being started again"
                return None
            if not self._zygote.alive:  # it keeps dying: cold from now on
                if not self._zygote.refused:
                    self.zygote_failure = "the zygote died too often"
                return None
            if self._zygote.ready is None and self._restarts and not self._zygote.has_reported():
                return None  # cold meanwhile
            self._zygote.wait()
        except SandboxError as error:
            self.zygote_failure = str(error)
            return None
        self.zygote_failure = ""
        return self._zygote

    def served(self) -> None:
        """A kernel was forked: the zygote works, and earlier deaths no longer count."""
        self._restarts = 0

    def warm_up(self) -> None:
        """Wait until the zygote is ready (seconds). Raises SandboxError when it cannot be."""
        with self._zygote_lock:
            if self._zygote is not None:
                try:
                    self._zygote.wait()
                except SandboxError as error:
                    self.zygote_failure = str(error)
                    raise

    def session_folder(self) -> Path:
        """A fresh private folder for one session."""
        return Path(tempfile.mkdtemp(prefix="s", dir=self.folder))

    def control_group(self, limits: Limits) -> ControlGroup | None:
        """A fresh control group, or None where there are none."""
        return ControlGroup.create(limits) if self._control_groups else None

    def close(self) -> None:
        """End what runs and the zygote, and remove everything. Idempotent."""
        for session in list(self.running):
            with contextlib.suppress(OSError):
                session.abandon()
        if self._zygote is not None:
            self._zygote.kill()  # whatever thread waits for it comes back now
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        if self._zygote is not None:
            self._zygote.stop()
            self._zygote = None
        if self._privileges is not None:
            self._privileges.close()
            self._privileges = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._janitor is not None and self._janitor.stdin:
            self._janitor.stdin.close()
            self._janitor.wait()
            self._janitor = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _short_folder() -> Path:
    """A private temporary folder whose path leaves room for socket names (Unix sockets allow about 100 characters)."""
    folder = tempfile.mkdtemp(prefix=PREFIX)
    if len(folder) > _LONGEST_SOCKET_PATH - 30 and sys.platform != "win32":
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix=PREFIX, dir="/tmp")
    return Path(folder)


def _start_janitor(folder: Path) -> subprocess.Popen[bytes]:
    """A shell in a session of its own that outlives us: at the end of its pipe it removes what we could not."""
    groups = f"find /sys/fs/cgroup -depth -type d -name '{PREFIX}{os.getpid()}-*' 2>/dev/null"
    script = (
        f"cat >/dev/null; for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- {shlex.quote(str(folder))};"
        f" for group in $({groups}); do rmdir $group 2>/dev/null; done;"
        f' [ -e {shlex.quote(str(folder))} ] || [ -n "$({groups})" ] || break; sleep 0.3; done'
    )
    return subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        start_new_session=True, env={"PATH": os.defpath},
    )  # fmt: skip
