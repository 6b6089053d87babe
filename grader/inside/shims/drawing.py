"""Draws a student's own layers for the hidden states so that they learn as layers of the real width do. Runs in the box.

PyTorch draws an `nn.Linear` the wider the fewer inputs it has, so that one of 48 starts four times as wide as one of 768, beside a
pretrained head that is drawn narrow on purpose (docs/bundles.md). At a usual learning rate it would hardly move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grader.inside.hooks import Record, replacing, when_imported

__all__ = ["install"]

_REASON = "drawn-narrow"
_REAL = "768"


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Narrow new linear layers of the model's width. `config`: `sizes` and `head_gain` (1 leaves all as it is).

    Matrices without a bias are left alone: in this assignment these are A and B of a LoRA layer.
    """
    gain, width = float(config.get("head_gain", 1.0)), config.get("sizes", {}).get(_REAL)
    if gain == 1.0 or width is None:
        return

    def narrow(module: Any) -> None:
        @replacing(module.Linear, "reset_parameters")
        def reset_parameters(real: Any, layer: Any) -> None:
            real(layer)
            # What `from_pretrained` builds has no values yet.
            if layer.in_features == width and layer.bias is not None and not layer.weight.is_meta:
                for parameter in (layer.weight, layer.bias):
                    parameter.data.mul_(gain)
                record("size", repr(layer), f"drawn {1 / gain:.0f} times narrower", _REASON)

    when_imported("torch.nn.modules.linear", narrow)
