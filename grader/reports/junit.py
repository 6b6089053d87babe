"""Reports as JUnit XML, which every CI system shows as tests: a suite per submission, a case per criterion.

Trusted code over hostile text: characters XML cannot hold are replaced before the library escapes the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from grader.records import CriterionResult, Report, Status
from grader.reports import view
from grader.reports.sanitize import clean, line

__all__ = ["junit_xml"]

_TAGS = {Status.FAILED: "failure", Status.SKIPPED: "skipped", Status.ERROR: "error"}
_TYPES = {Status.FAILED: "failed", Status.SKIPPED: "not-judged", Status.ERROR: "needs-review"}


def junit_xml(reports: Sequence[Report]) -> str:
    """Write the reports as JUnit XML. Failed is `failure`, not judged is `skipped`, needs review is `error`."""
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
    case = SubElement(
        suite,
        "testcase",
        classname=line(".".join(word for word in (assignment, part) if word)),
        name=f"{line(name)}: {line(result.title)}",
        time="0",
    )
    status = view.status_of(result)
    texts = {remark.kind: f"{remark.text} {remark.url}".strip() for remark in view.remarks(result)}
    if status in _TAGS:
        seen = SubElement(case, _TAGS[status], message=line(result.verdict.message), type=_TYPES[status])
        seen.text = clean("\n".join(text for kind, text in texts.items() if kind in ("seen", "try", "read")))
    if result.override:
        hand = f"{result.earned} of {result.points} points, set by hand: {result.override}"
        SubElement(case, "system-out").text = clean(hand)
