"""One submission's kernel, from its start to its end: cells through nbclient with its traps closed, questions beside them.

Trusted code that reads untrusted bytes. nbclient's features for honest notebooks are off: kernel name and tags of the notebook,
widgets, input, unbounded outputs. Two clocks and a watchdog run beside the cells; the outcome says truthfully what ended a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Awaitable, Sequence
from types import TracebackType
from typing import Any, Self

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from zmq.constants import Event
from zmq.utils.monitor import parse_monitor_message

from grader.errors import SandboxError
from grader.records import CellError, CellRun
from grader.sandbox.channels import BoundedClient
from grader.sandbox.contract import BoxSpec, EvidenceTooLarge, KernelGone, Limits, Outcome, QuestionTimedOut, Usage
from grader.sandbox.meter import Sample
from grader.sandbox.pool import KernelPool
from grader.sandbox.provisioner import BoxProvisioner

__all__ = ["KernelSession"]

_READY_SECONDS = 120.0
_WATCH_SECONDS = 0.1
_GRACE_SECONDS = 10.0
"""How long an interrupted cell may take to come back, in wall seconds: exception handlers may have to run."""
_TEXT, _TRACEBACK, _SHORT = 20_000, 8_000, 1_000
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")
_SYMPTOMS = (
    (Outcome.OUT_OF_MEMORY, re.compile(r"^MemoryError|[Cc](an't|annot) allocate memory|not enough memory|bad_alloc")),
    (Outcome.DISK_LIMIT, re.compile(r"No space left on device|File too large")),
    (
        Outcome.PROCESS_LIMIT,
        re.compile(r"can't start new thread|^BlockingIOError: \[Errno 11\]|[Cc]an't start .*thread"),
    ),
)
"""Errors a cell ends with when it met a limit; whoever raises them without need harms only the own report."""


class _Client(NotebookClient):
    """nbclient on a kernel that somebody else starts, watches and ends."""

    ended: asyncio.Event

    async def _async_poll_kernel_alive(self) -> None:
        # the process itself is watched: a death is noticed at once, not at the next second
        await self.ended.wait()
        await asyncio.sleep(0.05)  # a reply sent just before the end is still read
        if self.task_poll_for_reply is not None:
            self.task_poll_for_reply.cancel()

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take what a report shows; widgets are not among it, and what is forged badly is dropped."""
        if msg["msg_type"].startswith("comm"):
            return None
        try:
            return super().process_message(msg, cell, cell_index)
        except CellControlSignal:
            raise
        except Exception:
            return None


def _plain(text: Any, most: int) -> str:
    """Text without terminal escapes, its middle cut out when it is long."""
    clean = _ESCAPES.sub("", str(text))
    if len(clean) <= most:
        return clean
    half = most // 2
    return f"{clean[:half]}\n... ({len(clean) - most} characters left out) ...\n{clean[-half:]}"


