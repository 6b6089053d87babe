"""What this host allows: which sandbox modes work, as which user, and why others do not.

Trusted. A grader started as root never runs the zygote or bubblewrap as root: it makes one private mount namespace in which an
ordinary user reaches the interpreter even below a closed home folder, and starts them there as that user. The namespace lives
as long as the descriptor that `PrivilegeDrop` holds, and needs no folder on the host, so nothing can be left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from grader.errors import SandboxError, UsageError
from grader.sandbox.contract import MODES
from grader.sandbox.shown import package_folder, prefixes

__all__ = ["PrivilegeDrop", "choose", "ordinary_user", "recipe", "why_no_box"]


def ordinary_user() -> tuple[int, int] | None:
    """User and group id to drop to when started as root; None when this process is an ordinary user already.

    The user who called sudo, else `nobody`. Raises SandboxError where there is neither.
    """
    if os.geteuid() != 0:
        return None
    caller = os.environ.get("SUDO_UID", "")
    if caller.isdigit() and int(caller) > 0:
        group = os.environ.get("SUDO_GID", "")
        return int(caller), int(group) if group.isdigit() and int(group) > 0 else int(caller)
    import pwd  # not there on Windows

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise SandboxError(
            "started as root, and there is no user `nobody` to drop to: run the grader as an ordinary user"
        ) from None
    return entry.pw_uid, entry.pw_gid


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SandboxError(f"`{name}` is not installed: apt install {package}")
    return path


@dataclass(frozen=True, slots=True)
class PrivilegeDrop:
    """How to start a trusted helper (zygote, bubblewrap) as an ordinary user; a context manager."""

    namespace: int | None
    """Descriptor of the private mount namespace; None when this process is an ordinary user and needs none."""
    user: tuple[int, int] | None
    """User and group id helpers run as; None for our own."""

    @classmethod
    def open(cls, readable: Sequence[Path] = ()) -> Self:
        """Prepare for helpers that read the interpreter, this package and `readable`. Raises SandboxError, saying what to do."""
        user = ordinary_user()
        if user is None:
            return cls(None, None)
        shown = [*prefixes(), package_folder(), *(Path(path).resolve() for path in readable)]
        script = _mount_script(shown, user)
        argv = [_tool("unshare", "util-linux"), "--mount", "--propagation", "private", "sh", "-euc", script]
        pipe, environment = subprocess.PIPE, {"PATH": os.defpath}
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", env=environment) as keeper:
            assert keeper.stdout and keeper.stdin and keeper.stderr
            if keeper.stdout.readline() != b"ready\n":
                reason = keeper.communicate()[1].decode(errors="replace").strip()
                raise SandboxError(
                    "started as root, and no private mount namespace can be made for an ordinary user"
                    f" ({reason or 'no reason given'}): run the grader as an ordinary user"
                )
            namespace = os.open(f"/proc/{keeper.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            keeper.stdin.close()
        privileges = cls(namespace, user)
        check = subprocess.run(
            [*privileges.prefix(), sys.executable, "-Pc", "import encodings"],
            pass_fds=privileges.descriptors(), capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        if check.returncode != 0:
            privileges.close()
            raise SandboxError(
                f"started as root, and user id {user[0]} cannot run {sys.executable} ({check.stderr.strip()[-300:]}):"
                " run the grader as an ordinary user, or install it where everybody may read it"
            )
        return privileges

    def prefix(self) -> list[str]:
        """Words to put before a helper's command line."""
        if self.namespace is None or self.user is None:
            return []
        user, group = self.user
        where = f"--mount=/proc/self/fd/{self.namespace}"
        return [_tool("nsenter", "util-linux"), where, f"--setuid={user}", f"--setgid={group}", "--wd=/", "--"]

    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that the command line of `prefix` needs."""
        return () if self.namespace is None else (self.namespace,)

    def close(self) -> None:
        """Give the namespace up; it goes when the last helper in it ends."""
        if self.namespace is not None:
            os.close(self.namespace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _closed_ancestor(path: Path, user: tuple[int, int]) -> Path | None:
    """The outermost folder above or at `path` that `user` may not pass through."""
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            continue
        status = folder.stat()
        bit = 0o100 if status.st_uid == user[0] else 0o010 if status.st_gid == user[1] else 0o001
        if not status.st_mode & bit:
            return folder
    return None


def _mount_script(shown: Sequence[Path], user: tuple[int, int]) -> str:
    """Shell commands that hide each closed folder behind an empty one in which only the wanted parts appear again."""
    closed: dict[Path, list[Path]] = {}
    for path in shown:
        if (ancestor := _closed_ancestor(path, user)) is not None:
            closed.setdefault(ancestor, []).append(path)
    lines = ["mount -t tmpfs -o mode=700,size=64k stage /mnt"]
    number = 0
    for ancestor, paths in closed.items():
        moves = []
        for path in paths:
            number += 1
            stage, target = f"/mnt/{number}", shlex.quote(str(path))
            kind = "mkdir" if path.is_dir() else "touch"
            lines += [f"{kind} {stage}", f"mount --bind {target} {stage}"]
            make = (
                f"mkdir -p {target}" if path.is_dir() else f"mkdir -p {shlex.quote(str(path.parent))}; touch {target}"
            )
            moves += [make, f"mount --bind {stage} {target}"]
        if ancestor in paths:  # the wanted folder itself is closed: nothing around it would help
            raise SandboxError(
                f"started as root, and {ancestor} is closed to user id {user[0]}: chmod go+rx {ancestor}"
            )
        # made with umask 022, so that the way to the parts is open; the rest of the closed folder is out of sight
        lines += ["umask 022", f"mount -t tmpfs -o mode=755,size=64k hidden {shlex.quote(str(ancestor))}", *moves]
    lines += ["umount -l /mnt", "echo ready", "exec cat >/dev/null"]
    return "\n".join(lines)


def recipe(said: str, root: Path = Path("/")) -> str:
    """What to do about bubblewrap's words, with the section of the manual that has it in full; `root`: where the system lies."""

    def holds(name: str, text: str) -> bool:
        with contextlib.suppress(OSError):
            return text in (root / name).read_text()
        return False

    manual = "docs/sandbox.md, Where no box can be built"
    if "mount proc" in said:
        return f"parts of /proc are masked, as in a container; start it with --security-opt systempaths=unconfined ({manual}: Containers)"
    if holds("proc/version", "Microsoft"):  # of the second version it is "microsoft"
        return f"this is WSL 1, which has no namespaces; wsl --set-version makes it WSL 2 ({manual}: WSL)"
    if any((root / name).exists() for name in (".dockerenv", "run/.containerenv")):
        return (
            "a container's filter forbids it; start the container with --security-opt seccomp=unconfined --security-opt"
            f" apparmor=unconfined --security-opt systempaths=unconfined ({manual}: Containers)"
        )
    if holds("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
        return f"AppArmor forbids user namespaces; an administrator adds a profile for bwrap ({manual}: Ubuntu 24.04 and later)"
    if "max_" in said or holds("proc/sys/kernel/unprivileged_userns_clone", "0"):
        return f"user namespaces are switched off; an administrator switches them on ({manual}: Switched off)"
    return f"{manual} has recipes"


def why_no_box() -> str:
    """Why no box can be built on this host, in one sentence; empty when one can."""
    if not sys.platform.startswith("linux"):
        return f"boxes need Linux, and this is {sys.platform}"
    if not hasattr(os, "pidfd_open") or not hasattr(ctypes.CDLL(None), "setns"):
        return "this kernel or C library is too old for boxes (pidfd_open, setns)"
    try:
        bubblewrap = _tool("bwrap", "bubblewrap")
        with PrivilegeDrop.open() as privileges:
            probe = subprocess.run(
                [*privileges.prefix(), bubblewrap, "--unshare-user", "--unshare-pid", "--unshare-net", "--disable-userns",
                 "--ro-bind", "/", "/", "--proc", "/proc", "/bin/true"],
                pass_fds=privileges.descriptors(), capture_output=True, text=True, check=False,
            )  # fmt: skip
    except SandboxError as error:
        return str(error)
    if probe.returncode != 0:
        return f"bubblewrap may not build boxes here ({probe.stderr.strip()[-200:]}): {recipe(probe.stderr)}"
    return ""


def choose(mode: str = "auto") -> str:
    """The mode to use: `auto` is the best that isolates. Raises UsageError for an unknown mode, SandboxError saying what to do.

    `none` is never chosen by itself: running without isolation is a decision of a person.
    """
    if mode == "none":
        return mode
    if mode != "auto" and mode not in MODES:
        raise UsageError(f"unknown sandbox mode {mode!r}: one of auto, {', '.join(MODES)}")
    if why := why_no_box():
        raise SandboxError(
            f"No box can be built: {why}. Notebooks you trust can be run without isolation with `--sandbox none`;"
            " the reports will say so."
        )
    return "warm" if mode == "auto" else mode
