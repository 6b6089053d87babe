"""What the judge knows of the bundle: its model's pretrained tensors, the held-out reviews, the calibrations. Trusted; numpy only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from grader.bundles.thresholds import Calibration
from grader.errors import BundleError

if TYPE_CHECKING:
    from grader.bundles.bundle import Bundle

__all__ = ["BLOCKS", "METHODS", "QV_LAYERS", "JudgeFacts", "digest", "read_checkpoint", "read_facts"]

BLOCKS = 6
METHODS = ("full", "head", "lora")
QV_LAYERS = tuple(
    f"distilbert.transformer.layer.{i}.attention.{name}" for i in range(BLOCKS) for name in ("q_lin", "v_lin")
)


@dataclass(frozen=True, slots=True)
class JudgeFacts:
    """What the judge knows of the bundle; the texts are sent into a clean box, nothing else is."""

    dim: int
    """Hidden size of the bundle's model."""
    digests: frozenset[str]
    """Digests of the body's pretrained tensors, as the witness computes them."""
    texts: tuple[str, ...]
    """Held-out reviews."""
    labels: tuple[int, ...]
    """Their labels, 0 or 1; these never enter the box."""
    calibrations: Mapping[str, Calibration]
    """Method -> its minimum accuracy and where that was seen to be reached; a method may be missing."""
    public: tuple[str, ...] = ()
    """Reviews that students have (eval.csv): a model that cannot be rebuilt is compared on some of them."""
    linear_range: float = 0.0
    """How far below the minimum accuracy points fall linearly to none; 0 for a hard threshold."""
    reviews: str = "held-out reviews"
    """What the texts are called; a self-check measures on reviews that students have."""


def read_checkpoint(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read the float tensors of a safetensors file. Raises BundleError when the file is not one."""
    try:
        tensors = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BundleError(f"{path.name} cannot be read as a safetensors checkpoint: {error}") from error
    return {name: array for name, array in tensors.items() if array.dtype.kind == "f"}


def digest(array: np.ndarray[Any, Any]) -> str:
    """Digest of a tensor's shape and float32 values, equal to `grader.inside.tensors.digest`."""
    shape = ",".join(str(n) for n in array.shape)
    data = np.ascontiguousarray(array, dtype="<f4").tobytes()
    return hashlib.blake2b(shape.encode() + data, digest_size=16).hexdigest()


def read_facts(bundle: Bundle, secret: bytes) -> JudgeFacts:
    """Read what is needed from a bundle: checkpoint, held-out reviews drawn from `secret`, calibrations."""
    tensors = {
        (name if name.startswith("distilbert.") else f"distilbert.{name}"): array
        for name, array in read_checkpoint(bundle.model_dir / "model.safetensors").items()
        if not name.startswith(("vocab_", "classifier", "pre_classifier"))
    }
    config = json.loads((bundle.model_dir / "config.json").read_text(encoding="utf-8"))
    heldout = bundle.heldout(secret)
    return JudgeFacts(
        dim=int(config["dim"]),
        digests=frozenset(digest(array) for array in tensors.values()),
        texts=heldout.texts,
        labels=heldout.labels,
        calibrations=bundle.calibrations,
        public=bundle.eval_texts,
        linear_range=bundle.linear_range,
    )
