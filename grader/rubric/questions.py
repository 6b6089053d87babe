"""Questions as data: what is asked inside the box, and what the judge knows about the right answer.

A question is drawn again from the run's seed whenever it is judged, so that a verdict can be recomputed years later.
Trusted: made by the grader. `params` goes into the box, `secret` never does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from grader.records import Observation
from grader.rubric.answers import ANYTHING, Answer

__all__ = ["Draw", "Followup", "Question", "call", "seed_for"]


@dataclass(frozen=True, slots=True)
class Question:
    """One question: an operation known inside the box, its parameters, and what only the judge knows."""

    op: str
    """`call`, or `package.module:function` of trusted code that is visible inside the box."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Plain data and numpy arrays, sent into the box."""
    secret: Mapping[str, Any] = field(default_factory=dict)
    """What the judge needs and the box must not see."""
    cpu_seconds: float = 60.0
    """CPU time the answer may take."""
    followup: Followup | None = None
    """What is asked in its place where the answer leaves something open."""
    answer: Answer = ANYTHING
    """What it can be answered with (see `grader.rubric.answers`); operations of one's own have to declare it."""
    public: bool = False
    """Whether `params` are the same for everybody and known, so that texts of exceptions may be shown; such questions come first."""
    then: Question | None = None
    """What a clean box is asked when the notebook's kernel has ended: there runs nothing of the student's, and lies nothing but what
    the operation handed out, in a file (`grader.inside.tensors.HANDED`) and as the parameter `handed`. Its answer is what is judged."""

    @property
    def names(self) -> tuple[str, ...]:
        """What students may call that which is asked about, the assignment's own name first; empty where it has none."""
        return tuple(self.params.get("names", ()))

    @property
    def whole(self) -> Question:
        """The question whose answer leaves nothing open: the follow-up, or the question itself without one.

        Of a question with a second half that half is made whole, and its own follow-up stays: it asks for what is to be handed out.
        """
        if self.then is not None:
            return replace(self, then=self.then.whole)
        return self if self.followup is None else self.followup.question


@dataclass(frozen=True, slots=True)
class Followup:
    """A dearer question, asked of the same kernel where the answer to a cheap one leaves something open."""

    question: Question
    """What is asked; its answer takes the place of the first one."""
    wanted: Callable[[Observation], bool]
    """Whether the first answer leaves something open. Called outside of the box, in a guard; where that ends badly the first counts."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What a question may be drawn from."""

    rng: np.random.Generator
    """Random numbers that depend on the run's seed and on the question's id."""
    facts: Any = None
    """What the assignment knows of the bundle (see `Assignment.facts`)."""


def seed_for(secret: bytes, sha256: str) -> str:
    """Seed of a submission's questions: HMAC-SHA256 of its digest under the run's secret, in hex."""
    return hmac.new(secret, sha256.encode("ascii"), hashlib.sha256).hexdigest()


def generator(seed: str, question_id: str) -> np.random.Generator:
    """Generator for one question: same seed and id, same numbers."""
    digest = hashlib.sha256(f"{seed}/{question_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def call(
    name: str, *args: Any, names: tuple[str, ...] = (), expected: Any = None, cpu_seconds: float = 20.0
) -> Question:
    """Ask for `name(*args)`; `names` are further accepted names, `expected` stays with the judge."""
    return Question("call", {"names": [name, *names], "args": list(args)}, {"expected": expected}, cpu_seconds)
