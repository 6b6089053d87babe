"""Makes this process look like Windows to what is imported from now on: no POSIX module, attribute or signal is left.

Run as `python windows.py PACKAGES SCRIPT` it puts the folder PACKAGES first on the import path and runs the script. PyTorch, Transformers
and IPython are imported before, since theirs is another build on Windows.
"""

from __future__ import annotations

import importlib.abc
import os
import runpy
import signal
import socket
import sys
from typing import Any

MODULES = (
    "_posixsubprocess", "crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty",
)  # fmt: skip
"""Modules that Python has on POSIX only."""
OS = (
    "chown", "chroot", "ctermid", "eventfd", "fchmod", "fchown", "fork", "forkpty", "fpathconf", "fstatvfs", "getegid", "geteuid", "getgid",
    "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority", "getresuid", "getsid", "getuid", "initgroups", "killpg", "lchown",
    "lockf", "major", "memfd_create", "mkfifo", "mknod", "nice", "openpty", "pathconf", "pidfd_open", "pipe2", "posix_fadvise",
    "posix_fallocate", "posix_spawn", "pread", "pwrite", "readv", "register_at_fork", "sched_getaffinity", "sched_setaffinity",
    "sched_yield", "sendfile", "setegid", "seteuid", "setgid", "setgroups", "setpgid", "setpriority", "setsid", "setuid", "splice",
    "statvfs", "sync", "sysconf", "tcgetpgrp", "ttyname", "umount", "uname", "unshare", "wait", "wait3", "wait4", "waitid", "writev",
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_TMPFILE", "WNOHANG",
)  # fmt: skip
SIGNALS = (
    "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGPROF", "SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGUSR1",
    "SIGUSR2", "SIGVTALRM", "SIGXCPU", "ITIMER_PROF", "ITIMER_REAL", "ITIMER_VIRTUAL", "alarm", "getitimer", "pause", "pthread_kill",
    "pthread_sigmask", "setitimer", "siginterrupt", "sigpending", "sigtimedwait", "sigwait",
)  # fmt: skip
SOCKETS = ("AF_UNIX", "AF_NETLINK", "AF_PACKET", "SCM_RIGHTS", "sethostname")


class _NotHere(importlib.abc.MetaPathFinder):
    """Finds no module of POSIX's."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}, as on Windows", name=name)


def become_windows() -> None:
    """Take POSIX away."""
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _NotHere())
    for module, names in ((os, OS), (signal, SIGNALS), (socket, SOCKETS)):
        for name in names:
            vars(module).pop(name, None)
    sys.platform = "win32"  # and not `os.name`: pathlib would make paths that nothing here can open


if __name__ == "__main__":
    import IPython  # noqa: F401
    import torch  # noqa: F401
    import transformers

    transformers.DistilBertForSequenceClassification  # noqa: B018 - loaded when it is first named
    become_windows()
    sys.path.insert(0, sys.argv[1])
    runpy.run_path(sys.argv[2], run_name="__main__")
