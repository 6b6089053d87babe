"""DAT450 autograder: evidence leaves the box, verdicts are made outside of it.

Importing this package costs nothing: the public names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "grade": "grader.grading.pipeline",
    "rejudge": "grader.runs.rejudging",
    "load_assignment": "grader.assignments",
}
__all__ = ["__version__", "grade", "load_assignment", "rejudge"]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'grader' has no attribute {name!r}")
