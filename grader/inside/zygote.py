"""The warm start: a process that has imported the heavy libraries once, and forks one kernel per request.

Trusted until the fork; the child then enters its box, gives up its rights and becomes a kernel. The zygote itself never runs an
operation of torch and never has a second thread: neither survives a fork. It speaks one JSON message per connection on the
socket it was handed (its first argument; the second names what to import, or is null), with descriptors beside it: a go-ahead comes
back only when the parent has set its limits. One that has imported nothing is for a cold start: its kernels import in the box.
"""

from __future__ import annotations

import array
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from grader.inside import confine
from grader.inside.preloaded import KERNEL, LATE, ROOTS

__all__ = ["ARCHIVE", "CHANNELS", "PRELOAD", "main", "preload", "receive", "send"]

ARCHIVE = ".handed-in.zip"
"""In the work folder: the submission's own files, which the kernel unpacks before anything else."""

CHANNELS = ("shell", "iopub", "stdin", "control")
"""A kernel's channels with a socket of their own, in the order in which the sockets are handed over. No heartbeat."""

PRELOAD = (*ROOTS, *LATE)
"""What the reference run of the fine-tuning assignment imports, sooner or later: what an assignment gets that names nothing."""

_NOT_YET = ("ipywidgets",)
"""What libraries import where it is there, for windows that nobody sees; a notebook that names it gets it."""
_MOST_DESCRIPTORS = 16


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One message and the descriptors that came with it."""
    descriptors = array.array("i")
    message, ancillary, _flags, _address = connection.recvmsg(
        1 << 20, socket.CMSG_SPACE(_MOST_DESCRIPTORS * descriptors.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, list(descriptors)


def send(connection: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """One JSON message and descriptors beside it."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([json.dumps(message).encode()], rights)


def preload(names: Sequence[str] = PRELOAD) -> list[str]:
    """Import the kernel and what every submission needs; the names this environment lacks."""
    missing = []
    hidden: dict[str, Any] = {name: None for name in _NOT_YET if name not in sys.modules}
    sys.modules.update(hidden)
    for name in (*KERNEL, *names):
        try:
            import_module(name)
        except ImportError:
            missing.append(name)
    for name in hidden:
        del sys.modules[name]
    return missing


def _close_all_but(keep: list[int]) -> None:
    start = 3
    for descriptor in sorted(keep):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def _serve(connection: socket.socket, listener: socket.socket) -> None:
    """Fork one kernel for the request that waits on `connection`."""
    message, descriptors = receive(connection)
    if not message:
        return
    middle = os.fork()
    if middle:
        for descriptor in descriptors:
            os.close(descriptor)
        return
    leave = os._exit  # a submission's kernel keeps its cells from it
    try:
        request = json.loads(message)
        del message  # this frame stays below the cells, and what is taken out of the request is not to be found here
        *sockets, log, box = descriptors
        os.setsid()
        listener.close()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        confine.enter(box)
        kernel = os.fork()  # born in the box's pid namespace
        if kernel:
            send(connection, {"pid": kernel}, (os.pidfd_open(kernel),))
            os._exit(0)
        if connection.recv(16) != b"go":
            os._exit(1)
        connection.close()
        _close_all_but(sockets)
        for signum in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if request["preload"] is not None:
            preload(request["preload"])  # before limits: mapping the libraries is not the submission's use of memory
        confine.limit(request["limits"])
        confine.drop_privileges()
        request["descriptors"] = dict(zip((*CHANNELS, "handed"), sockets, strict=False))
        import_module("grader.inside.kernel").become_kernel(request)
        leave(0)
    except BaseException as error:
        traceback.print_exc()
        try:
            send(connection, {"error": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(1)


def _refuse(found: list[str], what: str) -> None:
    """End, saying why on standard output, where something was found that no fork survives."""
    if found:
        print(json.dumps({"error": f"forking would not be safe: {what}: {', '.join(found)}"}), flush=True)
        raise SystemExit(1)


def main() -> None:
    """Import, check that forking is safe, report on standard output, and serve until the parent goes."""
    names, missing = json.loads(sys.argv[2]), list[str]()
    if names is not None:  # else whatever Python's own start has begun ends with the fork, and no library knows of it
        _refuse(confine.sole_thread(), "there are threads already")
        missing = preload(names)
        _refuse(confine.sole_thread(), "the imports started threads")
        torch = sys.modules.get("torch")
        _refuse(["it is in use"] if torch and torch.cuda.is_initialized() else [], "a GPU")
    confine.reap_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is the parent's business
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # kernels are collected at once: a box ends only when all in it are
    gc.collect()
    gc.disable()
    gc.freeze()
    listener = socket.socket(fileno=int(sys.argv[1]))
    print(json.dumps({"ready": True, "missing": missing, "modules": len(sys.modules)}), flush=True)
    # standard input is a pipe from the parent: its end is the parent's end
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        with connection:
            try:
                _serve(connection, listener)
            except OSError:
                traceback.print_exc()


if __name__ == "__main__":
    main()
