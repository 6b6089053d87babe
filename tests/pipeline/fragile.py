"""An assignment whose check does to its process whatever the evidence says: what a bug of a check, or of a library, could let it do."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from grader.records import Observation, Verdict
from grader.rubric.assignment import Assignment
from grader.rubric.compare import expect_equal, passed
from grader.rubric.questions import Question, call


def _raise_base() -> None:
    raise BaseException("no ordinary one")


def _recur(depth: int = 0) -> int:
    return _recur(depth + 1) + 1


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(3600)


DOES = {
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "leave": lambda: os._exit(0),
    "base exception": _raise_base,
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "spin": lambda: any(iter(int, 1)),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stand still": _stop,
}
HARMLESS = ("recursion", "gigabytes")
"""What a check may do and the judge sees to by itself."""
DOES |= {"recursion": _recur, "gigabytes": lambda: bytearray(8 << 30)}
METRICS = ("odd metrics", "metrics of gigabytes")
"""What comes of it after judging."""


def _metrics(_questions: Any, observations: Any) -> dict[str, Any]:
    what = observations["odd"].value
    return {"odd": object() if what == "odd metrics" else bytearray(8 << 30)} if what in METRICS else {}


FRAGILE = Assignment("fragile", "One odd function", preload=(), metrics=_metrics)


@FRAGILE.question("odd")
def _odd(_draw: Any) -> Question:
    return call("odd")


@FRAGILE.check("odd/value", points=3, asks="odd")
def is_three(_asked: Question, seen: Observation) -> Verdict:
    """`odd()` returns 3."""
    if isinstance(seen.value, str):
        DOES.get(seen.value, lambda: None)()
    return expect_equal(seen.value, 3)


@FRAGILE.check("odd/shown", points=1, asks="odd")
def is_shown(_asked: Question, seen: Observation) -> Verdict:
    """Whatever `odd()` returns is shown."""
    return passed(f"It is {seen.value!r}.")
