"""What a teaching assistant wants to know of a whole class, computed once for the page and for the terminal.

Trusted; pure functions of reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from grader.records import Report, Status
from grader.reports.audience import is_private
from grader.reports.view import all_notices, needs_review, outcome_word, status_of

__all__ = ["GRADER_FAULT_SHARE", "ClassSummary", "CriterionShare", "summarize"]

GRADER_FAULT_SHARE = 0.8
"""A criterion that more than this share of the class fails says more about the grader or the text than about the class."""

_FEW = 5
"""Below this many judged submissions a share says nothing."""


@dataclass(frozen=True, slots=True)
class CriterionShare:
    """How the class did on one criterion. Submissions with nothing to run and those under review are not counted."""

    id: str
    """Id of the criterion."""
    title: str
    """The sentence the student reads."""
    points: int
    """Points possible."""
    passed: int
    """Number of submissions that passed."""
    failed: int
    """Number that failed."""
    skipped: int
    """Number not judged because of an earlier criterion."""
    review: int
    """Number that need review at this criterion."""

    @property
    def judged(self) -> int:
        """Passed, failed and skipped together."""
        return self.passed + self.failed + self.skipped

    @property
    def share(self) -> float:
        """Share that passed, 0 to 1; 0 when none was judged."""
        return self.passed / self.judged if self.judged else 0.0

    @property
    def suspect(self) -> bool:
        """Whether so many of those that reached it fail that it is probably the grader's or the assignment text's fault."""
        reached = self.passed + self.failed
        return reached >= _FEW and self.failed / reached > GRADER_FAULT_SHARE


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """A class at a glance. The lists hold the reports themselves, in the order of names."""

    reports: tuple[Report, ...]
    """All, by name."""
    totals: tuple[int, ...]
    """The final totals of those that have one."""
    possible: int
    """Points possible; the largest, should reports differ."""
    review: tuple[Report, ...]
    """Those without a final number."""
    problems: tuple[Report, ...]
    """Those with nothing that could be run."""
    slowest: tuple[Report, ...]
    """Up to five, by CPU time, slowest first."""
    suspicious: tuple[tuple[Report, str], ...]
    """Submissions a person may want to look at, and why."""
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
        """Criteria that nearly everybody fails."""
        return tuple(criterion for criterion in self.criteria if criterion.suspect)


def summarize(reports: Sequence[Report]) -> ClassSummary:
    """Sum up a class; an empty one is fine."""
    by_name = tuple(sorted(reports, key=lambda r: (r.submission.display_name.casefold(), r.submission.id)))
    run = sorted(
        (r for r in by_name if r.execution), key=lambda r: -(r.execution.usage.cpu_seconds if r.execution else 0)
    )
    return ClassSummary(
        reports=by_name,
        totals=tuple(r.score.total for r in by_name if r.score.total is not None),
        possible=max((r.score.possible for r in by_name), default=0),
        review=tuple(r for r in by_name if needs_review(r)),
        problems=tuple(r for r in by_name if r.submission.problem),
        slowest=tuple(run[:5]),
        suspicious=_suspicious(by_name),
        endings=tuple(Counter(outcome_word(r) for r in by_name).most_common()),
        criteria=_criteria(by_name),
    )


def _suspicious(reports: Sequence[Report]) -> tuple[tuple[Report, str], ...]:
    found: list[tuple[Report, str]] = []
    copies = Counter(r.submission.sha256 for r in reports if r.submission.sha256)
    for report in reports:
        same = copies[report.submission.sha256] - 1 if report.submission.sha256 else 0
        if same:
            found.append((report, f"The very same file was handed in by {same} other{'s' if same > 1 else ''}."))
        private = [notice for notice in all_notices(report) if is_private(notice)]
        found += [(report, notice.text) for notice in private]
    return tuple(found)


def _criteria(reports: Sequence[Report]) -> tuple[CriterionShare, ...]:
    known = {result.id: result for report in reports for result in report.score.criteria}
    found = Counter(
        (result.id, status_of(result))
        for report in reports
        if not report.submission.problem
        for result in report.score.criteria
    )
    return tuple(
        CriterionShare(
            id_,
            result.title,
            result.points,
            found[id_, Status.PASSED],
            found[id_, Status.FAILED],
            found[id_, Status.SKIPPED],
            found[id_, Status.ERROR],
        )
        for id_, result in known.items()
    )
