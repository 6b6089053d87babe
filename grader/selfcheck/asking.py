"""Questions put to what the running kernel holds, by the agent that puts them in the box; the kernel is left as it was found."""

from __future__ import annotations

import contextlib
import functools
import io
import random
import secrets
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from grader.grading.wire import encode, observed
from grader.inside import agent
from grader.inside.hooks import running_shell, torch
from grader.records import Attempt, Evidence, Observation, Verdict
from grader.rubric.assignment import Assignment
from grader.rubric.judge import judge
from grader.rubric.questions import Question

__all__ = ["Alone", "ask", "ask_all", "draw", "set_up", "shell", "undisturbed", "verdicts"]


def shell() -> Any:
    """The running IPython shell; without one, something in its place that holds the names of `__main__`."""
    return running_shell() or _no_shell()


@functools.cache
def _no_shell() -> Any:
    events = types.SimpleNamespace(register=lambda *_: None)
    return types.SimpleNamespace(user_ns=vars(sys.modules["__main__"]), events=events)


@functools.cache
def set_up() -> Any:
    """Begin to watch trainings and what cells leave behind, once; gives the witness."""
    kernel = types.SimpleNamespace(shell=shell())
    return agent.setup(kernel, "grader.selfcheck.watching:watch")


class Named(agent.Context):
    """Sees the whole notebook, but finds by name only: whatever a function does on trial, it would do to the student's own work."""

    def __init__(self) -> None:
        super().__init__(types.SimpleNamespace(shell=shell()), set_up())

    def candidates(self, *_tried: Any) -> list[Any]:
        return []


class Alone(agent.Context):
    """Sees nothing of the notebook but the names it is given."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        super().__init__(types.SimpleNamespace(shell=types.SimpleNamespace(user_ns=dict(names))), set_up())

    def _scopes(self) -> list[dict[str, Any]]:
        return [self.names]

    def _modules(self) -> list[dict[str, Any]]:
        return []


def draw(assignment: Assignment, facts: Any = None) -> Mapping[str, Question]:
    """The questions of the assignment, drawn anew."""
    return assignment.draw(secrets.token_hex(16), facts)


def ask(question: Question, context: agent.Context | None = None, **also: Any) -> Observation:
    """Put a question, what follows up on it, and its second half, to the notebook or to what a context sees.

    `also` are further parameters. Raises KeyboardInterrupt when it is interrupted.
    """
    asked = replace(question, params={**question.params, **also})
    params, buffers = encode(asked.params)
    kernel = types.SimpleNamespace(shell=shell())
    reply, found = agent.handle(kernel, {"op": asked.op, "params": params}, buffers, context or Named())
    if str(reply.get("error")).startswith("KeyboardInterrupt"):
        raise KeyboardInterrupt
    # nothing is secret here: what the student's code raised may be told
    seen = observed(replace(asked, public=True), reply, found)
    if question.followup is not None and question.followup.wanted(seen):
        return ask(question.followup.question, context, **also)
    if question.then is not None and seen.attempt is Attempt.VALUE:
        return ask(question.then, context, **{**also, "handed": seen.value})
    return seen


def ask_all(questions: Mapping[str, Question], context: agent.Context | None = None) -> dict[str, Observation]:
    """Put several questions."""
    with undisturbed():
        return {name: ask(question, context) for name, question in questions.items()}


def verdicts(
    assignment: Assignment, questions: Mapping[str, Question], seen: Mapping[str, Observation]
) -> dict[str, Verdict]:
    """Judge as the grading does; criteria of questions that were not asked have no verdict."""
    found = judge(assignment, Evidence("", dict(seen)), questions)
    return {name: verdict for name, verdict in found.items() if assignment.checks[name].asks in seen}


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep printed text back, and put the random states of Python, NumPy and PyTorch back at the end."""
    states: list[tuple[Any, Any]] = [(random.setstate, random.getstate()), (torch.set_rng_state, torch.get_rng_state())]
    states.append((np.random.set_state, np.random.get_state()))
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    if torch.backends.mps.is_available():
        states.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield
    finally:
        for put_back, state in states:
            put_back(state)
