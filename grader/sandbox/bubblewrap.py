"""The box: one bubblewrap call per submission, and the handle that ends everything in it.

Trusted. Deny by default: own user, process, network, IPC, host-name and control-group namespaces, no capability, a read-only
system without home, without /etc but for the loader's cache and the time zone, else empty private folders of limited size. Nothing
of the host is shared but read-only system and interpreter files and the listening sockets handed to the kernel.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from grader.errors import SandboxError
from grader.inside.zygote import ARCHIVE
from grader.sandbox.contract import BOX, BoxSpec, Limits
from grader.sandbox.host import PrivilegeDrop
from grader.sandbox.shown import shown

__all__ = ["FOLDERS", "Box", "box_arguments", "build", "statistics"]

_STARTUP_SECONDS = 60.0
FOLDERS = (BOX, "/tmp", "/dev/shm", "/")  # noqa: S108 - the names inside the box
"""Where a submission may write."""


def box_arguments(limits: Limits) -> list[str]:
    """Bubblewrap's options up to, but without, the submission's own files."""
    size = str(limits.disk_bytes)
    words = [f"--unshare-{name}" for name in ("user", "ipc", "pid", "net", "uts", "cgroup-try")]
    words += ["--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    words += ["--uid", "1000", "--gid", "1000", "--hostname", "box"]
    # the root itself can be written to: a notebook may keep its results anywhere, as on the machine it was written on
    words += ["--size", size, "--perms", "0755", "--tmpfs", "/"]
    words += ["--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    words += ["--size", size, "--tmpfs", "/tmp"]  # noqa: S108
    return [*words, *shown().arguments(), "--size", size, "--perms", "0755", "--tmpfs", BOX]


def _contents(files: BoxSpec) -> Iterator[tuple[str, Path | bytes]]:
    """Every single file to copy, folders walked; symbolic links are followed, special files left out.

    Files that come as bytes are in one archive, which the kernel unpacks: each one alone would take two descriptors.
    """
    given = {name: source for name, source in files.files.items() if isinstance(source, bytes)}
    if given:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, data in given.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        yield ARCHIVE, packed.getvalue()
    for name, source in files.files.items():
        if isinstance(source, bytes):
            continue
        if source.is_file():
            yield name, source
        elif source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.is_file():
                    yield f"{name}/{path.relative_to(source).as_posix()}", path
        else:
            raise SandboxError(f"{source} is to be copied into the box, and is not there")


@dataclass(slots=True)
class Box:
    """A running box. `end()` kills all that is in it, whatever it does."""

    holder: subprocess.Popen[bytes]
    """bubblewrap itself, our child, outside of the box's process namespace."""
    init: int
    """Process id of the box's first process, as seen from here."""
    init_fd: int
    """A descriptor of that process."""
    _ending: threading.Lock = field(default_factory=threading.Lock)

    @property
    def inside(self) -> Path:
        """The box's file system as seen from here."""
        return Path(f"/proc/{self.init}/root")

    def end(self) -> None:
        """Kill the first process of the namespace, and with it every other one; returns when they are gone.

        Idempotent, and callable from any thread.
        """
        with self._ending:
            if self.init_fd < 0:
                return
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.init_fd, signal.SIGKILL)
            with self.holder:  # closes its streams, and waits
                try:
                    self.holder.wait(10)
                except subprocess.TimeoutExpired:
                    self.holder.kill()
            os.close(self.init_fd)
            self.init_fd = -1


def build(spec: BoxSpec, limits: Limits, privileges: PrivilegeDrop, log: int) -> Box:
    """Build a box, which a `cat` keeps open for a kernel that enters it.

    The box dies with the thread that calls this, which therefore has to be one of the pool's (`KernelPool.in_thread`).
    `log` takes bubblewrap's standard error. Raises SandboxError when it fails; why stands in the log.
    """
    words = box_arguments(limits)
    with contextlib.ExitStack() as opened:

        def descriptor_of(source: Path | bytes) -> str:
            file = source.open("rb") if isinstance(source, Path) else _in_memory(source)
            handed.append(opened.enter_context(file).fileno())
            return str(handed[-1])

        handed = [*privileges.descriptors()]
        for name, source in _contents(spec):
            for parent in reversed(Path(name).parents):
                if parent != Path():
                    words += ["--perms", "0755", "--dir", f"{BOX}/{parent.as_posix()}"]
            words += ["--perms", "0644", "--file", descriptor_of(source), f"{BOX}/{name}"]
        for name, folder in spec.binds.items():
            words += ["--ro-bind", str(folder.resolve()), f"{BOX}/{name}"]
        words += ["--chdir", BOX]
        # the options travel in a file: a long list would not fit a command line, and `ps` shows nothing of it
        options = descriptor_of(b"".join(word.encode() + b"\0" for word in words))
        told, tells = os.pipe()
        info = opened.enter_context(os.fdopen(told, "rb"))
        try:
            holder = subprocess.Popen(
                [*privileges.prefix(), "bwrap", "--args", options, "--info-fd", str(tells), "/bin/cat"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/", pass_fds=[*handed, tells],
                env={"PATH": os.defpath},
            )  # fmt: skip
        finally:
            os.close(tells)
        return _started(holder, info)


def _in_memory(data: bytes) -> IO[bytes]:
    """A file without a name that holds `data`, to be read from its start."""
    file = os.fdopen(os.memfd_create("handed"), "w+b")
    file.write(data)
    file.seek(0)
    return file


def _started(holder: subprocess.Popen[bytes], info: IO[bytes]) -> Box:
    """The box, as soon as its folders are complete: when `cat` runs and echoes. Raises SandboxError."""
    try:
        said = info.read() if select.select([info], [], [], _STARTUP_SECONDS)[0] else b""
        init = int(json.loads(said)["child-pid"])
        box = Box(holder, init, os.pidfd_open(init))
    except (OSError, ValueError, KeyError) as error:
        with holder:
            holder.kill()
        raise SandboxError("bubblewrap could not build the box") from error
    assert holder.stdin and holder.stdout
    try:
        holder.stdin.write(b"r\n")
        holder.stdin.flush()
        echo = holder.stdout.readline() if select.select([holder.stdout], [], [], _STARTUP_SECONDS)[0] else b""
    except OSError:
        echo = b""
    if echo != b"r\n":
        box.end()
        raise SandboxError("bubblewrap ended while it built the box")
    return box


def statistics(box: Box) -> tuple[int, int]:
    """Bytes and number of files in the folders of the box, from the file systems themselves. Raises OSError when it is gone."""
    used = files = 0
    for folder in FOLDERS:
        status = os.statvfs(f"{box.inside}{folder}")
        used += (status.f_blocks - status.f_bfree) * status.f_frsize
        files += status.f_files - status.f_ffree
    return used, files
