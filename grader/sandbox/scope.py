"""A scope of one's own from systemd's user manager, in which an ordinary user may make control groups.

Trusted. It is what `systemd-run --user --scope -p Delegate=yes` does, for a process that runs already. The scope ends with its last
process; an ordinary user has the controllers `memory` and `pids` there wherever systemd uses control groups of version 2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["enter_scope"]

_CALL_SECONDS = 20.0
_MOVE_SECONDS = 5.0
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


def enter_scope() -> str:
    """Let systemd's user manager move this process into a scope with delegated control groups; why it could not, else empty."""
    if not sys.platform.startswith("linux"):
        return "they are Linux's"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    busctl = shutil.which("busctl")
    if busctl is None or not Path(runtime, "bus").exists():
        return "this user has no systemd user manager here"
    name = f"grader-{os.getpid()}-{time.time_ns()}.scope"
    properties = f"3 PIDs au 1 {os.getpid()} Delegate b true CollectMode s inactive-or-failed"
    call = [busctl, "--user", "call", *_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail"]
    call += [*properties.split(), "0"]
    address = os.environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={runtime}/bus"
    environment = {"PATH": os.defpath, "XDG_RUNTIME_DIR": runtime, "DBUS_SESSION_BUS_ADDRESS": address}
    try:
        done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=_CALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"systemd's user manager does not answer ({type(error).__name__})"
    if done.returncode != 0:
        return f"systemd's user manager refuses a scope ({' '.join(done.stderr.split())[:200]})"
    deadline = time.monotonic() + _MOVE_SECONDS
    while name not in Path("/proc/self/cgroup").read_text():
        if time.monotonic() > deadline:
            return "systemd's user manager made a scope, and did not move the grader there"
        time.sleep(0.05)
    return ""
