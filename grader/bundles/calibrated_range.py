"""Calibrates the range of hyperparameters in which thresholds hold. Trusted; torch in its own process.

Students choose other learning rates, epochs and batches than the library's. A grid of such trainings shows where a right
solution still reaches its threshold on the bundle's model; outside of that range a miss says nothing about the student.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grader.bundles.bundle import MANIFEST, METHODS, RANGE_FILE, Bundle, load_bundle, seal
from grader.bundles.calibrate import CALIBRATION_TEXT, RIGHT
from grader.bundles.hf_cache import prepare_home
from grader.bundles.process import Progress, run_module, silent
from grader.errors import BundleError

GRID: Final = (
    (5e-5, 1, 8),
    (5e-5, 1, 32),
    (1e-3, 1, 8),
    (2e-4, 1, 32),
    (1e-5, 1, 8),
    (1e-3, 1, 32),
    (1e-3, 3, 8),
    (1e-5, 3, 8),
    (2e-4, 3, 8),
    (5e-5, 3, 32),
    (5e-4, 3, 8),
    (1e-5, 5, 8),
    (1e-3, 1, 4),
    (1e-5, 5, 4),
    (5e-5, 1, 16),
    (2e-4, 5, 4),
)
"""(learning rate, epochs, batch): the corners of what students choose, and what lies at the edge of the range."""
MARGIN: Final = 0.01
"""How far above its threshold a training must lie for its setting to count as safe; more than the noise of the reviews."""
CONFIDENCE: Final = 0.95


def calibrate_range(bundle: Bundle, seeds: Sequence[int] = (0,), *, progress: Progress = silent) -> Bundle:
    """Trains every right solution at every setting of the grid, once per seed, and writes calibrated-range.json.

    About 8 minutes of CPU time per seed, one thread. Returns the bundle, sealed anew. Raises BundleError where the bundle has
    no thresholds yet or where even the library's defaults lie outside, InfrastructureError where a training fails.
    """
    methods = [variant for variants in RIGHT.values() for variant in variants]
    arguments = [str(bundle.path), "--secret", CALIBRATION_TEXT, "--methods", ",".join(methods)]
    arguments += ["--seeds", ",".join(map(str, seeds)), "--settings", ",".join(f"{r}:{e}:{b}" for r, e, b in GRID)]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="calibration-") as folder:
        prepare_home(bundle, Path(folder))
        for line in run_module("grader.bundles.training", arguments, Path(folder)):
            if line.startswith("{"):
                runs.append(json.loads(line))
                progress("calibrating the range", len(runs) / (len(GRID) * len(seeds) * len(methods)))
    return write_range(bundle, runs)


def write_range(bundle: Bundle, runs: Sequence[Mapping[str, Any]]) -> Bundle:
    """Writes the grid's runs and the ranges that follow from them (and from calibration.jsonl), and seals the bundle."""
    defaults = bundle.path / "calibration.jsonl"
    if not defaults.is_file() or not bundle.thresholds:
        raise BundleError(f"{bundle.path} has no calibrated thresholds yet: run `grader bundle calibrate` first.")
    known = [json.loads(line) for line in defaults.read_text(encoding="utf-8").splitlines()]
    content = {
        "methods": {method: derive_range(method, [*known, *runs], bundle) for method in METHODS},
        "runs": [dict(run) for run in runs],
    }
    # One run per line keeps differences readable.
    rows = ",\n".join("  " + json.dumps(run) for run in content["runs"])
    text = f'{{"methods": {json.dumps(content["methods"], indent=1)},\n"runs": [\n{rows}\n]}}\n'
    (bundle.path / RANGE_FILE).write_text(text, encoding="utf-8")
    manifest = json.loads((bundle.path / MANIFEST).read_text(encoding="utf-8"))
    seal(bundle.path, manifest)
    return load_bundle(bundle.path)


def derive_range(method: str, runs: Sequence[Mapping[str, Any]], bundle: Bundle) -> dict[str, Any]:
    """The largest range without a run that is not clearly above the method's threshold.

    A range is all runs with at most some learning rate and at least some sum of the rates of all steps. `false_fail` is the
    highest probability of a miss inside that the runs leave possible, at 95 % confidence: none of `runs` missed. Raises
    BundleError where no range holds the library's defaults.
    """
    needed = bundle.thresholds[method].accuracy + MARGIN
    tried = [
        (run["lr"], lr_sum(run, bundle.train_reviews), run["accuracy"])
        for run in runs
        if run["method"] in RIGHT[method]
    ]
    best: tuple[int, float, float, float, int] | None = None
    for highest in sorted({rate for rate, _, _ in tried}):
        below = [(length, accuracy) for rate, length, accuracy in tried if rate <= highest]
        longest_miss = max((length for length, accuracy in below if accuracy < needed), default=0.0)
        inside = [(length, accuracy) for length, accuracy in below if length > longest_miss]
        if not inside:
            continue
        settings = {(rate, length) for rate, length, _ in tried if rate <= highest and length > longest_miss}
        worst = min(accuracy for _, accuracy in inside)
        found = (len(settings), highest, min(length for length, _ in inside), worst, len(inside))
        best = found if best is None or found[:2] > best[:2] else best
    default = lr_sum({"lr": 5e-5, "epochs": 3, "batch": 8}, bundle.train_reviews)
    if best is None or best[1] < 5e-5 or best[2] > default:
        raise BundleError(f"no range of hyperparameters for {method} holds the library's defaults.")
    settings_inside, highest, least, worst, count = best
    return {
        "max_lr": highest,
        "min_lr_sum": float(f"{least:.4g}"),
        "settings": settings_inside,
        "runs": count,
        "worst": worst,
        "false_fail": round(1 - (1 - CONFIDENCE) ** (1 / count), 3),
    }


def lr_sum(run: Mapping[str, Any], reviews: int) -> float:
    """Sum of the learning rates of all steps when they fall to zero in a straight line, as the Trainer's do."""
    steps = math.ceil(reviews / run["batch"]) * run["epochs"]
    return float(run["lr"] * (steps + 1) / 2)
