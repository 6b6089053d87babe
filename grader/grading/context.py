"""What all submissions of a run share. Judging needs nothing of what runs student code, so it is not imported here."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from grader.bundles.bundle import Bundle
from grader.grading.fingerprint import digest_of, question_digest, versions
from grader.grading.settings import Settings
from grader.records import (
    Attempt,
    Evidence,
    Execution,
    Notebook,
    Notice,
    Observation,
    Outcome,
    Submission,
    SubmissionRun,
    Usage,
)
from grader.rubric.assignment import Assignment
from grader.rubric.questions import Question, seed_for

__all__ = ["RunContext"]

_NO_NOTEBOOK = Notebook((), 0)


@dataclass(frozen=True)
class RunContext:
    """What all submissions of a run share: assignment, bundle, secret, and what follows from them."""

    assignment: Assignment
    """The rubric and its questions."""
    bundle: Bundle
    """What submissions run against."""
    secret: bytes
    """What seeds and held-out reviews are drawn from."""
    facts: Any
    """What the questions need to know of the bundle."""
    settings: Settings = field(default_factory=Settings)
    """What the course has set."""
    definitions: bool = False
    """Whether only imports, functions, classes and plain settings of notebooks are run."""

    @classmethod
    def create(
        cls, assignment: Assignment, bundle: Bundle, secret: bytes, settings: Settings | None = None
    ) -> RunContext:
        """Read the bundle once for a whole run. Raises UsageError for settings of what there is not."""
        settings = settings or Settings()
        assignment, bundle = settings.apply(assignment, bundle)
        return cls(assignment, bundle, secret, assignment.facts(bundle, secret), settings)

    def only(self, part: str = "", *, definitions: bool = False) -> RunContext:
        """The same with a part of the assignment, or what definitions alone can answer. Raises UsageError when nothing is left."""
        assignment = self.assignment.only(part, definitions=definitions)
        return replace(self, assignment=assignment, definitions=definitions)

    @property
    def bundle_name(self) -> str:
        """The bundle's name and what tells it from others of that name, as records have it."""
        return f"{self.bundle.name} {self.bundle.digest[:12]}"

    def questions(self, seed: str) -> Mapping[str, Question]:
        """All questions of a seed."""
        return self.assignment.draw(seed, self.facts)

    @functools.cached_property
    def question_sample(self) -> str:
        """Digest of the questions of fixed seeds: another one means that other questions are asked (also of all others)."""
        drawn = (("a", self.questions("a")), ("b", self.questions("b")))
        return digest_of({f"{seed} {name}": question_digest(q) for seed, found in drawn for name, q in found.items()})

    def seed(self, submission: Submission, companions: Mapping[str, bytes] | None = None, draw: int = 0) -> str:
        """Seed of a submission's questions: all that was handed in decides, `companions` by base name included.

        Else what one submission learns of its draws could be handed in beside the same notebook. Another `draw` is another seed.
        """
        parts = {name: hashlib.sha256(data).hexdigest() for name, data in (companions or {}).items()}
        parts |= {"draw/": str(draw)} if draw else {}  # no file is called so
        return seed_for(self.secret, digest_of({"": submission.sha256, **parts}) if parts else submission.sha256)

    def unseen(
        self,
        submission: Submission,
        why: str,
        *,
        ours: bool = True,
        notebook: Notebook = _NO_NOTEBOOK,
        sandbox: str = "none",
        notices: tuple[Notice, ...] = (),
    ) -> SubmissionRun:
        """A run in which nothing was asked. `ours`: by a fault of the grader, so that a person decides; else it earns nothing."""
        outcome, attempt = (Outcome.SANDBOX_FAILED, Attempt.FAULT) if ours else (Outcome.COMPLETED, Attempt.NOT_ASKED)
        execution = Execution(outcome, (), Usage(), sandbox, versions(), self.bundle_name, notices)
        observations = {name: Observation(attempt, error=why) for name in self.assignment.questions}
        return SubmissionRun(notebook, execution, Evidence(self.seed(submission), observations), why if ours else "")
