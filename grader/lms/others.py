"""What other platforms read: Gradescope's and PrairieLearn's results and Moodle's offline grading worksheet.

Trusted code; pure functions. Texts from students go out as plain text, never as HTML or Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grader.errors import UsageError
from grader.intake.names import printable
from grader.intake.roster import csv_rows, number
from grader.lms.gradebook import csv_text, number_cell
from grader.records import CriterionResult, Report, Status
from grader.reports.view import remarks, status_of

__all__ = ["gradescope_results", "moodle_worksheet", "prairielearn_results"]

_GRADESCOPE_STATUS = {Status.PASSED: "passed", Status.FAILED: "failed", Status.SKIPPED: "failed"}


def gradescope_results(report: Report) -> str:
    """Return Gradescope's `results.json` for one (student's) report.

    The points of the tests add up to the rubric's, as Gradescope wants. A criterion that needs review shows 0 points there,
    and the text at the top says that a person has to look at it.
    """
    output = [report.submission.problem or "", *(f"Not final yet: {reason}" for reason in report.score.review)]
    output += [notice.text for notice in report.notices]
    results: dict[str, Any] = {
        "score": report.score.earned,
        "output": "\n".join(line for line in output if line),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": [_test(result) for result in report.score.criteria],
    }
    if report.execution is not None:
        results["execution_time"] = round(report.execution.usage.wall_seconds)
    return json.dumps(results, ensure_ascii=False, indent=1) + "\n"


def _test(result: CriterionResult) -> dict[str, Any]:
    lines = ["Not decided yet: your teacher will look at it."] if result.earned is None else []
    lines += [f"{': '.join(filter(None, (one.label, one.text)))} {one.url}".rstrip() for one in remarks(result)]
    test: dict[str, Any] = {
        "name": printable(result.title),
        "number": result.id,
        "score": result.earned or 0,
        "max_score": result.points,
        "output": "\n".join(lines),
        "output_format": "text",
        "name_format": "text",
        "visibility": "visible",
    }
    if result.earned is not None and (status := status_of(result)) in _GRADESCOPE_STATUS:
        test["status"] = _GRADESCOPE_STATUS[status]
    return test


def prairielearn_results(report: Report) -> str:
    """Return PrairieLearn's `results.json` for one (student's) report, at most 1 MB as PrairieLearn wants.

    What needs review is `gradable: false`, which costs no attempt there and is no zero.
    """
    final = report.score.total is not None
    why = [report.submission.problem or "", *(f"Not final yet: {reason}" for reason in report.score.review)]
    results: dict[str, Any] = {
        "gradable": final,
        "score": report.score.earned / report.score.possible if final and report.score.possible else 0,
        "message": "\n".join(line for line in why if line)[:10_000],
        "output": "\n".join(notice.text for notice in report.notices)[:100_000],
        "tests": [
            {
                "name": printable(result.title),
                "description": result.id,
                "points": result.earned or 0,
                "max_points": result.points,
                "message": _test(result)["output"][:10_000],
            }
            for result in report.score.criteria
        ],
    }
    if not final:
        results["format_errors"] = [results["message"] or "A person has to look at it."]
    return json.dumps(results, ensure_ascii=False, indent=1) + "\n"


def moodle_worksheet(path: Path, scores: Mapping[str, float | None]) -> str:
    """Fill in Moodle's offline grading worksheet, as downloaded to `path`; returns the text to upload.

    `scores` are by participant id. Only the cells for the grade of scored students change. Raises UsageError when it is not
    such a worksheet (with English column names), or a score is above the maximum.
    """
    header, *rows = csv_rows(path, path.read_bytes())
    names = [cell.strip() for cell in header]
    if "Identifier" not in names or "Grade" not in names:
        raise UsageError(
            f"the class list is no grading worksheet of Moodle: it has the columns {', '.join(names[:10])}, but Identifier "
            "and Grade are needed (download it with Moodle's language set to English, and grade with it as --roster)"
        )
    id_at, grade_at = names.index("Identifier"), names.index("Grade")
    maximum_at = names.index("Maximum Grade") if "Maximum Grade" in names else None
    for row in rows:
        points = scores.get(row[id_at].strip().removeprefix("Participant ")) if len(row) == len(header) else None
        if points is None:
            continue
        maximum = number(row[maximum_at]) if maximum_at is not None else None
        if maximum is not None and points > maximum:
            raise UsageError(
                f"{row[id_at]} has {number_cell(points)} points, but Moodle's maximum is {number_cell(maximum)}"
            )
        row[grade_at] = number_cell(points)
    return csv_text([header, *rows])
