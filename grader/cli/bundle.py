"""`grader bundle`: verify and calibrate what submissions are run against."""

from __future__ import annotations

import json
from pathlib import Path

import click

from grader.bundles.bundle import load_bundle
from grader.bundles.bundle import seal as seal_bundle
from grader.bundles.calibration import calibrate as calibrate_bundle
from grader.bundles.grid import SEEDS
from grader.bundles.thresholds import MANIFEST
from grader.cli.common import machine, say, working
from grader.cli.options import FOLDER

__all__ = ["bundle"]


@click.group()
def bundle() -> None:
    """Check and calibrate what submissions run against: a model, data and thresholds (docs/bundles.md)."""


@bundle.command()
@click.argument("folder", required=False, type=FOLDER, metavar="[DIR]")
def verify(folder: Path | None) -> int:
    """Compare a bundle's files with their hashes.  [default: the stand-in that ships with the grader]"""
    found = load_bundle(folder)
    found.verify()
    count = len(found.manifest["files"])
    state = f"all {count} files are as the manifest says" if count else "its manifest holds no hashes to compare"
    say(f"Bundle {found.name} ({found.digest[:12]}): {state}.")
    return 0


@bundle.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
def seal(folder: Path) -> int:
    """Write the hashes of a bundle's files anew, after you have edited one by hand. Runs on it are then run again."""
    before = load_bundle(folder)
    seal_bundle(folder, json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    after = load_bundle(folder)
    state = "nothing had changed" if after.digest == before.digest else f"it was {before.digest[:12]}"
    say(f"Bundle {after.name} ({after.digest[:12]}) holds {len(after.manifest['files'])} files; {state}.")
    return 0


@bundle.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option(
    "--seeds", type=click.IntRange(2), default=SEEDS, show_default=True, metavar="N", help="Trainings of each setting."
)
@click.option(
    "--workers", type=click.IntRange(1), metavar="N",
    help="Trainings at the same time, one thread each.  [default: all cores]",
)  # fmt: skip
def calibrate(folder: Path, seeds: int, workers: int | None) -> int:
    """Measure the thresholds of a bundle by training as students do.

    Trains full, head-only and LoRA models with every setting of a grid (learning rates from 1e-5 to 1e-3, 1 to 5 epochs, batches of 4
    to 64, other schedules and optimizers, own loops, a part of the reviews, adapters of all kinds), and broken ones: shuffled labels,
    labels that never arrive, nothing trained. Cheap trainings come first.

    \b
    Writes into DIR
      thresholds.json    minimums that right models reach and broken ones do not, and how sure that is
      calibration.jsonl  all trainings with their settings
      calibration.svg    the same as a picture
    and seals its manifest again.

    Stop it whenever you like (Ctrl-C): the same command goes on where it was. What calibration.jsonl holds of the same model and
    reviews is not trained again; remove it to begin anew. The stand-in takes about 50 minutes on one free
    core; a larger model takes as many times longer as its training does.
    """  # noqa: D301
    found = load_bundle(folder)
    with working("training", counted=True) as update:
        found = calibrate_bundle(
            found,
            seeds=seeds,
            workers=workers or machine()[0],
            progress=lambda done, total: update(completed=done, total=total),
        )
    say(f"Bundle {found.name} ({found.digest[:12]}) in {found.path}")
    for method, calibration in found.calibrations.items():
        say(
            f"  {method}: minimum accuracy {calibration.accuracy:.2f}, or minimum label correlation {calibration.correlation:.2f}"
        )
    return 0
