"""One submission's kernel, from its start to its end: cells through nbclient with its traps closed, questions beside them.

Trusted code that reads untrusted bytes. nbclient's features for honest notebooks are off: kernel name and tags of the notebook,
widgets, input, unbounded outputs. Two clocks and a watchdog run beside the cells; the outcome says truthfully what ended a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import nbformat
from zmq.error import ZMQError

from grader.errors import SandboxError
from grader.records import CellError, CellRun
from grader.sandbox.channels import BoundedClient, lost, race
from grader.sandbox.contract import (
    BoxSpec,
    EvidenceTooLarge,
    KernelGone,
    Limits,
    MachineFault,
    Outcome,
    QuestionCpuStarved,
    QuestionIdle,
    QuestionTimedOut,
    Usage,
)
from grader.sandbox.handed import HandedOut
from grader.sandbox.meter import Sample, machine_kills
from grader.sandbox.outputs import CellClient, completed, error_of, plain, printed, symptom
from grader.sandbox.pool import KernelPool
from grader.sandbox.provisioner import Provisioner
from grader.sandbox.question_clock import QuestionClock, was_held_up

__all__ = ["KernelSession"]

_READY_SECONDS = 600.0  # a cold start imports the libraries: two minutes and more on cores that many others use
_GRACE_SECONDS = 10.0
"""How long an interrupted cell may take to come back, in wall seconds: exception handlers may have to run."""
_SLEPT = (
    "For {:.0f} s the notebook used next to no CPU time, on a machine that had some to give, and this cell was interrupted. Does it wait"
    " for something that does not come: a sleep, a lock, an input, a worker that has ended?"
)
_SHORT = "the machine, or the group of processes it runs in, ran out of memory and ended a process of the submission"
_BUSY = "the machine was too busy: after {:.0f} s the submission still waited for a processor"


class KernelSession:
    """A kernel for one submission; an async context manager.

    Entering starts it (SandboxError when that fails). `run_cell` and `ask` are called one at a time.
    `alive` says whether it can still be asked; `outcome` is the first limit it met, and final once the session has ended.
    """

    def __init__(
        self,
        pool: KernelPool,
        spec: BoxSpec | None = None,
        limits: Limits | None = None,
        handed: HandedOut | None = None,
    ) -> None:
        """Start nothing yet. `handed` is what another kernel handed out: operations here may read it, and nobody may write it."""
        self.pool, self.spec, self.limits = pool, spec or BoxSpec(), limits or Limits()
        self.outcome = Outcome.COMPLETED
        self.detail = ""
        """What the kernel's process said last on its own standard error, for the log of a failure; untrusted text."""
        self.fault: SandboxError | None = None
        """What the machine did to the submission, with the outcome SANDBOX_FAILED: nobody's points hang on it. Else None."""
        self._provisioner = Provisioner(self.pool, self.spec, self.limits, handed)
        self._client: BoundedClient
        self._notebook: CellClient
        self._connected = False
        self._last = self._start = Sample()
        self._sampling = threading.Lock()
        self._started = self._asked_cpu = self._wall = 0.0
        self._kills = machine_kills()
        self._peak = 0
        self._deadline = math.inf
        self._clock = QuestionClock(self.limits.idle_seconds)
        self._stop, self._lost = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    # ---- start and end ----

    async def __aenter__(self) -> Self:
        self._started = time.monotonic()
        try:
            info = await self._provisioner.start()
            self._client = BoundedClient.connected(info, self.limits, lambda: self._kill(Outcome.OUTPUT_LIMIT))
            self._connected = True
            self._notebook = CellClient.of(self._client, self._provisioner.ended)
            for channel in (self._client.shell_channel, self._client.iopub_channel):
                self._tasks.append(asyncio.create_task(self._guard(channel)))
            await self._ready()
            if meter := self._provisioner.meter:
                meter.begin()
            self._tasks.append(asyncio.create_task(self._watch()))
        except BaseException as error:
            await self._close()
            self.outcome = Outcome.SANDBOX_FAILED
            if isinstance(error, (SandboxError, asyncio.CancelledError, KeyboardInterrupt)):
                raise
            raise SandboxError(f"the kernel could not be started: {type(error).__name__}: {error}") from error
        self._started, self._start = time.monotonic(), self._sample()
        return self

    async def _ready(self) -> None:
        """Wait for an answer on the shell channel and any message on the output channel, however they come."""
        self._client.kernel_info()
        both = asyncio.gather(self._client.shell_channel.get_msg(), self._client.iopub_channel.get_msg())
        if not await race(both, _READY_SECONDS, self._provisioner.ended):
            what = f"gave no answer within {_READY_SECONDS:g} s" if self.alive else "ended while it started"
            raise SandboxError(f"the kernel {what}: {self._provisioner.last_words() or 'no reason given'}")

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
        await asyncio.shield(self._provisioner.end())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connected:
            self._client.close()
        await self._provisioner.close()

    # ---- what it is and has used ----

    @property
    def mode(self) -> str:
        """How it really runs: `warm`, `cold` (also while the zygote is not there) or `none`."""
        return self._provisioner.mode

    @property
    def pid(self) -> int:
        """Process id of the kernel as seen from here; of a cold one, of the box's first process."""
        return self._provisioner.pid

    @property
    def folder(self) -> Path | None:
        """The session's private folder on the host, after whose name its control group is called; gone with the session."""
        return self._provisioner.folder

    def handed_out(self) -> HandedOut:
        """The file that the last question handed out; to be read when the session has ended, since no code can write it then."""
        return self._provisioner.handed_out()

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

    def _sample(self) -> Sample:
        """A fresh reading, from whatever thread; the last one once everything was ended."""
        meter = self._provisioner.meter
        with self._sampling:
            if meter is not None and not self._provisioner.finished:
                self._last = meter.sample()
                self._peak = max(self._peak, meter.peak_bytes())
            return self._last

    async def _reading(self) -> Sample:
        """A fresh reading, without blocking the event loop: of hundreds of processes one takes a second."""
        return await self.pool.in_thread(self._sample)

    def _note(self, outcome: Outcome) -> None:
        """Remember the first limit that was met."""
        if self.outcome is Outcome.COMPLETED:
            self.outcome = outcome

    def _kill(self, outcome: Outcome) -> None:
        """End the submission because of `outcome`."""
        self._note(outcome)
        self._sample()
        self._provisioner.end()

    def _kill_for_machine(self, fault: SandboxError) -> None:
        """End the submission because the machine could not run it; whatever limits it met before tell nothing."""
        self.outcome, self.fault = Outcome.SANDBOX_FAILED, fault
        self._provisioner.end()

    # ---- the watchdog ----

    async def _watch(self) -> None:
        meter = self._provisioner.meter
        seconds = meter.pause if meter is not None else 0.1
        while not self._provisioner.ended.is_set():
            now = await self._reading()
            if self.alive:
                self._judge(now)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._provisioner.ended.wait(), seconds)
        self._gone()

    def _judge(self, now: Sample) -> None:
        limits, clock = self.limits, time.monotonic()
        if now.killed_from_outside:
            self._kill_for_machine(MachineFault(_SHORT))
            return
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
        elif (wall := clock - self._started) > limits.wall_seconds:
            if was_held_up(now.waited_seconds - self._start.waited_seconds, wall):
                self._kill_for_machine(SandboxError(_BUSY.format(wall)))
            else:
                self._kill(Outcome.TIMED_OUT)
        elif self._clock.expired(now.cpu_seconds, clock, now.waited_seconds) or now.cpu_seconds > self._deadline:
            self._stop.set()

    def _gone(self) -> None:
        """The kernel has ended by itself, or was ended: say why."""
        if self._closed:
            return
        self._judge(self._sample())  # a limit met a moment ago may be why
        self.detail = plain(self._provisioner.last_words(), 1_000)
        if self.outcome is Outcome.COMPLETED and self._provisioner.uncounted and machine_kills() > self._kills:
            self._kill_for_machine(MachineFault(_SHORT))
        self._note(Outcome.KERNEL_DIED)
        self._provisioner.end()  # what it has left behind ends with it

    async def _guard(self, channel: Any) -> None:
        """Wait until a connection drops: that means the kernel's end, a message above the size limit, or a closed socket."""
        too_large = await lost(channel, self._provisioner.ended)
        if not too_large:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._provisioner.ended.wait(), 1.0)
        if self._provisioner.ended.is_set():
            return
        if not too_large:
            self._kill(Outcome.KERNEL_DIED)  # a kernel without its sockets is none
        elif channel is self._client.iopub_channel:
            self._kill(Outcome.OUTPUT_LIMIT)
        else:
            self._lost.set()

    # ---- cells ----

    async def run_cell(self, source: str, index: int) -> CellRun:
        """Run one cell. Never raises because of what the cell does.

        Status `ok`; `error` (its exception is recorded, or that it slept and was interrupted); `killed` when a limit or the kernel's
        end stopped it: see `alive` and `outcome`. After TIMED_OUT the kernel often lives on, interrupted, and can still be asked;
        further cells are not run. After a sleeper they are, until the third one.
        """
        before, began = await self._reading(), time.monotonic()
        cell = nbformat.v4.new_code_cell(source)
        reply: dict[str, Any] = {}
        status = "killed"
        if self.alive and self.outcome is not Outcome.TIMED_OUT:
            self._stop.clear()
            self._lost.clear()
            self._deadline = self._start.cpu_seconds + self._asked_cpu + self.limits.cpu_seconds
            self._notebook.on_cell_executed = lambda **executed: reply.update(executed["execute_reply"] or {})
            self._clock.begin(before.cpu_seconds, math.inf, began, before.waited_seconds)
            try:
                status = await self._execute(cell)
            finally:
                self._deadline = math.inf
                self._clock.end()
        after = await self._reading()
        self._judge(after) if self.alive else self._gone()  # the watchdog may not have come round yet
        used = max(0.0, after.cpu_seconds - before.cpu_seconds)
        error = error_of(reply) if status in ("ok", "slept") else None
        if status == "slept":
            status, error = (
                "error",
                CellError("Asleep", _SLEPT.format(self._clock.slept), error.traceback if error else ""),
            )
        elif error is not None:
            status = "error"
            if met := symptom(error):
                self._note(met)
        return CellRun(index, status, time.monotonic() - began, used, error, printed(cell))

    async def _execute(self, cell: Any) -> str:
        """`ok` when the cell came to an end, whatever it raised; `slept` when it had to be interrupted first; `killed` else."""
        task = asyncio.ensure_future(self._notebook.run(cell))
        try:
            if await race(asyncio.shield(task), None, self._stop, self._lost):
                if await completed(task):
                    return "ok"
                if self.alive:
                    self._kill(Outcome.KERNEL_DIED)
                return "killed"
            if self._lost.is_set():  # the reply itself was too large
                self._kill(Outcome.OUTPUT_LIMIT)
            elif isinstance(self._clock.verdict, QuestionIdle):
                self._note(Outcome.IDLE)
                if await self._interrupt(task) and not self._clock.exhausted:
                    await completed(task)
                    return "slept"
                self._kill(Outcome.IDLE)
            else:
                self._note(Outcome.TIMED_OUT)
                if not await self._interrupt(task):
                    self._kill(Outcome.TIMED_OUT)
            await completed(task)
            return "killed"
        finally:
            if not task.done():
                task.cancel()
                await completed(task)

    async def _interrupt(self, task: asyncio.Future[Any], seconds: float = _GRACE_SECONDS) -> bool:
        """Send SIGINT until the running request comes to its end, which it gets some time for."""
        for _attempt in range(int(seconds)):
            self._provisioner.interrupt()
            done, _ = await asyncio.wait([task], timeout=1.0)
            if done or not self.alive:
                break
        return task.done() and self.alive

    # ---- questions ----

    async def ask(
        self, content: dict[str, Any], buffers: Sequence[bytes] = (), *, cpu_seconds: float
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Send one question to the agent in the kernel; its answer and buffers, both untrusted.

        All questions of a session may use as much CPU time as its cells. Raises KernelGone, or what became of one question (see the
        contract) while the kernel lives on.
        """
        if not self.alive:
            raise KernelGone(self._why_gone())
        cpu_seconds = min(cpu_seconds, self.limits.cpu_seconds - self._asked_cpu)
        if cpu_seconds <= 0:
            raise QuestionTimedOut("nothing: earlier questions have used up the CPU time of all of them")
        now = await self._reading()
        before = now.cpu_seconds
        self._stop.clear()
        self._lost.clear()
        self._clock.begin(before, cpu_seconds, time.monotonic(), now.waited_seconds)
        socket = self._client.shell_channel.socket
        try:
            message = self._client.session.send(socket, "grader_request", content, buffers=list(buffers))
        except ZMQError:
            self._kill(Outcome.KERNEL_DIED)  # it does not take anything any more
            raise KernelGone(self._why_gone()) from None
        drain = asyncio.create_task(self._client.drain())
        answer = asyncio.ensure_future(self._client.answer(message["header"]["msg_id"]))
        try:
            if not await race(asyncio.shield(answer), None, self._provisioner.ended, self._stop, self._lost):
                await self._give_up(answer)
            reply = answer.result()
        finally:
            self._clock.end()
            for task in (answer, drain):
                task.cancel()
            await asyncio.gather(answer, drain, return_exceptions=True)
            self._asked_cpu += max(0.0, (await self._reading()).cpu_seconds - before)
            if self._lost.is_set() and self.alive:
                self._client.reopen_shell()
                self._tasks.append(asyncio.create_task(self._guard(self._client.shell_channel)))
        return reply["content"], [bytes(buffer) for buffer in reply["buffers"]]

    async def _give_up(self, answer: asyncio.Future[Any]) -> None:
        """Raise what an answer that did not come means."""
        if not self.alive:
            raise KernelGone(self._why_gone())
        if self._lost.is_set():
            raise EvidenceTooLarge(f"the answer was larger than {self.limits.message_bytes >> 20} MiB")
        verdict = self._clock.verdict
        if not await self._interrupt(answer, self._clock.grace_seconds):
            if self.alive:
                self._kill(Outcome.TIMED_OUT)
            raise verdict if isinstance(verdict, QuestionCpuStarved) else KernelGone(self._why_gone())
        if self._clock.exhausted:
            self._kill(Outcome.IDLE)
        raise verdict

    def _why_gone(self) -> Outcome:
        self._gone()
        return Outcome.KERNEL_DIED if self.outcome is Outcome.COMPLETED else self.outcome
