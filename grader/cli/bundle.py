"""`grader bundle`: verify and calibrate what submissions are run against."""

from __future__ import annotations

from pathlib import Path

import click

from grader.bundles import calibrate as calibrate_bundle
from grader.bundles import calibrate_range, load_bundle
from grader.cli.common import bar, machine, say
from grader.cli.options import input_path

__all__ = ["bundle"]


@click.group()
def bundle() -> None:
    """Check and calibrate what submissions run against: a model, data and thresholds (docs/bundles.md)."""


@bundle.command()
@click.argument("folder", required=False, type=input_path(file=False, folder=True), metavar="[DIR]")
def verify(folder: Path | None) -> int:
    """Compare a bundle's files with their hashes.  [default: the stand-in that ships with the grader]"""
    found = load_bundle(folder)
    found.verify()
    count = len(found.manifest["files"])
    state = f"all {count} files are as the manifest says" if count else "its manifest holds no hashes to compare"
    say(f"Bundle {found.name} ({found.digest[:12]}): {state}.")
    return 0


@bundle.command()
@click.argument("folder", type=input_path(file=False, folder=True), metavar="DIR")
@click.option(
    "--seeds", type=click.IntRange(1), default=30, show_default=True, metavar="N", help="Trainings per method."
)
@click.option(
    "--range", "grid_seeds", type=click.IntRange(1), metavar="N",
    help="Keep the thresholds, and train N times at each of 16 other choices of learning rate, epochs and batch size: a miss"
    " outside the range where right solutions pass then needs review and costs nothing.",
)  # fmt: skip
def calibrate(folder: Path, seeds: int, grid_seeds: int | None) -> int:
    """Measure the thresholds of a bundle by training with many seeds."""
    found = load_bundle(folder)
    with bar(unit=False) as progress:
        task = progress.add_task("starting", total=1.0)

        def on_progress(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share)

        if grid_seeds is not None:
            found = calibrate_range(found, range(grid_seeds), workers=machine()[0], progress=on_progress)
        else:
            found = calibrate_bundle(found, range(seeds), workers=machine()[0], progress=on_progress)
    say(f"Bundle {found.name} ({found.digest[:12]}) in {found.path}")
    for method, calibration in found.calibrations.items():
        chance = "unknown" if calibration.false_fail is None else f"{calibration.false_fail:.1e}"
        say(f"  {method}: minimum accuracy {calibration.accuracy:.2f}, probability of a false fail {chance}")
    return 0
