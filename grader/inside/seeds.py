"""Where random numbers begin, and other ones than the last time when a notebook is run again because of a close result.

Runs in the box. Seeds are shifted in reruns only: who fixes a seed gets another one, and the whole notebook the same other one;
who fixes none begins at another state.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from grader.inside.hooks import Record, replacing, when_imported

__all__ = ["install", "reseed"]

_LIMIT = 2**32


def reseed(number: int) -> None:
    """Begin the random numbers of Python, and of NumPy and PyTorch now or when they are imported, at a state."""
    random.seed(number)
    when_imported("numpy.random", lambda module: module.seed(number % _LIMIT))
    when_imported("torch", lambda module: module.default_generator.manual_seed(number))


def install(_record: Record, config: Mapping[str, Any]) -> None:
    """Shift the seeds given to `random`, NumPy and PyTorch by `config["seed_shift"]`; 0 or none changes nothing."""
    shift = int(config.get("seed_shift", 0))
    if shift:
        reseed(random.getrandbits(48) + shift)
        _shift(random, "seed", shift)
        when_imported("numpy.random", _shift, "seed", shift)
        when_imported("torch", _shift_torch, shift)


def _shift(module: Any, name: str, shift: int) -> Callable[..., Any]:
    @replacing(module, name)
    def moved(real: Any, *args: Any, **kwargs: Any) -> Any:
        given = args[:1]
        if given and type(given[0]) is int:  # numpy's integers, strings and None are left to their own ways
            args = ((given[0] + shift) % _LIMIT, *args[1:])
        elif type(kwargs.get("seed")) is int:
            kwargs = {**kwargs, "seed": (kwargs["seed"] + shift) % _LIMIT}
        return real(*args, **kwargs)

    return moved


def _shift_torch(torch: Any, shift: int) -> None:
    torch.random.manual_seed = _shift(torch, "manual_seed", shift)  # `from torch.random import ...`, too
