"""Reports as JUnit XML, which every CI system shows as tests: a suite per submission, a case per criterion.

Trusted code over hostile text: characters XML cannot hold are replaced before the library escapes the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from grader.records import CriterionResult, Report, Status
from grader.reports.sanitize import clean, line
from grader.reports.view import cpu_seconds, failing_cells, outcome_sentence, status_of

__all__ = ["junit_xml"]


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
    score, found = report.score, [status_of(result) for result in report.score.criteria]
    # A submission without a reason at any criterion still has to show up as an error.
    whole = [reason for reason in score.review if not any(reason.startswith(f"{r.id}: ") for r in score.criteria)]
    suite = SubElement(
        root,
        "testsuite",
        name=line(report.submission.display_name or report.submission.id),
        tests=str(len(found) + len(whole)),
        failures=str(found.count(Status.FAILED)),
        errors=str(found.count(Status.ERROR) + len(whole)),
        skipped=str(found.count(Status.SKIPPED)),
        time=f"{cpu_seconds(report) or 0:.3f}",
    )
    properties = SubElement(suite, "properties")
    total = "needs review" if score.total is None else str(score.total)
    for name, value in (("total", total), ("possible", str(score.possible)), ("file", report.submission.file_name)):
        SubElement(properties, "property", name=name, value=line(value))
    for result in score.criteria:
        _case(suite, report.assignment, result)
    for reason in whole:
        case = SubElement(suite, "testcase", classname=line(report.assignment), name="submission", time="0")
        SubElement(case, "error", message=line(reason), type="needs-review")
    out = SubElement(suite, "system-out")
    output = [outcome_sentence(report), report.submission.problem or ""]
    output += [cell.error.traceback for cell in failing_cells(report) if cell.error]
    out.text = clean("\n".join(text for text in output if text))


def _case(suite: Element, assignment: str, result: CriterionResult) -> None:
    verdict = result.verdict
    part, _, name = result.id.rpartition("/")
    case = SubElement(
        suite,
        "testcase",
        classname=line(".".join(word for word in (assignment, part) if word)),
        name=f"{line(name)}: {line(result.title)}",
        time="0",
    )
    message = line(verdict.message)
    status = status_of(result)
    if status is Status.FAILED:
        SubElement(case, "failure", message=message, type="failed").text = clean(
            f"{verdict.message}\n{verdict.hint}".strip()
        )
    elif status is Status.SKIPPED:
        SubElement(case, "skipped", message=message)
    elif status is Status.ERROR:
        SubElement(case, "error", message=message, type="needs-review")
    if result.override:
        SubElement(case, "system-out").text = clean(
            f"{result.earned} of {result.points} points, set by hand: {result.override}"
        )
