"""A report in the words and groups that every renderer shows: parts of the rubric, symbols, sentences, measured numbers.

Trusted code; the texts it passes on may be a student's and are cleaned and escaped by the renderer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grader.records import CellRun, CriterionResult, Notice, Outcome, Report, Status

__all__ = [
    "SYMBOLS",
    "WORDS",
    "Method",
    "Part",
    "Reason",
    "all_notices",
    "counts",
    "cpu_seconds",
    "failing_cells",
    "headline",
    "isolation",
    "methods",
    "needs_review",
    "outcome_sentence",
    "outcome_word",
    "parts",
    "review_reasons",
    "status_of",
]

SYMBOLS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.SKIPPED: "–", Status.ERROR: "?"}
"""One character per status, so that colour is never the only sign."""

WORDS = {
    Status.PASSED: "passed",
    Status.FAILED: "not passed",
    Status.SKIPPED: "not judged",
    Status.ERROR: "needs review",
}
"""The same in words, for people and for screen readers."""

_OUTCOMES = {
    Outcome.COMPLETED: "completed",
    Outcome.TIMED_OUT: "out of time",
    Outcome.OUT_OF_MEMORY: "out of memory",
    Outcome.OUTPUT_LIMIT: "too much output",
    Outcome.DISK_LIMIT: "too many files",
    Outcome.PROCESS_LIMIT: "too many processes",
    Outcome.KERNEL_DIED: "kernel died",
    Outcome.IDLE: "asleep",
    Outcome.SANDBOX_FAILED: "sandbox failed",
}
_ISOLATION = {
    "warm": "in a locked box of its own (bubblewrap), forked from a warm kernel",
    "cold": "in a locked box of its own (bubblewrap), with a fresh kernel",
    "none": "without isolation, as a plain process",
}


@dataclass(frozen=True, slots=True)
class Part:
    """The criteria of one part of the assignment, in the order of the rubric."""

    key: str
    """What their ids start with, e.g. `lora`."""
    title: str
    """Heading for people."""
    criteria: tuple[CriterionResult, ...]
    """The results."""

    @property
    def possible(self) -> int:
        """Points possible."""
        return sum(result.points for result in self.criteria)

    @property
    def earned(self) -> int:
        """Points certain so far."""
        return sum(result.earned or 0 for result in self.criteria)

    @property
    def open(self) -> bool:
        """Whether a criterion still has no points."""
        return any(result.earned is None for result in self.criteria)


@dataclass(frozen=True, slots=True)
class Method:
    """The measured numbers of one way of fine-tuning; None where a fact is absent or not a number."""

    key: str
    """`full`, `head`, `lora`, or what else was measured."""
    title: str
    """Name for people."""
    accuracy: float | None
    """Share of held-out reviews classified rightly, 0 to 1."""
    threshold: float | None
    """The minimum accuracy, 0 to 1."""
    trainable: int | None
    """Number of trainable parameters when the training began."""
    steps: int | None
    """Optimizer steps."""
    seconds: float | None
    """CPU seconds of the training."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why a person has to look, with the criteria that share it."""

    text: str
    """The reason in a sentence."""
    criteria: tuple[CriterionResult, ...] = ()
    """The criteria it keeps open; empty when the whole submission is meant."""

    @property
    def where(self) -> str:
        """The criteria by id, shortened; empty when the whole submission is meant."""
        ids = [result.id for result in self.criteria]
        return ", ".join(ids) if len(ids) <= 4 else f"{', '.join(ids[:3])} and {len(ids) - 3} more"


def review_reasons(report: Report) -> tuple[Reason, ...]:
    """Why a report needs review: what concerns the whole first, then each different reason with all of its criteria."""
    if report.score.total is not None:
        return ()
    unsettled = [r for r in report.score.criteria if r.earned is None and r.verdict.status is Status.ERROR]
    known = {f"{result.id}: {result.verdict.message}" for result in unsettled}
    same: dict[str, list[CriterionResult]] = {}
    for result in unsettled:
        same.setdefault(result.verdict.message, []).append(result)
    # A reason for the whole that ends in a criterion's own words says the same thing once more.
    whole = [
        Reason(text, tuple(same.pop(next((m for m in same if m and text.endswith(m)), ""), ())))
        for text in report.score.review
        if text not in known
    ]
    return (*whole, *(Reason(text, tuple(found)) for text, found in same.items())) or (Reason("No reason was given."),)


def status_of(result: CriterionResult) -> Status:
    """The status to show: points set by hand overrule what the check found."""
    if result.override:
        return Status.PASSED if result.earned == result.points else Status.FAILED
    return result.verdict.status


