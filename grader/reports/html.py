"""The HTML pages: one per submission and one per class, each a single file without network, frames or needed scripts.

Trusted code over hostile text: every string a template prints is cleaned, then escaped by Jinja; nothing of a student's is
ever marked safe, and no style, script or address is made from it except a percent-encoded relative link.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from grader.records import Notice, Report, Status
from grader.reports import view
from grader.reports.audience import Audience, for_student
from grader.reports.sanitize import clean, code_spans, line
from grader.reports.summary import GRADER_FAULT_SHARE, summarize
from grader.rubric.numbers import decimal, written_in

__all__ = ["class_html", "report_html"]


def report_html(report: Report, audience: Audience = "instructor") -> str:
    """Render one submission as a self-contained page. For the audience `student`, `for_student` is applied here."""
    shown = for_student(report) if audience == "student" else report
    with written_in(report.language):
        return _environment().get_template("report.html.j2").render(report=shown, audience=audience)


def class_html(
    reports: Sequence[Report],
    roster_missing: Sequence[str] = (),
    title: str = "",
    notices: Sequence[Notice] = (),
    *,
    progress: str = "",
    reload: bool = False,
) -> str:
    """Render a class as one page, for instructors. `roster_missing` are the names of students who handed in nothing.

    `progress` says how far a class is that is still being graded; with `reload` the page is loaded again every quarter of a minute.
    Links lead to `submissions/<id>/instructor.html`, relative to the page.
    """
    summary = summarize(reports)
    ids = [criterion.id for criterion in summary.criteria]
    script = _script()
    with written_in(reports[0].language if reports else "en"):
        return (
            _environment()
            .get_template("class.html.j2")
            .render(
                title=title or (reports[0].assignment_title if reports else "No submissions"),
                summary=summary,
                progress=progress,
                reload=reload,
                missing=sorted(roster_missing, key=str.casefold),
                notices=(*notices, *view.about_machines(reports)),
                ids=ids,
                starts={next(part) for _, part in groupby(ids, key=lambda id_: id_.partition("/")[0])},
                fault_share=GRADER_FAULT_SHARE,
                results=[{result.id: result for result in report.score.criteria} for report in summary.reports],
                versions=sorted({report.grader_version for report in reports if report.grader_version}),
                script=script,
                # Nothing but this very script may run, whatever a page might come to contain.
                script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            )
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
    environment.filters |= {"code": _code, "line": line, "link": _link, "count": _count, "decimal": decimal}
    environment.globals |= {"view": view, "Status": Status}
    return environment


def _finalize(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _code(text: str) -> Markup:
    """Escape a sentence, and show what stands between backticks as code."""
    pieces = (Markup("<code>{}</code>").format(t) if i % 2 else escape(t) for i, t in enumerate(code_spans(text)))
    return Markup("").join(pieces)


def _count(number: int, noun: str) -> str:
    return f"{decimal(number)} {noun}{'' if number == 1 else 's'}"


def _link(report: Report) -> str:
    return f"submissions/{quote(clean(report.submission.id), safe='')}/instructor.html"
