"""Calibrates a bundle by many trainings as students do them. Trusted; torch runs in processes of its own.

`calibrate` sets the thresholds, from trainings at the library's defaults: far enough below the mean of right solutions that a
further one misses with a probability under half a percent, and above models that learnt nothing real. `calibrate_range` finds
the range of hyperparameters in which right solutions reach these thresholds; outside of it a miss says nothing about the student.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from grader.bundles.bundle import MANIFEST, RANGE_FILE, RUNS_FILE, THRESHOLDS_FILE, Bundle, load_bundle, seal
from grader.bundles.hf_cache import prepare_home
from grader.bundles.process import Progress, run_module, silent
from grader.errors import BundleError, UsageError

RIGHT: Final = {"full": ("full",), "head": ("head",), "lora": ("lora", "lora-uniform")}
"""Method -> the right solutions of it that are calibrated; the weakest of them decides."""
BROKEN: Final = ("shuffled", "not-pretrained")
"""Broken variants that are really trained; the cheap draws come on top."""
FALSE_FAIL: Final = 0.005
"""Largest probability that a right solution misses its threshold."""
HELDOUT_SEED_TEXT: Final = "calibration"
"""What the held-out reviews of a calibration are drawn from; no class is ever judged on them."""
LEAST_SEEDS: Final = 10
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

_VARIANTS: Final = tuple(variant for variants in RIGHT.values() for variant in variants)
Result = Mapping[str, Any]
"""A training and what came of it: the fields of `Training`, and held-out `accuracy` and `loss` (nats)."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training of the stand-in; by default with the library's hyperparameters."""

    method: str
    """A right variant of `RIGHT` or one of `BROKEN`."""
    seed: int
    """Of everything random."""
    lr: float = 5e-5
    """Learning rate at the start."""
    epochs: int = 3
    """Passes over the training reviews."""
    batch: int = 8
    """Reviews per step."""

    def lr_sum(self, reviews: int) -> float:
        """Sum of the learning rates of all steps when they fall to zero in a straight line, as the Trainer's do."""
        return self.lr * (math.ceil(reviews / self.batch) * self.epochs + 1) / 2


def calibrate(
    bundle: Bundle,
    seeds: Sequence[int],
    *,
    broken: int = 3,
    draws: int = 200,
    workers: int = 1,
    progress: Progress = silent,
) -> Bundle:
    """Trains every method once per seed, writes calibration.jsonl and thresholds.json and seals the bundle anew.

    About 40 s of CPU time per seed, one thread for each of the `workers`. `broken` is the number of seeds of really trained
    broken variants, `draws` that of cheap draws. Returns the bundle as it then is. Raises UsageError for fewer than ten seeds,
    InfrastructureError where a training fails, BundleError where broken models cannot be told from right ones.
    """
    if len(seeds) < LEAST_SEEDS:
        raise UsageError(
            f"a calibration needs at least {LEAST_SEEDS} seeds, not {len(seeds)}: its tails are what counts."
        )
    trainings = [Training(variant, seed) for seed in seeds for variant in _VARIANTS]
    trainings += [Training(variant, seed) for seed in range(broken) for variant in BROKEN]
    return write_thresholds(bundle, _train(bundle, trainings, workers, "calibrating the thresholds", progress, draws))


def calibrate_range(
    bundle: Bundle, seeds: Sequence[int] = (0,), *, workers: int = 1, progress: Progress = silent
) -> Bundle:
    """Trains every right solution at every setting of the grid, once per seed, and writes calibrated-range.json.

    About 8 minutes of CPU time per seed, one thread for each of the `workers`. Returns the bundle, sealed anew. Raises
    BundleError where the bundle has no thresholds yet or where even the library's defaults lie outside, InfrastructureError
    where a training fails.
    """
    trainings = [Training(variant, seed, *setting) for setting in GRID for seed in seeds for variant in _VARIANTS]
    return write_range(bundle, _train(bundle, trainings, workers, "calibrating the range", progress))


