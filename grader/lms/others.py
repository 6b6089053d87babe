"""What other platforms read: Gradescope's results.json and Moodle's offline grading worksheet.

Trusted code; pure functions. Texts from students go out as plain text, never as HTML or Markdown.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping
from typing import Any

from grader.errors import UsageError
from grader.intake.names import printable
from grader.lms.canvas import number_cell
from grader.records import Report, Status

__all__ = ["gradescope_results", "moodle_worksheet"]

_GRADESCOPE_STATUS = {Status.PASSED: "passed", Status.FAILED: "failed", Status.SKIPPED: "failed"}


def gradescope_results(report: Report) -> dict[str, Any]:
    """Return the content of Gradescope's `results.json` for one (student's) report.

    The points of the tests add up to the rubric's, as Gradescope wants. A criterion that needs review shows 0 points there,
    and the text at the top says that a person has to look at it.
    """
    tests = []
    for result in report.score.criteria:
        lines = [result.verdict.message, result.verdict.hint and f"Hint: {result.verdict.hint}"]
        test: dict[str, Any] = {
            "name": printable(result.title),
            "number": result.id,
            "score": result.earned or 0,
            "max_score": result.points,
            "output": "\n".join(line for line in lines if line),
            "output_format": "text",
            "name_format": "text",
            "visibility": "visible",
        }
        if result.earned is None:
            test["output"] = f"Needs review by a teacher.\n{test['output']}".rstrip()
        elif result.verdict.status in _GRADESCOPE_STATUS:
            test["status"] = _GRADESCOPE_STATUS[result.verdict.status]
        tests.append(test)
    output = [report.submission.problem or "", *(f"Needs review: {reason}" for reason in report.score.review)]
    output += [notice.text for notice in report.notices]
    results: dict[str, Any] = {
        "score": report.score.earned,
        "output": "\n".join(line for line in output if line),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }
    if report.execution is not None:
        results["execution_time"] = round(report.execution.usage.wall_seconds)
    return results


def moodle_worksheet(
    worksheet: str, scores: Mapping[str, float | None], comments: Mapping[str, str] | None = None
) -> str:
    """Fill in Moodle's offline grading worksheet: the text as downloaded in, the text to upload out.

    `scores` and `comments` are by participant id. Only the cells for the grade and the feedback comments of scored students
    change; comments are plain text and are escaped, since Moodle shows them as HTML. Raises UsageError when it is not such
    a worksheet (with English column names), or a score is above the maximum.
    """
    rows = list(csv.reader(io.StringIO(worksheet.removeprefix("\ufeff"), newline="")))
    header = [cell.strip() for cell in rows[0]] if rows else []
    if "Identifier" not in header or "Grade" not in header:
        raise UsageError(
            f"this is no grading worksheet of Moodle: it has the columns {', '.join(header[:10]) or '(none)'}, but Identifier "
            "and Grade are needed (download it with Moodle's language set to English)"
        )
    id_at, grade_at = header.index("Identifier"), header.index("Grade")
    maximum_at = header.index("Maximum Grade") if "Maximum Grade" in header else None
    comment_at = header.index("Feedback comments") if "Feedback comments" in header else None
    for row in rows[1:]:
        student = row[id_at].strip().removeprefix("Participant ") if len(row) > id_at else ""
        points = scores.get(student)
        if points is None or len(row) < len(header):
            continue
        maximum = row[maximum_at].replace(",", ".").strip() if maximum_at is not None else ""
        if maximum and points > float(maximum):
            raise UsageError(
                f"participant {student} has {number_cell(points)} points, but Moodle's maximum is {maximum}"
            )
        row[grade_at] = number_cell(points)
        if comment_at is not None and comments and student in comments:
            row[comment_at] = _as_html(comments[student])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _as_html(text: str) -> str:
    escaped = html.escape(text).replace("\n", "<br>")
    return f" {escaped}" if escaped[:1] in ("=", "+", "-", "@") else escaped  # no formula for a spreadsheet
