"""The report as JSON, in the published format `dat450-report/2`, and its JSON Schema.

Trusted. Pure: the same report gives the same bytes; the text is safe to print on a terminal.
"""

from __future__ import annotations

import json
import math
import re
from importlib.resources import files
from typing import Any

from grader.records import Report
from grader.reports.sanitize import is_printable
from grader.serialization import to_plain

__all__ = ["SCHEMA_ID", "report_json", "report_schema"]

SCHEMA_ID = "dat450-report/2"
"""Name and version of the format; a change that breaks readers gets a new number."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSEEN = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\U000e0000-\U000e007f]"
)


def report_json(report: Report) -> str:
    """Write a report (for whom it is: see `for_student`) as JSON. `graded_at` is left out when it is empty.

    Numbers that JSON does not know (NaN, infinities) become null. Invisible characters are written as escapes.
    """
    plain = to_plain(report)
    plain["metrics"] = _ordered(plain["metrics"])
    if plain["execution"] is not None:
        plain["execution"]["versions"] = _ordered(plain["execution"]["versions"])
    if not plain["graded_at"]:
        del plain["graded_at"]
    document = {"schema": SCHEMA_ID, "needs_review": report.score.total is None, **plain}
    text = json.dumps(_finite(document), ensure_ascii=False, indent=1, allow_nan=False)
    # of what is replaced only these two are printable
    if not is_printable(text) or "\ufffc" in text or "\ufffd" in text:
        text = _UNSEEN.sub(_escape, _SURROGATE.sub("\ufffd", text))
    return text + "\n"


def report_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `report_json` writes."""
    schema: dict[str, Any] = json.loads((files("grader.reports") / "report.schema.json").read_text("utf-8"))
    return schema


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1]
