"""The assignment's declaration, and what its questions need to know of the bundle. Trusted; numpy only."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from grader.errors import BundleError
from grader.records import Observation
from grader.rubric.assignment import Assignment
from grader.rubric.questions import Question

__all__ = ["ASSIGNMENT", "BLOCKS", "METHODS", "QV_LAYERS", "Calibration", "JudgeFacts", "read_checkpoint"]

BLOCKS = 6
METHODS = ("full", "head", "lora")
QV_LAYERS = tuple(
    f"distilbert.transformer.layer.{i}.attention.{name}" for i in range(BLOCKS) for name in ("q_lin", "v_lin")
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the bundle's calibration knows of one method, beyond the minimum accuracy."""

    loss: float | None = None
    """Highest mean cross-entropy (nats) that passes; None where it is not looked at."""
    seed_std: float = 0.0
    """Calibration deviation of the accuracy over seeds."""
    max_lr: float | None = None
    """Highest learning rate of the calibrated range; None where no range was calibrated."""
    min_lr_sum: float = 0.0
    """Least sum of the learning rates of all steps in the calibrated range."""
    linear_range: float = 0.0
    """How far below the minimum accuracy points fall linearly to none; 0 for a hard threshold."""


@dataclass(frozen=True, slots=True)
class JudgeFacts:
    """What the judge knows of the bundle; the texts are sent into the box after the last cell, nothing else is."""

    dim: int
    """Hidden size of the bundle's model."""
    digests: frozenset[str]
    """Digests of the body's pretrained tensors, as the witness computes them."""
    largest: Mapping[str, float]
    """Pretrained body tensor by canonical name -> its largest absolute value."""
    texts: tuple[str, ...]
    """Held-out reviews."""
    labels: tuple[int, ...]
    """Their labels, 0 or 1; these never enter the box."""
    thresholds: Mapping[str, float | None]
    """Method -> minimum accuracy; None when the bundle has no calibrated threshold."""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    """Method -> what else its calibration says; a method may be missing."""


def read_checkpoint(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read the float tensors of a safetensors file with numpy (format: 8-byte length, JSON header, raw bytes).

    Raises BundleError when the file is not one.
    """
    try:
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        dtypes = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}
        tensors = {}
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in dtypes:
                continue
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[first:last], dtype=dtypes[entry["dtype"]]).reshape(entry["shape"])
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise BundleError(f"{path.name} cannot be read as a safetensors checkpoint: {error}") from error
    return tensors


def digest(array: np.ndarray[Any, Any]) -> str:
    """Digest of a tensor's shape and float32 values, equal to `grader.inside.witness.digest`."""
    shape = ",".join(str(n) for n in array.shape)
    data = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return hashlib.blake2b(shape.encode() + data, digest_size=16).hexdigest()


def facts(bundle: Any, secret: bytes) -> JudgeFacts:
    """Read what is needed from a bundle: checkpoint, held-out reviews drawn from `secret`, thresholds."""
    tensors = {
        (name if name.startswith("distilbert.") else f"distilbert.{name}"): array
        for name, array in read_checkpoint(bundle.model_dir / "model.safetensors").items()
        if not name.startswith("vocab_") and not name.startswith(("classifier", "pre_classifier"))
    }
    config = json.loads((bundle.model_dir / "config.json").read_text(encoding="utf-8"))
    heldout = bundle.heldout(secret)
    return JudgeFacts(
        dim=int(config["dim"]),
        digests=frozenset(digest(array) for array in tensors.values()),
        largest={name: float(np.abs(array).max(initial=0.0)) for name, array in tensors.items()},
        texts=tuple(heldout.texts),
        labels=tuple(heldout.labels),
        thresholds={method: bundle.minimum_accuracy(method) for method in METHODS},
        calibrations={method: _calibration(bundle, method) for method in METHODS},
    )


def _calibration(bundle: Any, method: str) -> Calibration:
    within = bundle.calibrated_ranges.get(method)
    return Calibration(
        loss=bundle.maximum_loss(method),
        seed_std=bundle.seed_std(method),
        max_lr=None if within is None else within.max_lr,
        min_lr_sum=0.0 if within is None else within.min_lr_sum,
        linear_range=bundle.linear_range,
    )


def summary(questions: Mapping[str, Question], observations: Mapping[str, Observation]) -> dict[str, Any]:
    """Give the measured numbers of the three runs, for reports."""
    from grader.assignments.finetuning.runs import summarise

    return summarise(questions["training"], observations["training"])


ASSIGNMENT = Assignment(
    "finetuning",
    "Comparing fine-tuning methods",
    facts=facts,
    summary=summary,
    groups={
        "count": "Counting parameters",
        "full": "Full fine-tuning",
        "head": "Final layers only",
        "layers": "Replacing layers",
        "lora": "LoRA",
    },
    data_files=("train.csv", "eval.csv"),
    watch="grader.inside.distilbert:watch",
)
