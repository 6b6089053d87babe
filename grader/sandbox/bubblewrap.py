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
import time
import zipfile
from collections.abc import Iterator, Sequence
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
    words = [
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
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
            if self.holder.stdin:
                self.holder.stdin.close()
            try:
                self.holder.wait(10)
            except subprocess.TimeoutExpired:
                self.holder.kill()
                self.holder.wait()
            if self.holder.stdout:
                self.holder.stdout.close()
            os.close(self.init_fd)
            self.init_fd = -1


def build(
    spec: BoxSpec, limits: Limits, privileges: PrivilegeDrop, log: int, *, command: Sequence[str] = ("/bin/cat",),
    environment: dict[str, str] | None = None, descriptors: Sequence[int] = (),
) -> Box:  # fmt: skip
    """Build a box and start `command` in it; `cat` keeps it open for a kernel that enters later.

    The box dies with the thread that calls this, which therefore has to be one of the pool's (`KernelPool.in_thread`).
    `environment` and `descriptors` are handed to the command; `log` takes bubblewrap's and its standard
    error.
    Raises SandboxError when bubblewrap fails; why stands in the log.
    """
    words = box_arguments(limits)
    opened: list[int] = []
    writers: list[tuple[IO[bytes], bytes]] = []
    try:
        for name, source in _contents(spec):
            if isinstance(source, bytes):
                reader, writer = os.pipe()
                writers.append((os.fdopen(writer, "wb"), source))
            else:
                reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            opened.append(reader)
            for parent in reversed(Path(name).parents):
                if parent != Path():
                    words += ["--perms", "0755", "--dir", f"{BOX}/{parent.as_posix()}"]
            words += ["--perms", "0644", "--file", str(reader), f"{BOX}/{name}"]
        for name, folder in spec.binds.items():
            words += ["--ro-bind", str(folder.resolve()), f"{BOX}/{name}"]
        words += ["--chdir", BOX]
        for key, value in (environment or {}).items():
            words += ["--setenv", key, value]
        return _start(words, command, privileges, [*opened, *descriptors], writers, log, waits=command == ("/bin/cat",))
    finally:
        for descriptor in opened:
            os.close(descriptor)
        for stream, _data in writers:
            if not stream.closed:
                stream.close()


def _start(
    words: list[str], command: Sequence[str], privileges: PrivilegeDrop, descriptors: list[int],
    writers: list[tuple[IO[bytes], bytes]], log: int, *, waits: bool,
) -> Box:  # fmt: skip
    info, info_writer = os.pipe()
    # the options travel over a pipe: a long file list would not fit a command line, and `ps` shows nothing of it
    arguments, arguments_writer = os.pipe()
    handed = [*privileges.descriptors(), info_writer, arguments, *descriptors]
    argv = [*privileges.prefix(), "bwrap", "--args", str(arguments), "--info-fd", str(info_writer), *command]
    try:
        holder = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE if waits else log,
            stderr=log, pass_fds=handed, cwd="/", env={"PATH": os.defpath},
        )  # fmt: skip
    finally:
        os.close(info_writer)
        os.close(arguments)
    try:
        with os.fdopen(arguments_writer, "wb") as stream:
            stream.write(b"".join(word.encode() + b"\0" for word in words))
        for writer, data in writers:
            with writer:
                writer.write(data)
        init = int(json.loads(_read_info(info))["child-pid"])
        box = Box(holder, init, os.pidfd_open(init))
    except (OSError, ValueError, KeyError) as error:
        holder.kill()
        holder.wait()
        _close(holder)
        raise SandboxError(f"bubblewrap could not build the box ({error})") from error
    finally:
        os.close(info)
    if waits:
        assert holder.stdin and holder.stdout
        try:
            # the folders are complete only when the command runs: wait for its echo
            holder.stdin.write(b"r\n")
            holder.stdin.flush()
            echo = holder.stdout.readline() if select.select([holder.stdout], [], [], _STARTUP_SECONDS)[0] else b""
        except OSError:
            echo = b""
        if echo != b"r\n":
            box.end()
            raise SandboxError("bubblewrap ended while it built the box")
    return box


def _close(holder: subprocess.Popen[bytes]) -> None:
    for stream in (holder.stdin, holder.stdout):
        if stream:
            stream.close()


def _read_info(descriptor: int) -> bytes:
    """Bubblewrap writes its JSON in several pieces."""
    text = b""
    deadline = time.monotonic() + _STARTUP_SECONDS
    while b"}" not in text:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise ValueError("no answer in time")
        piece = os.read(descriptor, 4096)
        if not piece:
            raise ValueError("it ended early")
        text += piece
    return text


def statistics(box: Box) -> tuple[int, int]:
    """Bytes and number of files in the folders of the box, from the file systems themselves. Raises OSError when it is gone."""
    used = files = 0
    for folder in FOLDERS:
        status = os.statvfs(f"{box.inside}{folder}")
        used += (status.f_blocks - status.f_bfree) * status.f_frsize
        files += status.f_files - status.f_ffree
    return used, files
