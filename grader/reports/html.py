"""The HTML pages: one per submission and one per class, each a single file without network, frames or needed scripts.

Trusted code over hostile text: every string a template prints is cleaned, then escaped by Jinja; nothing of a student's is
ever marked safe, and no style, script or address is made from it except a percent-encoded relative link.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from grader.records import Adaptation, CellRun, Notice, Report, Status
from grader.reports import charts, view
from grader.reports.audience import Audience, for_student
from grader.reports.sanitize import clean, line
from grader.reports.summary import GRADER_FAULT_SHARE, summarize

__all__ = ["class_html", "report_html"]

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)?")
_CODE = re.compile(r"`([^`\n]+)`")


def report_html(report: Report, audience: Audience = "instructor") -> str:
    """Render one submission as a self-contained page. For the audience `student`, `for_student` is applied here."""
    shown = for_student(report) if audience == "student" else report
    return _page(
        "report.html.j2",
        report=shown,
        audience=audience,
        parts=view.parts(shown),
        failing=view.failing_cells(shown),
        methods=view.methods(shown),
        notices=view.all_notices(shown),
        longest=max((cell.seconds for cell in shown.execution.cells), default=0.0) if shown.execution else 0.0,
    )


def class_html(
    reports: Sequence[Report], roster_missing: Sequence[str] = (), title: str = "", notices: Sequence[Notice] = ()
) -> str:
    """Render a class as one page, for instructors. `roster_missing` are the names of students who handed in nothing.

    Links lead to `submissions/<id>/instructor.html`, relative to the page.
    """
    summary = summarize(reports)
    heading = title or (reports[0].assignment_title if reports else "No submissions")
    ids = [criterion.id for criterion in summary.criteria]
    return _page(
        "class.html.j2",
        title=heading,
        summary=summary,
        missing=sorted(roster_missing, key=str.casefold),
        notices=notices,
        ids=ids,
        starts={id_ for before, id_ in pairwise(["", *ids]) if before.partition("/")[0] != id_.partition("/")[0]},
        fault_share=GRADER_FAULT_SHARE,
        results=[{result.id: result for result in report.score.criteria} for report in summary.reports],
        versions=sorted({report.grader_version for report in reports if report.grader_version}),
        script=_script(),
        # Nothing but this very script may run, whatever a page might come to contain.
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode(),
    )


@cache
def _script() -> Markup:
    return Markup((files("grader.reports") / "templates" / "class.js").read_text("utf-8"))  # noqa: S704 - a file of ours


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("grader.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "code": _code,
        "line": line,
        "seconds": _seconds,
        "link": _link,
        "cell": _cell,
        "count": _count,
        "time": _time,
    }
    environment.globals |= {
        "Status": Status,
        "SYMBOLS": view.SYMBOLS,
        "WORDS": view.WORDS,
        "charts": charts,
        "headline": view.headline,
        "outcome_sentence": view.outcome_sentence,
        "outcome_word": view.outcome_word,
        "isolation": view.isolation,
        "needs_review": view.needs_review,
        "review_reasons": view.review_reasons,
        "status_of": view.status_of,
        "counts": view.counts,
        "height": _height,
    }
    return environment


def _page(template: str, **context: Any) -> str:
    return _environment().get_template(template).render(**context)


def _finalize(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _code(text: str) -> Markup:
    """Escape a sentence, then show what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(line(text)))))  # noqa: S704 - escaped just before


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60:02d} s"


def _time(text: str) -> str:
    """A time of ISO 8601 to the minute; anything else as it is."""
    match = _TIME.fullmatch(text)
    if match is None:
        return line(text, 40)
    zone = "" if match[3] is None else " UTC" if match[3] == "Z" else f" (UTC{match[3]})"
    return f"{match[1]} {match[2]}{zone}"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _cell(item: CellRun | Adaptation) -> str:
    index = item.index if isinstance(item, CellRun) else item.cell
    return "whole notebook" if index is None else f"cell {index + 1}"


def _link(report: Report) -> str:
    return f"submissions/{quote(clean(report.submission.id), safe='')}/instructor.html"


def _height(seconds: float, longest: float) -> int:
    """Height of a cell in the timeline in per cent: the square root keeps short cells visible."""
    return round(12 + 88 * (seconds / longest) ** 0.5) if longest > 0 and seconds > 0 else 12
