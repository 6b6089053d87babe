"""Calibrates a bundle by many trainings as students do them. Trusted; torch runs in processes of its own.

`calibrate` trains every setting of the grid (`grader.bundles.grid`) with several seeds, and broken solutions beside them. From what
came of it follow the thresholds, and the bounds on how often they are wrong. Every training is noted when it is done: a calibration
that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from grader.bundles.bundle import PLOT_FILE, RUNS_FILE, Bundle, load_bundle, seal
from grader.bundles.grid import EDGE, METHODS, SEEDS, Setting, broken, cost, grid
from grader.bundles.plot import plot
from grader.bundles.process import run_module
from grader.bundles.thresholds import MANIFEST, THRESHOLDS_FILE, Calibration, read_object
from grader.errors import BundleError

CONFIDENCE: Final = 0.95
"""Of the upper bounds."""
_FIELDS: Final = frozenset(field.name for field in fields(Setting))

Progress = Callable[[int, int], None]
"""Called with the trainings done, and all."""


@dataclass(frozen=True, slots=True)
class Result:
    """A training and what came of it."""

    setting: Setting
    """How it was trained."""
    seed: int
    """Of everything random."""
    accuracy: float | None
    """On the held-out reviews; None where the training diverged."""
    correlation: float | None
    """See `grader.bundles.measures.label_correlation`; None where the training diverged."""
    cpu_seconds: float = 0.0
    """What it cost, on one thread."""
    kinship: float | None = None
    """Cosine of the body with its adapters and the pretrained one; None without adapters."""

    def passes(self, accuracy: float, correlation: float | None) -> bool:
        """Whether it reaches one of the minimums."""
        reached, pointed = self.accuracy, self.correlation
        if reached is None or pointed is None:
            return False
        return reached >= accuracy or (correlation is not None and pointed >= correlation)

    def as_json(self) -> dict[str, Any]:
        """Plain data: the setting's fields that differ from the defaults, then what came of it."""
        measured = {"accuracy": self.accuracy, "correlation": self.correlation, "cpu_seconds": self.cpu_seconds}
        kinship = {} if self.kinship is None else {"kinship": self.kinship}
        return {**self.setting.changes, "seed": self.seed, **measured, **kinship}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Result:
        """The opposite of `as_json`."""
        setting = Setting(**{name: value for name, value in found.items() if name in _FIELDS})
        measured = {name: value for name, value in found.items() if name not in _FIELDS}
        return cls(setting, **measured)


def calibrate(bundle: Bundle, *, seeds: int = SEEDS, workers: int = 1, progress: Progress = lambda *_: None) -> Bundle:
    """Trains the whole grid, writes calibration.jsonl, thresholds.json and calibration.svg, and seals the bundle anew.

    For the stand-in about 50 minutes of CPU time with five `seeds`, one thread for each of the `workers`. What is done is noted in a
    file beside the bundle, which is removed at the end; what an earlier calibration of the same model and reviews has done is not done
    again. Returns the bundle as it then is. Raises InfrastructureError where a
    training fails, BundleError where broken models cannot be told from right ones.
    """
    asked = [(setting, seed) for setting in grid() for seed in range(seeds)]
    asked += [(setting, seed) for setting, count in broken() for seed in range(count)]
    done = {(result.setting, result.seed): result for result in begin(bundle)}
    results = [done[training] for training in asked if training in done]
    left = [training for training in asked if training not in done]
    left.sort(key=lambda training: cost(training[0], len(bundle.train.labels)))
    progress(len(results), len(asked))
    stopped, lock = threading.Event(), threading.Lock()

    def work(number: int) -> None:
        share = Path(folder) / f"{number}.json"
        share.write_text(json.dumps([{**setting.changes, "seed": seed} for setting, seed in left[number::workers]]))
        for line in run_module("grader.bundles.training", [str(bundle.path), str(share)]):
            if stopped.is_set():
                return
            if line.startswith("{"):
                with lock, notes_of(bundle).open("a", encoding="utf-8") as notes:
                    notes.write(f"{line}\n")
                    results.append(Result.from_json(json.loads(line)))
                    progress(len(results), len(asked))

    with tempfile.TemporaryDirectory(prefix="calibration-") as folder, ThreadPoolExecutor(workers) as pool:
        try:
            list(pool.map(work, range(min(workers, len(left)))))
        except BaseException:
            stopped.set()
            raise
    calibrated = write_calibration(bundle, results)
    notes_of(bundle).unlink()
    return calibrated


def notes_of(bundle: Bundle) -> Path:
    """Where a calibration notes what it has trained, a line each: a file beside the bundle, named by what the trainings depend on."""
    return bundle.path.with_name(f".{bundle.path.name}.{bundle.content[:16]}.calibrating.jsonl")


