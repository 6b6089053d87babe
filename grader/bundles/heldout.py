"""The held-out reviews: drawn from a secret, or read from a file of the instructor's. Trusted; labels stay with the grader."""

from __future__ import annotations

import csv
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from grader.bundles.reviews import draw_balanced
from grader.errors import BundleError

DEFAULT_SECRET = b"the default secret, for trying out"
"""Anyone can read it, so anyone can draw these reviews: a real class needs its own."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Reviews that no submission has seen."""

    texts: tuple[str, ...]
    """What enters the box, after the last cell."""
    labels: tuple[int, ...]
    """0 or 1 per text; never enters the box."""


def generate_heldout(secret: bytes, count: int, avoid: Collection[str]) -> HeldOut:
    """Draws `count` reviews, half of each label, none of them in `avoid`; the same for the same secret everywhere."""
    seed = int.from_bytes(hmac.digest(secret, b"held-out reviews, version 1", hashlib.sha256))
    reviews = draw_balanced(count, seed, avoid)
    return HeldOut(tuple(review.text for review in reviews), tuple(review.label for review in reviews))


def read_heldout(path: Path) -> HeldOut:
    """Reads a CSV file with columns `review` and `label` (0 or 1).

    Raises BundleError naming the line where the file is not of that form.
    """
    texts, labels = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            for row in (reader := csv.DictReader(lines)):
                if row.get("review") is None or row.get("label") not in {"0", "1"}:
                    raise BundleError(f"{path}, line {reader.line_num}: a review and a label 0 or 1 are needed.")
                texts.append(row["review"])
                labels.append(int(row["label"]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not texts:
        raise BundleError(f"{path} holds no reviews.")
    return HeldOut(tuple(texts), tuple(labels))
