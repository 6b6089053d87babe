"""A report in the words and groups that every renderer shows: parts of the rubric, remarks, sentences, measured numbers.

Trusted code; the texts it passes on may be a student's and are cleaned and escaped by the renderer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grader.records import CellRun, CriterionResult, Notice, Outcome, Report, Status
from grader.rubric.numbers import decimal

__all__ = [
    "SYMBOLS",
    "WORDS",
    "Method",
    "Part",
    "Reason",
    "Remark",
    "about_machines",
    "adapted",
    "all_notices",
    "counts",
    "cpu_seconds",
    "duration",
    "earned",
    "failing_cells",
    "headline",
    "isolation",
    "methods",
    "needs_review",
    "outcome_sentence",
    "outcome_word",
    "parts",
    "place",
    "remarks",
    "review_reasons",
    "status_of",
    "total",
]

SYMBOLS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.SKIPPED: "–", Status.ERROR: "?"}
"""One character per status, so that colour is never the only sign."""

WORDS = {
    Status.PASSED: "passed",
    Status.FAILED: "not passed",
    Status.SKIPPED: "not judged",
    Status.ERROR: "not decided yet",
}
"""The same in words, for people and for screen readers."""

_OUTCOMES = {
    Outcome.TIMED_OUT: "out of time",
    Outcome.OUTPUT_LIMIT: "too much output",
    Outcome.DISK_LIMIT: "too many files",
    Outcome.PROCESS_LIMIT: "too many processes",
}
"""How a run ended in other words than its name."""
_ISOLATION = {
    "warm": "in a locked box of its own (bubblewrap), forked from a warm kernel",
    "cold": "in a locked box of its own (bubblewrap), with a fresh kernel",
    "none": "without isolation, as a plain process",
}


@dataclass(frozen=True, slots=True)
class Part:
    """The criteria of one part of the assignment, in the order of the rubric."""

    title: str
    """Heading for people."""
    criteria: tuple[CriterionResult, ...]
    """The results."""

    @property
    def points(self) -> str:
        """Points certain so far and points possible, e.g. `8+? / 20`."""
        certain = decimal(sum(result.earned or 0 for result in self.criteria))
        more = "+?" if any(result.earned is None for result in self.criteria) else ""
        return f"{certain}{more} / {decimal(sum(result.points for result in self.criteria))}"


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence that stands below a criterion."""

    kind: str
    """`measured` (of a passed one), `seen`, `skipped`, `try`, `read`, `note` or `by-hand`."""
    label: str
    """Word to put before it, without a colon; may be empty."""
    text: str
    """The sentence."""
    url: str = ""
    """Where it leads."""


@dataclass(frozen=True, slots=True)
class Method:
    """The measured numbers of one way of fine-tuning."""

    title: str
    """Name for people."""
    accuracy: float | None
    """Share of held-out reviews classified rightly, 0 to 1; None where it was not measured."""
    threshold: float | None
    """The minimum accuracy, 0 to 1; None where there is none."""
    columns: Mapping[str, str]
    """Heading -> number as text, `–` where a number is absent; `Accuracy` and `Minimum` among them."""


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


def needs_review(report: Report) -> bool:
    """Whether the report has no final number."""
    return report.score.total is None


def total(report: Report) -> str:
    """The final number and the possible one, or that there is no final one yet."""
    return (
        "not final yet"
        if needs_review(report)
        else f"{decimal(report.score.total or 0)} / {decimal(report.score.possible)}"
    )


def review_reasons(report: Report) -> tuple[Reason, ...]:
    """Why a report needs review: what concerns the whole first, then each different reason with all of its criteria."""
    if not needs_review(report):
        return ()
    unsettled = [r for r in report.score.criteria if r.earned is None and r.verdict.status is Status.ERROR]
    known = {f"{result.id}: {result.verdict.message}" for result in unsettled}
    texts = [text for text in report.score.review if text not in known]
    same: dict[str, list[CriterionResult]] = {}
    for result in () if report.submission.problem else unsettled:  # else every criterion says the same
        same.setdefault(result.verdict.message, []).append(result)
    # A reason for the whole that ends in a criterion's own words says the same thing once more.
    whole = [Reason(text, tuple(same.pop(next((m for m in same if m and text.endswith(m)), ""), ()))) for text in texts]
    return (*whole, *(Reason(text, tuple(found)) for text, found in same.items())) or (Reason("No reason was given."),)


def status_of(result: CriterionResult) -> Status:
    """The status to show: points set by hand overrule what the check found."""
    if result.override:
        return Status.PASSED if result.earned == result.points else Status.FAILED
    return result.verdict.status


def earned(result: CriterionResult) -> str:
    """Points earned, `?` while they are open."""
    return "?" if result.earned is None else decimal(result.earned)


def remarks(result: CriterionResult) -> tuple[Remark, ...]:
    """What stands below a criterion: what was seen, what to try, where to read on, notes, and the reason for points set by hand."""
    verdict = result.verdict
    open_ = verdict.status in (Status.FAILED, Status.ERROR)
    kind = {Status.PASSED: "measured", Status.SKIPPED: "skipped"}.get(verdict.status, "seen")
    found = (
        Remark(kind, "Seen" if verdict.status is Status.FAILED else "", verdict.message),
        Remark("try", "Try", verdict.hint if open_ else ""),
        *(
            Remark("read", "Read on", page.title, page.url)
            for page in [result.read]
            if page and verdict.hint and status_of(result) is Status.FAILED
        ),
        *(Remark("note", "Note", notice.text) for notice in verdict.notices),
        Remark("by-hand", "Points set by hand", result.override),
    )
    return tuple(remark for remark in found if remark.text)


