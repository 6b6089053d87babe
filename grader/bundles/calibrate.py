"""Calibrates a bundle: many trainings as students do them, and from these the thresholds. Trusted; torch in its own process.

A threshold is set from the runs of right solutions: far enough below their mean that a further right run misses it with a
probability under half a percent, and checked against models that learnt nothing real.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from grader.bundles.bundle import MANIFEST, METHODS, Bundle, load_bundle, seal
from grader.bundles.hf_cache import prepare_home
from grader.bundles.process import Progress, run_module, silent
from grader.errors import BundleError, UsageError

RIGHT: Final = {"full": ("full",), "head": ("head",), "lora": ("lora", "lora-uniform")}
"""Method -> the right solutions of it that are calibrated; the weakest of them decides."""
BROKEN: Final = ("shuffled", "not-pretrained")
"""Broken variants that are really trained; the cheap draws come on top."""
FALSE_FAIL: Final = 0.005
"""Largest probability that a right solution misses its threshold."""
CALIBRATION_TEXT: Final = "calibration"
"""What the held-out reviews of a calibration are drawn from; no class is ever judged on them."""
LEAST_SEEDS: Final = 10


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
    right = tuple(variant for variants in RIGHT.values() for variant in variants)
    jobs = [(right, (seed,), 0) for seed in seeds] + [(BROKEN, tuple(range(broken)), draws)]
    total = len(seeds) * len(right) + broken * len(BROKEN) + 2 * draws
    runs: list[dict[str, Any]] = []

    def work(share: Sequence[tuple[tuple[str, ...], tuple[int, ...], int]], home: Path) -> None:
        for methods in dict.fromkeys(methods for methods, _, _ in share):
            chosen = [job for job in share if job[0] == methods]
            arguments = [str(bundle.path), "--secret", CALIBRATION_TEXT, "--methods", ",".join(methods)]
            arguments += ["--seeds", ",".join(str(seed) for _, some, _ in chosen for seed in some)]
            arguments += ["--draws", str(sum(cheap for _, _, cheap in chosen))]
            for line in run_module("grader.bundles.training", arguments, home):
                if line.startswith("{"):
                    runs.append(json.loads(line))
                    progress("calibrating the thresholds", len(runs) / total)

    with tempfile.TemporaryDirectory(prefix="calibration-") as folder, ThreadPoolExecutor(workers) as pool:
        homes = [Path(folder) / str(number) for number in range(workers)]
        for home in homes:
            prepare_home(bundle, home)
        for ended in [pool.submit(work, jobs[number::workers], home) for number, home in enumerate(homes)]:
            ended.result()
    return write_thresholds(bundle, sorted(runs, key=lambda run: (run["method"], run["seed"])))


def write_thresholds(bundle: Bundle, runs: Sequence[Mapping[str, Any]]) -> Bundle:
    """Writes the runs and the thresholds that follow from them into the bundle, and seals it.

    Raises BundleError where a broken model would pass, or a right one fail too often; then nothing is written.
    """
    thresholds = {method: derive(method, runs) for method in METHODS}
    content = {
        "machine": machine_kind(),
        "heldout": len(bundle.heldout(CALIBRATION_TEXT.encode()).labels),
        "model": bundle.manifest["files"].get("model/model.safetensors"),
        "methods": thresholds,
        "broken": {name: summarise(name, runs) for name in sorted({r["method"] for r in runs} - _right_names())},
    }
    lines = "".join(json.dumps(dict(run)) + "\n" for run in runs)
    # Written beside and moved, so that an interrupted calibration leaves the old thresholds whole.
    with tempfile.TemporaryDirectory(dir=bundle.path.parent, prefix=".calibration-") as folder:
        (Path(folder) / "calibration.jsonl").write_text(lines, encoding="utf-8")
        (Path(folder) / "thresholds.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        for name in ("calibration.jsonl", "thresholds.json"):
            shutil.move(Path(folder) / name, bundle.path / name)
    manifest = json.loads((bundle.path / MANIFEST).read_text(encoding="utf-8"))
    seal(bundle.path, manifest)
    return load_bundle(bundle.path)


def derive(method: str, runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The threshold of a method, the probability that a right solution misses it, and what both rest on.

    The minimum accuracy lies halfway between the luckiest broken model and four standard deviations below the mean of the
    weakest right variant: far from both, since students choose other epochs and learning rates than the library's. A maximum
    loss is added only where a broken model reaches that accuracy: overconfident right models have a large loss too.
    Raises BundleError where right and broken cannot be told apart.
    """
    runs = list(runs)
    broken = [run for run in runs if run["method"] not in _right_names()]
    variants = {name: [run for run in runs if run["method"] == name] for name in RIGHT[method]}
    safe = min(_mean(v, "accuracy") - 4 * _deviation(v, "accuracy") for v in variants.values())
    lucky = max((run["accuracy"] for run in broken), default=0.5)
    accuracy = math.floor(100 * min(safe, (safe + lucky) / 2)) / 100
    false_fail = max(miss_probability([run["accuracy"] for run in v], accuracy) for v in variants.values())
    passing = [run for run in broken if run["accuracy"] >= accuracy]
    loss = None
    if passing:
        limit = max(_mean(v, "loss") + 4 * _deviation(v, "loss") for v in variants.values())
        loss = math.ceil(100 * limit) / 100
        false_fail += max(miss_probability([-run["loss"] for run in v], -loss) for v in variants.values())
        passing = [run for run in passing if run["loss"] <= loss]
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
        "runs": {name: summarise(name, runs) for name in variants},
    }


