"""The confusion matrix of judging: labelled submissions, what they lost, and where that differs from their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from grader.records import Status, Verdict

__all__ = ["Difference", "Judged", "Matrix", "Row", "difference", "matrix", "rows", "summary"]

KINDS = ("false fail", "miss", "misplaced", "review")
"""How verdicts may differ from a label, the worst first."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled submission and its verdicts."""

    name: str
    """Unique within its part."""
    part: str
    """The part of the corpus it belongs to, e.g. `functions` or `trainings`."""
    loses: frozenset[str]
    """The criteria that must not be passed; empty for a right submission."""
    verdicts: Mapping[str, Verdict]
    """Criterion id -> verdict, of every criterion that this part judges."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A submission whose verdicts are not those of its label."""

    case: str
    """The submission's name."""
    kind: str
    """`false fail` (right, and loses), `miss` (wrong, and keeps all), `misplaced`, or `review`."""
    text: str
    """What was expected and what came."""


@dataclass(frozen=True, slots=True)
class Row:
    """One criterion over all labelled submissions that it judged."""

    criterion: str
    """Its id."""
    kept: int
    """Must be passed and was."""
    false_fail: int
    """Must be passed and was not."""
    true_fail: int
    """Must be lost and was."""
    missed: int
    """Must be lost and was passed."""
    review: int
    """Needs a person, whatever the label says."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """What `grader verify` prints of a corpus."""

    head: tuple[str, ...]
    """Titles of the columns, the first one that of the criteria."""
    unwanted: tuple[str, ...]
    """The columns in which every number should be 0."""
    rows: tuple[tuple[str, ...], ...]
    """The cells of a line per criterion."""
    wrong: tuple[Difference, ...]
    """Submissions whose verdicts are not those of their labels."""
    summary: str
    """The corpus in one sentence."""

    @property
    def markdown(self) -> str:
        """All of it as Markdown."""
        table = [self.head, ("---", *["---:"] * (len(self.head) - 1)), *self.rows]
        lines = ["## Labelled corpus", "", *(f"| {' | '.join(cells)} |" for cells in table)]
        lines += ["", f"{self.summary}.", *(f"- **{wrong.kind}** {wrong.case}: {wrong.text}" for wrong in self.wrong)]
        return "\n".join(lines) + "\n"


def difference(case: Judged) -> Difference | None:
    """Compare verdicts with a label; a skipped criterion must name a failed one as its root."""
    found = case.verdicts
    lost = {criterion for criterion, verdict in found.items() if verdict.status in (Status.FAILED, Status.SKIPPED)}
    said = "; ".join(f"{c} {v.status}: {v.message}" for c, v in found.items() if v.status is not Status.PASSED)
    text = f"expected to lose {sorted(case.loses) or 'nothing'}, got {said or 'nothing'}"
    if any(verdict.status is Status.ERROR for verdict in found.values()):
        return Difference(case.name, "review", text)
    if lost == case.loses:
        skipped = (c for c, v in found.items() if v.status is Status.SKIPPED)
        rootless = [
            c for c in skipped if (root := found.get(found[c].because)) is None or root.status is not Status.FAILED
        ]
        return Difference(case.name, "misplaced", f"no failed root for {rootless}: {text}") if rootless else None
    kind = "false fail" if not case.loses else "miss" if not lost else "misplaced"
    return Difference(case.name, kind, text)


def rows(cases: Iterable[Judged]) -> list[Row]:
    """The matrix, one row per criterion in the order in which they first appear."""
    counts: dict[str, dict[str, int]] = {}
    for case in cases:
        for criterion, verdict in case.verdicts.items():
            row = counts.setdefault(
                criterion, dict.fromkeys(("kept", "false_fail", "true_fail", "missed", "review"), 0)
            )
            must_lose, passed = criterion in case.loses, verdict.status is Status.PASSED
            if verdict.status is Status.ERROR:
                row["review"] += 1
            elif must_lose:
                row["missed" if passed else "true_fail"] += 1
            else:
                row["kept" if passed else "false_fail"] += 1
    return [Row(criterion, **row) for criterion, row in counts.items()]


def summary(cases: Iterable[Judged]) -> str:
    """The corpus in one sentence: how many right and wrong cases, and how many of each kind of difference."""
    cases = list(cases)
    found = [wrong.kind for case in cases if (wrong := difference(case)) is not None]
    right = sum(not case.loses for case in cases)
    words = ("false fails", "misses", "misplaced", "to review")
    counts = ", ".join(f"{found.count(kind)} {word}" for kind, word in zip(KINDS, words, strict=True))
    return f"{right} right and {len(cases) - right} wrong cases: {counts}"


def matrix(cases: Iterable[Judged]) -> Matrix:
    """All of it, as `grader verify` prints it: a line per criterion, what differs, and the sum."""
    cases = list(cases)
    head = ("criterion", "kept", "false fail", "true fail", "missed", "review")
    lines = tuple(
        (row.criterion, *map(str, (row.kept, row.false_fail, row.true_fail, row.missed, row.review)))
        for row in rows(cases)
    )
    wrong = tuple(found for case in cases if (found := difference(case)) is not None)
    return Matrix(head, ("false fail", "missed", "review"), lines, wrong, summary(cases))
