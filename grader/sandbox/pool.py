"""What the sessions of one process share: the mode, the drop to an ordinary user, the zygote, threads, and a temporary folder.

Trusted. A pool is a context manager; whatever way it ends, also by SIGKILL of its process, nothing is left: see `LockedTempDir`;
boxes and zygote die with their pipes.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from grader.errors import SandboxError
from grader.inside.zygote import PRELOAD
from grader.sandbox.cgroup import ControlGroup
from grader.sandbox.contract import Limits
from grader.sandbox.environment import environment
from grader.sandbox.host import PrivilegeDrop, choose, ordinary_user
from grader.sandbox.scope import enter_scope
from grader.sandbox.shown import refuse_exposed
from grader.sandbox.zygote import Zygote

__all__ = ["PREFIX", "KernelPool", "LockedTempDir"]

PREFIX = "dat450box-"
"""Names of temporary folders and, with theirs, of control groups begin so."""
_LONGEST_FOLDER = 70
"""Characters of a folder's path that leave room for names of sockets: those may have about 100."""
_MOST_THREADS = 64

_T = TypeVar("_T")


@dataclass(slots=True)
class LockedTempDir:
    """A private temporary folder of a living process, and the control groups whose names begin with its own.

    When the process is killed, a janitor removes them: a shell in a session of its own that waits for the end of a pipe. Where that
    is killed, too (a cluster ends a job; the host is out of memory), whoever makes the next folder removes all that nobody holds the
    lock of. Where folders cannot be locked (Windows, some network file systems) that does not happen.
    """

    path: Path
    """Where it is."""
    _descriptor: int = -1
    """Holds the lock; negative where there is none."""
    _janitor: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, prefix: str = PREFIX) -> Self:
        """Remove what dead processes have left under this prefix, and make a fresh folder."""
        parent = Path(tempfile.gettempdir())
        if len(str(parent)) > _LONGEST_FOLDER - len(prefix) and sys.platform != "win32":
            parent = Path("/tmp")  # noqa: S108 - mkdtemp makes the folder
        if sys.platform != "win32":
            for left in parent.glob(f"{prefix}*"):
                _remove_unlocked(left)
        while True:
            folder = cls(Path(tempfile.mkdtemp(prefix=prefix, dir=parent)))
            folder._descriptor = _lock(folder.path, wait=True)
            if folder.path.exists():  # else another process has taken it for a leftover just before it was locked
                break
            folder.remove()
        if os.name == "posix":
            folder._janitor = subprocess.Popen(
                ["sh", "-c", f"cat >/dev/null; {_removal(folder.path)}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, cwd="/", start_new_session=True, env={"PATH": os.defpath},
            )  # fmt: skip
        return folder

    def remove(self) -> None:
        """Remove it with all that is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._janitor is not None and self._janitor.stdin:
            self._janitor.stdin.close()
            self._janitor.wait()
            self._janitor = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _removal(folder: Path) -> str:
    """Shell commands that remove a folder and its control groups; processes take a moment to be accounted as gone."""
    name = shlex.quote(str(folder))
    groups = f"find /sys/fs/cgroup -depth -type d -name {shlex.quote(f'{folder.name}-*')} 2>/dev/null"
    return (
        f"for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- {name}; for group in $({groups}); do rmdir $group 2>/dev/null; done;"
        f' [ -e {name} ] || [ -n "$({groups})" ] || break; sleep 0.3; done'
    )


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder of ours, or of the ordinary user who works for us, that no process holds; its control groups, too."""
    with contextlib.suppress(OSError, SandboxError):
        if folder.lstat().st_uid in (os.geteuid(), *(ordinary_user() or ())[:1]):
            descriptor = _lock(folder, wait=False)
            if descriptor >= 0:
                subprocess.run(["sh", "-c", _removal(folder)], check=False, env={"PATH": os.defpath}, cwd="/")
                os.close(descriptor)


def _lock(folder: Path, *, wait: bool) -> int:
    """A descriptor that holds the folder's lock; negative when it is held by another process or cannot be locked."""
    if sys.platform == "win32":
        return -1
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


class KernelPool:
    """Starts kernels in one sandbox mode, for any number of sessions after or beside each other, in one event loop or several.

    `mode`: `auto`, `warm`, `cold` or `none`; `control_groups`: False keeps to the watchdog; `preload`: the modules that kernels have
    imported before their first cell (by default torch and all that goes with it); `watch`: what gives the witness of trainings
    inside (see `Assignment`). Entering may raise SandboxError or UsageError.
    """

    def __init__(
        self,
        mode: str = "auto",
        *,
        control_groups: bool = True,
        preload: Sequence[str] | None = None,
        watch: str = "",
    ) -> None:
        self.requested = mode
        self.mode = mode
        self.preload = tuple(PRELOAD if preload is None else preload)
        """Modules that are imported before a box is entered."""
        self.watch = watch
        """`module:function` that gives the witness of trainings; empty where none is watched."""
        self.zygote: Zygote | None = None
        """Forks warm kernels; sessions start cold while it cannot. None where nobody asked for it."""
        self.no_groups = ""
        """Why submissions are watched instead of being capped by control groups; empty where there are some, or no boxes."""
        self._control_groups = control_groups
        self._folder: LockedTempDir | None = None
        self._privileges: PrivilegeDrop | None = None
        self._bare: Zygote | None = None
        self._bare_lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self.running: set[Callable[[], None]] = set()
        """What ends each session that has begun and not ended, from whatever thread: for a pool that is closed with them in it."""

    @property
    def folder(self) -> Path:
        """Private folder of this pool (mode 0700). What lies in it can be bound into boxes (`BoxSpec.binds`)."""
        assert self._folder is not None, "the pool is not open"
        return self._folder.path

    @property
    def privileges(self) -> PrivilegeDrop:
        """How helpers are started as an ordinary user."""
        assert self._privileges is not None, "the pool is not open"
        return self._privileges

    def __enter__(self) -> Self:
        self.mode = choose(self.requested)
        if self.mode != "none":
            refuse_exposed("your home folder", Path.home())
        self._folder = LockedTempDir.make()
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="box")
        try:
            if self.mode != "none":
                self.no_groups = self._try_groups()
                if user := ordinary_user():
                    os.chown(self.folder, *user)
                self._privileges = PrivilegeDrop.open((self.folder,))
            if self.mode == "warm":
                # what the zygote was started with can be read in /proc by every fork: it holds nothing but this
                values = environment()
                values["MPLCONFIGDIR"] = str(self.folder / "matplotlib")  # a list of fonts is written on import
                self.zygote = Zygote(self.folder / "zygote", self.privileges, values, self.preload)
        except BaseException:
            self.close()
            raise
        return self

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

    async def wait_for_zygote(self) -> None:
        """Wait until it is known whether the zygote can serve. Who is cancelled stops waiting, since nothing was made."""
        if self._threads is not None and self.zygote is not None:
            await asyncio.get_running_loop().run_in_executor(self._threads, self.zygote.ready)

    def bare_zygote(self) -> Zygote:
        """The zygote that has imported nothing, for kernels that start cold; callable from any thread."""
        with self._bare_lock:
            if self._bare is None:
                self._bare = Zygote(self.folder / "bare", self.privileges, environment(), None)
            return self._bare

    def warm_up(self) -> None:
        """Wait until the zygote is ready (seconds). Raises SandboxError when it cannot be."""
        if self.zygote is not None and self.zygote.ready() is None:
            raise SandboxError(self.zygote.failure)

    def session_folder(self) -> Path:
        """A fresh private folder for one session."""
        return Path(tempfile.mkdtemp(prefix="s", dir=self.folder))

    def _try_groups(self) -> str:
        """Why no control group can be made here; empty where one could be, perhaps in a scope of systemd's.

        The janitor of the folder stays where this process was: systemd ends a user's scopes with the last login session, which so
        goes on.
        """
        if not self._control_groups:
            return "they are switched off"
        why = ""
        for asked in (False, True):
            why = enter_scope() if asked else ""
            if not why and (group := self.control_group(Limits(), self.folder)) is not None:
                group.remove()
                return ""
        return why or "those of this process are not its own"

    def control_group(self, limits: Limits, folder: Path) -> ControlGroup | None:
        """A fresh control group for the session of this folder, or None where there are none."""
        return ControlGroup.create(limits, f"{self.folder.name}-{folder.name}") if self._control_groups else None

    def close(self) -> None:
        """End what runs and the zygote, and remove everything. Idempotent."""
        self._abandon_all()
        for zygote in filter(None, (self.zygote, self._bare)):
            zygote.kill()  # whatever thread waits for it comes back now
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
            self._abandon_all()  # those that a thread was just about to start
        for zygote in filter(None, (self.zygote, self._bare)):
            zygote.stop()
        self.zygote = self._bare = None
        if self._privileges is not None:
            self._privileges.close()
            self._privileges = None
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _abandon_all(self) -> None:
        for abandon in list(self.running):
            with contextlib.suppress(OSError):
                abandon()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