def _train(
    bundle: Bundle, trainings: Sequence[Training], workers: int, what: str, progress: Progress, draws: int = 0
) -> list[Result]:
    """Trains, in as many processes as `workers` says; `draws` cheap models that learnt nothing come on top."""
    results: list[Result] = []
    total = len(trainings) + 2 * draws

    def work(number: int) -> None:
        home = Path(folder) / str(number)
        prepare_home(bundle, home)
        share = [asdict(training) for training in trainings[number::workers]]
        job = {"secret": HELDOUT_SEED_TEXT, "trainings": share, "draws": 0 if number else draws}
        for line in run_module("grader.bundles.training", [str(bundle.path), json.dumps(job)], home):
            if line.startswith("{"):
                results.append(json.loads(line))
                progress(what, len(results) / total)

    with tempfile.TemporaryDirectory(prefix="calibration-") as folder, ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return sorted(results, key=lambda result: (result["method"], result["seed"]))


def write_thresholds(bundle: Bundle, results: Sequence[Result]) -> Bundle:
    """Writes the trainings and the thresholds that follow from them into the bundle, and seals it.

    Raises BundleError where a broken model would pass, or a right one fail too often; then nothing is written.
    """
    broken = sorted({result["method"] for result in results} - {*_VARIANTS})
    content = {
        "machine": machine_kind(),
        "heldout": len(bundle.heldout(HELDOUT_SEED_TEXT.encode()).labels),
        "model": bundle.manifest["files"].get("model/model.safetensors"),
        "methods": {method: derive_threshold(method, results) for method in RIGHT},
        "broken": {name: summarise(name, results) for name in broken},
    }
    lines = "".join(json.dumps(dict(result)) + "\n" for result in results)
    return _rewrite(bundle, {RUNS_FILE: lines, THRESHOLDS_FILE: json.dumps(content, indent=2) + "\n"})


def write_range(bundle: Bundle, results: Sequence[Result]) -> Bundle:
    """Writes the grid's trainings and the ranges that follow from them (and from calibration.jsonl), and seals the bundle.

    Raises BundleError where the bundle has no thresholds yet, or where no range holds the library's defaults.
    """
    defaults = bundle.path / RUNS_FILE
    if not defaults.is_file() or not bundle.calibrations:
        raise BundleError(f"{bundle.path} has no calibrated thresholds yet: run `grader bundle calibrate` first.")
    known = [json.loads(line) for line in defaults.read_text(encoding="utf-8").splitlines()]
    methods = {method: derive_range(method, [*known, *results], bundle) for method in RIGHT}
    # One training per line keeps differences readable.
    rows = ",\n".join("  " + json.dumps(dict(result)) for result in results)
    text = f'{{"methods": {json.dumps(methods, indent=1)},\n"runs": [\n{rows}\n]}}\n'
    return _rewrite(bundle, {RANGE_FILE: text})


def _rewrite(bundle: Bundle, texts: Mapping[str, str]) -> Bundle:
    """Replaces files of the bundle and seals it; an interrupted calibration leaves the old ones whole."""
    with tempfile.TemporaryDirectory(dir=bundle.path.parent, prefix=".calibration-") as folder:
        for name, text in texts.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        for name in texts:
            (Path(folder) / name).replace(bundle.path / name)
    seal(bundle.path, json.loads((bundle.path / MANIFEST).read_text(encoding="utf-8")))
    return load_bundle(bundle.path)


def derive_threshold(method: str, results: Sequence[Result]) -> dict[str, Any]:
    """The threshold of a method, the probability that a right solution misses it, and what both rest on.

    The minimum accuracy lies halfway between the luckiest broken model and four standard deviations below the mean of the
    weakest right variant: far from both, since students choose other epochs and learning rates than the library's. A maximum
    loss is added only where a broken model reaches that accuracy: overconfident right models have a large loss too.
    Raises BundleError where right and broken cannot be told apart.
    """
    broken = [result for result in results if result["method"] not in _VARIANTS]
    accuracies, losses = (
        [[result[measure] for result in results if result["method"] == variant] for variant in RIGHT[method]]
        for measure in ("accuracy", "loss")
    )
    safe = min(statistics.fmean(values) - 4 * statistics.stdev(values) for values in accuracies)
    lucky = max((result["accuracy"] for result in broken), default=0.5)
    accuracy = math.floor(100 * min(safe, (safe + lucky) / 2)) / 100
    false_fail = max(miss_probability(values, accuracy) for values in accuracies)
    passing = [result for result in broken if result["accuracy"] >= accuracy]
    loss = None
    if passing:
        limit = max(statistics.fmean(values) + 4 * statistics.stdev(values) for values in losses)
        loss = math.ceil(100 * limit) / 100
        false_fail += max(miss_probability([-value for value in values], -loss) for values in losses)
        passing = [result for result in passing if result["loss"] <= loss]
    if passing or false_fail > FALSE_FAIL:
        raise BundleError(
            f"no threshold for {method} tells right from broken: at accuracy {accuracy} and loss {loss}, {len(passing)} of"
            f" {len(broken)} broken models pass and a right one fails with probability {false_fail:.4f}. The model needs to"
            " be pretrained differently."
        )
    return {
        "accuracy": accuracy,
        "loss": loss,
        "false_fail": float(f"{false_fail:.1e}"),
        "runs": {variant: summarise(variant, results) for variant in RIGHT[method]},
    }


