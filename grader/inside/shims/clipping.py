"""Clips the gradients of SGD as the Trainer does. Runs in the box.

A small model's gradients are larger than the real one's, and plain steps of the rates that the real one bears would break it
(docs/bundles.md). Optimizers that scale their steps do not need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grader.inside.hooks import Record, replacing, when_imported

__all__ = ["install"]

_NORM = 1.0
"""What the Trainer clips at."""


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Clip what SGD steps by, where the model is a smaller one. `config`: `head_gain` (1 for the real one, which is left alone)."""
    if float(config.get("head_gain", 1.0)) == 1.0:
        return

    def clip(module: Any) -> None:
        @replacing(module.SGD, "step")
        def step(real: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            from torch.nn.utils import clip_grad_norm_

            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            if clip_grad_norm_(parameters, _NORM) > _NORM:
                record("size", type(optimizer).__name__, f"clipped at a norm of {_NORM:g}", "clipped")
            return real(optimizer, *args, **kwargs)

    when_imported("torch.optim.sgd", clip)
