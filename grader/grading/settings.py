"""What a course sets without code, in a file called `grader.toml` by custom (docs/settings.md has an example).

What is left out stays as the assignment and the bundle have it. A run remembers its settings (`RunInfo.settings`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from grader.errors import UsageError
from grader.records import Shown
from grader.rubric.assignment import Assignment
from grader.rubric.numbers import LANGUAGES, decimal, written_in

if sys.version_info >= (3, 11):  # noqa: UP036
    import tomllib
else:  # in a student's kernel
    import tomli as tomllib

__all__ = ["BESIDE", "Settings", "read_settings", "settings_for"]

BESIDE = "grader.toml"
"""What a settings file is called that lies beside a notebook."""

_Judged = TypeVar("_Judged")
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Line = Annotated[str, msgspec.Meta(max_length=200, pattern=r"\A[^\r\n]*\Z")]
_Address = Annotated[str, msgspec.Meta(max_length=500, pattern=r"\A(https?://[^\s\"'<>()\\]+)?\Z")]


@dataclass(frozen=True, slots=True)
class Handout:
    """What a course's own copy of the assignment says (docs/handout.md); what is empty is not mentioned in it."""

    course: _Line = ""
    """Name of the course and of the term."""
    deadline: _Line = ""
    """As students read it, with the time and the time zone."""
    canvas: _Address = ""
    """Address of the assignment in Canvas."""
    contact: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """Whom to ask, in Markdown."""
    notebook: _Address = ""
    """Where the notebook lies on GitHub, for the button that opens it in Colab."""
    data: _Address = ""
    """Folder on the web that has the files which the notebook needs, with a `/` at the end."""
    check: _Line = ""
    """What `pip install` takes to get the self-check: a package or the address of a wheel."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a course has set; all of it may be left out."""

    note: Annotated[str, msgspec.Meta(max_length=500)] = ""
    """Shown on every page: the rule for late hand-ins, whom to ask."""
    language: str = "en"
    """Language (ISO 639-1) whose way to write numbers and dates pages have; their sentences are English."""
    points: dict[str, Annotated[int, msgspec.Meta(ge=1, le=1000)]] = field(default_factory=dict)
    """Criterion -> its points."""
    accuracy: dict[str, _Share] = field(default_factory=dict)
    """Method -> its minimum accuracy, 0 to 1; `linear_range` -> how far below it points fall linearly to none; 0 is a hard minimum."""
    limits: dict[Literal["cpu_seconds", "wall_seconds", "memory_gib"], Annotated[float, msgspec.Meta(gt=0)]] = field(
        default_factory=dict
    )
    """CPU seconds, wall seconds and GiB of memory of one submission."""
    show: dict[str, Shown] = field(default_factory=dict)
    """Criterion, part of the rubric or `default` -> what students see of it."""
    handout: Handout = field(default_factory=Handout)
    """What the assignment says where it is handed out; nothing is judged by it."""

    def apply(self, assignment: Assignment, judged_by: _Judged) -> tuple[Assignment, _Judged]:
        """The assignment with what is set, and a bundle, or whatever else has `calibrations` and a `linear_range`.

        Raises UsageError for a criterion, part or method that there is not.
        """
        bundle: Any = judged_by
        parts = {name.partition("/")[0] for name in assignment.checks}
        methods = {*bundle.calibrations, "linear_range"}
        for table, given, known in (
            ("points", self.points, set(assignment.checks)),
            ("accuracy", self.accuracy, methods),
            ("show", self.show, {*assignment.checks, *parts, "default"}),
        ):
            if unknown := [name for name in given if name not in known]:
                raise UsageError(f"[{table}] has {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if self.language not in LANGUAGES:
            raise UsageError(f"language is {self.language}; there are {', '.join(LANGUAGES)}")
        for method, accuracy in self.accuracy.items():
            if not accuracy and method != "linear_range":
                raise UsageError(f"[accuracy] {method} is 0; a minimum accuracy is above 0")
        width = self.accuracy.get("linear_range", bundle.linear_range)
        if width > 0.5:
            raise UsageError(f"[accuracy] linear_range is {width:g}; it is 0.5 at most")
        calibrations = {
            method: replace(known, accuracy=self.accuracy.get(method, known.accuracy))
            for method, known in bundle.calibrations.items()
        }
        changed = replace(bundle, calibrations=MappingProxyType(calibrations), linear_range=width)
        return self.rubric(assignment), changed

    def rubric(self, assignment: Assignment) -> Assignment:
        """The assignment with the points of its criteria, and with what students see of each."""
        checks = {
            name: replace(check, points=self.points.get(name, check.points), show=self.shown(name))
            for name, check in assignment.checks.items()
        }
        return replace(assignment, checks=checks)

    def after(self, before: Settings) -> Settings:
        """These, with the limits that were told earlier where they name none: what a class was run with is not lowered in silence."""
        return replace(self, limits={**before.limits, **self.limits})

    def limited(self, **limits: float | None) -> Settings:
        """These with other limits, where they are given."""
        given: Any = {name: value for name, value in limits.items() if value is not None}
        return replace(self, limits={**self.limits, **given})

    def shown(self, criterion: str) -> Shown:
        """What students see of a criterion."""
        part = criterion.partition("/")[0]
        return self.show.get(criterion, self.show.get(part, self.show.get("default", "all")))

    def sentences(self, used: Mapping[str, float] | None = None) -> tuple[str, ...]:
        """What was set, with the limits that a run has `used`, as `Done.limits` has them."""
        limits: dict[Any, float] = {**self.limits, **(used or {})}
        if memory := limits.pop("memory_bytes", None):
            limits["memory_gib"] = round(memory / (1 << 30), 2)
        tables: Mapping[str, Mapping[Any, Any]] = {
            "Points": self.points, "Minimum accuracy": self.accuracy, "Limits": limits, "Students see": self.show
        }  # fmt: skip
        with written_in(self.language):
            told = [
                f"{title}: {'; '.join(f'{name} {v if isinstance(v, str) else decimal(v)}' for name, v in table.items())}."
                for title, table in tables.items()
                if table
            ]
        return (*told, *([f"Numbers and dates: as in the language {self.language}."] if self.language != "en" else []))


def settings_for(notebook: Path, given: Path | None) -> Settings:
    """What holds for a notebook that is checked: the settings given, else those of a `grader.toml` beside it, else none.

    Raises UsageError where these cannot be read.
    """
    path = given or notebook.parent / BESIDE
    return read_settings(path) if given is not None or path.is_file() else Settings()


def read_settings(path: Path) -> Settings:
    """Read a settings file. Raises UsageError, which names the file and what is wrong in it."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        settings = msgspec.convert(found, Settings)
        for given, record, where in ((found, Settings, ""), (found.get("handout", {}), Handout, "[handout] of ")):
            known = [each.name for each in fields(record)]
            if unknown := set(given) - set(known):
                raise UsageError(f"{where}{path} has {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return settings
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}") from error