def parts(report: Report) -> tuple[Part, ...]:
    """The rubric by part: criteria are grouped by what stands before the `/` in their id."""
    groups: dict[str, list[CriterionResult]] = {}
    for result in report.score.criteria:
        groups.setdefault(result.id.partition("/")[0] if "/" in result.id else "", []).append(result)
    return tuple(Part(_title(report, key), tuple(results)) for key, results in groups.items())


def _title(report: Report, group: str) -> str:
    return report.groups.get(group) or group.replace("-", " ").capitalize() or "Criteria"


def counts(report: Report) -> dict[Status, int]:
    """How many criteria have which status; all four are keys."""
    found = [status_of(result) for result in report.score.criteria]
    return {status: found.count(status) for status in Status}


def headline(report: Report) -> str:
    """The result in a sentence."""
    found, score = counts(report), report.score
    if needs_review(report):
        return f"Not final yet: {decimal(score.earned)} of {decimal(score.possible)} points are certain so far."
    if report.submission.problem:
        return "There was nothing to run, so no criterion could be judged."
    if found[Status.PASSED] == len(score.criteria):
        by_hand = sum(bool(result.override) for result in score.criteria)
        every = "The one criterion" if len(score.criteria) == 1 else f"All {len(score.criteria)} criteria"
        return f"{every} passed" + (f", {by_hand} of them set by hand." if by_hand else ".")
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
    return _OUTCOMES.get(report.execution.outcome, report.execution.outcome.replace("_", " "))


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
    if execution.outcome is Outcome.COMPLETED and 0 < not_run == len(execution.cells):
        return "No cell was run: only imports, functions, classes and plain settings were taken from the notebook."
    if not_run:
        sentence += " One code cell was not reached." if not_run == 1 else f" {not_run} code cells were not reached."
    return sentence


def failing_cells(report: Report) -> tuple[CellRun, ...]:
    """The cells that ended with an exception or in which the kernel ended."""
    cells = report.execution.cells if report.execution else ()
    return tuple(cell for cell in cells if cell.status in ("error", "killed"))


def adapted(report: Report) -> tuple[tuple[str, str], ...]:
    """Each reason for an adaptation once, after the places that were adapted."""
    places: dict[str, dict[str, None]] = {}
    for change in report.adaptations:
        places.setdefault(change.reason, {})[place(change.cell)] = None
    return tuple((", ".join(found), reason) for reason, found in places.items())


def place(cell: int | None) -> str:
    """Where in the notebook, for people: cells are counted from 1 at the top, text cells included."""
    return "whole notebook" if cell is None else f"cell {cell + 1}"


def isolation(mode: str) -> str:
    """How a run was isolated, as the end of the sentence `The notebook ran ...`."""
    return _ISOLATION.get(mode, f"in the mode “{mode}”")


def cpu_seconds(report: Report) -> float | None:
    """CPU seconds of the submission; None when it was not run."""
    return report.execution.usage.cpu_seconds if report.execution else None


def duration(seconds: float | None) -> str:
    """A time for people: `7.1 s`, `15 min 09 s`; a dash for None."""
    if seconds is None:
        return "–"
    return f"{decimal(seconds, 1)} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def methods(report: Report) -> tuple[Method, ...]:
    """The measured numbers per method, known ones first; whatever is not a finite number is left out."""
    found = report.metrics.get("methods")
    if not isinstance(found, Mapping):
        return ()
    keys = dict.fromkeys([*(key for key in report.groups if key in found), *found])
    return tuple(_method(_title(report, str(key)), found[key]) for key in keys if isinstance(found[key], Mapping))


def _method(title: str, metrics: Mapping[str, Any]) -> Method:
    numbers = {key: value for key, value in metrics.items() if _is_number(value)}
    accuracy, threshold = (
        value if value is not None and 0 <= value <= 1 else None
        for value in (numbers.get("accuracy"), numbers.get("threshold"))
    )
    columns = {
        "Accuracy": "–" if accuracy is None else decimal(accuracy, 3),
        "Minimum": "–" if threshold is None else decimal(threshold, 3),
        "Trainable": decimal(int(numbers["trainable"])) if "trainable" in numbers else "–",
        "Steps": decimal(int(numbers["steps"])) if "steps" in numbers else "–",
        "CPU time": duration(numbers.get("seconds")),
    }
    return Method(title, accuracy, threshold, columns)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def about_machines(reports: Iterable[Report]) -> tuple[Notice, ...]:
    """What is to be said once of the machines that a class was run on: what they lack to cap submissions."""
    executions = (report.execution for report in reports if report.execution is not None)
    found = (notice for execution in executions for notice in execution.notices if notice.kind == "no-control-groups")
    return tuple(dict.fromkeys(found))


def all_notices(report: Report) -> tuple[Notice, ...]:
    """Every notice of the report once, from intake to judging, without those that stand at a criterion."""
    execution = report.execution.notices if report.execution else ()
    return tuple(dict.fromkeys((*report.submission.notices, *report.notices, *execution)))
