"""Arguments and options that several commands share, and the types of their values."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from grader.runs.directory import RunDirectory

__all__ = [
    "FILE",
    "FILE_OR_FOLDER",
    "FOLDER",
    "NEW_FILE",
    "NEW_FOLDER",
    "assignment_option",
    "assignment_options",
    "config_option",
    "limit_options",
    "run_argument",
]

F = TypeVar("F", bound=Callable[..., Any])


class _Path(click.Path):
    """A path; what would fail only when it is used, perhaps after hours of work, is named here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert as click does, and refuse what is empty, too long or below a file, and a file that cannot be written."""
        text = os.fspath(value)
        if not text:
            self.fail("it is empty; give a path", param, ctx)
        try:
            Path(text).stat()
        except FileNotFoundError:
            folder = next(parent for parent in Path(text).absolute().parents if parent.exists())
            if self.writable and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
                self.fail(f"{folder} is not a folder that you may write in", param, ctx)
        except (OSError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or error
            self.fail(f"{text if len(text) < 200 else text[:200] + '...'}: {why}", param, ctx)
        return Path(os.fsdecode(super().convert(value, param, ctx)))


class _Run(_Path):
    """The folder of a run."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the run in it."""
        return RunDirectory(super().convert(value, param, ctx))


FILE = _Path(exists=True, dir_okay=False)
FOLDER = _Path(exists=True, file_okay=False)
FILE_OR_FOLDER = _Path(exists=True)
NEW_FILE = _Path(dir_okay=False, writable=True)
"""A file that will be written."""
NEW_FOLDER = _Path(file_okay=False, writable=True)
"""A folder that is made when it is not there."""

run_argument = click.argument("run", type=_Run(exists=True, file_okay=False))
"""A run that is there."""
assignment_option = click.option(
    "--assignment", default="finetuning", show_default=True, metavar="NAME", help="Assignment, or module:attribute."
)
config_option = click.option(
    "--config", type=FILE, metavar="TOML",
    help="What the course sets: points, minimum accuracies, limits, what students see (docs/settings.md); a run remembers it.",
)  # fmt: skip


def assignment_options(command: F) -> F:
    """Add what is graded, against what, and how it is kept apart."""
    sandbox = click.option(
        "--sandbox", type=click.Choice(["auto", "warm", "cold", "none"]), default="auto", show_default=True,
        help="Isolation: auto takes the best this machine has; none runs the code unprotected.",
    )  # fmt: skip
    bundle = click.option(
        "--bundle", type=FOLDER, metavar="DIR",
        help="Model, data and thresholds to run against.  [default: the small stand-in]",
    )  # fmt: skip
    return assignment_option(bundle(sandbox(command)))


_LIMITS = (
    ("--memory-gib", "G", 0.25, 1e6, "Memory of all processes of one submission, in GiB.  [default: 6]"),
    ("--cpu-seconds", "S", 1, 1e7, "CPU time for all cells of one submission, over all its runs together, in seconds.  [default: 900]"),
    ("--wall-seconds", "S", 1, 1e8, "Time by the clock for all runs of one submission: a net, since who sleeps is ended after minutes.  "
     "[default: eight times the CPU time, and ten minutes]"),
)  # fmt: skip
"""Name, unit, least, most and help of each limit."""


def limit_options(command: F) -> F:
    """Add the limits of one submission. The command gets them as `limits`, what `Settings.limited` takes; None for one not given."""
    for name, unit, least, most, text in _LIMITS:
        taken = functools.partial(_take_limit, least, most)
        command = click.option(name, metavar=unit, help=text, expose_value=False, callback=taken)(command)
    return command


def _take_limit(least: float, most: float, context: click.Context, option: click.Parameter, text: str | None) -> None:
    """Read a limit into the `limits` of its command; NaN is refused as well, because it lies in no range."""
    try:
        number = None if text is None else float(text)
    except ValueError:
        number = math.nan
    if number is not None and not least <= number <= most:
        raise click.BadParameter(f"{text} is not a number from {least:g} to {most:,.0f}")
    context.params.setdefault("limits", {})[option.name] = number
