"""What Python 3.12 brought and Colab's students use, where an older Python runs: quotes inside of f-strings, two names.

Runs in the box; standard library only.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import sys
import typing
from collections.abc import Iterator
from typing import Any

from grader.inside.hooks import provide, running_shell
from grader.inside.shims.adapting import note

__all__ = ["install", "older"]

_REASON = "newer-python"
_OPENED = re.compile(r"(?i:(?<!\w)(?:[rbu]|[rb]?f|f[rb]?|br|rb))?('''|\"\"\"|'|\")")
_TRIPLE = ('"""', "'''")


def install() -> None:
    """Let cells have f-strings of Python 3.12, and imports `itertools.batched` and `typing.override`."""
    if sys.version_info >= (3, 12):
        return

    def added(name: str, thing: Any) -> Any:
        note("renamed", name, "", _REASON)
        return thing

    provide(itertools, {"batched": lambda: added("itertools.batched", _batched)})
    provide(typing, {"override": lambda: added("typing.override", lambda method: method)})
    running_shell().input_transformers_post.append(lambda lines: older("".join(lines)).splitlines(keepends=True))


def _batched(iterable: Any, n: int) -> Iterator[tuple[Any, ...]]:
    rest = iter(iterable)
    while batch := tuple(itertools.islice(rest, n)):
        yield batch


def older(source: Any) -> Any:
    """A source with other quotes around f-strings that this Python cannot read; itself where that does not help."""
    text = importlib.util.decode_source(source) if isinstance(source, bytes) else source
    if sys.version_info >= (3, 12) or _parses(text):
        return source
    changes: list[tuple[str, str]] = []
    try:
        changed = _requoted(text, changes)
    except (IndexError, RecursionError, SyntaxError, ValueError):  # a string that never ends, or is none
        return source
    if not _parses(changed):
        return source
    for before, after in changes:
        note("syntax", before, after, _REASON)
    return changed


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _requoted(text: str, changes: list[tuple[str, str]]) -> str:
    """`text` with three quotes around f-strings that hold their own or ends of lines. Raises IndexError, SyntaxError, ValueError."""
    parts, place = [], 0
    while place < len(text):
        opened = _OPENED.match(text, place)
        if opened is None:
            end = text.find("\n", place) if text[place] == "#" else place + 1
            end = end if end > 0 else len(text)
            parts.append(text[place:end])
        else:
            quote, escaped = opened[1], list[tuple[int, int]]()
            end = _end(text, opened.end(), opened, escaped)
            inner = text[opened.end() : end - len(quote)]
            for first, last in reversed(escaped):  # no backslash may stand inside of the braces
                plain = f"bytes({tuple(ast.literal_eval(text[first:last]).encode())}).decode()"
                inner = inner[: first - opened.end()] + plain + inner[last - opened.end() :]
            if len(quote) == 1 and (quote in inner or "\n" in inner):
                quote = next((q for q in _TRIPLE if q not in inner and not inner.endswith(q[0])), quote)
            parts.append(
                f"{opened[0].removesuffix(opened[1])}{quote}{inner}{quote}" if _formatted(opened) else text[place:end]
            )
            if parts[-1] != text[place:end]:
                changes.append((text[place:end], parts[-1]))
        place = end
    return "".join(parts)


def _formatted(opened: re.Match[str]) -> bool:
    return "f" in opened[0].lower()


def _end(text: str, place: int, opened: re.Match[str], escaped: list[tuple[int, int]]) -> int:
    """Where a string ends whose text begins at `place`, as Python 3.12 reads it. Raises IndexError.

    `escaped` gets where in its fields there are strings with backslashes.
    """
    quote, formatted = opened[1], _formatted(opened)
    while not text.startswith(quote, place):
        if text[place] == "\\" or (formatted and text.startswith("{{", place)):
            place += 2
        elif formatted and text[place] == "{":
            place = _end_of_field(text, place + 1, escaped)
        elif text[place] == "\n" and len(quote) == 1:
            raise IndexError(place)
        else:
            place += 1
    return place + len(quote)


def _end_of_field(text: str, place: int, escaped: list[tuple[int, int]]) -> int:
    """Where a replacement field ends that begins before `place`, strings and brackets in it skipped. Raises IndexError."""
    depth = 1
    while depth:
        opened = _OPENED.match(text, place)
        if opened is not None:
            end = _end(text, opened.end(), opened, escaped)
            if "\\" in text[place:end] and not _formatted(opened) and "b" not in opened[0].lower():
                escaped.append((place, end))
            place = end
            continue
        depth += (text[place] in "([{") - (text[place] in ")]}")
        place += 1
    return place
