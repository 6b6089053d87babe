"""What a self-check shows: a small card, in HTML with inline styles only, and as plain text. Colours are told on dark and on light."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from grader.inside.hooks import running_shell
from grader.records import CriterionResult, Status, Verdict

__all__ = ["Card", "Row"]

_GREEN, _RED, _GREY, _AMBER = "#27894e", "#d8443f", "#787d86", "#a66e08"
_MARKS = {"passed": ("✓", _GREEN), "failed": ("✗", _RED), "open": ("○", _GREY), "undecided": ("?", _AMBER)}
_CODE = re.compile(r"`([^`\n]+)`")
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-size:13px;line-height:1.45"


@dataclass(frozen=True)
class Row:
    """One criterion on a card."""

    result: CriterionResult
    """What was found of it, as students may see it."""
    mark: str
    """`passed`, `failed`, `open` (nothing to judge yet) or `undecided`."""

    @classmethod
    def of(cls, result: CriterionResult, verdict: Verdict) -> Row:
        """A row with the mark of a verdict, whether students see that or not; what is skipped for nothing else is open."""
        if verdict.status is Status.SKIPPED and not verdict.because:
            return cls(result, "open")
        return cls(result, {Status.PASSED: "passed", Status.ERROR: "undecided"}.get(verdict.status, "failed"))

    @property
    def advice(self) -> list[tuple[str, str, str]]:
        """What to try and where to read on: a label, a text, and an address where it has one."""
        hint, page = self.result.verdict.hint, self.result.read
        if not hint or self.mark == "passed":
            return []
        return [("Try", hint, ""), *([("Read on", page.title, page.url)] if page else [])]


@dataclass(frozen=True)
class Card:
    """What a self-check found; notebooks show it as HTML, terminals as text."""

    heading: str
    """What was checked."""
    rows: Sequence[Row] = ()
    """The criteria."""
    facts: Sequence[str] = ()
    """What was seen beside them, a sentence each."""
    notes: Sequence[str] = ()
    """What to know about this check."""
    _shown_at: list[int] = field(default_factory=list, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every criterion passed."""
        return bool(self.rows) and all(row.mark == "passed" for row in self.rows)

    @property
    def summary(self) -> str:
        """How many criteria passed, and their points."""
        if not self.rows:
            return ""
        right = sum(row.mark == "passed" for row in self.rows)
        earned, possible = sum(row.result.earned or 0 for row in self.rows), sum(row.result.points for row in self.rows)
        return f"{right} of {len(self.rows)} right, {earned} of {possible} points"

    def __str__(self) -> str:
        """The card as plain text."""
        lines = [f"{self.heading}: {self.summary}" if self.rows else self.heading]
        lines += [_wrapped(fact, "  ") for fact in self.facts]
        for row in self.rows:
            found = row.result
            points = f"({found.id}, {found.earned or 0} of {found.points})"
            lines.append(_wrapped(f"{_MARKS[row.mark][0]} {found.title} {points}", "  ", "    "))
            lines += [_wrapped(found.verdict.message, "    ")] if found.verdict.message else []
            lines += [_wrapped(f"{label}: {text}{url and f', {url}'}", "    ") for label, text, url in row.advice]
        return "\n".join([*lines, *(_wrapped(note, "  ") for note in self.notes)])

    def __repr__(self) -> str:
        """One line."""
        return f"<{self.heading}: {self.summary}>" if self.rows else f"<{self.heading}>"

    def _repr_html_(self) -> str:
        edge = _GREEN if self.passed else _RED if any(row.mark == "failed" for row in self.rows) else _GREY
        parts = [
            f'<div style="{_FONT};border:1px solid rgba(128,128,128,.35);border-left:4px solid {edge};border-radius:4px;'
            'padding:8px 12px;margin:4px 0;max-width:52em">',
            f'<div><b>{_rich(self.heading)}</b><span style="opacity:.75;margin-left:.8em">{escape(self.summary)}</span></div>',
        ]
        parts += [f'<div style="margin-top:4px">{_rich(fact)}</div>' for fact in self.facts]
        parts += [_row(row) for row in self.rows]
        parts += [f'<div style="margin-top:6px;opacity:.75;font-size:12px">{_rich(note)}</div>' for note in self.notes]
        return "".join([*parts, "</div>"])

    def show(self) -> Card:
        """Show the card now, wherever in a cell or program that is; the end of the same cell does not show it again."""
        shell = running_shell()
        if shell is None:
            print(self)
        else:
            from IPython.display import publish_display_data

            self._shown_at[:] = [shell.execution_count]
            publish_display_data({"text/html": self._repr_html_(), "text/plain": str(self)})
        return self

    def _ipython_display_(self) -> None:
        shell = running_shell()
        if shell is None or self._shown_at != [shell.execution_count]:
            self.show()


def _row(row: Row) -> str:
    found, (mark, colour) = row.result, _MARKS[row.mark]
    said = [f'<div style="opacity:.85">{_rich(found.verdict.message)}</div>'] if found.verdict.message else []
    for label, text, url in row.advice:
        page = f'style="color:inherit" href="{escape(url)}" target="_blank" rel="noreferrer"'
        shown = f"<a {page}>{_rich(text)}</a>" if url else _rich(text)
        said.append(f'<div><span style="color:{_AMBER};font-weight:600">{label}</span> {shown}</div>')
    points = f"{escape(found.id)} &#8195;{found.earned or 0}&#8239;/&#8239;{found.points}"
    return (
        '<div style="display:flex;gap:8px;margin-top:6px">'
        f'<span style="color:{colour};font-weight:700;width:1em;flex:none" role="img" aria-label="{row.mark}">{mark}</span>'
        f'<div style="flex:1;min-width:0"><div>{_rich(found.title)}</div>{"".join(said)}</div>'
        f'<span style="opacity:.75;white-space:nowrap;flex:none;font-size:12px">{points}</span></div>'
    )


def _rich(text: str) -> str:
    """A sentence as HTML: what stands between backticks as code."""
    pieces = _CODE.split(" ".join(text.split()))
    code = '<code style="background:rgba(128,128,128,.18);color:inherit;padding:0 3px;border-radius:3px;overflow-wrap:anywhere">{}</code>'
    return "".join(code.format(escape(piece)) if number % 2 else escape(piece) for number, piece in enumerate(pieces))


def _wrapped(text: str, first: str, further: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()), 100, initial_indent=first, subsequent_indent=further or first, break_long_words=False
    )
