"""Builds the stand-in bundle from source: model, reviews, metric, manifest. Trusted; the model is made in its own process."""

from __future__ import annotations

import csv
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from grader.bundles.bundle import FORMAT, MODEL_NAMES, Bundle, hash_files, load_bundle, seal
from grader.bundles.calibration import machine_kind
from grader.bundles.process import run_module
from grader.bundles.reviews import Review, draw_balanced
from grader.errors import UsageError
from tools.standin.recipe import Recipe

TRAIN_COUNT, EVAL_COUNT, HELDOUT_COUNT = 2000, 500, 3000
_CALIBRATION = ("thresholds.json", "calibration.jsonl", "calibration.svg")
_VERSIONED = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
_RANK = 12


def build(
    out: Path, seed: int = 0, progress: Callable[[str, float], None] = lambda *_: None, recipe: Recipe | None = None
) -> Bundle:
    """Builds the stand-in in the folder `out`, which must not exist or be empty; about 90 s on one core.

    `progress` is told what is being done and which share of it is. The same seed, library versions and kind of machine give the
    same bytes. Thresholds come from `grader bundle calibrate`, which takes longer: where the model is, byte for byte, the one the
    project ships, the shipped calibration is copied; else the bundle has none yet. Raises UsageError where `out` holds something,
    InfrastructureError where pretraining fails.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder; choose another one for the bundle.")
    recipe = recipe or Recipe()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".bundle-") as folder:
        place = Path(folder) / "bundle"
        (place / "metric").mkdir(parents=True)
        arguments = [str(place / "model"), "--seed", str(seed), "--recipe", json.dumps(asdict(recipe))]
        for line in run_module("tools.standin.pretrain", arguments):
            match line.split():
                case ["step", step, "of", steps, *_]:
                    progress("pretraining the stand-in model", int(step) / int(steps))
        _write_reviews(place, seed)
        shutil.copyfile(load_bundle().metric, place / "metric" / "accuracy.py")
        _adopt_calibration(place)
        config = json.loads((place / "model" / "config.json").read_text(encoding="utf-8"))
        manifest = {
            "format": FORMAT,
            "name": "standin",
            "description": "A small pretrained DistilBERT and synthetic film reviews, under the names of the real ones.",
            "models": list(MODEL_NAMES),
            "columns": {"index": "index", "text": "review", "label": "label"},
            "sizes": {str(real): here for real, here in literal_sizes(config).items()},
            "heldout": {"source": "generator", "generator": "grader.bundles.reviews", "count": HELDOUT_COUNT},
            "build": {
                "seed": seed,
                "recipe": asdict(recipe),
                "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}},
                "machine": machine_kind(),
            },
        }
        seal(place, manifest)
        if out.exists():
            out.rmdir()
        place.rename(out)
    return load_bundle(out)


def literal_sizes(config: dict[str, Any]) -> dict[int, int]:
    """Maps numbers that are true of the real DistilBERT to what they are for a model of this `config.json`."""
    real = _sizes(dim=768, hidden=3072, blocks=6, vocabulary=30522, positions=512)
    here = _sizes(
        config["dim"], config["hidden_dim"], config["n_layers"], config["vocab_size"], config["max_position_embeddings"]
    )
    return {a: b for a, b in zip(real, here, strict=True) if a != b}


def _sizes(dim: int, hidden: int, blocks: int, vocabulary: int, positions: int) -> tuple[int, ...]:
    square = dim * dim + dim
    block = 4 * square + 2 * dim * hidden + hidden + dim + 4 * dim
    body = (vocabulary + positions) * dim + 2 * dim + blocks * block
    classifier = 2 * dim + 2
    head = square + classifier
    adapters = blocks * 2 * 2 * dim * _RANK
    counts = (body + head, head, body, square, classifier, 2 * blocks * square, adapters, adapters + head)
    return (*counts, dim, hidden, vocabulary)


def _write_reviews(folder: Path, seed: int) -> None:
    train = draw_balanced(TRAIN_COUNT, 11 + 100 * seed)
    evaluation = draw_balanced(EVAL_COUNT, 12 + 100 * seed, {review.text for review in train})
    _write_csv(folder / "train.csv", train)
    _write_csv(folder / "eval.csv", evaluation)


def _write_csv(path: Path, reviews: Sequence[Review]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("index", "review", "label"))
        table.writerows((index, review.text, review.label) for index, review in enumerate(reviews))


def _adopt_calibration(folder: Path) -> None:
    shipped = load_bundle()
    if hash_files(shipped.model_dir) == hash_files(folder / "model") and all(
        (shipped.path / name).read_bytes() == (folder / name).read_bytes() for name in ("train.csv", "eval.csv")
    ):
        for name in _CALIBRATION:
            if (shipped.path / name).is_file():
                shutil.copyfile(shipped.path / name, folder / name)
