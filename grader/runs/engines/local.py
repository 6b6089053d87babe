"""The default engine: this process runs submissions side by side, each in a box of its own. Trusted."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import threading
from collections.abc import Iterator

from grader.grading.context import RunContext
from grader.grading.pipeline import Grader
from grader.records import SubmissionRun
from grader.runs.directory import RunInfo
from grader.runs.engines.contract import Job, OnStage, Session

__all__ = ["LocalEngine", "background_loop"]

_STOP_SECONDS = 10.0
"""How long submissions may take to end their boxes; closing the grader then ends what is left."""


class LocalEngine:
    """`slots` submissions side by side on this machine."""

    def __init__(self, slots: int) -> None:
        """Take the number of submissions side by side; at least one."""
        self.slots = max(1, slots)
        self.name = f"this machine, {self.slots} side by side" if self.slots > 1 else "this machine, one by one"

    @contextlib.contextmanager
    def open(self, info: RunInfo, context: RunContext, on_stage: OnStage) -> Iterator[Session]:
        """Open the sandbox and an event loop; what still runs at the end is stopped, and its box ended."""
        with Grader(context, sandbox=info.sandbox) as grader, background_loop() as loop:

            def submit(job: Job) -> cf.Future[SubmissionRun]:
                return asyncio.run_coroutine_threadsafe(job.run_in(grader, on_stage), loop)

            yield Session(submit, self.slots)


@contextlib.contextmanager
def background_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own, so that the main thread keeps Ctrl-C; at the end its tasks are cancelled."""
    started: cf.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = cf.Future()

    async def until_stopped() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(until_stopped()), name="submissions", daemon=True)
    thread.start()
    loop, stop = started.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_STOP_SECONDS)
