"""How a shim adapts: it declares what takes the place of a library's functions, and notes what took effect.

Runs in the box. Declared when a shim is imported, put in place by `begin` in the kernel of a submission: at once where the library
is there already, else when it is imported.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grader.inside.hooks import Record, replacing, rescuing, when_imported

__all__ = ["adapts", "answering", "begin", "config", "files", "folders", "note", "replaces", "rescues"]

Function = Callable[..., Any]
config: dict[str, Any] = {}
"""What there is to know of the submission (`grader.inside.shims.install`), and `home`, its work folder."""
files: dict[str, str] = {}
"""Base name, casefolded, of each data file and of each file that was handed in -> its absolute path."""
folders: set[str] = set()
"""Absolute paths of folders that the notebook names as those of the student's machine."""
_declared: list[tuple[str, Function]] = []
_records: list[Record] = []


def begin(record: Record, given: Mapping[str, Any]) -> None:
    """Put all that is declared in place; what takes effect goes to `record`."""
    _records[:] = [record]
    config.update(given, home=str(Path.cwd()))
    files.update({name.casefold(): str(Path(name).absolute()) for name in (*given["companions"], *given["data_files"])})
    for module, patch in _declared:
        when_imported(module, patch)


def note(rule: str, before: str, after: str, reason: str) -> None:
    """Record an adaptation: its rule, what stood there, what takes its place, and why."""
    for record in _records:
        record(rule, before, after, reason)


def answering(rule: str, before: str, after: str, reason: str, answer: Any = None) -> Function:
    """A function that is noted and does nothing but to give `answer`, or what that makes of the arguments.

    `before` may have a field for the first argument.
    """

    def called(*args: Any, **kwargs: Any) -> Any:
        note(rule, before.format(args[0] if args else "").strip(), after, reason)
        return answer(*args, **kwargs) if callable(answer) else answer

    return called


def adapts(module: str) -> Callable[[Function], Function]:
    """Declare a function that changes a module, which it gets."""

    def keep(patch: Function) -> Function:
        _declared.append((module, patch))
        return patch

    return keep


def replaces(module: str, *names: str) -> Callable[[Function], Function]:
    """Declare what takes the place of those of a module's functions and methods that it has, and gets the real one first."""
    return _declaring(module, names, replacing)


def rescues(module: str, name: str, *errors: type[Exception]) -> Callable[[Function], Function]:
    """Declare what is called with the same arguments where a module's function or method raises one of `errors`."""
    return _declaring(module, (name,), lambda owner, last: rescuing(owner, last, *errors))


def _declaring(module: str, names: tuple[str, ...], putting: Function) -> Callable[[Function], Function]:
    def keep(function: Function) -> Function:
        @adapts(module)
        def patch(found: Any) -> None:
            for name in names:
                place, _, last = name.rpartition(".")
                owner = operator.attrgetter(place)(found) if place else found
                if hasattr(owner, last):
                    putting(owner, last)(function)

        return function

    return keep