def begin(bundle: Bundle) -> list[Result]:
    """The trainings of this model with these reviews so far, noted anew but for half a line of a write that was cut off.

    They are those of a calibration that was stopped, else of one that was finished, whose lines the bundle holds.
    """
    notes, stored, runs = notes_of(bundle), bundle.path / THRESHOLDS_FILE, bundle.path / RUNS_FILE
    known = stored.is_file() and runs.is_file() and read_object(stored).get("content") == bundle.content
    found = notes if notes.is_file() else runs if known else None
    lines = found.read_text(encoding="utf-8").split("\n")[:-1] if found else []
    notes.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return [Result.from_json(json.loads(line)) for line in lines]


def write_calibration(bundle: Bundle, results: Sequence[Result]) -> Bundle:
    """Writes the trainings, the thresholds and bounds that follow from them, and their plot into the bundle, and seals it.

    Raises BundleError where a broken model would pass; then nothing is written.
    """
    results = sorted(results, key=lambda result: (str(result.setting), result.seed))
    methods = {method: derive(method, results, len(bundle.train.labels)) for method in METHODS}
    wrong = [result for result in results if result.setting.broken]
    kinds = sorted({(result.setting.method, result.setting.broken) for result in wrong})
    content = {
        "machine": machine_kind(),
        "heldout": len(bundle.heldout(b"").labels),
        "content": bundle.content,
        "methods": methods,
        "broken": {
            f"{method}, {kind}": _summary([r for r in wrong if (r.setting.method, r.setting.broken) == (method, kind)])
            for method, kind in kinds
        },
    }
    texts = {
        RUNS_FILE: "".join(json.dumps(result.as_json(), separators=(",", ":")) + "\n" for result in results),
        THRESHOLDS_FILE: json.dumps(content, indent=2) + "\n",
        PLOT_FILE: plot(results, methods),
    }
    with tempfile.TemporaryDirectory(dir=bundle.path.parent, prefix=".calibration-") as folder:
        for name, text in texts.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        for name in texts:
            (Path(folder) / name).replace(bundle.path / name)
    seal(bundle.path, json.loads((bundle.path / MANIFEST).read_text(encoding="utf-8")))
    return load_bundle(bundle.path)


