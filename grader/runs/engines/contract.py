"""What the batch asks of an engine: a context manager that lends a `concurrent.futures.Executor`. Trusted.

An engine decides where worker processes run. It never sees results being recorded: the coordinator does that, alone.
"""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from grader.runs.engines.worker import Order

__all__ = ["Engine", "Session"]


def _nothing_to_scale(_left: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Session:
    """Workers that are ready to be given submissions."""

    executor: cf.Executor
    """Runs `grader.runs.engines.worker.serve`; its workers share nothing with the coordinator but this call."""
    window: int
    """How many submissions to keep in flight: one per slot, and a few to hide the way there and back."""
    expect: Callable[[int], None] = _nothing_to_scale
    """Called with the number of submissions that are not finished yet, so that workers nobody needs can go."""


class Engine(Protocol):
    """Where submissions are run."""

    name: str
    """A few words for people, e.g. `2 processes of this machine`."""

    def open(self, order: Order) -> AbstractContextManager[Session]:
        """Bring workers up, make sure that they are fit for the order, and end or release them at the end.

        Raises EngineError when no worker can be had, or one is unfit.
        """
        ...