class KernelSession:
    """A kernel for one submission; an async context manager.

    Entering starts it (SandboxError when that fails). `run_cell` and `ask` are called one at a time.
    `alive` says whether it can still be asked; `outcome` is the first limit it met, and final once the session has ended.
    """

    def __init__(self, pool: KernelPool, spec: BoxSpec | None = None, limits: Limits | None = None) -> None:
        self.pool, self.spec, self.limits = pool, spec or BoxSpec(), limits or Limits()
        self.outcome = Outcome.COMPLETED
        self.detail = ""
        """What the kernel's process said last on its own standard error, for the log of a failure; untrusted text."""
        self._provisioner: BoxProvisioner
        self._last = Sample()
        self._started = self._start_cpu = self._asked_cpu = 0.0
        self._wall = 0.0
        self._deadline: float | None = None
        self._stop = asyncio.Event()
        self._lost = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    # ---- start and end ----

    async def __aenter__(self) -> Self:
        self._started = time.monotonic()
        manager = AsyncKernelManager(kernel_name="box", client_factory=BoundedClient)
        manager._kernel_spec = KernelSpec(argv=["box"], display_name="box", language="python", interrupt_mode="signal")
        self._provisioner = BoxProvisioner(kernel_id="box", kernel_spec=manager._kernel_spec, parent=manager)
        self._provisioner.prepare(self.pool, self.spec, self.limits)
        manager.provisioner = self._provisioner
        self._manager = manager
        try:
            await manager.start_kernel()
            self._connect()
            self._tasks.append(asyncio.create_task(self._watch()))
            await self._ready()
        except BaseException as error:
            await self._close()
            self.outcome = Outcome.SANDBOX_FAILED
            if isinstance(error, (SandboxError, asyncio.CancelledError, KeyboardInterrupt)):
                raise
            raise SandboxError(f"the kernel could not be started: {type(error).__name__}: {error}") from error
        self._start_cpu = self._sample().cpu_seconds
        return self

    def _connect(self) -> None:
        client: BoundedClient = self._manager.client()
        client.bound(self.limits)
        client.start_channels(shell=True, iopub=True, stdin=False, hb=False, control=False)  # noqa: S604 - a channel's name
        client.output.exceeded = lambda: self._kill(Outcome.OUTPUT_LIMIT)
        self._client = client
        self._notebook = _Client(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("")]), km=self._manager, kernel_name="box",
            timeout=None, allow_errors=True, coalesce_streams=False, record_timing=False, store_widget_state=False,
        )  # fmt: skip
        self._notebook.kc, self._notebook.ended = client, self._provisioner.ended
        for channel in (client.shell_channel, client.iopub_channel):
            self._tasks.append(asyncio.create_task(self._guard(channel)))

    async def _ready(self) -> None:
        """Wait for an answer on the shell channel and any message on the output channel, however they come."""
        self._client.kernel_info()
        both = asyncio.gather(self._client.shell_channel.get_msg(), self._client.iopub_channel.get_msg())
        if not await self._race(both, _READY_SECONDS):
            why = self._provisioner.last_words() or "no reason given"
            raise SandboxError(f"the kernel did not come up: {why}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        """End everything the submission has started and remove every trace. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._sample()
        self._wall = time.monotonic() - self._started
        self._provisioner.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        client = getattr(self, "_client", None)
        if client is not None:
            for channel in (client.shell_channel, client.iopub_channel):
                if channel.socket is not None:
                    channel.socket.disable_monitor()
            client.stop_channels()
            client.context.destroy(linger=0)
        await self._provisioner.cleanup()

    # ---- what it is and has used ----

    @property
    def mode(self) -> str:
        """How it really runs: `warm`, `cold` (also while the zygote is not there) or `none`."""
        return self._provisioner.mode

    @property
    def alive(self) -> bool:
        """Whether the kernel is still there to be asked."""
        return not self._closed and not self._provisioner.ended.is_set()

    @property
    def usage(self) -> Usage:
        """What the submission has used so far."""
        meter = self._provisioner.meter
        return Usage(
            cpu_seconds=self._last.cpu_seconds,
            wall_seconds=self._wall or time.monotonic() - self._started,
            peak_bytes=meter.peak_bytes() if meter is not None and not self._closed else self._peak,
            output_bytes=self._client.output.bytes,
        )

    _peak = 0

    def _sample(self) -> Sample:
        meter = self._provisioner.meter
        if meter is not None and not self._provisioner.finished:
            self._last = meter.sample()
            self._peak = max(self._peak, meter.peak_bytes())
        return self._last

    def _note(self, outcome: Outcome) -> None:
        """Remember the first limit that was met."""
        if self.outcome is Outcome.COMPLETED:
            self.outcome = outcome

    def _kill(self, outcome: Outcome) -> None:
        """End the submission because of `outcome`."""
        self._note(outcome)
        self._sample()
        self._provisioner.end()

    # ---- the watchdog ----

    async def _watch(self) -> None:
        while not self._provisioner.ended.is_set():
            self._judge(self._sample())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._provisioner.ended.wait(), _WATCH_SECONDS)
        self._gone()

    def _judge(self, now: Sample) -> None:
        limits = self.limits
        if now.killed_for_memory:
            self._note(Outcome.OUT_OF_MEMORY)
        if now.refused_forks or now.tasks >= limits.processes:
            self._note(Outcome.PROCESS_LIMIT)
        if now.disk_bytes >= 0.99 * limits.disk_bytes:
            self._note(Outcome.DISK_LIMIT)  # the full folder refuses to take more; the program may go on
        if now.memory_bytes > limits.memory_bytes:
            self._kill(Outcome.OUT_OF_MEMORY)
        elif now.disk_bytes > 1.25 * limits.disk_bytes or now.files > limits.files:
            self._kill(Outcome.DISK_LIMIT)
        elif time.monotonic() - self._started > limits.wall_seconds:
            self._kill(Outcome.TIMED_OUT)
        elif self._deadline is not None and now.cpu_seconds > self._deadline:
            self._stop.set()

    def _gone(self) -> None:
        """The kernel has ended by itself, or was ended: say why."""
        if self._closed:
            return
        if self._sample().killed_for_memory:
            self._note(Outcome.OUT_OF_MEMORY)
        self.detail = _plain(self._provisioner.last_words(), _SHORT)
        self._note(Outcome.KERNEL_DIED)
        self._provisioner.end()  # what it has left behind ends with it

    async def _guard(self, channel: Any) -> None:
        """A connection that drops while the kernel lives means a message above the size limit: ZeroMQ refuses it so."""
        monitor = channel.socket.get_monitor_socket(Event.DISCONNECTED)
        output = channel is self._client.iopub_channel
        while True:
            event = parse_monitor_message(await monitor.recv_multipart())
            if event["event"] != Event.DISCONNECTED:
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._provisioner.ended.wait(), 0.3)
            if self._provisioner.ended.is_set():
                return
            if output:
                self._kill(Outcome.OUTPUT_LIMIT)
                return
            self._lost.set()

    async def _race(self, work: Awaitable[Any], seconds: float | None, *also: asyncio.Event) -> bool:
        """Wait for `work`, the kernel's end, one of the events, or the time; True when `work` came first. Cancels it else."""
        future = asyncio.ensure_future(work)
        waits = [asyncio.create_task(event.wait()) for event in (self._provisioner.ended, *also)]
        try:
            await asyncio.wait([future, *waits], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return future.done()
        finally:
            for task in waits:
                task.cancel()
            if not future.done():
                future.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await future

    # ---- cells ----

    async def run_cell(self, source: str, index: int) -> CellRun:
        """Run one cell. Never raises because of what the cell does.

        Status `ok`; `error` (its exception is recorded); `killed` when a limit or the kernel's end stopped it: see `alive` and
        `outcome`. After TIMED_OUT the kernel often lives on, interrupted, and can still be asked; further cells are not run.
        """
        cpu_before, began = self._sample().cpu_seconds, time.monotonic()
        cell = nbformat.v4.new_code_cell(source)
        reply: dict[str, Any] = {}
        status = "killed"
        if self.alive and self.outcome is not Outcome.TIMED_OUT:
            self._stop.clear()
            self._lost.clear()
            self._deadline = self._start_cpu + self._asked_cpu + self.limits.cpu_seconds
            self._notebook.on_cell_executed = lambda **told: reply.update(told["execute_reply"] or {})
            try:
                status = await self._execute(cell)
            finally:
                self._deadline = None
        after = self._sample()
        if self.alive:
            self._judge(after)
        used = max(0.0, after.cpu_seconds - cpu_before)
        error = _error_of(reply) if status == "ok" else None
        if error is not None:
            status = "error"
            for outcome, symptom in _SYMPTOMS:
                if symptom.search(f"{error.name}: {error.message}"):
                    self._note(outcome)
        return CellRun(index, status, time.monotonic() - began, used, error, _printed(cell))

    async def _execute(self, cell: Any) -> str:
        """`ok` when the cell came to an end, whatever it raised; `killed` else."""
        task = asyncio.ensure_future(self._notebook.async_execute_cell(cell, 0))
        watch = [asyncio.create_task(event.wait()) for event in (self._stop, self._lost)]
        try:
            await asyncio.wait([task, *watch], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return "ok" if await _completed(task) else "killed"
            if self._lost.is_set():  # the reply itself was too large
                self._kill(Outcome.OUTPUT_LIMIT)
            else:
                self._note(Outcome.TIMED_OUT)
                if not await self._interrupt(task):
                    self._kill(Outcome.TIMED_OUT)
            await _completed(task)
            return "killed"
        finally:
            for waiting in watch:
                waiting.cancel()
            if not task.done():
                task.cancel()
                await _completed(task)

    async def _interrupt(self, task: asyncio.Future[Any]) -> bool:
        """Send SIGINT until the running request comes to its end, which it gets some time for."""
        for _attempt in range(int(_GRACE_SECONDS)):
            await self._provisioner.send_signal(signal.SIGINT)
            done, _ = await asyncio.wait([task], timeout=1.0)
            if done or not self.alive:
                break
        return task.done() and self.alive

    async def interrupt(self) -> bool:
        """Interrupt what runs now (from another task); True when the kernel answers again."""
        if not self.alive:
            return False
        await self._provisioner.send_signal(signal.SIGINT)
        return True

    # ---- questions ----

    async def ask(
        self, content: dict[str, Any], buffers: Sequence[bytes] = (), *, cpu_seconds: float
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Send one question to the agent in the kernel; its answer and buffers, both untrusted.

        Raises KernelGone, EvidenceTooLarge, or QuestionTimedOut when `cpu_seconds` were used up (the kernel lives on).
        """
        if not self.alive:
            raise KernelGone(self._why_gone())
        before = self._sample().cpu_seconds
        self._stop.clear()
        self._lost.clear()
        self._deadline = before + cpu_seconds
        session, channel = self._client.session, self._client.shell_channel
        message = session.send(channel.socket, "grader_request", content, buffers=list(buffers))
        drain = asyncio.create_task(self._drain())
        answer = asyncio.ensure_future(self._answer(message["header"]["msg_id"]))
        try:
            if not await self._race(asyncio.shield(answer), max(120.0, 20 * cpu_seconds), self._stop, self._lost):
                await self._give_up(answer)
            reply = answer.result()
        finally:
            self._deadline = None
            for task in (answer, drain):
                task.cancel()
            await asyncio.gather(answer, drain, return_exceptions=True)
            self._asked_cpu += max(0.0, self._sample().cpu_seconds - before)
        return reply["content"], [bytes(buffer) for buffer in reply["buffers"]]

    async def _give_up(self, answer: asyncio.Future[Any]) -> None:
        """Raise what an answer that did not come means."""
        if not self.alive:
            raise KernelGone(self._why_gone())
        if self._lost.is_set():
            raise EvidenceTooLarge(f"the answer was larger than {self.limits.message_bytes >> 20} MiB")
        if not await self._interrupt(answer):
            if self.alive:
                self._kill(Outcome.TIMED_OUT)
            raise KernelGone(self._why_gone())
        raise QuestionTimedOut("the question used up its CPU time")

    async def _answer(self, message_id: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self._client.shell_channel.get_msg()
            if message["parent_header"].get("msg_id") == message_id and message["msg_type"] == "grader_reply":
                return message

    async def _drain(self) -> None:
        """Read and drop what is printed while a question is answered; it counts as output."""
        while True:
            await self._client.iopub_channel.get_msg()

    def _why_gone(self) -> Outcome:
        return Outcome.KERNEL_DIED if self.outcome is Outcome.COMPLETED else self.outcome


async def _completed(task: asyncio.Future[Any]) -> bool:
    """Wait for nbclient; False when the kernel died under it."""
    try:
        await task
    except (DeadKernelError, asyncio.CancelledError):
        return False
    return True


def _error_of(reply: dict[str, Any]) -> CellError | None:
    """The exception a cell ended with, from its reply."""
    content = reply.get("content")
    if not isinstance(content, dict) or content.get("status") != "error":
        return None
    lines = content.get("traceback")
    text = "\n".join(str(line) for line in lines[:200]) if isinstance(lines, list) else ""
    return CellError(
        _plain(content.get("ename", "Exception"), 200),
        _plain(content.get("evalue", ""), _SHORT),
        _plain(text, _TRACEBACK),
    )


def _printed(cell: Any) -> str:
    """What a person would read below the cell."""
    parts: list[str] = []
    for output in cell.get("outputs", []):
        if output.get("output_type") == "stream":
            parts.append(str(output.get("text", "")))
        elif isinstance(output.get("data"), dict):
            parts.append(f"{output['data'].get('text/plain', '(a figure or widget)')}\n")
    return _plain("".join(parts), _TEXT)
