"""The kernel a submission runs in: one IPython kernel for the warm, the cold and the plain path.

Runs in the box, shares its interpreter with student code: everything it says is a claim. Beside the usual messages it answers
`grader_request` on the shell channel by calling `grader.inside.agent.handle(kernel, content, buffers)` in the main thread.
Without a box it is started as `python -m grader.inside.kernel` with one JSON request on standard input (see `become_kernel`).
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import os
import signal
import sys
import threading
import types
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipykernel import displayhook, ipkernel, kernelbase, zmqshell
from ipykernel.control import ControlThread
from ipykernel.iostream import OutStream
from ipykernel.ipkernel import IPythonKernel
from ipykernel.jsonutil import json_clean
from ipykernel.kernelapp import IPKernelApp
from traitlets.config import Config
from zmq.constants import SocketOption, SocketType

from grader.inside import agent
from grader.inside.hooks import replacing, torch
from grader.inside.seeds import reseed
from grader.inside.zygote import ARCHIVE, CHANNELS

__all__ = ["BoxKernel", "BoxKernelApp", "become_kernel", "main"]

_PIECE = 1 << 18


class _NoSubshells:
    """Stands where the thread of subshells would, which we do not start: a cell that awaits asks it for the main thread."""

    def __init__(self) -> None:
        self.parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class BoxKernel(IPythonKernel):
    """An IPython kernel without debugger and subshells that also answers the grader's questions."""

    _supports_kernel_subshells = False
    shell_handlers: dict[str, Any]
    _ended: dict[str, Any] | None = None
    """What the cell that runs came to, once it has ended."""

    def __init__(self, **options: Any) -> None:
        # The class lists the file of every imported module for its debugger, which we do not start. Looking at thousands of
        # modules writes to their reference counts: in a fork that copies 20 MB of the zygote's memory.
        kept, ipkernel.sys = ipkernel.sys, types.SimpleNamespace(modules={})
        super().__init__(**options)
        ipkernel.sys = kept
        self.shell_channel_thread = _NoSubshells()
        # ipykernel flushes `sys.stdout` around every cell: its own stream, not what a cell has put in its place
        own = types.SimpleNamespace(platform=sys.platform, stdout=self._stdout, stderr=self._stderr)
        for module in (kernelbase, zmqshell, displayhook):
            vars(module)["sys"] = own
        # IPython copies what is printed for its history, by a `write` that it puts on whatever stands there
        self.shell._tee = lambda **_options: contextlib.nullcontext()

        # For each frame of a traceback `inspect` would look through thousands of modules for the one of a cell's file: an endless
        # recursion has a thousand frames, and took a minute of CPU time to show.
        @replacing(self.shell.compile, "get_code_name")
        def named(real: Any, *args: Any) -> str:
            name = str(real(*args))
            vars(inspect)["modulesbyfile"][name] = "__main__"
            return name

        self.shell_handlers["grader_request"] = self.grader_request
        self._own = {"session": self.session, "shell_stream": self.shell_stream, "iopub_socket": self.iopub_socket}
        self._own_handlers, self._own_json = dict(self.shell_handlers), (json.dumps, json.loads)
        agent.setup(self, self.parent.watch)

    def start(self) -> None:
        """Start without the debugger's machinery."""
        if self.shell:
            self.shell.exit_now = False
        super(IPythonKernel, self).start()

    def set_parent(self, ident: list[bytes], parent: dict[str, Any], channel: str = "shell") -> None:
        """Take a request for the one that is served, also where a cell has put something else in the place of IPython's objects."""
        with contextlib.suppress(Exception):
            super().set_parent(ident, parent, channel)

    async def dispatch_shell(self, msg: Any, /, subshell_id: str | None = None, *, concurrent: bool = False) -> None:
        """Serve one request; whatever raises around it, the kernel says that it is idle again."""
        try:
            await super().dispatch_shell(msg, subshell_id, concurrent=concurrent)
        except Exception:
            self._publish_status_and_flush("idle", "shell", self.shell_stream)

    async def do_execute(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Run a cell, and remember what it came to."""
        try:
            ended: dict[str, Any] = await super().do_execute(*args, **options)
        finally:
            self._mend()
        self._ended = ended
        return ended

    def _mend(self) -> None:
        """Put back what every reply needs, where a cell has put something else in its place."""
        for name, value in self._own.items():
            setattr(self, name, value)
        self.session.__dict__.pop("send", None)
        self.shell_handlers = dict(self._own_handlers)
        json.dumps, json.loads = self._own_json

    async def execute_request(self, stream: Any, ident: list[bytes], parent: dict[str, Any]) -> None:
        """Run a cell. A reply goes out whatever raises around its end: who waits for it would wait until the time limit."""
        self._ended = None
        try:
            await super().execute_request(stream, ident, parent)
        except BaseException as error:
            said = _failure(error)["error"]
            content = self._ended or {
                "status": "error", "ename": said["name"], "evalue": said["message"], "traceback": [],
            }  # fmt: skip
            self.session.send(stream, "execute_reply", _plain(json_clean(content)), parent, ident)

    async def grader_request(self, stream: Any, ident: list[bytes], parent: dict[str, Any]) -> None:
        """Answer one question. Whatever goes wrong becomes an answer with status `error`."""
        buffers: list[bytes] = []
        try:
            raw = [bytes(buffer) for buffer in parent.get("buffers", ())]
            with self._own_streams():
                content, buffers = agent.handle(self, parent["content"], raw)
            if not isinstance(content, dict):
                raise TypeError(f"the answer is no dict but {type(content).__name__}")
            content, buffers = _plain(content), [bytes(buffer) for buffer in buffers]
        except BaseException as error:
            content, buffers = _plain(_failure(error)), []
        self.session.send(stream, "grader_reply", content, parent, ident, buffers=buffers)

    @contextlib.contextmanager
    def _own_streams(self) -> Iterator[None]:
        """The kernel's own streams in the place of what cells have left there; None, to which `print` is silent, of a closed one."""
        left = getattr(sys, "stdout", None), getattr(sys, "stderr", None)
        sys.stdout, sys.stderr = (None if own.closed else own for own in (self._stdout, self._stderr))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = left


def _plain(content: dict[str, Any]) -> Any:
    """What JSON and UTF-8 can carry of an answer: what cannot be sent would never arrive."""
    return json.loads(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))


