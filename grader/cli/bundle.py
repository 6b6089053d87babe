"""`grader bundle`: verify and calibrate what submissions are run against."""

from __future__ import annotations

import argparse

from grader.bundles import calibrate, load_bundle
from grader.bundles.calibrated_range import calibrate_range
from grader.cli.common import bar, console, machine
from grader.errors import UsageError

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Do what the action says."""
    if options.action == "verify":
        bundle = load_bundle(options.bundle)
        bundle.verify()
        count = len(bundle.manifest["files"])
        state = f"all {count} files are as the manifest says" if count else "its manifest holds no hashes to compare"
        console.print(f"Bundle {bundle.name} ({bundle.digest[:12]}): {state}.")
        return 0
    with bar(unit=False) as progress:
        task = progress.add_task("starting", total=1.0)

        def tell(what: str, share: float) -> None:
            progress.update(task, description=what, completed=share)

        if options.window is not None:
            if options.window < 1:
                raise UsageError("--window needs at least one training per choice")
            bundle = calibrate_range(load_bundle(options.bundle), range(options.window), progress=tell)
        else:
            bundle = calibrate(load_bundle(options.bundle), range(options.seeds), workers=machine()[0], progress=tell)
    console.print(f"Bundle {bundle.name} ({bundle.digest[:12]}) in {bundle.path}", soft_wrap=True)
    for method, threshold in bundle.thresholds.items():
        chance = "unknown" if threshold.false_fail is None else f"{threshold.false_fail:.1e}"
        console.print(f"  {method}: minimum accuracy {threshold.accuracy:.2f}, probability of a false fail {chance}")
    return 0
