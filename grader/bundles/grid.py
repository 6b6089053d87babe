"""What is trained to calibrate a bundle: right solutions with the settings that students choose, and broken ones. Trusted; stdlib only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final

HELDOUT_SEED_TEXT: Final = "calibration"
"""What the held-out reviews of a calibration are drawn from; no class is ever judged on them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to train a method; by default with the library's hyperparameters."""

    method: str
    """`full`, `head` or `lora`."""
    lr: float = 5e-5
    """Highest learning rate."""
    epochs: int = 3
    """Passes over the training reviews; 0 trains nothing."""
    batch: int = 8
    """Reviews per step."""
    initial: str = "normal"
    """How A of LoRA is drawn: `normal` is N(0, 1), `rank` that over the root of the rank, `uniform`, `kaiming`, or its deviation."""
    rank: int = 12
    """Rank of LoRA."""
    alpha: float = 24.0
    """Alpha of LoRA."""
    optimizer: str = "adamw"
    """`adamw`, `adafactor`, or `sgd`."""
    momentum: float = 0.9
    """Of SGD."""
    schedule: str = "linear"
    """How the rate falls: `linear`, `cosine`, or `constant`."""
    warmup: float = 0.0
    """Steps over which the rate rises first; below 1 a share of all steps."""
    weight_decay: float = 0.0
    """Weight decay, of matrices only."""
    clips: bool = True
    """Whether gradients are clipped at a norm of 1, as the Trainer does and own loops do not."""
    reviews: int = 0
    """How many training reviews are used; 0 for all."""
    head_gain: float = 1.0
    """How much wider than by the library the head is drawn."""
    head: str = ""
    """A head of one's own instead of the library's: `deep` has a layer more and another width, `lstm` reads all positions up to the
    last word, `lstm-padded` the padding, too."""
    broken: str = ""
    """What is wrong: `shuffled`, `constant` or `random` labels; empty for a right solution."""

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that differ from the defaults, and the method."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if name == "method" or value != getattr(_DEFAULT, name)}

    @property
    def is_default(self) -> bool:
        """Whether a right solution is trained as the library does by itself, with any adapter."""
        return self.changes.keys() <= {"method", "initial", "rank", "alpha"}

    def steps(self, reviews: int) -> int:
        """Steps of the training where the bundle has so many reviews."""
        return self.epochs * math.ceil(min(self.reviews or reviews, reviews) / self.batch)


