"""DAT450 autograder: evidence leaves the box, verdicts are made outside of it.

Declare an assignment (`Assignment`, `Question`, `Draw`, `call`), judge what was seen (`Observation`, `passed`, `expect_equal`, ...),
grade a notebook (`grade`, `agrade`) and judge a stored run again (`rejudge`); `docs/api.md` shows each. In a student's own notebook
`check` says how far it is (docs/students.md). Importing this package
costs nothing: a name is loaded when it is first used. Nothing at all is imported here: see `grader.imports`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from grader.assignments import load_assignment
    from grader.errors import GraderError
    from grader.grading.pipeline import agrade, grade
    from grader.records import Attempt, Observation, Report, Status, Verdict
    from grader.rubric.assignment import Assignment
    from grader.rubric.compare import expect_close, expect_equal, failed, passed, skipped
    from grader.rubric.questions import Draw, Question, call
    from grader.runs.publish import rejudge
    from grader.sandbox.contract import Limits
    from grader.selfcheck import check, load_ipython_extension

__version__ = "0.1.0"

__all__ = [
    "Assignment",
    "Attempt",
    "Draw",
    "GraderError",
    "Limits",
    "Observation",
    "Question",
    "Report",
    "Status",
    "Verdict",
    "__version__",
    "agrade",
    "call",
    "check",
    "expect_close",
    "expect_equal",
    "failed",
    "grade",
    "load_assignment",
    "load_ipython_extension",
    "passed",
    "rejudge",
    "skipped",
]

_HOMES = {
    "grader.assignments": ("load_assignment",),
    "grader.errors": ("GraderError",),
    "grader.grading.pipeline": ("agrade", "grade"),
    "grader.records": ("Attempt", "Observation", "Report", "Status", "Verdict"),
    "grader.rubric.assignment": ("Assignment",),
    "grader.rubric.compare": ("expect_close", "expect_equal", "failed", "passed", "skipped"),
    "grader.rubric.questions": ("Draw", "Question", "call"),
    "grader.runs.publish": ("rejudge",),
    "grader.sandbox.contract": ("Limits",),
    "grader.selfcheck": ("check", "load_ipython_extension"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> "Any":
    """Load a public name from the module that defines it."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'grader' has no attribute {name!r}")
    try:
        home = import_module(_HOME[name])
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("grader"):
            raise
        raise ImportError(f"`{name}` is in dat450-grader, and only dat450-check is installed here") from error
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted([*globals(), *_HOME])
