"""Calibration: the statistics, the rules, the shipped thresholds and ranges, and one real training per method."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from grader.bundles import Bundle, Calibration, calibrate, calibrate_range, load_bundle, prepare_home
from grader.bundles.calibration import (
    BROKEN,
    FALSE_FAIL,
    GRID,
    RIGHT,
    Training,
    derive_range,
    derive_threshold,
    miss_probability,
    write_range,
    write_thresholds,
)
from grader.bundles.process import run_module
from grader.errors import BundleError, UsageError


def runs_of(method: str, accuracies: list[float], loss: float = 0.2) -> list[dict[str, Any]]:
    return [
        {"method": method, "seed": seed, "accuracy": accuracy, "loss": loss + 0.001 * (seed % 3)}
        for seed, accuracy in enumerate(accuracies)
    ]


STEADY = [0.90, 0.91, 0.92] * 10
RIGHT_RUNS = [run for variants in RIGHT.values() for name in variants for run in runs_of(name, STEADY)]


def calibration(bundle: Bundle) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bundle.path / "calibration.jsonl").read_text().splitlines()]


def passes(needed: Calibration, run: dict[str, Any]) -> bool:
    return run["accuracy"] >= needed.accuracy and (needed.loss is None or run["loss"] <= needed.loss)


def test_miss_probability_is_students_t() -> None:
    # Two-sided tables: t(0.995, 2) = 9.925; for -1, 0, 1 one further value has sd sqrt(1 + 1/3).
    assert miss_probability([-1, 0, 1], -9.925 * (4 / 3) ** 0.5) == pytest.approx(0.005, rel=1e-3)
    assert miss_probability([-1, 0, 1], 0) == pytest.approx(0.5)
    assert miss_probability([0.5, 0.5, 0.5], 0.5) == 0
    assert miss_probability([0.5, 0.5, 0.5], 0.6) == 1


def test_a_threshold_lies_between_right_and_broken() -> None:
    found = derive_threshold("full", RIGHT_RUNS + runs_of("untrained", [0.4, 0.6], loss=0.69))
    assert found["accuracy"] == 0.73
    assert found["loss"] is None
    assert found["false_fail"] < FALSE_FAIL
    assert found["runs"]["full"]["runs"] == 30


def test_the_weakest_right_variant_decides() -> None:
    strong = derive_threshold("lora", RIGHT_RUNS)["accuracy"]
    weak = [run for run in RIGHT_RUNS if run["method"] != "lora-uniform"] + runs_of("lora-uniform", [0.7, 0.71] * 15)
    assert derive_threshold("lora", weak)["accuracy"] < strong


def test_the_loss_tells_a_lucky_model_apart() -> None:
    found = derive_threshold("full", RIGHT_RUNS + runs_of("untrained", [0.9], loss=0.68))
    assert found["loss"] == pytest.approx(0.21)


@pytest.mark.parametrize("broken", [runs_of("untrained", [0.9], loss=0.1), runs_of("shuffled", [0.95], loss=0.2)])
def test_broken_models_that_pass_are_refused(broken: list[dict[str, Any]], copy: Path) -> None:
    before = (copy / "thresholds.json").read_bytes()
    with pytest.raises(BundleError, match="no threshold for full"):
        write_thresholds(load_bundle(copy), RIGHT_RUNS + broken)
    assert (copy / "thresholds.json").read_bytes() == before


def test_writing_thresholds_seals_the_bundle(copy: Path) -> None:
    old = load_bundle(copy)
    new = write_thresholds(old, RIGHT_RUNS)
    new.verify()
    assert new.digest != old.digest
    assert new.calibrations["head"].accuracy == 0.68
    assert calibration(new) == RIGHT_RUNS


def test_a_calibration_needs_seeds(standin: Bundle) -> None:
    with pytest.raises(UsageError, match="at least 10 seeds, not 2"):
        calibrate(standin, [1, 2])


@pytest.mark.parametrize("method", RIGHT)
def test_the_shipped_thresholds_follow_from_the_shipped_runs(standin: Bundle, method: str) -> None:
    runs = calibration(standin)
    found = derive_threshold(method, runs)
    stored = json.loads((standin.path / "thresholds.json").read_text())
    assert stored["methods"][method] == found
    assert stored["model"] == standin.manifest["files"]["model/model.safetensors"]
    assert found["false_fail"] < FALSE_FAIL
    assert all(found["runs"][variant]["runs"] >= 30 for variant in RIGHT[method])


def test_no_broken_model_of_the_shipped_runs_passes(standin: Bundle) -> None:
    broken = [run for run in calibration(standin) if run["method"] not in {n for v in RIGHT.values() for n in v}]
    assert {run["method"] for run in broken} == {*BROKEN, "untrained", "head-shuffled"}
    assert sum(run["method"] == "untrained" for run in broken) >= 200
    assert sum(run["method"] == "head-shuffled" for run in broken) >= 200
    for needed in standin.calibrations.values():
        assert not [run for run in broken if passes(needed, run)]


def test_full_and_lora_lie_clearly_above_head_only(standin: Bundle) -> None:
    worst = {name: min(r["accuracy"] for r in calibration(standin) if r["method"] == name) for name in ("full", "lora")}
    best = max(run["accuracy"] for run in calibration(standin) if run["method"] == "head")
    assert min(worst.values()) > best


@pytest.mark.parametrize("method", RIGHT)
def test_the_shipped_ranges_follow_from_the_shipped_runs(standin: Bundle, method: str) -> None:
    shipped = json.loads((standin.path / "calibrated-range.json").read_text(encoding="utf-8"))
    found = derive_range(method, [*calibration(standin), *shipped["runs"]], standin)
    assert shipped["methods"][method] == found
    needed = standin.calibrations[method]
    assert (needed.max_lr, needed.min_lr_sum) == (found["max_lr"], found["min_lr_sum"])


def test_a_range_ends_where_trainings_miss(standin: Bundle) -> None:
    settings = {(5e-5, 3, 8): 0.9, (5e-5, 1, 8): 0.5, (1e-3, 3, 8): 0.9, (2e-3, 3, 8): 0.5, (2e-4, 1, 16): 0.9}
    runs = [
        {"method": "head", "lr": lr, "epochs": epochs, "batch": batch, "accuracy": accuracy}
        for (lr, epochs, batch), accuracy in settings.items()
    ]
    found = derive_range("head", runs, standin)
    assert (found["max_lr"], found["settings"], found["worst"]) == (1e-3, 3, 0.9)
    # Of 2,000 reviews, 250 steps from 5e-5 down to 0 are too little training, 125 from 2e-4 just enough.
    assert found["min_lr_sum"] > 5e-5 * 251 / 2
    assert found["min_lr_sum"] == pytest.approx(2e-4 * 126 / 2, rel=1e-3)


def test_a_range_that_does_not_hold_the_defaults_is_refused(standin: Bundle) -> None:
    runs = [{"method": "head", "lr": 5e-5, "epochs": 3, "batch": 8, "accuracy": 0.5}]
    with pytest.raises(BundleError, match="defaults"):
        derive_range("head", runs, standin)


def test_a_range_needs_thresholds(copy: Path) -> None:
    (copy / "thresholds.json").unlink()
    with pytest.raises(BundleError, match="no calibrated thresholds"):
        write_range(load_bundle(copy), [])


def test_calibrating_shares_the_trainings_out(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[dict[str, Any]] = []

    def run(module: str, arguments: list[str], home: Path) -> Iterator[str]:
        assert (home / "hub").is_dir()
        jobs.append(job := json.loads(arguments[1]))
        yield "a warning of a library"
        for number, training in enumerate(job["trainings"]):
            accuracy = 0.5 if training["method"] in BROKEN else 0.9 + number % 3 / 100
            yield json.dumps({**training, "accuracy": accuracy, "loss": 0.3})

    monkeypatch.setattr("grader.bundles.calibration.run_module", run)
    shares: list[float] = []
    new = calibrate(load_bundle(copy), range(10), broken=1, draws=5, workers=2, progress=lambda _, s: shares.append(s))
    new.verify()
    assert sorted(job["draws"] for job in jobs) == [0, 5]
    done = calibration(new)
    assert len(done) == len(shares) == len({(run["method"], run["seed"]) for run in done}) == 10 * 4 + 2
    ranged = calibrate_range(new, workers=2)
    ranged.verify()
    stored = json.loads((copy / "calibrated-range.json").read_text(encoding="utf-8"))["runs"]
    assert {(run["lr"], run["epochs"], run["batch"]) for run in stored} == set(GRID)
    assert len(stored) == len(GRID) * 4


@pytest.mark.slow
def test_real_trainings_pass_and_shuffled_labels_do_not(standin: Bundle, tmp_path: Path) -> None:
    prepare_home(standin, tmp_path)
    # A seed that no calibration used, and other held-out reviews.
    trainings = [asdict(Training(method, 977)) for method in (*RIGHT, "shuffled")]
    job = json.dumps({"secret": "test", "trainings": trainings, "draws": 2})
    lines = list(run_module("grader.bundles.training", [str(standin.path), job], tmp_path))
    results = [json.loads(line) for line in lines if line.startswith("{")]
    runs = {run["method"]: run for run in results}
    for method, needed in standin.calibrations.items():
        assert passes(needed, runs[method]), runs[method]
        assert not passes(needed, runs["shuffled"])
    lucky = [run for run in results if run["method"] in ("untrained", "head-shuffled")]
    assert len(lucky) == 4
    assert max(run["accuracy"] for run in lucky) < 0.72
