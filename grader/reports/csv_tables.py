"""Scores and reviews of a class as CSV: comma, UTF-8 without a mark, one header line, nothing a spreadsheet would run.

Trusted. The gradebook file that Canvas imports is `grader.lms`'s business; these tables are for people and for statistics.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence

from grader.records import Report
from grader.reports import view
from grader.reports.sanitize import csv_text

__all__ = ["needs_review_csv", "scores_csv"]

_SCORES: dict[str, Callable[[Report], object]] = {
    "submission": lambda report: report.submission.id,
    "name": lambda report: report.submission.display_name,
    "student_ids": lambda report: " ".join(report.submission.student_ids),
    "section": lambda report: report.submission.section,
    "file": lambda report: report.submission.file_name,
    "late": lambda report: "yes" if report.submission.late else "",
    "total": lambda report: report.score.total,
    "possible": lambda report: report.score.possible,
    "certain": lambda report: report.score.earned,
    "needs_review": lambda report: "yes" if view.needs_review(report) else "",
}
_AFTER_THE_CRITERIA: dict[str, Callable[[Report], object]] = {
    "ended": view.outcome_word,
    "cpu_seconds": lambda report: report.execution and f"{report.execution.usage.cpu_seconds:.1f}",
    "sha256": lambda report: report.submission.sha256,
}
_REVIEWS = (
    "submission", "name", "file", "criterion", "points", "reason", "certain", "possible", "give", "explanation",
)  # fmt: skip


def scores_csv(reports: Sequence[Report]) -> str:
    """One row per submission, a column per criterion. What needs review has an empty `total` and empty criteria."""
    ids = dict.fromkeys(result.id for report in reports for result in report.score.criteria)
    rows: list[Iterable[object]] = [(*_SCORES, *ids, *_AFTER_THE_CRITERIA)]
    for report in reports:
        earned = {result.id: result.earned for result in report.score.criteria}
        cells = [cell(report) for cell in _SCORES.values()]
        rows.append([*cells, *map(earned.get, ids), *(cell(report) for cell in _AFTER_THE_CRITERIA.values())])
    return _csv(rows)


def needs_review_csv(reports: Sequence[Report]) -> str:
    """One row per reason and criterion; `criterion` is empty where the whole submission is meant, `points` is what it is worth.

    `give` and `explanation` are for a person to fill in, for `grader override --from`.
    """
    rows: list[Iterable[object]] = [_REVIEWS]
    for report in reports:
        who, score = report.submission, report.score
        for reason in view.review_reasons(report):
            for result in reason.criteria or (None,):
                criterion = (result.id, result.points) if result else ("", "")
                cells = (who.id, who.display_name, who.file_name, *criterion, reason.text)
                rows.append((*cells, score.earned, score.possible, "", ""))
    return _csv(rows)


def _csv(rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    # Every cell is quoted: a spreadsheet that guesses the separator then has nothing to guess wrong.
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([csv_text("" if cell is None else str(cell)) for cell in row] for row in rows)
    return out.getvalue()
