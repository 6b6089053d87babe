"""Arguments and options that several commands share, and the types of their values."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "Number",
    "assignment_options",
    "config_option",
    "input_path",
    "limit_options",
    "output_file",
    "output_folder",
    "run_argument",
]

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.ParamType[float]):
    """A number in a range."""

    name = "number"

    def __init__(self, least: float, most: float) -> None:
        """Take numbers from `least` to `most`."""
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert a text; NaN is refused as well, because it lies in no range."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self.least <= number <= self.most:
            self.fail(f"{value} is not a number from {self.least:g} to {self.most:,.0f}", param, ctx)
        return number


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
        return super().convert(value, param, ctx)


def input_path(*, file: bool = True, folder: bool = False) -> click.ParamType[Any]:
    """A path that has to be there and to be readable."""
    return _Path(exists=True, file_okay=file, dir_okay=folder, path_type=Path)


def output_file() -> click.ParamType[Any]:
    """A file that will be written."""
    return _Path(dir_okay=False, writable=True, path_type=Path)


def output_folder() -> click.ParamType[Any]:
    """A folder that is made when it is not there."""
    return _Path(file_okay=False, writable=True, path_type=Path)


def run_argument(command: F) -> F:
    """Add the folder of a run."""
    return click.argument("run", type=input_path(file=False, folder=True))(command)


def assignment_options(command: F) -> F:
    """Add what is graded, against what, and how it is kept apart."""
    for option in (
        click.option(
            "--sandbox", type=click.Choice(["auto", "warm", "cold", "none"]), default="auto", show_default=True,
            help="Isolation: auto takes the best this machine has; none runs the code unprotected.",
        ),
        click.option(
            "--bundle", type=input_path(file=False, folder=True), metavar="DIR",
            help="Model, data and thresholds to run against.  [default: the small stand-in]",
        ),
        click.option(
            "--assignment", default="finetuning", show_default=True, metavar="NAME", help="Assignment, or module:attribute.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def config_option(command: F) -> F:
    """Add the file with what the course sets."""
    return click.option(
        "--config",
        type=input_path(),
        metavar="TOML",
        help="What the course sets: points, minimum accuracies, limits, what students see (docs/settings.md); a run remembers it.",
    )(command)


def limit_options(command: F) -> F:
    """Add the limits of one submission."""
    for option in (
        click.option(
            "--memory-gib", type=Number(0.25, 1e6), metavar="G",
            help="Memory of all processes of one submission, in GiB.  [default: 6]",
        ),
        click.option(
            "--cpu-seconds", type=Number(1, 1e7), metavar="S",
            help="CPU time for all cells of one submission, over all its runs together, in seconds.  [default: 900]",
        ),
        click.option(
            "--wall-seconds", type=Number(1, 1e8), metavar="S",
            help="Time by the clock for all runs of one submission: a net, since who sleeps is ended after minutes.  "
            "[default: eight times the CPU time, and ten minutes]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command
