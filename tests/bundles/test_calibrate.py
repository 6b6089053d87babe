"""Calibration: the statistics, the rule, the shipped thresholds, and one real training per method."""

import json
from pathlib import Path
from typing import Any

import pytest

from grader.bundles import METHODS, Bundle, calibrate, load_bundle, prepare_home
from grader.bundles.calibrate import BROKEN, FALSE_FAIL, RIGHT, derive, miss_probability, write_thresholds
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


def test_miss_probability_is_students_t() -> None:
    # Two-sided tables: t(0.995, 2) = 9.925; for -1, 0, 1 one further value has sd sqrt(1 + 1/3).
    assert miss_probability([-1, 0, 1], -9.925 * (4 / 3) ** 0.5) == pytest.approx(0.005, rel=1e-3)
    assert miss_probability([-1, 0, 1], 0) == pytest.approx(0.5)
    assert miss_probability([0.5, 0.5, 0.5], 0.5) == 0
    assert miss_probability([0.5, 0.5, 0.5], 0.6) == 1


def test_a_threshold_lies_between_right_and_broken() -> None:
    found = derive("full", RIGHT_RUNS + runs_of("untrained", [0.4, 0.6], loss=0.69))
    assert found["accuracy"] == 0.73
    assert found["loss"] is None
    assert found["false_fail"] < FALSE_FAIL
    assert found["runs"]["full"]["runs"] == 30


def test_the_weakest_right_variant_decides() -> None:
    strong = derive("lora", RIGHT_RUNS)["accuracy"]
    weak = [run for run in RIGHT_RUNS if run["method"] != "lora-uniform"] + runs_of("lora-uniform", [0.7, 0.71] * 15)
    assert derive("lora", weak)["accuracy"] < strong


def test_the_loss_tells_a_lucky_model_apart() -> None:
    found = derive("full", RIGHT_RUNS + runs_of("untrained", [0.9], loss=0.68))
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
    assert new.minimum_accuracy("head") == 0.68
    assert calibration(new) == RIGHT_RUNS


def test_a_calibration_needs_seeds(standin: Bundle) -> None:
    with pytest.raises(UsageError, match="at least 10 seeds, not 2"):
        calibrate(standin, [1, 2])


@pytest.mark.parametrize("method", METHODS)
def test_the_shipped_thresholds_follow_from_the_shipped_runs(standin: Bundle, method: str) -> None:
    runs = calibration(standin)
    found = derive(method, runs)
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
    for threshold in standin.thresholds.values():
        assert not [run for run in broken if threshold.passes(run["accuracy"], run["loss"])]


def test_full_and_lora_lie_clearly_above_head_only(standin: Bundle) -> None:
    worst = {name: min(r["accuracy"] for r in calibration(standin) if r["method"] == name) for name in ("full", "lora")}
    best = max(run["accuracy"] for run in calibration(standin) if run["method"] == "head")
    assert min(worst.values()) > best


@pytest.mark.slow
def test_real_trainings_pass_and_shuffled_labels_do_not(standin: Bundle, tmp_path: Path) -> None:
    prepare_home(standin, tmp_path)
    # A seed that no calibration used, other held-out reviews, and padding to the full width, as some students do.
    arguments = [str(standin.path), "--secret", "test", "--seeds", "977", "--columns", "512"]
    lines = list(run_module("grader.bundles.training", [*arguments, "--methods", "full,head,lora,shuffled"], tmp_path))
    runs = {run["method"]: run for run in (json.loads(line) for line in lines if line.startswith("{"))}
    for method in METHODS:
        assert standin.thresholds[method].passes(runs[method]["accuracy"], runs[method]["loss"]), runs[method]
        assert not standin.thresholds[method].passes(runs["shuffled"]["accuracy"], runs["shuffled"]["loss"])
