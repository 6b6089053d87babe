"""Scores and reviews of a class as CSV: comma, UTF-8 without a mark, one header line, nothing a spreadsheet would run.

Trusted. The gradebook file that Canvas imports is `grader.lms`'s business; these tables are for people and for statistics.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from grader.records import Report
from grader.reports import view
from grader.reports.sanitize import csv_text

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
_REVIEW_COLUMNS = (
    "submission",
    "name",
    "file",
    "criterion",
    "points",
    "reason",
    "certain",
    "possible",
    "give",
    "explanation",
)


def scores_csv(reports: Sequence[Report]) -> str:
    """One row per submission, a column per criterion. What needs review has an empty `total` and empty criteria."""
    ids = dict.fromkeys(result.id for report in reports for result in report.score.criteria)
    return _csv([*_SCORE_COLUMNS, *ids, "ended", "cpu_seconds", "sha256"], [_scores(report) for report in reports])


def _scores(report: Report) -> dict[str, object]:
    submission, score, cpu = report.submission, report.score, view.cpu_seconds(report)
    return {
        "submission": submission.id,
        "name": submission.display_name,
        "student_ids": " ".join(submission.student_ids),
        "section": submission.section,
        "file": submission.file_name,
        "late": "yes" if submission.late else "",
        "total": score.total,
        "possible": score.possible,
        "certain": score.earned,
        "needs_review": "yes" if score.total is None else "",
        **{result.id: result.earned for result in score.criteria},
        "ended": view.outcome_word(report),
        "cpu_seconds": None if cpu is None else f"{cpu:.1f}",
        "sha256": submission.sha256,
    }


def needs_review_csv(reports: Sequence[Report]) -> str:
    """One row per reason and criterion; `criterion` is empty where the whole submission is meant, `points` is what it is worth.

    `give` and `explanation` are for a person to fill in, for `grader override --from`.
    """
    rows: list[dict[str, object]] = [
        {
            "submission": report.submission.id,
            "name": report.submission.display_name,
            "file": report.submission.file_name,
            "criterion": result.id if result else "",
            "points": result.points if result else None,
            "reason": reason.text,
            "certain": report.score.earned,
            "possible": report.score.possible,
        }
        for report in reports
        for reason in view.review_reasons(report)
        for result in reason.criteria or (None,)
    ]
    return _csv(_REVIEW_COLUMNS, rows)


def _csv(columns: Sequence[str], rows: Sequence[dict[str, object]]) -> str:
    out = io.StringIO()
    # Every cell is quoted: a spreadsheet that guesses the separator then has nothing to guess wrong.
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow([csv_text(column) for column in columns])
    writer.writerows([csv_text(_cell(row.get(column))) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    return "" if value is None else str(value)
