"""One layer that a LoRA class is asked to wrap: what goes into the box, and what the judge works out from it.

A layer computes `W x + b + c B(A x)` with W (out x in), A (r x in), B (out x r) and scaling c (Hu et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from grader.rubric.answers import ODD, Array, Count, Float, Kind, Many, OneOf, Raised
from grader.rubric.questions import Question

_OUTPUT = OneOf(Array(), {"raised": Raised(), "returned?": Kind()}, ODD)
_NORM = OneOf(None, Float())


def _answer(inputs: int) -> Any:
    """What can be said of a class that is asked to wrap a layer, and to use it for so many inputs."""
    outputs = (_OUTPUT,) * inputs
    fresh = {"eval": outputs, "train": outputs, "base_distance": Many(Float(), 2)}
    loaded = {
        "r": Count(),
        "registered": bool,
        "start": (_NORM, _NORM),
        **dict.fromkeys(("outputs", "zeroed", "no_bias_outputs?", "no_bias_zeroed?"), outputs),
        "input_gradient?": OneOf(None, Array(), ODD),
        "gradients?": (_NORM,) * 3,
        "gradients_raised?": Raised(),
    }
    return {"raised": Raised(), "made?": Kind(), "fresh": OneOf(None, fresh), "factorizations": Many(loaded, 16)}


def ask_lora(names: Sequence[str], cases: Sequence[Mapping[str, Any]]) -> Question:
    """Ask a class of one of these names to wrap each case's layer; the judge finds a `Case` for each in `secret["cases"]`.

    A case has `W` (out, in), `b` (out,) or None, `rank`, `alpha`, `A` (most, in) and `B` (out, most) of which the first r rows
    and columns are used, inputs `x` (..., in) and the output's gradient `g` for the first of them; all arrays float32.
    """
    secret = {"cases": [Case(case) for case in cases]}
    params = {"names": list(names), "cases": list(cases)}
    call = Many((OneOf("layer", "rank", "alpha", "other"), Count(64)), 16)
    answer = {"cases": tuple(_answer(len(case["x"])) for case in cases), "call": call}
    return Question("grader.inside.probes.lora:lora", params, secret, cpu_seconds=60.0, answer=answer)


class Case:
    """A drawn layer as the judge needs it, in float64; what several criteria ask for is worked out once."""

    def __init__(self, drawn: Mapping[str, Any]) -> None:
        """Take a case of the question's parameters; nothing is worked out before it is asked for."""
        self.rank, self.alpha, self.x, self.g = drawn["rank"], drawn["alpha"], drawn["x"], drawn["g"]
        self._drawn = drawn
        self._adapters: dict[tuple[int, int], Any] = {}

    def __str__(self) -> str:
        """The layer as a student would write it."""
        outside, inside = self._drawn["W"].shape
        return f"nn.Linear({inside}, {outside}{'' if self._drawn['b'] is not None else ', bias=False'}) with rank {self.rank}"

    @property
    def is_square(self) -> bool:
        """Whether the layer has as many outputs as inputs."""
        outside, inside = self._drawn["W"].shape
        return bool(outside == inside)

    @cached_property
    def weight(self) -> Any:
        """W, (out, in)."""
        return self._drawn["W"].astype(np.float64)

    @cached_property
    def base(self) -> list[Any]:
        """`W x + b` of each input."""
        # all rows at once: at 768 x 768 reading W takes longer than the arithmetic
        rows = np.concatenate([x.reshape(-1, x.shape[-1]) for x in self.x]).astype(np.float64) @ self.weight.T
        if self._drawn["b"] is not None:
            rows += self._drawn["b"]
        ends = np.cumsum([x[..., 0].size for x in self.x])
        parts = np.split(rows, ends[:-1])
        return [part.reshape(*x.shape[:-1], -1) for x, part in zip(self.x, parts, strict=True)]

    def factors(self, r: int) -> tuple[Any, Any]:
        """The first r rows of A and columns of B."""
        return self._drawn["A"][:r].astype(np.float64), self._drawn["B"][:, :r].astype(np.float64)

    def adapter(self, r: int, which: int) -> Any:
        """B(A x) of input number `which`, for inner size r."""
        if (r, which) not in self._adapters:
            A, B = self.factors(r)
            self._adapters[r, which] = self.x[which].astype(np.float64) @ A.T @ B.T
        return self._adapters[r, which]