def derive(method: str, results: Sequence[Result], reviews: int) -> dict[str, Any]:
    """The thresholds of a method, and what they rest on.

    The minimum accuracy lies halfway between the luckiest broken model of any method and four standard deviations below the mean of
    right ones at the library's defaults; the minimum correlation halfway between the best broken model and the least of the right
    ones that miss that accuracy and did learn, and for heads of one's own as far above the best broken one of these. Rates up to
    `max_lr` (with SGD `max_sgd_lr`) and trainings of `min_steps` and more (with heads of one's own `own_steps`) held no right model that
    misses both. `unchanged` lies halfway between the highest kinship of a LoRA model that missed and 1. What is at the edge of training
    at all says where the range ends, and nothing of the minimums. Raises BundleError where right and broken cannot be told apart, or
    the library's defaults miss.
    """
    sound = [result for result in results if not result.setting.broken]
    usable = [result for result in sound if result.setting.method == method and not result.setting.head]
    right, edge = ([r for r in usable if (r.setting in EDGE) is outer] for outer in (False, True))
    own = [result for result in sound if result.setting.head]
    wrong, own_wrong = (
        [result for result in results if result.setting.broken and bool(result.setting.head) is its_own]
        for its_own in (False, True)
    )
    usual = [result.accuracy or 0.0 for result in right if result.setting.is_default]
    safe = statistics.fmean(usual) - 4 * statistics.stdev(usual)
    lucky = max((result.accuracy or 0.0 for result in (*wrong, *own_wrong)), default=0.5)
    accuracy = math.floor(100 * min(safe, (safe + lucky) / 2)) / 100
    best, own_best = (max((r.correlation or 0.0 for r in found), default=0.0) for found in (wrong, own_wrong))
    short = [
        r.correlation
        for r in right
        if r.accuracy is not None and r.accuracy < accuracy and (r.correlation or 0.0) > best
    ]
    correlation = math.floor(100 * (best + min((value for value in short if value is not None), default=1.0)) / 2) / 100
    own_correlation = math.ceil(100 * (own_best + correlation - best)) / 100 if own_wrong else None
    passing = [result for result in wrong if result.passes(accuracy, correlation)]
    passing += [result for result in own_wrong if result.passes(accuracy, own_correlation)]
    if passing or correlation <= best:
        raise BundleError(
            f"no threshold for {method} tells right from broken: at accuracy {accuracy} or correlation {correlation}, {len(passing)} of"
            f" {len(wrong) + len(own_wrong)} broken models pass. The model needs to be pretrained differently."
        )
    missed = [result for result in usable if not result.passes(accuracy, correlation)]
    max_lr, min_steps = _range(usable, missed, reviews)
    usual_setting = Setting(METHODS[0])
    if max_lr < usual_setting.lr or min_steps > usual_setting.steps(reviews):
        raise BundleError(
            f"right solutions for {method} miss at the library's own learning rate and length of training."
        )
    too_fast = min((r.setting.lr for r in missed if r.setting.optimizer == "sgd"), default=math.inf)
    max_sgd_lr = max((s.lr for r in usable if (s := r.setting).optimizer == "sgd" and s.lr < too_fast), default=None)
    own_missed = [r for r in own if not r.passes(accuracy, own_correlation)]
    own_steps = max((r.setting.steps(reviews) + 1 for r in own_missed if r.setting.lr <= max_lr), default=0)
    apart = [r.kinship for r in missed if r.kinship is not None]

    def is_inside(setting: Setting) -> bool:
        most = (max_sgd_lr or 0.0) if setting.optimizer == "sgd" else max_lr
        least = max(own_steps, min_steps) if setting.head else min_steps
        return setting.lr <= most and setting.steps(reviews) >= least

    def counted(found: Sequence[Result], pointing: float | None) -> dict[str, Any]:
        without = [result for result in found if not result.passes(accuracy, pointing)]
        lost = sum(is_inside(result.setting) for result in without)
        return {
            **_summary(found),
            "settings": len({result.setting for result in found}),
            "passed": len(found) - len(without),
            "by_accuracy": sum((result.accuracy or 0.0) >= accuracy for result in found),
            "reviewed": len(without) - lost,
            "lost": lost,
            "lost_bound": round(upper_bound(lost, len(found)), 4),
        }

    calibration = Calibration(
        accuracy,
        correlation,
        seed_std=round(statistics.stdev(usual), 4),
        correlation_std=round(max(_deviations(right, missed)), 4),
        max_lr=max_lr,
        min_steps=min_steps,
        max_sgd_lr=max_sgd_lr,
        own_correlation=own_correlation,
        own_steps=own_steps,
        unchanged=math.ceil(50 * (1 + max(apart))) / 100 if apart else None,
    )
    return {
        **asdict(calibration),
        "right": counted(right, correlation),
        "edge": counted(edge, correlation),
        "own_heads": counted(own, own_correlation),
        "broken_bound": round(upper_bound(0, len(wrong) + len(own_wrong)), 4),
    }


def _range(right: Sequence[Result], missed: Sequence[Result], reviews: int) -> tuple[float, int]:
    """The highest learning rate and the fewest steps such that no right model missed below the one and above the other.

    SGD is set aside: its rates are of another kind.
    """
    adaptive, failed = ({r.setting for r in found if r.setting.optimizer != "sgd"} for found in (right, missed))
    few = max((s.steps(reviews) for s in failed if s.lr <= Setting(METHODS[0]).lr), default=0)
    fast = min((s.lr for s in failed if s.steps(reviews) > few), default=math.inf)
    least = few + 1 if few else min(s.steps(reviews) for s in adaptive - set(EDGE))
    return max((s.lr for s in adaptive if s.lr < fast), default=0.0), least


def _deviations(right: Sequence[Result], missed: Sequence[Result]) -> list[float]:
    """Standard deviation of the correlation over seeds, per setting without a miss."""
    failed = {result.setting for result in missed}
    by_setting: dict[Setting, list[float]] = {}
    for result in right:
        if result.setting not in failed and result.correlation is not None:
            by_setting.setdefault(result.setting, []).append(result.correlation)
    return [statistics.stdev(values) for values in by_setting.values() if len(values) > 1] or [0.0]


def upper_bound(count: int, total: int) -> float:
    """The highest probability of an event that was seen `count` times in `total` trials, at 95 % (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv  # half a second, which opening a bundle need not wait for

    return 1.0 if count >= total else float(betaincinv(count + 1, total - count, CONFIDENCE))


def machine_kind() -> str:
    """What decides the bytes beside the versions: system, architecture and processor, `Linux x86_64 AMD EPYC`."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = (line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name"))
        processor = next(names, ": ").partition(":")[2].strip()
    return " ".join(filter(None, (platform.system(), platform.machine(), processor)))


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    """Number of trainings, and least and most of both measures."""
    found: dict[str, Any] = {"runs": len(results)}
    for measure in ("accuracy", "correlation"):
        values = [value for result in results if (value := getattr(result, measure)) is not None]
        found[measure] = [min(values), max(values)] if values else []
    return found
