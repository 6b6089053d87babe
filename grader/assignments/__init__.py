"""The assignments this grader knows. A second one is a package beside `finetuning` and a line in `load_assignment`."""

from __future__ import annotations

from typing import Final

from grader.errors import UsageError
from grader.imports import import_by_hand
from grader.rubric.assignment import Assignment

__all__ = ["DEFAULT", "load_assignment"]

DEFAULT: Final = "finetuning"
"""The assignment of those who name none."""
_KNOWN = {DEFAULT: "grader.assignments.finetuning"}


def load_assignment(name: str = DEFAULT) -> Assignment:
    """Load an assignment by its id, or by `module:attribute` for one that lives outside of this package.

    Raises UsageError when there is none of that name.
    """
    module, _, attribute = _KNOWN.get(name, name).partition(":")
    if name not in _KNOWN and not attribute:
        raise UsageError(f"no assignment {name!r}; known are {', '.join(_KNOWN)}, or give module:attribute")
    try:
        found = getattr(import_by_hand(module), attribute or "ASSIGNMENT")
    except (ImportError, AttributeError) as error:
        raise UsageError(f"assignment {name!r} cannot be loaded: {error}") from error
    if not isinstance(found, Assignment):
        raise UsageError(f"{name!r} is a {type(found).__name__}, not an Assignment")
    return found