_DEFAULT: Final = Setting("full")
METHODS: Final = ("full", "head", "lora")
SEEDS: Final = 5
"""Trainings of each setting."""
_PLAIN: Final = (
    (1e-5, 1, 8), (1e-5, 1, 32), (1e-5, 2, 16), (1e-5, 3, 8),
    (2e-5, 1, 8), (2e-5, 1, 16), (2e-5, 1, 64), (2e-5, 2, 16), (2e-5, 3, 16),
    (3e-5, 1, 8), (3e-5, 2, 32), (3e-5, 3, 16),
    (5e-5, 1, 4), (5e-5, 1, 8), (5e-5, 1, 16), (5e-5, 1, 32), (5e-5, 1, 64), (5e-5, 2, 8), (5e-5, 3, 8), (5e-5, 3, 16), (5e-5, 5, 64),
    (1e-4, 1, 8), (1e-4, 1, 32), (1e-4, 2, 16), (1e-4, 3, 8),
    (2e-4, 1, 8), (2e-4, 1, 32), (2e-4, 3, 16), (3e-4, 2, 8),
    (5e-4, 1, 8), (5e-4, 1, 64),
    (1e-3, 1, 4), (1e-3, 1, 16), (1e-3, 1, 64), (1e-3, 3, 8),
)  # fmt: skip
"""Learning rate, epochs and batch, with AdamW and the rate falling in a line."""
_OWN_LOOP: Final[dict[str, Any]] = {"schedule": "constant", "clips": False, "weight_decay": 0.01}
_SGD: Final[dict[str, Any]] = {"schedule": "constant", "optimizer": "sgd"}
"""An own loop; inside the box its gradients are clipped (`grader/inside/shims/small_model.py`)."""
_OTHER: Final[tuple[dict[str, Any], ...]] = (
    {"lr": 2e-5, "epochs": 3, "batch": 16, "weight_decay": 0.01},
    {"epochs": 2, "weight_decay": 0.1},
    {"epochs": 1, "warmup": 0.1},
    {"lr": 2e-5, "epochs": 2, "batch": 16, "warmup": 0.1, "weight_decay": 0.01},
    {"epochs": 3, "warmup": 500},
    {"epochs": 1, "warmup": 500},
    {"epochs": 2, "schedule": "cosine"},
    {"lr": 1e-4, "epochs": 1, "batch": 16, "schedule": "cosine"},
    {"epochs": 1, "schedule": "constant"},
    {"epochs": 1, **_OWN_LOOP},
    {"lr": 2e-5, "epochs": 1, "batch": 32, **_OWN_LOOP},
    {"lr": 1e-4, "epochs": 2, "batch": 16, **_OWN_LOOP},
    {"lr": 1e-3, "epochs": 1, "batch": 16, **_OWN_LOOP},
    {"epochs": 1, "batch": 16, "optimizer": "adafactor"},
    {"lr": 1e-3, "epochs": 1, "batch": 32, "optimizer": "adafactor"},
    {"lr": 1e-3, "epochs": 2, "optimizer": "sgd"},
    {"lr": 1e-2, "epochs": 1, "batch": 16, "optimizer": "sgd"},
    {"epochs": 1, "reviews": 500},
    {"lr": 2e-5, "epochs": 3, "batch": 16, "reviews": 500},
    {"lr": 1e-4, "epochs": 5, "batch": 16, "reviews": 500},
    {"epochs": 1, "reviews": 1000},
    {"epochs": 3, "reviews": 1000},
    {"lr": 2e-5, "epochs": 2, "batch": 16, "reviews": 1000},
    {"epochs": 2, "reviews": 200},
    {"lr": 1e-5, "epochs": 1, "batch": 4, "reviews": 200},
    *({"lr": lr, "epochs": 1, **_SGD} for lr in (1e-4, 5e-3, 1e-2, 2e-2)),
    *({"lr": lr, "epochs": 1, "momentum": 0.0, **_SGD} for lr in (1e-3, 1e-2, 5e-2)),
)
"""Other schedules, optimizers and loops, and a part of the reviews."""
_ADAPTERS: Final = (
    ("kaiming", 4, 4), ("0.02", 8, 1), ("normal", 8, 1), ("0.01", 16, 2), ("uniform", 64, 0.125), ("normal", 4, 4), ("kaiming", 32, 0.5),
    ("uniform", 12, 2), ("rank", 64, 2), ("normal", 16, 0.125), ("normal", 12, 2), ("uniform", 8, 2), ("rank", 16, 1),
)  # fmt: skip
"""How A is drawn, the rank, and alpha as a multiple of it: shared out over the settings."""
EDGE: Final = (
    *(Setting(method, 5e-2, 1, **_SGD) for method in METHODS),
    *(
        Setting("lora", lr, 1, rank=rank, alpha=float(alpha), reviews=reviews)
        for lr, rank, alpha, reviews in (
            (1e-3, 12, 24, 0), (5e-4, 32, 128, 0), (1e-3, 32, 64, 0), (2e-4, 64, 256, 0), (5e-4, 64, 256, 0), (1e-3, 64, 128, 0),
            (1e-3, 32, 64, 400), (5e-4, 64, 256, 200), (5e-4, 64, 256, 400), (1e-3, 64, 128, 200), (1e-3, 64, 128, 400),
        )
    ),
)  # fmt: skip
"""Where trainings begin to break: fast SGD with a momentum of 0.9, and A drawn from N(0, 1) at a high rate and rank."""
OWN_HEADS: Final = ("deep", "lstm", "lstm-padded")
_OWN_HEADS_AT: Final[tuple[dict[str, Any], ...]] = (
    {"epochs": 1}, {"lr": 2e-5, "epochs": 2, "batch": 16}, {"epochs": 1, "batch": 32}, {"lr": 1e-4, "epochs": 1, "batch": 32},
    {"lr": 1e-3, "epochs": 1, "batch": 16},
)  # fmt: skip
"""Heads of one's own are trained on the frozen body, which helps them least."""
_BROKEN_AT: Final[tuple[dict[str, Any], ...]] = (
    {"epochs": 1}, {"lr": 1e-5, "epochs": 1, "batch": 32}, {"lr": 2e-4, "epochs": 2, "batch": 16}, {"lr": 1e-3, "epochs": 1, "batch": 16},
    {"lr": 2e-5, "epochs": 1, "batch": 16, "reviews": 500}, {"epochs": 2, "reviews": 200},
)  # fmt: skip
_OWN_BROKEN_AT: Final[tuple[dict[str, Any], ...]] = ({"epochs": 1}, {"lr": 1e-3, "epochs": 1, "batch": 16})
_FEW_REVIEWS: Final[dict[str, Any]] = {"epochs": 2, "reviews": 200}
_CHEAP_SEEDS: Final = 100
"""Of broken heads on the frozen body, which cost next to nothing."""
_LUCKY_SEEDS: Final = 20
"""Of the broken kind that comes closest to a right one: few shuffled labels may agree with the true ones by chance."""


