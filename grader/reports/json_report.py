"""The report as JSON, in the published format `dat450-report/2`, and its JSON Schema.

Trusted. Pure: the same report gives the same bytes; the text is safe to print on a terminal.
"""

from __future__ import annotations

import json
from typing import Any

from grader.records import Report
from grader.reports.sanitize import is_printable
from grader.serialization import schema_of, to_plain

__all__ = ["SCHEMA_ID", "report_json", "report_schema"]

SCHEMA_ID = "dat450-report/2"
"""Name and version of the format; a change that breaks readers gets a new number."""


def report_json(report: Report) -> str:
    """Write a report (for whom it is: see `for_student`) as JSON.

    Numbers that JSON does not know (NaN, infinities) become null. Invisible characters are written as escapes.
    """
    document = {"schema": SCHEMA_ID, "needs_review": report.score.total is None, **to_plain(report)}
    finite = json.loads(json.dumps(document), parse_constant=lambda _: None)
    text = json.dumps(finite, ensure_ascii=False, indent=1, allow_nan=False)
    return (text if is_printable(text) else "".join(map(_visible, text))) + "\n"


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


def _visible(char: str) -> str:
    """A character that cannot be printed as its escape; a lone surrogate, which is no text, as U+FFFD."""
    if char.isprintable() or char == "\n":
        return char
    return "\ufffd" if "\ud800" <= char <= "\udfff" else json.dumps(char)[1:-1]
