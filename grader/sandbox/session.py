"""One submission's kernel, from its start to its end: its cells and the questions that follow, which are requests alike.

Trusted code that reads untrusted bytes. Two clocks and a watchdog run beside each request; the outcome says truthfully what ended a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from grader.errors import EvidenceError, SandboxError
from grader.records import CellError, CellRun
from grader.sandbox.channels import TOO_WIDE, Channel, Client, Take, race
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
from grader.sandbox.outputs import CellOutputs, error_of, symptom
from grader.sandbox.pool import KernelPool
from grader.sandbox.provisioner import Provisioner
from grader.sandbox.question_clock import QuestionClock, was_held_up

__all__ = ["KernelSession"]

_READY_SECONDS = 600.0  # a cold start imports the libraries: two minutes and more on cores that many others use
_LATE_SECONDS = 0.05
"""How long after a kernel's end a reply that it sent just before is still read."""
_NO_REPLY = CellError("NoReply", "The kernel came to rest without an answer.", "")
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
        self.fault: SandboxError | None = None
        """What the machine did to the submission, with the outcome SANDBOX_FAILED: nobody's points hang on it. Else None."""
        self.kernel = Provisioner(self.pool, self.spec, self.limits, handed)
        """Its process: what mode it runs in, its id, its folder, what it hands out."""
        self._client: Client
        self._connected = False
        self._last = self._start = Sample()
        self._sampling = threading.Lock()
        self._started = self._asked_cpu = self._wall = 0.0
        self._kills = machine_kills()
        self._deadline = math.inf
        self._clock = QuestionClock(self.limits.idle_seconds)
        self._stop, self._lost = asyncio.Event(), asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    # ---- start and end ----

    async def __aenter__(self) -> Self:
        self._started = time.monotonic()
        try:
            info = await self.kernel.start()
            self._client = Client(info, self.limits, lambda: self._kill(Outcome.OUTPUT_LIMIT))
            self._connected = True
            for channel in (self._client.shell, self._client.output):
                self._tasks.append(asyncio.create_task(self._guard(channel)))
            await self._ready()
            if meter := self.kernel.meter:
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
        """Wait until the kernel has answered on both channels. Raises SandboxError."""
        if not await race(self._client.greet(), _READY_SECONDS, self.kernel.ended):
            what = f"gave no answer within {_READY_SECONDS:g} s" if self.alive else "ended while it started"
            raise SandboxError(f"the kernel {what}: {self.kernel.last_words() or 'no reason given'}")

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
        await asyncio.shield(self.kernel.end())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connected:
            await self._client.close()

    # ---- what it is and has used ----

    @property
    def alive(self) -> bool:
        """Whether the kernel is still there to be asked."""
        return not self._closed and not self.kernel.ended.is_set()

    @property
    def usage(self) -> Usage:
        """What the submission has used so far."""
        wall = self._wall or time.monotonic() - self._started
        return Usage(self._last.cpu_seconds, wall, self._last.peak_bytes, self._client.output.bytes)

    def _sample(self) -> Sample:
        """A fresh reading, from whatever thread; the last one once everything was ended."""
        meter = self.kernel.meter
        with self._sampling:
            if meter is not None and not self.kernel.finished:
                self._last = meter.sample()
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
        self.kernel.end()

    def _kill_for_machine(self, fault: SandboxError) -> None:
        """End the submission because the machine could not run it; whatever limits it met before tell nothing."""
        self.outcome, self.fault = Outcome.SANDBOX_FAILED, fault
        self.kernel.end()

    # ---- the watchdog ----

    async def _watch(self) -> None:
        assert self.kernel.meter is not None
        while not self.kernel.ended.is_set():
            now = await self._reading()
            if self.alive:
                self._judge(now)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.kernel.ended.wait(), self.kernel.meter.pause)
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
        if self.outcome is Outcome.COMPLETED and self.kernel.uncounted and machine_kills() > self._kills:
            self._kill_for_machine(MachineFault(_SHORT))
        self._note(Outcome.KERNEL_DIED)
        self.kernel.end()  # what it has left behind ends with it

    async def _guard(self, channel: Channel) -> None:
        """Wait until a connection drops: that means the kernel's end, a message above the size limit, or a closed socket."""
        too_large = await asyncio.shield(channel.connection.lost)
        if not too_large:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.kernel.ended.wait(), 1.0)
        if self.kernel.ended.is_set():
            return
        if not too_large:
            self._kill(Outcome.KERNEL_DIED)  # a kernel without its sockets is none
        elif channel is self._client.output:
            self._kill(Outcome.OUTPUT_LIMIT)
        else:
            self._lost.set()

    # ---- requests ----

    async def run_cell(self, source: str, index: int) -> CellRun:
        """Run one cell. Never raises because of what the cell does.

        Status `ok`; `error` (its exception is recorded, or that it slept and was interrupted); `killed` when a limit or the kernel's
        end stopped it: see `alive` and `outcome`. After TIMED_OUT the kernel often lives on, interrupted, and can still be asked;
        further cells are not run. After a sleeper they are, until the third one.
        """
        outputs, began, used = CellOutputs(), time.monotonic(), 0.0
        status, error = "killed", None
        if not self.alive:
            self._gone()  # the watchdog may not have come round yet
        elif self.outcome is not Outcome.TIMED_OUT:
            self._deadline = self._start.cpu_seconds + self._asked_cpu + self.limits.cpu_seconds
            content = {
                "code": source,
                "silent": False,
                "store_history": True,
                "allow_stdin": False,
                "stop_on_error": False,
            }
            try:
                reply, verdict, used = await self._request("execute", content, take=outputs.take)
            finally:
                self._deadline = math.inf
            if isinstance(verdict, EvidenceTooLarge):
                self._kill(Outcome.OUTPUT_LIMIT)
            elif isinstance(verdict, QuestionIdle) and self.alive:
                slept, status = error_of(reply or {}), "error"
                error = CellError("Asleep", _SLEPT.format(self._clock.slept), slept.traceback if slept else "")
            elif verdict is None and (reply or self.alive):
                error = error_of(reply) if reply else _NO_REPLY
                status = "error" if error else "ok"
                if error and (met := symptom(error)):
                    self._note(met)
        return CellRun(index, status, time.monotonic() - began, used, error, outputs.text)

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
        reply, verdict, used = await self._request("grader", content, buffers, cpu_seconds=cpu_seconds)
        self._asked_cpu += used
        if verdict is not None:
            raise verdict
        if reply is None:
            raise KernelGone(self._why_gone())
        if reply["content"] is TOO_WIDE:
            raise EvidenceTooLarge("an answer of more values than can be read")
        return reply["content"], [bytes(buffer) for buffer in reply["buffers"]]

    async def _request(
        self, kind: str, content: dict[str, Any], buffers: Sequence[bytes] = (), *,
        cpu_seconds: float = math.inf, take: Take | None = None,
    ) -> tuple[dict[str, Any] | None, EvidenceError | None, float]:  # fmt: skip
        """Send one request: its reply, if one came; why it was given up, where that is no news of the kernel's end; its CPU seconds."""
        before = await self._reading()
        self._stop.clear()
        if self._lost.is_set():  # by the last answer, or by what came unasked since
            self._lost.clear()
            await self._client.shell.connection.close()
            self._client.open_shell()
            self._tasks.append(asyncio.create_task(self._guard(self._client.shell)))
        self._clock.begin(before.cpu_seconds, cpu_seconds, time.monotonic(), before.waited_seconds)
        work = asyncio.create_task(self._client.request(kind, content, buffers, take))
        reply, verdict = None, None
        try:
            if await race(asyncio.shield(work), None, self.kernel.ended, self._stop, self._lost):
                reply = work.result()
            else:
                reply, verdict = await self._give_up(work, of_cell=take is not None)
        except OSError:
            self._kill(Outcome.KERNEL_DIED)  # it does not take anything any more
        finally:
            self._clock.end()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            after = await self._reading()
            self._judge(after) if self.alive else self._gone()
        return reply, verdict, max(0.0, after.cpu_seconds - before.cpu_seconds)

    async def _give_up(
        self, work: asyncio.Task[dict[str, Any] | None], *, of_cell: bool
    ) -> tuple[dict[str, Any] | None, EvidenceError | None]:
        """Interrupt a request that got no reply in its time: what came of it then, and why it was given up, as in `_request`."""
        if not self.alive:
            await asyncio.wait([work], timeout=_LATE_SECONDS)
            return work.result() if work.done() else None, None
        if self._lost.is_set():
            return None, EvidenceTooLarge(f"the answer was larger than {self.limits.message_bytes >> 20} MiB")
        verdict = self._clock.verdict
        outcome = Outcome.IDLE if isinstance(verdict, QuestionIdle) and of_cell else Outcome.TIMED_OUT
        if of_cell:
            self._note(outcome)
        for _second in range(int(self._clock.grace_seconds)):  # exception handlers may have to run
            self.kernel.interrupt()
            await asyncio.wait([work], timeout=1.0)
            if work.done() or not self.alive:
                break
        if work.done() and self.alive:
            if self._clock.exhausted:
                self._kill(Outcome.IDLE)
            return work.result(), verdict
        if self.alive:
            self._kill(outcome)
        return None, verdict if isinstance(verdict, QuestionCpuStarved) else None

    def _why_gone(self) -> Outcome:
        self._gone()
        return Outcome.KERNEL_DIED if self.outcome is Outcome.COMPLETED else self.outcome
