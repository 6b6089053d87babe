"""Reports for programs: as JSON (`dat450-report/2`, with its schema), as tables in CSV, as JUnit XML, which every CI system shows as tests.

Trusted code over hostile text; pure: the same reports give the same bytes. JSON is safe to print on a terminal; tables are UTF-8 without
a mark, one header line, nothing a spreadsheet would run; in XML what it cannot hold is replaced. The gradebook file that Canvas imports
is `grader.lms`'s business.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from grader.records import CriterionResult, Report, Status
from grader.reports import view
from grader.reports.sanitize import clean, csv_text, is_printable, line
from grader.serialization import schema_of, to_plain

__all__ = ["SCHEMA_ID", "junit_xml", "needs_review_csv", "report_json", "report_schema", "scores_csv"]

SCHEMA_ID = "dat450-report/2"
"""Name and version of the format; a change that breaks readers gets a new number."""
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
_JUNIT = {
    Status.FAILED: ("failure", "failed"),
    Status.SKIPPED: ("skipped", "not-judged"),
    Status.ERROR: ("error", "needs-review"),
}
"""Status -> tag and type in JUnit XML."""


def report_json(report: Report) -> str:
    """Write a report (for whom it is: see `for_student`) as JSON.

    Numbers that JSON does not know (NaN, infinities) become null. Invisible characters are written as escapes.
    """
    document = {"schema": SCHEMA_ID, "needs_review": report.score.total is None, **to_plain(report)}
    finite = json.loads(json.dumps(document), parse_constant=lambda _: None)
    text = json.dumps(finite, ensure_ascii=False, indent=1, allow_nan=False)
    return (text if is_printable(text) else "".join(map(_visible, text))) + "\n"


def _visible(char: str) -> str:
    """A character that cannot be printed as its escape; a lone surrogate, which is no text, as U+FFFD."""
    if char.isprintable() or char == "\n":
        return char
    return "\ufffd" if "\ud800" <= char <= "\udfff" else json.dumps(char)[1:-1]


def report_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `report_json` writes, from the records themselves."""
    schema = schema_of(Report)
    schema["properties"] = {
        "schema": {"description": "Name and version of this format.", "const": SCHEMA_ID},
        "needs_review": {
            "description": "Whether a person has to look; then, and only then, `score.total` is null.",
            "type": "boolean",
        },
        **schema["properties"],
    }
    return {
        **schema,
        "$id": f"urn:{SCHEMA_ID.replace('/', ':')}",
        "title": "DAT450 grading report",
        "description": "The result of one submission. Texts that come from a student are untrusted: escape them where you show them.",
        "required": list(schema["properties"]),
        "if": {"properties": {"needs_review": {"const": True}}},
        "then": {"properties": {"score": {"properties": {"total": {"type": "null"}}}}},
        "else": {"properties": {"score": {"properties": {"total": {"type": "number"}}}}},
    }


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


def junit_xml(reports: Sequence[Report]) -> str:
    """Write the reports as JUnit XML: a suite per submission, a case per criterion.

    Failed is `failure`, not judged is `skipped`, needs review is `error`.
    """
    root = Element("testsuites")
    for report in reports:
        _suite(root, report)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(root: Element, report: Report) -> None:
    who, score, found = report.submission, report.score, view.counts(report)
    # A submission without a reason at any criterion still has to show up as an error.
    whole = [reason for reason in score.review if not any(reason.startswith(f"{r.id}: ") for r in score.criteria)]
    suite = SubElement(
        root,
        "testsuite",
        name=line(who.display_name or who.id),
        tests=str(len(score.criteria) + len(whole)),
        failures=str(found[Status.FAILED]),
        errors=str(found[Status.ERROR] + len(whole)),
        skipped=str(found[Status.SKIPPED]),
        time=f"{view.cpu_seconds(report) or 0:.3f}",
    )
    properties = SubElement(suite, "properties")
    total = "not final yet" if score.total is None else str(score.total)
    for name, value in (("total", total), ("possible", str(score.possible)), ("file", who.file_name)):
        SubElement(properties, "property", name=name, value=line(value))
    for result in score.criteria:
        _case(suite, report.assignment, result)
    for reason in whole:
        case = SubElement(suite, "testcase", classname=line(report.assignment), name="submission", time="0")
        SubElement(case, "error", message=line(reason), type="needs-review")
    errors = (cell.error.traceback for cell in view.failing_cells(report) if cell.error)
    texts = (report.note, view.outcome_sentence(report), who.problem, *errors)
    SubElement(suite, "system-out").text = clean("\n".join(text for text in texts if text))


def _case(suite: Element, assignment: str, result: CriterionResult) -> None:
    part, _, name = result.id.rpartition("/")
    where = line(".".join(word for word in (assignment, part) if word))
    case = SubElement(suite, "testcase", classname=where, name=f"{line(name)}: {line(result.title)}", time="0")
    status = view.status_of(result)
    if status in _JUNIT:
        tag, kind = _JUNIT[status]
        told = [f"{one.text} {one.url}".strip() for one in view.remarks(result) if one.kind in ("seen", "try", "read")]
        SubElement(case, tag, message=line(result.verdict.message), type=kind).text = clean("\n".join(told))
    if result.override:
        hand = f"{result.earned} of {result.points} points, set by hand: {result.override}"
        SubElement(case, "system-out").text = clean(hand)