def miss_probability(values: Sequence[float], least: float) -> float:
    """Probability that one further value falls below `least`: Student's t prediction from the values seen, n >= 3."""
    count = len(values)
    deviation = statistics.stdev(values)
    if deviation == 0:
        return float(values[0] < least)
    distance = (statistics.fmean(values) - least) / (deviation * math.sqrt(1 + 1 / count))
    return _student_tail(distance, count - 1)


def machine_kind() -> str:
    """What decides the bytes beside the versions: system, architecture and processor, `Linux x86_64 AMD EPYC`."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = (line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name"))
        processor = next(names, ": ").partition(":")[2].strip()
    return " ".join(filter(None, (platform.system(), platform.machine(), processor)))


def summarise(method: str, runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of runs of a variant, and the range of both measures."""
    chosen = [run for run in runs if run["method"] == method]
    summary: dict[str, Any] = {"runs": len(chosen)}
    for measure in ("accuracy", "loss"):
        values = [run[measure] for run in chosen]
        if values:
            summary[measure] = {
                "min": min(values),
                "mean": round(statistics.fmean(values), 4),
                "max": max(values),
                "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
            }
    return summary


def _right_names() -> set[str]:
    return {name for variants in RIGHT.values() for name in variants}


def _mean(runs: Sequence[Mapping[str, Any]], measure: str) -> float:
    return statistics.fmean(run[measure] for run in runs)


def _deviation(runs: Sequence[Mapping[str, Any]], measure: str) -> float:
    return statistics.stdev(run[measure] for run in runs)


def _student_tail(distance: float, degrees: int) -> float:
    """P(T > distance) for Student's t, integrated with t = sqrt(degrees) * tan(u); exact to about 1e-9."""
    # The density becomes cos(u) ** (degrees - 1) up to a constant, smooth on a finite interval: Simpson's rule does.
    start, end, pieces = math.atan(distance / math.sqrt(degrees)), math.pi / 2, 2000

    def integrate(first: float) -> float:
        width = (end - first) / pieces
        heights = [max(0.0, math.cos(first + index * width)) ** (degrees - 1) for index in range(pieces + 1)]
        return width / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))

    return integrate(start) / integrate(-end)
