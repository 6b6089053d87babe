"""What a trained model is measured by: how often it is right, and whether what it learnt points the right way. Trusted; numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def accuracy_of(logits: Logits, labels: Labels) -> float:
    """Share of reviews whose logits (n, 2) are larger for their label (n,)."""
    return float((logits.argmax(axis=1) == labels).mean())


def label_correlation(before: Logits, after: Logits, labels: Labels) -> float:
    """Correlation (point-biserial, -1 to 1) of the labels (n,) with what a training added to the log-odds of label 1.

    `before` and `after` are finite logits (n, 2). Neither how far a training came nor a constant that it added matters, only its
    direction: a few steps show it where the accuracy is still that of the head's random start. 0 where nothing was added.
    """
    added = np.subtract(after, before, dtype=np.float64) @ (-1.0, 1.0)
    added -= added.mean()
    wanted = labels - labels.mean()
    size = float(np.sqrt((added @ added) * (wanted @ wanted)))
    return float(added @ wanted) / size if size > 0 else 0.0
