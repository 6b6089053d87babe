"""What a bundle is: the folder with all that a submission sees and is judged by. Trusted; stdlib only.

`docs/bundles.md` describes the layout for people who write a bundle by hand.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from grader.bundles.reviews import draw_balanced
from grader.bundles.thresholds import MANIFEST, Calibration, read_object, read_thresholds, shipped
from grader.errors import BundleError

FORMAT: Final = 1
RUNS_FILE: Final = "calibration.jsonl"
PLOT_FILE: Final = "calibration.svg"
MODEL_NAMES: Final = ("distilbert-base-uncased", "distilbert/distilbert-base-uncased")
REQUIRED: Final = ("model/config.json", "train.csv", "eval.csv")
_METRIC: Final = Path("metric/accuracy.py")
_REAL_DIM: Final = 768
_REAL_DEVIATION: Final = 0.02
"""Of the weights of a new head, in the real model's config.json."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Reviews with their labels."""

    texts: tuple[str, ...]
    """Held-out ones enter the box after the last cell."""
    labels: tuple[int, ...]
    """0 or 1 per text; those of held-out ones never enter the box."""


@dataclass(frozen=True)
class Bundle:
    """A bundle folder whose manifest has been read."""

    path: Path
    """The folder."""
    name: str
    """Short name, as reports show it."""
    manifest: Mapping[str, Any]
    """`bundle.json`, read-only, with defaults filled in."""
    calibrations: Mapping[str, Calibration]
    """Per method (`full`, `head`, `lora`); one that is missing cannot be judged by accuracy without review."""
    linear_range: float
    """How far below the minimum accuracy points fall linearly to none; 0 for a hard threshold."""

    @property
    def model_dir(self) -> Path:
        """The folder with config.json, the weights and the tokenizer."""
        return self.path / "model"

    @property
    def model_bytes(self) -> int:
        """Bytes of the model's files."""
        return sum(file.stat().st_size for file in self.model_dir.iterdir())

    @property
    def train_csv(self) -> Path:
        """The training reviews, columns `review` and `label` (and usually `index`)."""
        return self.path / "train.csv"

    @property
    def eval_csv(self) -> Path:
        """The evaluation reviews that students see, same columns."""
        return self.path / "eval.csv"

    @property
    def metric(self) -> Path:
        """The offline accuracy metric: the bundle's own, or that of the shipped stand-in where it brings none."""
        own = self.path / _METRIC
        return own if own.is_file() else shipped() / _METRIC

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names under which `from_pretrained` finds the model."""
        return tuple(self.manifest["models"])

    @property
    def sizes(self) -> Mapping[int, int]:
        """Literal of the real DistilBERT -> literal of this model; empty for the real one."""
        return MappingProxyType({int(real): int(here) for real, here in self.manifest["sizes"].items()})

    @cached_property
    def head_gain(self) -> float:
        """How much narrower than PyTorch does a new layer for the hidden states has to be drawn to learn as one of the real width.

        1 for the real model: the width's part is that of PyTorch's own rule, the rest is what the model's own head has.
        """
        config = read_object(self.model_dir / "config.json")
        width, deviation = int(config.get("dim", _REAL_DIM)), float(config.get("initializer_range", _REAL_DEVIATION))
        return math.sqrt(width / _REAL_DIM) * deviation / _REAL_DEVIATION

    @cached_property
    def train(self) -> Labelled:
        """The reviews in train.csv. Raises BundleError where one has no label 0 or 1."""
        return read_reviews(self.train_csv, *(self.manifest["columns"][kind] for kind in ("text", "label")))

    @cached_property
    def digest(self) -> str:
        """Names the bundle's content: SHA-256 over the manifest, which holds the hash of every other file.

        A manifest written by hand holds no hashes; then they are computed, which takes a second for a large model.
        """
        state = {"manifest": dict(self.manifest)}
        if not self.manifest["files"]:
            state["manifest"]["files"] = hash_files(self.path)
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    @cached_property
    def content(self) -> str:
        """Names the model and the training reviews: SHA-256, whatever was calibrated."""
        texts = ("train.csv", "eval.csv")
        hashes = {
            name: value for name, value in hash_files(self.path).items() if name in texts or name.startswith("model/")
        }
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    def heldout(self, secret: bytes) -> Labelled:
        """The reviews that the trained models are judged on, with their labels, which never enter the box.

        Drawn from `secret` where the manifest names a generator, else read from heldout.csv, where `secret` is not used.
        Raises BundleError where heldout.csv is damaged.
        """
        source = self.manifest["heldout"]
        if source["source"] == "file":
            return read_reviews(self.path / source["path"])
        return generate_heldout(secret, int(source["count"]), self._seen_texts)

    def verify(self) -> None:
        """Compares every file with its hash in the manifest.

        Raises BundleError naming the files that are missing, changed or not listed. A manifest without hashes has nothing to
        compare.
        """
        listed = self.manifest["files"]
        if not listed:
            return
        found = hash_files(self.path)
        problems = [f"{name} is missing" for name in sorted(listed.keys() - found.keys())]
        problems += [f"{name} is not in the manifest" for name in sorted(found.keys() - listed.keys())]
        problems += [
            f"{name} has changed" for name in sorted(listed.keys() & found.keys()) if listed[name] != found[name]
        ]
        if problems:
            raise BundleError(
                f"bundle {self.name} in {self.path} is damaged: {'; '.join(problems)}. Restore it from where it came."
            )

    @cached_property
    def eval_texts(self) -> tuple[str, ...]:
        """The reviews in eval.csv."""
        return self._texts(self.eval_csv)

    def _texts(self, path: Path) -> tuple[str, ...]:
        with path.open(encoding="utf-8", newline="") as lines:
            return tuple(row[self.manifest["columns"]["text"]] for row in csv.DictReader(lines))

    @cached_property
    def _seen_texts(self) -> frozenset[str]:
        return frozenset((*self._texts(self.train_csv), *self.eval_texts))


def load_bundle(path: Path | None = None) -> Bundle:
    """Opens a bundle folder; None opens the stand-in that the project ships.

    Reads the manifest and the thresholds only; `verify` reads the rest. Raises BundleError where the folder is not a bundle.
    """
    path = (path or shipped()).resolve()
    manifest = _complete(read_object(path / MANIFEST), path)
    for name in REQUIRED:
        if not (path / name).is_file():
            raise BundleError(f"{path} is not a complete bundle: {name} is missing (see docs/bundles.md).")
    calibrations = MappingProxyType(read_thresholds(path))
    return Bundle(path, manifest["name"], MappingProxyType(manifest), calibrations, float(manifest["linear_range"]))


def generate_heldout(secret: bytes, count: int, avoid: Collection[str]) -> Labelled:
    """Draws `count` reviews, half of each label, none of them in `avoid`; the same for the same secret everywhere."""
    seed = int.from_bytes(hmac.digest(secret, b"held-out reviews, version 1", hashlib.sha256))
    reviews = draw_balanced(count, seed, avoid)
    return Labelled(tuple(review.text for review in reviews), tuple(review.label for review in reviews))


def read_reviews(path: Path, text: str = "review", label: str = "label") -> Labelled:
    """Reads a CSV file with a column of texts and one of labels (0 or 1).

    Raises BundleError naming the line where the file is not of that form.
    """
    texts, labels = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            for row in (reader := csv.DictReader(lines)):
                if row.get(text) is None or row.get(label) not in {"0", "1"}:
                    raise BundleError(f"{path}, line {reader.line_num}: a review and a label 0 or 1 are needed.")
                texts.append(row[text])
                labels.append(int(row[label]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not texts:
        raise BundleError(f"{path} holds no reviews.")
    return Labelled(tuple(texts), tuple(labels))


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest with the hash of every file as it now is."""
    content = {**manifest, "files": hash_files(folder)}
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder` but the manifest, by relative path, sorted."""
    files = (p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST and "__pycache__" not in p.parts)
    hashes = {}
    for file in files:
        with file.open("rb") as content:
            hashes[file.relative_to(folder).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return dict(sorted(hashes.items()))


def _complete(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    if manifest.get("format") != FORMAT:
        raise BundleError(f'{path / MANIFEST} must say "format": {FORMAT}, not {manifest.get("format")!r}.')
    filled: dict[str, Any] = {
        "name": path.name,
        "description": "",
        "models": list(MODEL_NAMES),
        "sizes": {},
        "linear_range": 0.0,
        "heldout": {"source": "file", "path": "heldout.csv"},
        "files": {},
        **manifest,
    }
    filled["columns"] = {"text": "review", "label": "label", **filled.get("columns", {})}
    width = filled["linear_range"]
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 <= width <= 0.5:
        raise BundleError(f'{path / MANIFEST}: "linear_range" must be a number from 0 to 0.5, not {width!r}.')
    source = filled["heldout"].get("source")
    match source:
        case "file" if not (path / filled["heldout"].get("path", "")).is_file():
            raise BundleError(
                f"{path} has no held-out reviews: put a heldout.csv (columns review,label) there; students must not have it."
            )
        case "generator" if filled["heldout"].get("count", 0) % 2 or filled["heldout"].get("count", 0) < 2:
            raise BundleError(f"{path / MANIFEST}: heldout.count must be an even number of reviews.")
        case "file" | "generator":
            return filled
    raise BundleError(f'{path / MANIFEST}: heldout.source must be "file" or "generator", not {source!r}.')