def _failure(error: BaseException) -> dict[str, Any]:
    """A plain answer about `error`; its own methods are the student's and may fail too."""
    return {"status": "error", "error": {"name": str(type(error).__name__)[:200], "message": agent.text_of(error)}}


class BoxOutStream(OutStream):
    """Printed text that leaves in pieces: the usual stream gathers for 0.2 s, which can be more than memory holds."""

    _gathered = 0

    def write(self, string: str) -> int | None:
        """Write, and flush when much has gathered; the writer waits meanwhile."""
        written = super().write(string)
        self._gathered += len(string)
        if self._gathered > _PIECE:
            self._gathered = 0
            self.flush()
        return written


class BoxKernelApp(IPKernelApp):
    """An IPython kernel application on listening sockets that somebody else made, or on ports it binds itself."""

    info: dict[str, Any]
    descriptors: dict[str, int]
    watch = ""
    """What gives the witness of trainings; empty where none is watched."""
    kernel_class = BoxKernel
    outstream_class = "grader.inside.kernel.BoxOutStream"

    def init_connection_file(self) -> None:
        """Take the connection from the request; no file is read or written."""
        self.load_connection_info(self.info)

    def _nothing(self, **_options: Any) -> None:
        """There is no file, nobody else connects, and the parent watches the process itself, without a heartbeat."""

    write_connection_file = cleanup_connection_file = log_connection_info = init_heartbeat = _nothing

    def _bind_socket(self, s: Any, port: int) -> int:
        name = {self.info[f"{channel}_port"]: channel for channel in CHANNELS}[port]
        s.setsockopt(
            SocketOption.SNDHWM, 0
        )  # never drop a message: the queue's memory belongs to the box and is bounded with it
        if name in self.descriptors:
            s.setsockopt(SocketOption.USE_FD, self.descriptors[name])
        return int(super()._bind_socket(s, port))

    def init_control(self, context: Any) -> None:
        """As in the base class, without the debugger's connections and without a thread for subshells."""
        self.control_socket = context.socket(SocketType.ROUTER)
        self.control_socket.linger = 1000
        self.control_port = self._bind_socket(self.control_socket, self.info["control_port"])
        self.control_socket.router_handover = 1
        self.debugpy_socket = context.socket(SocketType.STREAM)
        self.debugpy_socket.linger = 0
        self.debug_shell_socket = context.socket(SocketType.DEALER)
        self.debug_shell_socket.linger = 0
        self.control_thread = ControlThread(daemon=True)


def _reseed(seed: int | None) -> None:
    """A fork inherits the zygote's random states: draw new ones, or set the one that is asked for."""
    reseed(seed if seed is not None else int.from_bytes(os.urandom(6), "little"))
    if "torch" in sys.modules:
        torch.set_num_threads(1)


def become_kernel(request: dict[str, Any]) -> None:
    """Turn this process into the kernel and serve until it ends.

    `request`: `info` (connection), `descriptors` (channel -> listening socket, may be empty), `environment`, `cwd`, `seed`, `watch`.
    """
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    os.umask(0o022)
    sys.argv = ["ipykernel_launcher"]
    sys.path[:] = [entry for entry in sys.path if entry and entry != request["cwd"]]
    _reseed(request.pop("seed"))  # nobody is to find it later
    # IPython creates a database and a profile on disk for every user; here nobody comes back to read them.
    folder = Path(os.environ["IPYTHONDIR"])
    folder.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.HistoryManager.enabled = False
    config.BaseIPythonApplication.ipython_dir = str(folder)
    app = BoxKernelApp.instance(config=config)
    app.info, app.descriptors = request["info"], request["descriptors"]
    app.watch = request["watch"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app.initialize([])
    _unpack()
    gc.enable()  # what the zygote froze stays frozen: a collection would touch, and so copy, every shared page
    app.start()


def _unpack() -> None:
    """Let the submission's own files in, and be imported: not before all that starts has been, for they are called what they like."""
    if (archive := Path(ARCHIVE)).exists():
        with zipfile.ZipFile(archive) as files:
            files.extractall()
        archive.unlink()
    sys.path[:] = ["", *filter(None, sys.path)]


def main() -> None:
    """Read one request from standard input, and serve."""
    request = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    become_kernel(request)


if __name__ == "__main__":
    main()