def parts(report: Report) -> tuple[Part, ...]:
    """The rubric by part: criteria are grouped by what stands before the `/` in their id."""
    groups: dict[str, list[CriterionResult]] = {}
    for result in report.score.criteria:
        groups.setdefault(result.id.partition("/")[0] if "/" in result.id else "", []).append(result)
    return tuple(Part(key, part_title(report, key), tuple(results)) for key, results in groups.items())


def part_title(report: Report, key: str) -> str:
    """Heading of a part of the rubric: the assignment's, else the key itself."""
    return report.groups.get(key) or key.replace("-", " ").capitalize() or "Criteria"


def needs_review(report: Report) -> bool:
    """Whether the report has no final number."""
    return report.score.total is None


def counts(report: Report) -> dict[Status, int]:
    """How many criteria have which status; all four are keys."""
    found = [status_of(result) for result in report.score.criteria]
    return {status: found.count(status) for status in Status}


def headline(report: Report) -> str:
    """The result in a sentence."""
    found, score = counts(report), report.score
    if needs_review(report):
        return f"Needs review: {score.earned} of {score.possible} points are certain so far."
    if report.submission.problem:
        return "There was nothing to run, so no criterion could be judged."
    if found[Status.PASSED] == len(score.criteria):
        by_hand = sum(bool(result.override) for result in score.criteria)
        return f"All {len(score.criteria)} criteria passed" + (f", {by_hand} of them set by hand." if by_hand else ".")
    sentence = f"{found[Status.PASSED]} of {len(score.criteria)} criteria passed"
    if found[Status.SKIPPED]:
        sentence += f"; {found[Status.SKIPPED]} could not be judged because of an earlier one"
    return sentence + "."


def outcome_word(report: Report) -> str:
    """How the run ended, in two or three words."""
    if report.execution is None:
        return "not run"
    if report.execution.outcome is Outcome.COMPLETED and failing_cells(report):
        return "cell failed"
    return _OUTCOMES[report.execution.outcome]


def outcome_sentence(report: Report) -> str:
    """How the run went, in a sentence or two."""
    execution = report.execution
    if execution is None:
        return "No cell was run: there was no notebook to run." if report.submission.problem else "No cell was run."
    failed = failing_cells(report)
    sentence = execution.outcome.sentence
    if execution.outcome is Outcome.COMPLETED and failed:
        sentence = "The notebook was run to its end, but not every cell succeeded."
    if failed:
        where = ", ".join(str(cell.index + 1) for cell in failed[:5]) + (", …" if len(failed) > 5 else "")
        sentence += f" Cell {where} failed." if len(failed) == 1 else f" Cells {where} failed."
    not_run = sum(cell.status == "not_run" for cell in execution.cells)
    if not_run:
        sentence += " One code cell was not reached." if not_run == 1 else f" {not_run} code cells were not reached."
    return sentence


def failing_cells(report: Report) -> tuple[CellRun, ...]:
    """The cells that ended with an exception or in which the kernel ended."""
    cells = report.execution.cells if report.execution else ()
    return tuple(cell for cell in cells if cell.status in ("error", "killed"))


def isolation(mode: str) -> str:
    """How a run was isolated, as the end of the sentence `The notebook ran ...`."""
    return _ISOLATION.get(mode, f"in the mode “{mode}”")


def cpu_seconds(report: Report) -> float | None:
    """CPU seconds of the submission; None when it was not run."""
    return report.execution.usage.cpu_seconds if report.execution else None


def methods(report: Report) -> tuple[Method, ...]:
    """The measured numbers per method, known ones first; whatever is not a finite number is left out."""
    found = report.metrics.get("methods")
    if not isinstance(found, Mapping):
        return ()
    known = [key for key in report.groups if key in found]
    keys = known + [key for key in found if key not in known]
    return tuple(_method(report, str(key), found[key]) for key in keys if isinstance(found[key], Mapping))


def _method(report: Report, key: str, metrics: Mapping[str, Any]) -> Method:
    trainable, steps = _number(metrics.get("trainable")), _number(metrics.get("steps"))
    return Method(
        key,
        part_title(report, key),
        _share(metrics.get("accuracy")),
        _share(metrics.get("threshold")),
        None if trainable is None else int(trainable),
        None if steps is None else int(steps),
        _number(metrics.get("seconds")),
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _share(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None


def all_notices(report: Report) -> tuple[Notice, ...]:
    """Every notice of the report once, from intake to judging, without those that stand at a criterion."""
    execution = report.execution.notices if report.execution else ()
    return tuple(dict.fromkeys(_chain((report.submission.notices, report.notices, execution))))


def _chain(groups: Iterable[tuple[Notice, ...]]) -> Iterable[Notice]:
    for group in groups:
        yield from group
