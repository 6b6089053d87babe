"""Untrusted text made fit to be shown: no terminal commands, no invisible or reordering characters, no formulas.

Trusted code over hostile text. Escaping for a format (HTML, XML, Markdown) is the renderer's job; this comes before it.
"""

from __future__ import annotations

import re

__all__ = ["clean", "code_spans", "csv_text", "is_printable", "line", "without_paths"]

# A command that is never closed ends with its line, so that it cannot swallow what follows.
_ANSI = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]P^_X][^\n\x07\x1b]*(?:\x1b\\|\x07)?|\x1b[ -/]*[0-~]")
_NONCHARACTERS = [plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF)]
_INVISIBLE = [0x00AD, 0x061C, 0x180E, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0xE0000, 0xE0080)]
_TABLE = {
    **dict.fromkeys(_INVISIBLE, ""),
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **dict.fromkeys([*range(0x80, 0xA0), *range(0xFFF9, 0xFFFC), *range(0xD800, 0xE000), *_NONCHARACTERS], "\ufffd"),
    0x2028: "\n",
    0x2029: "\n",
    # An override can make `gpj.exe` read `exe.jpg`: shown by name, in the place where it stood.
    **{code: f"\u2039U+{code:04X}\u203a" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
_MACHINE_PATH = re.compile(
    r"(?<![\w.:/~])(?:file://)?(?:/(?:home|root|Users|usr|opt|srv|mnt|var|tmp|work|workspace|builds|private|nix|box)|[A-Za-z]:\\Users)"
    r"(?:[/\\][^\s'\"<>:,;()\[\]{}|/\\]+)+"
)
_CODE = re.compile(r"`([^`\n]+)`")
_LIBRARY = re.compile(r".*[/\\](?:site-packages|dist-packages|python3?\.?\d*)[/\\]")


def is_printable(text: str) -> bool:
    """Whether text holds lines of printable characters only: quick to tell, where a search takes its time."""
    return text.replace("\n", "").isprintable()


def clean(text: str) -> str:
    """Text of any origin as printable lines: ANSI sequences gone, redrawn progress bars reduced to their last state."""
    if is_printable(text):
        return text  # what is taken out or replaced below is not printable, every bit of it
    lines = _ANSI.sub("", text).split("\n")
    return "\n".join(redrawn.rstrip("\r").rpartition("\r")[2] for redrawn in lines).translate(_TABLE)


def line(text: str, width: int = 0) -> str:
    """Cleaned text on one line, shortened to `width` characters where that is positive."""
    text = " ".join(clean(text).split())
    return text if width <= 0 or len(text) <= width else text[: width - 1].rstrip() + "\u2026"


def code_spans(text: str) -> list[str]:
    """Cleaned text on one line, cut at its backticks: every second piece stood between two of them."""
    return _CODE.split(line(text))


def csv_text(text: str) -> str:
    """Cleaned text that no spreadsheet takes for a formula: a leading `= + - @` (after any space) gets an apostrophe."""
    text = line(text)
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "|", "%") else text


def without_paths(text: str) -> str:
    """Text without the folders of the machine that graded: `/home/ta/x/data.csv` becomes `…/data.csv`."""
    return _MACHINE_PATH.sub(_shorten, text)


def _shorten(match: re.Match[str]) -> str:
    path = match.group()
    library = _LIBRARY.match(path)
    tail = path[library.end() :] if library else re.split(r"[/\\]", path)[-1]
    return "\u2026/" + tail.replace("\\", "/")
