"""Calibration: the grid, the rules, the shipped thresholds, and a run that is stopped and goes on."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from grader.bundles.bundle import Bundle, load_bundle, seal
from grader.bundles.calibration import Result, begin, calibrate, derive, notes_of, upper_bound, write_calibration
from grader.bundles.grid import METHODS, Setting, broken, cost, grid
from grader.bundles.measures import accuracy_of, label_correlation
from grader.bundles.process import run_module
from grader.cli.main import main
from grader.errors import BundleError, InfrastructureError
from tests.calibration_tables import PAGE, shipped, tables, written

REVIEWS = 2000


def results_of(setting: Setting, accuracies: list[float], correlation: float = 0.7) -> list[Result]:
    return [Result(setting, seed, accuracy, correlation) for seed, accuracy in enumerate(accuracies)]


STEADY = [0.90, 0.91, 0.92]
SHORT = Setting("full", 1e-5, 1, 32)
RIGHT = [result for method in METHODS for result in results_of(Setting(method), STEADY, 0.8)]
LUCKY = results_of(replace(SHORT, broken="shuffled"), [0.4, 0.6], 0.4)


# ---------------------------------------------------------------- the measure


def test_the_correlation_sees_direction_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 2
    before = rng.normal(size=(1000, 2)).astype(np.float32) * 5
    added = np.stack([-(labels - 0.5), labels - 0.5], 1) + rng.normal(size=(1000, 2))
    found = label_correlation(before, (before + added).astype(np.float32), labels)
    # The log-odds gain -1 or 1, with noise of deviation sqrt(2): 0.5 / sqrt(0.25 + 2 / 4).
    assert found == pytest.approx(1 / 3**0.5, abs=0.03)
    tiny_and_shifted = before + 1e-3 * added + (0.0, 7.0)
    assert label_correlation(before, tiny_and_shifted, labels) == pytest.approx(found, abs=1e-3)
    assert label_correlation(before, before * 0.1, labels) == pytest.approx(0, abs=0.1), "a head that shrinks"
    assert label_correlation(before, before, labels) == 0
    assert accuracy_of(np.eye(2)[labels], labels) == 1.0


# ---------------------------------------------------------------- the grid


def test_the_grid_is_wide_enough() -> None:
    right = grid()
    assert len(set(right)) == len(right)
    for method in METHODS:
        own = [setting for setting in right if setting.method == method]
        assert len(own) >= 60
        assert {min(s.lr for s in own), max(s.lr for s in own if s.optimizer != "sgd")} == {1e-5, 1e-3}
        assert {s.batch for s in own} >= {4, 8, 16, 32, 64}
        assert {s.epochs for s in own} == {1, 2, 3, 5}
        assert {s.optimizer for s in own} == {"adamw", "adafactor", "sgd"}
        assert {s.schedule for s in own} == {"linear", "cosine", "constant"}
        assert {s.warmup for s in own} == {0, 0.1, 500}
        assert {s.reviews for s in own} >= {0, 200, 500, 1000}
        assert {s.clips for s in own} == {True, False}
    adapters = {(s.initial, s.rank, s.alpha / s.rank) for s in right if s.method == "lora"}
    assert {initial for initial, _, _ in adapters} == {"normal", "uniform", "kaiming", "rank", "0.02", "0.01"}
    assert {min(r for _, r, _ in adapters), max(r for _, r, _ in adapters)} == {4, 64}
    assert {min(a for _, _, a in adapters), max(a for _, _, a in adapters)} == {1 / 8, 4}
    assert sum(count for _, count in broken()) >= 300


def test_cheap_trainings_cost_less() -> None:
    assert cost(Setting("head"), REVIEWS) < cost(Setting("full", epochs=1), REVIEWS) < cost(Setting("full"), REVIEWS)
    assert cost(Setting("full", reviews=500), REVIEWS) < cost(Setting("full"), REVIEWS)


def test_a_setting_is_its_changes() -> None:
    assert Setting("head").changes == {"method": "head"}
    assert Setting("lora", initial="uniform", rank=4).is_default
    assert not Setting("lora", lr=1e-3).is_default
    for setting in (*grid(), *(setting for setting, _ in broken())):
        assert Setting(**setting.changes) == setting
        result = Result(setting, 3, 0.5, None, 1.0)
        assert Result.from_json(json.loads(json.dumps(result.as_json()))) == result


# ---------------------------------------------------------------- the rules


def test_a_bound_is_clopper_and_pearsons() -> None:
    assert upper_bound(0, 300) == pytest.approx(1 - 0.05 ** (1 / 300))
    assert upper_bound(0, 300) < 0.01 < upper_bound(0, 290)
    assert upper_bound(2, 50) == pytest.approx(0.1206, abs=1e-4)  # tables: one-sided 95 %, 2 of 50
    assert upper_bound(5, 5) == 1


def test_thresholds_lie_between_right_and_broken() -> None:
    found = derive("full", RIGHT + LUCKY, REVIEWS)
    assert found["accuracy"] == 0.73  # halfway between 0.60 and 0.91 - 4 * 0.01
    short = results_of(SHORT, [0.55, 0.58], 0.62)
    found = derive("full", RIGHT + LUCKY + short, REVIEWS)
    assert found["correlation"] == 0.51  # halfway between 0.40 and 0.62
    assert found["right"]["passed"] == found["right"]["runs"] == 5
    assert found["right"]["by_accuracy"] == 3
    assert (found["right"]["lost"], found["right"]["reviewed"]) == (0, 0)
    assert (found["max_lr"], found["min_steps"]) == (5e-5, 63)


def test_a_range_ends_where_right_models_miss() -> None:
    fast = results_of(Setting("full", 1e-3, 3, 8), [0.5, 0.5], 0.01)
    slow = results_of(Setting("full", 5e-4, 1, 8), STEADY, 0.8)
    few = results_of(Setting("full", 1e-5, 1, 64, reviews=100), [0.5], 0.3)
    found = derive("full", RIGHT + LUCKY + fast + slow + few, REVIEWS)
    assert (found["max_lr"], found["min_steps"]) == (5e-4, 3)
    assert (found["right"]["lost"], found["right"]["reviewed"]) == (0, 3)
    usual = results_of(Setting("full", weight_decay=0.1), [0.5], 0.1)
    with pytest.raises(BundleError, match="miss at the library's own"):
        derive("full", RIGHT + LUCKY + usual, REVIEWS)


def test_sgd_wide_adapters_and_own_heads_have_ranges_of_their_own() -> None:
    own = Setting("head", epochs=1, head="lstm")
    runs = [
        *RIGHT, *LUCKY,
        *results_of(SHORT, [0.55, 0.58], 0.62),
        *results_of(Setting("full", 1e-2, 1, optimizer="sgd"), STEADY, 0.8),
        *results_of(Setting("full", 5e-2, 1, optimizer="sgd"), [0.5], 0.0),
        *results_of(own, [0.6], 0.55), *results_of(replace(own, epochs=3), [0.6], 0.65),
        *results_of(replace(own, broken="shuffled"), [0.6], 0.5),
    ]  # fmt: skip
    found = derive("full", runs, REVIEWS)
    assert (found["max_lr"], found["max_sgd_lr"]) == (5e-5, 1e-2)
    assert found["correlation"] == 0.51
    assert found["own_correlation"] == 0.61  # as far above 0.50 as 0.51 is above 0.40
    assert found["own_steps"] == 251
    assert (found["own_heads"]["passed"], found["own_heads"]["reviewed"], found["unchanged"]) == (1, 1, None)
    wide = [replace(result, kinship=0.9) for result in results_of(Setting("lora", 1e-3, 1), [0.5], 0.0)]
    calm = [replace(result, kinship=0.97) for result in results_of(Setting("lora", 1e-3, 2), STEADY, 0.8)]
    assert derive("lora", [*runs, *wide, *calm], REVIEWS)["unchanged"] == 0.95


@pytest.mark.parametrize("lucky", [0.95, 0.89])
def test_broken_models_that_pass_are_refused(lucky: float, copy: Path) -> None:
    before = (copy / "thresholds.json").read_bytes()
    wrong = results_of(replace(SHORT, broken="shuffled"), [lucky], 0.99)
    with pytest.raises(BundleError, match="no threshold for full"):
        write_calibration(load_bundle(copy), RIGHT + wrong)
    assert (copy / "thresholds.json").read_bytes() == before


def test_writing_a_calibration_seals_the_bundle(copy: Path) -> None:
    old = load_bundle(copy)
    new = write_calibration(old, RIGHT + LUCKY)
    new.verify()
    assert new.digest != old.digest
    assert new.content == old.content
    assert new.calibrations["head"].accuracy == 0.73
    assert sorted(map(str, shipped(new))) == sorted(map(str, RIGHT + LUCKY))
    picture = ElementTree.fromstring((copy / "calibration.svg").read_text(encoding="utf-8"))
    dots = [(path.get("class"), path.get("d", "").count("M")) for path in picture.iter() if path.tag.endswith("path")]
    assert dots == [("right", 3), ("broken", 2), ("right", 3), ("right", 3)]


# ---------------------------------------------------------------- what is shipped


def test_the_shipped_thresholds_follow_from_the_shipped_runs(standin: Bundle) -> None:
    runs = shipped(standin)
    stored = json.loads((standin.path / "thresholds.json").read_text(encoding="utf-8"))
    for method in METHODS:
        assert stored["methods"][method] == derive(method, runs, len(standin.train.labels))
    assert stored["content"] == standin.content


def test_no_right_model_is_lost_and_no_broken_one_passes(standin: Bundle) -> None:
    runs = shipped(standin)
    stored = json.loads((standin.path / "thresholds.json").read_text(encoding="utf-8"))
    wrong = [run for run in runs if run.setting.broken]
    assert len(wrong) >= 300
    assert {run.setting.broken for run in wrong} == {"shuffled", "random", "constant", "untrained"}
    for method, needed in standin.calibrations.items():
        found = stored["methods"][method]
        assert needed.correlation is not None
        for own, least in ((False, needed.correlation), (True, needed.own_correlation)):
            tried = [run for run in wrong if bool(run.setting.head) is own]
            assert tried
            assert not [run for run in tried if run.passes(needed.accuracy, least)]
        assert found["right"]["settings"] >= 60
        assert found["right"]["lost"] == found["own_heads"]["lost"] == found["edge"]["lost"] == 0
        assert found["right"]["lost_bound"] <= 0.01
        assert found["right"]["reviewed"] <= 0.02 * found["right"]["runs"]
        assert found["broken_bound"] <= 0.01


def test_the_documents_tables_are_the_shipped_runs(standin: Bundle) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page, tables(standin)) == page


# ---------------------------------------------------------------- a run


@pytest.fixture
def fresh(copy: Path) -> Path:
    """The bundle as before its first calibration."""
    for name in ("calibration.jsonl", "calibration.svg", "thresholds.json"):
        (copy / name).unlink()
    seal(copy, json.loads((copy / "bundle.json").read_text(encoding="utf-8")))
    return copy


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A small grid, and trainings that say at once what comes of them; the numbers of jobs of each process."""
    right = [replace(Setting("full"), method=method, **own) for method in METHODS for own in ({}, {"epochs": 1})]
    monkeypatch.setattr("grader.bundles.calibration.grid", lambda: right)
    monkeypatch.setattr("grader.bundles.calibration.broken", lambda: [(replace(SHORT, broken="shuffled"), 7)])
    started: list[int] = []

    def run(module: str, arguments: list[str]) -> Iterator[str]:
        assert module == "grader.bundles.training"
        jobs: list[dict[str, Any]] = json.loads(Path(arguments[1]).read_text())
        started.append(len(jobs))
        yield "a warning of a library"
        for job in jobs:
            accuracy = 0.5 if "broken" in job else 0.9 + job["seed"] / 100
            yield json.dumps({**job, "accuracy": accuracy, "correlation": accuracy - 0.1, "cpu_seconds": 1.0})
            if "stop" in arguments[0] and job["seed"] == 1:
                raise InfrastructureError("killed")

    monkeypatch.setattr("grader.bundles.calibration.run_module", run)
    yield started


