"""What a teaching assistant wants to know of a whole class, computed once for the page and for the terminal.

Trusted; pure functions of reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from grader.records import Report, Status
from grader.reports import view
from grader.reports.audience import is_private

__all__ = ["GRADER_FAULT_SHARE", "ClassSummary", "CriterionShare", "summarize"]

GRADER_FAULT_SHARE = 0.8
"""A criterion that more than this share of the class fails says more about the grader or the text than about the class."""

_NAMED = 5
_Flagged = tuple[Report, tuple[view.Reason, ...]]
"""A submission that a person should look at, and why: at least one reason."""
_FEW = 5
"""Below this many judged submissions a share says nothing."""


@dataclass(frozen=True, slots=True)
class CriterionShare:
    """How the class did on one criterion. Submissions with nothing to run and those under review are not counted."""

    id: str
    """Id of the criterion."""
    title: str
    """The sentence the student reads."""
    passed: int
    """Number of submissions that passed."""
    failed: int
    """Number that failed."""
    skipped: int
    """Number not judged because of an earlier criterion."""

    @property
    def judged(self) -> int:
        """Passed, failed and skipped together."""
        return self.passed + self.failed + self.skipped

    @property
    def reached(self) -> int:
        """Passed and failed together."""
        return self.passed + self.failed


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """A class at a glance. The lists are in the order of names."""

    reports: tuple[Report, ...]
    """All, by name."""
    totals: tuple[int | float, ...]
    """The final totals of those that have one."""
    possible: int
    """Points possible; the largest, should reports differ."""
    review: tuple[_Flagged, ...]
    """Those without a final number."""
    problems: tuple[_Flagged, ...]
    """Those with nothing that could be run, whose score a person has decided."""
    suspicious: tuple[_Flagged, ...]
    """Submissions a person may want to look at; once per reason."""
    slowest: tuple[Report, ...]
    """Up to five, by CPU time, slowest first."""
    endings: tuple[tuple[str, int], ...]
    """How the runs ended, in words, and how many ended so; the most frequent first."""
    criteria: tuple[CriterionShare, ...]
    """One per criterion, in the order of the rubric."""

    @property
    def median(self) -> float | None:
        """Median of the totals; None without any."""
        return median(self.totals) if self.totals else None

    @property
    def suspect(self) -> tuple[CriterionShare, ...]:
        """Criteria that so many fail of those that reached them that it is likely a fault of the grader or the assignment text."""
        reached = (one for one in self.criteria if one.reached >= _FEW)
        return tuple(one for one in reached if one.failed / one.reached > GRADER_FAULT_SHARE)

    @property
    def suspicions(self) -> tuple[str, ...]:
        """The same in sentences, one for all of which equally many fail; ids stand in backticks."""
        alike: dict[tuple[int, int], list[str]] = {}
        for one in self.suspect:
            alike.setdefault((one.failed, one.reached), []).append(f"`{one.id}`")
        return tuple(
            f"{failed} of the {reached} that reached {'it' if len(ids) == 1 else 'them'} fail {', '.join(ids)}"
            for (failed, reached), ids in alike.items()
        )

    @property
    def histogram(self) -> tuple[tuple[str, int], ...]:
        """Ten equal classes of totals, or as many as there are points: their bounds in words, and how many totals each has.

        The last includes full marks.
        """
        many = max(1, min(10, self.possible))
        counts = Counter(min(many - 1, max(0, int(total * many // self.possible))) for total in self.totals)
        bounds = [at * self.possible // many for at in range(many + 1)]
        spans = [(bounds[at], bounds[at + 1] - (at < many - 1)) for at in range(many)]
        return tuple((f"{low}–{high}" if low < high else f"{low}", counts[at]) for at, (low, high) in enumerate(spans))


def summarize(reports: Sequence[Report]) -> ClassSummary:
    """Sum up a class; an empty one is fine."""
    by_name = tuple(sorted(reports, key=lambda r: (r.submission.display_name.casefold(), r.submission.id)))
    run = sorted((r for r in by_name if r.execution), key=lambda r: -(view.cpu_seconds(r) or 0))
    return ClassSummary(
        reports=by_name,
        totals=tuple(r.score.total for r in by_name if r.score.total is not None),
        possible=max((r.score.possible for r in by_name), default=0),
        review=tuple((r, view.review_reasons(r)) for r in by_name if view.needs_review(r)),
        problems=tuple(
            (r, (view.Reason(r.submission.problem),))
            for r in by_name
            if r.submission.problem and not view.needs_review(r)
        ),
        suspicious=tuple(_suspicious(by_name)),
        slowest=tuple(run[:5]),
        endings=tuple(Counter(view.outcome_word(r) for r in by_name).most_common()),
        criteria=_criteria(by_name),
    )


def _suspicious(reports: Sequence[Report]) -> Iterator[_Flagged]:
    copies: dict[str, list[Report]] = {}
    for report in reports:
        copies.setdefault(report.submission.sha256 or report.submission.id, []).append(report)
    for report in reports:
        others = [r.submission.display_name for r in copies.get(report.submission.sha256, ()) if r is not report]
        if others:
            who = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
            plural = "s" if len(others) > 1 else ""
            text = f"The very same file was handed in by {len(others)} other{plural}. See {who}."
            yield report, (view.Reason(text),)
        private = filter(is_private, view.all_notices(report))
        yield from ((report, (view.Reason(notice.text),)) for notice in private)


def _criteria(reports: Sequence[Report]) -> tuple[CriterionShare, ...]:
    known = {result.id: result for report in reports for result in report.score.criteria}
    found = Counter(
        (result.id, view.status_of(result))
        for report in reports
        if not report.submission.problem
        for result in report.score.criteria
    )
    judged = (Status.PASSED, Status.FAILED, Status.SKIPPED)
    return tuple(
        CriterionShare(id_, result.title, *(found[id_, status] for status in judged)) for id_, result in known.items()
    )
