"""Scores and reviews of a class as CSV: comma, UTF-8 without a mark, one header line, nothing a spreadsheet would run.

Trusted. The gradebook file that Canvas imports is `grader.lms`'s business; these tables are for people and for statistics.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from grader.records import Report
from grader.reports.sanitize import csv_text
from grader.reports.view import cpu_seconds, outcome_word, review_reasons

__all__ = ["needs_review_csv", "scores_csv"]

_SCORE_COLUMNS = (
    "submission",
    "name",
    "student_ids",
    "section",
    "file",
    "late",
    "total",
    "possible",
    "certain",
    "needs_review",
)


def scores_csv(reports: Sequence[Report]) -> str:
    """One row per submission, a column per criterion. What needs review has an empty `total` and empty criteria."""
    ids = list(dict.fromkeys(result.id for report in reports for result in report.score.criteria))
    rows: list[list[str]] = [[*_SCORE_COLUMNS, *ids, "ended", "cpu_seconds", "sha256"]]
    for report in reports:
        submission, score = report.submission, report.score
        earned = {result.id: result.earned for result in score.criteria}
        cpu = cpu_seconds(report)
        rows.append(
            [
                submission.id,
                submission.display_name,
                " ".join(submission.student_ids),
                submission.section or "",
                submission.file_name,
                "yes" if submission.late else "",
                _points(score.total),
                str(score.possible),
                str(score.earned),
                "yes" if score.total is None else "",
                *(_points(earned.get(id_)) for id_ in ids),
                outcome_word(report),
                "" if cpu is None else f"{cpu:.1f}",
                submission.sha256,
            ]
        )
    return _csv(rows)


def needs_review_csv(reports: Sequence[Report]) -> str:
    """One row per reason; `criteria` is empty where the whole submission is meant, `points` is what they are worth."""
    rows: list[list[str]] = [["submission", "name", "file", "criteria", "points", "reason", "certain", "possible"]]
    for report in reports:
        submission, score = report.submission, report.score
        rows += (
            [
                submission.id,
                submission.display_name,
                submission.file_name,
                " ".join(result.id for result in reason.criteria),
                str(sum(result.points for result in reason.criteria)) if reason.criteria else "",
                reason.text,
                str(score.earned),
                str(score.possible),
            ]
            for reason in review_reasons(report)
        )
    return _csv(rows)


def _points(points: int | None) -> str:
    return "" if points is None else str(points)


def _csv(rows: Iterable[Iterable[str]]) -> str:
    out = io.StringIO()
    # Every cell is quoted: a spreadsheet that guesses the separator then has nothing to guess wrong.
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([csv_text(cell) for cell in row] for row in rows)
    return out.getvalue()