@pytest.mark.parametrize("workers", [1, 3])
def test_a_calibration_trains_all_and_tells_how_far_it_is(fresh: Path, quick: list[int], workers: int) -> None:
    heard: list[tuple[int, int]] = []
    new = calibrate(load_bundle(fresh), workers=workers, progress=lambda *seen: heard.append(seen))
    new.verify()
    total = 6 * 5 + 7
    assert sum(quick) == len(shipped(new)) == total
    assert len(quick) == workers
    assert heard[0] == (0, total)
    assert heard[-1] == (total, total)
    assert not list(fresh.parent.glob(".*calibrat*")), "nothing is left beside it"


def test_the_command_says_what_it_measured(fresh: Path, quick: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "calibrate", str(fresh), "--seeds", "2", "--workers", "1"]) == 0
    assert sum(quick) == 6 * 2 + 7
    said = capsys.readouterr().out
    for method, found in load_bundle(fresh).calibrations.items():
        assert f"{method}: minimum accuracy {found.accuracy:.2f}, or" in said


def test_a_calibration_that_was_killed_goes_on(fresh: Path, quick: list[int]) -> None:
    stopped = fresh.rename(fresh.with_name("stop"))
    bundle = load_bundle(stopped)
    with pytest.raises(InfrastructureError):
        calibrate(bundle)
    load_bundle(stopped).verify()
    foreign = Result(Setting("head", 0.5), 0, 0.5, 0.5)
    with notes_of(bundle).open("a") as file:
        file.write(json.dumps(foreign.as_json()) + "\n")  # of an earlier grid
        file.write('{"method": "fu')  # killed while it wrote
    ready = stopped.rename(stopped.with_name("ready"))
    notes_of(bundle).rename(notes_of(load_bundle(ready)))
    heard: list[int] = []
    new = calibrate(load_bundle(ready), progress=lambda done, _: heard.append(done))
    assert heard[0] == 2
    assert quick[1] == 6 * 5 + 7 - 2
    assert len(shipped(new)) == 6 * 5 + 7