def derive_range(method: str, results: Sequence[Result], bundle: Bundle) -> dict[str, Any]:
    """The largest range without a training that is not clearly above the method's threshold.

    A range is all trainings with at most some learning rate and at least some sum of the rates of all steps. `false_fail` is
    the highest probability of a miss inside that the trainings leave possible, at 95 % confidence: none of `results` missed.
    Raises BundleError where no range holds the library's defaults.
    """
    reviews, needed = bundle.train_reviews, bundle.calibrations[method].accuracy + MARGIN
    tried = []
    for result in results:
        if result["method"] in RIGHT[method]:
            training = Training(method, 0, result["lr"], result["epochs"], result["batch"])
            tried.append((result["lr"], training.lr_sum(reviews), result["accuracy"]))
    best: tuple[int, float] = (0, 0.0)
    inside: list[tuple[float, float, float]] = []
    for highest in sorted({lr for lr, _, _ in tried}):
        below = [entry for entry in tried if entry[0] <= highest]
        longest_miss = max((lr_sum for _, lr_sum, accuracy in below if accuracy < needed), default=0.0)
        safe = [entry for entry in below if entry[1] > longest_miss]
        settings = len({entry[:2] for entry in safe})
        if (settings, highest) > best and safe:
            best, inside = (settings, highest), safe
    settings, highest = best
    least = min((lr_sum for _, lr_sum, _ in inside), default=math.inf)
    default = Training(method, 0)
    if highest < default.lr or least > default.lr_sum(reviews):
        raise BundleError(f"no range of hyperparameters for {method} holds the library's defaults.")
    return {
        "max_lr": highest,
        "min_lr_sum": float(f"{least:.4g}"),
        "settings": settings,
        "runs": len(inside),
        "worst": min(accuracy for _, _, accuracy in inside),
        "false_fail": round(1 - (1 - CONFIDENCE) ** (1 / len(inside)), 3),
    }


def miss_probability(values: Sequence[float], least: float) -> float:
    """Probability that one further value falls below `least`: Student's t prediction from the values seen, n >= 3."""
    from scipy.stats import t  # half a second, which opening a bundle need not wait for

    count = len(values)
    deviation = statistics.stdev(values)
    if deviation == 0:
        return float(values[0] < least)
    distance = (statistics.fmean(values) - least) / (deviation * math.sqrt(1 + 1 / count))
    return float(t.sf(distance, count - 1))


def machine_kind() -> str:
    """What decides the bytes beside the versions: system, architecture and processor, `Linux x86_64 AMD EPYC`."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = (line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name"))
        processor = next(names, ": ").partition(":")[2].strip()
    return " ".join(filter(None, (platform.system(), platform.machine(), processor)))


def summarise(method: str, results: Sequence[Result]) -> dict[str, Any]:
    """Number of trainings of a variant, and the range of both measures."""
    chosen = [result for result in results if result["method"] == method]
    summary: dict[str, Any] = {"runs": len(chosen)}
    for measure in ("accuracy", "loss"):
        values = [result[measure] for result in chosen]
        if values:
            summary[measure] = {
                "min": min(values),
                "mean": round(statistics.fmean(values), 4),
                "max": max(values),
                "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
            }
    return summary