def grid() -> list[Setting]:
    """The right solutions: every setting with each method."""
    plain = [{"lr": lr, "epochs": epochs, "batch": batch} for lr, epochs, batch in _PLAIN]
    found = [replace(_DEFAULT, method=method, **own) for method in METHODS[:2] for own in (*plain, *_OTHER)]
    for place, own in enumerate((*plain, *_OTHER)):
        initial, rank, share = _ADAPTERS[place % len(_ADAPTERS)]
        found.append(replace(_DEFAULT, method="lora", initial=initial, rank=rank, alpha=float(rank * share), **own))
    found += [replace(_DEFAULT, method="head", head=head, **own) for head in OWN_HEADS for own in _OWN_HEADS_AT]
    slowest = replace(_DEFAULT, method="head", head="lstm-padded")  # it alone needs the library's three epochs
    return [*found, slowest, *EDGE]


def broken() -> Iterator[tuple[Setting, int]]:
    """The broken solutions, and how many seeds each is tried with.

    Shuffled labels, one label for all (a column that never reaches the model), labels drawn anew, and a model of which nothing
    is trained: head, body and adapters as they were drawn, which is also what a frozen LoRA is. Heads of one's own the same.
    """
    for method in METHODS:
        seeds = _CHEAP_SEEDS if method == "head" else SEEDS
        for own in _BROKEN_AT:
            for kind in ("shuffled", "random"):
                yield replace(_DEFAULT, method=method, broken=kind, **own), seeds
        yield replace(_DEFAULT, method=method, broken="constant", epochs=1), SEEDS
    for method in METHODS:
        yield replace(_DEFAULT, method=method, lr=1e-2, epochs=1, broken="shuffled", **_SGD), SEEDS
    for head in OWN_HEADS:
        for own in _OWN_BROKEN_AT:
            yield replace(_DEFAULT, method="head", head=head, broken="shuffled", **own), SEEDS
        seeds = _LUCKY_SEEDS if head == "lstm" else SEEDS
        yield replace(_DEFAULT, method="head", head=head, broken="shuffled", **_FEW_REVIEWS), seeds
        yield replace(_DEFAULT, method="head", head=head, broken="random", **_FEW_REVIEWS), SEEDS
        yield replace(_DEFAULT, method="head", head=head, broken="untrained", epochs=0), SEEDS
    yield replace(_DEFAULT, method="lora", epochs=0, broken="untrained"), 10
    yield replace(_DEFAULT, method="head", epochs=0, broken="untrained"), 200
    yield replace(_DEFAULT, method="head", epochs=0, broken="untrained", head_gain=10.0), 100


def cost(setting: Setting, reviews: int) -> float:
    """About how much a training costs, in any unit: what is cheap is trained first."""
    read = setting.steps(reviews) * (20 + setting.batch)
    return float(read) / 100 if setting.method == "head" and not setting.head else float(read) + 3000
