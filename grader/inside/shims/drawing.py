"""Draws a student's own layers for the hidden states so that they learn as layers of the real width do. Runs in the box.

PyTorch draws a layer the wider the fewer inputs it has, so that one of 48 starts four times as wide as one of 768, beside a pretrained
head that is drawn narrow on purpose (docs/bundles.md). At a usual learning rate it would hardly move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grader.inside.hooks import Record, replacing, when_imported

__all__ = ["install"]

_REAL = 768
_LAYERS = (
    ("linear", "Linear", "reset_parameters", "in_features"),
    ("conv", "_ConvNd", "reset_parameters", "in_channels"),
    ("rnn", "RNNBase", "reset_parameters", "hidden_size"),
    ("activation", "MultiheadAttention", "_reset_parameters", "embed_dim"),
)
"""Module of `torch.nn.modules`, class, method that draws, and the size that it depends on. Embeddings are drawn alike at any width."""


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Narrow new layers of the model's width. `config`: `sizes` and `head_gain` (1 leaves all as it is).

    Layers that hidden states go straight into get that gain. Gates and attention are drawn as wide as real ones, no narrower: they work by
    their size. Matrices without a bias are left alone: in this assignment these are A and B of a LoRA layer.
    """
    gain, width = float(config.get("head_gain", 1.0)), config.get("sizes", {}).get(str(_REAL))
    if gain == 1.0 or width is None:
        return

    def narrow(module: Any, kind: str, draws: str, size: str, factor: float) -> None:
        @replacing(getattr(module, kind), draws)
        def drawn(real: Any, layer: Any, *args: Any) -> None:
            real(layer, *args)
            parameters = list(layer.parameters(recurse=False))
            if getattr(layer, size) != width or getattr(layer, "bias", True) is None:
                return
            # What `from_pretrained` builds has no values yet.
            if parameters and not any(parameter.is_meta for parameter in parameters):
                for parameter in parameters:
                    parameter.data.mul_(factor)
                record("size", repr(layer), f"drawn {1 / factor:.0f} times narrower", "drawn-narrow")

    for where, kind, draws, size in _LAYERS:
        factor = gain if kind in ("Linear", "_ConvNd") else (width / _REAL) ** 0.5
        when_imported(f"torch.nn.modules.{where}", narrow, kind, draws, size, factor)
