"""The default engine: worker processes of this machine, each with its own warm zygote. Trusted."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from grader.errors import GraderError
from grader.runs.engines.contract import Session
from grader.runs.engines.worker import Order, begin

__all__ = ["LocalEngine"]

_ENDING_SECONDS = 8.0  # a worker takes five at most, see `grader.runs.engines.worker`


class LocalEngine:
    """`workers` processes of this machine."""

    def __init__(self, workers: int) -> None:
        """Take the number of processes; at least one."""
        self.workers = max(1, workers)
        self.name = f"{self.workers} {'process' if self.workers == 1 else 'processes'} of this machine"

    @contextlib.contextmanager
    def open(self, order: Order) -> Iterator[Session]:
        """Lend a process pool; on an error what waits is dropped and what runs is waited for, on Ctrl-C nothing is."""
        context = multiprocessing.get_context("spawn")
        executor = cf.ProcessPoolExecutor(self.workers, mp_context=context, initializer=_enter, initargs=(order,))
        try:
            yield Session(executor, self.workers)
            executor.shutdown(wait=True)
        except KeyboardInterrupt:
            _end_now(executor)
            raise
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def _end_now(executor: cf.ProcessPoolExecutor) -> None:
    """Tell all workers to clean up and end, and do not wait long for any."""
    workers = list((executor._processes or {}).values())  # a public way comes with Python 3.14
    for worker in workers:
        worker.terminate()
    last = time.monotonic() + _ENDING_SECONDS
    for worker in workers:
        worker.join(max(0.0, last - time.monotonic()))
        worker.kill()
    executor.shutdown(wait=True, cancel_futures=True)


def _enter(order: Order) -> None:
    """Make this process a worker that ends with its coordinator and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_coordinator, daemon=True).start()
    with contextlib.suppress(GraderError):  # `serve` meets it again, and can say it to the coordinator
        begin(replace(order, identity={}))


def _follow_coordinator() -> None:
    """End with the coordinator, also when it was killed and could not say so; boxes and zygote end with this process."""
    coordinator = multiprocessing.parent_process()
    if coordinator is not None:
        coordinator.join()
        os._exit(1)