def test_notes_of_another_model_do_not_count(fresh: Path) -> None:
    for result in RIGHT[:2]:
        bundle = load_bundle(fresh)
        assert begin(bundle) == []
        notes_of(bundle).write_text(json.dumps(result.as_json()) + "\n")
        assert begin(bundle) == [result]
        (fresh / "train.csv").write_text("review,label\nGood.,1\n", encoding="utf-8")


def test_what_was_trained_before_is_not_trained_again(
    fresh: Path, quick: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(load_bundle(fresh))
    more = [*(replace(Setting("full"), method=method) for method in METHODS), Setting("head", 1e-4)]
    monkeypatch.setattr("grader.bundles.calibration.grid", lambda: more)
    new = calibrate(load_bundle(fresh))
    assert quick == [6 * 5 + 7, 5]
    assert len(shipped(new)) == 4 * 5 + 7
    (fresh / "train.csv").write_text("review,label\n" + "Good.,1\n" * 15, encoding="utf-8")
    calibrate(load_bundle(fresh))
    assert quick[2] == 4 * 5 + 7, "another model or other reviews"


def test_real_trainings_in_a_process_of_their_own(standin: Bundle, tmp_path: Path) -> None:
    right, wrong = Setting("head", epochs=1), Setting("head", epochs=1, broken="shuffled")
    jobs = [{**setting.changes, "seed": seed} for setting in (right, wrong) for seed in (977, 978)]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    lines = list(run_module("grader.bundles.training", [str(standin.path), str(tmp_path / "jobs.json")]))
    found = [Result.from_json(json.loads(line)) for line in lines if line.startswith("{")]
    assert [(result.setting, result.seed) for result in found] == [
        (s, seed) for s in (right, wrong) for seed in (977, 978)
    ]
    needed = standin.calibrations["head"]
    assert needed.correlation is not None
    assert [result.passes(needed.accuracy, needed.correlation) for result in found] == [True, True, False, False]
