"""Lets a small model learn at the rates that the real one bears. Runs in the box (docs/bundles.md).

PyTorch draws a layer the wider the fewer inputs it has, so that one of 48 starts four times as wide as one of 768, beside a pretrained
head that is drawn narrow on purpose: at a usual learning rate it would hardly move. And a small model's gradients are larger than
the real one's, so that plain steps of SGD would break it; optimizers that scale their steps do not.
"""

from __future__ import annotations

from typing import Any

from grader.inside.hooks import replacing, when_imported
from grader.inside.shims.adapting import config, note

__all__ = ["install"]

_REAL = 768
_LAYERS = (
    ("linear", "Linear", "reset_parameters", "in_features"),
    ("conv", "_ConvNd", "reset_parameters", "in_channels"),
    ("rnn", "RNNBase", "reset_parameters", "hidden_size"),
    ("activation", "MultiheadAttention", "_reset_parameters", "embed_dim"),
)
"""Module of `torch.nn.modules`, class, method that draws, and the size that it depends on. Embeddings are drawn alike at any width."""
_NORM = 1.0
"""What the `Trainer` clips gradients at."""


def install() -> None:
    """Narrow new layers of the model's width, and clip what SGD steps by. `config`: `sizes` and `head_gain` (1 leaves all as it is).

    Layers that hidden states go straight into get that gain. Gates and attention are drawn as wide as real ones, no narrower: they work by
    their size. Matrices without a bias are left alone: in this assignment these are A and B of a LoRA layer.
    """
    gain, width = config["head_gain"], config["sizes"].get(str(_REAL))
    if gain == 1.0 or width is None:
        return
    when_imported("torch.optim.sgd", _clip)

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
                note("size", repr(layer), f"drawn {1 / factor:.0f} times narrower", "drawn-narrow")

    for where, kind, draws, size in _LAYERS:
        factor = gain if kind in ("Linear", "_ConvNd") else (width / _REAL) ** 0.5
        when_imported(f"torch.nn.modules.{where}", narrow, kind, draws, size, factor)


def _clip(module: Any) -> None:
    @replacing(module.SGD, "step")
    def step(real: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        from torch.nn.utils import clip_grad_norm_

        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if clip_grad_norm_(parameters, _NORM) > _NORM:
            note("size", type(optimizer).__name__, f"clipped at a norm of {_NORM:g}", "clipped")
        return real(optimizer, *args, **kwargs)
