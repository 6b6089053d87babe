"""Rescales a DistilBERT checkpoint without changing what it computes. Trusted; imports torch.

Adam moves a weight by about the learning rate whatever the size of the weight. A small model pretrained at 2e-3 would hardly
move at the library's default of 5e-5. So every LayerNorm gets larger by a factor, the matrices that read it smaller, and the
layers that write into the residual stream larger: the same function, but a step of fine-tuning moves it further. With
powers of two not one bit of the output changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2

from torch import Tensor

from tools.standin.recipe import Recipe


def rescale(weights: Mapping[str, Tensor], recipe: Recipe) -> dict[str, Tensor]:
    """Returns the rescaled state of a `DistilBertForMaskedLM`, sorted by name.

    Raises ValueError where a factor of the recipe is not a power of two.
    """
    for gain in (recipe.inner_gain, recipe.last_gain, recipe.value_gain, recipe.query_gain):
        if gain <= 0 or not log2(gain).is_integer():
            raise ValueError(f"a gain must be a power of two for the rescaling to be exact, not {gain}")
    return {name: (weights[name] * _factor(name, recipe)).contiguous().clone() for name in sorted(weights)}


def _factor(name: str, recipe: Recipe) -> float:
    owner, _, kind = name.rpartition(".")
    layer = owner.rpartition(".")[2]
    match layer:
        case "LayerNorm" | "sa_layer_norm":
            return recipe.inner_gain
        case "output_layer_norm":
            last = f".layer.{recipe.layers - 1}." in name
            return recipe.last_gain if last else recipe.inner_gain
        case "q_lin":
            return recipe.query_gain / (recipe.inner_gain if kind == "weight" else 1)
        case "k_lin":
            return 1 / recipe.query_gain / (recipe.inner_gain if kind == "weight" else 1)
        case "v_lin":
            return recipe.value_gain / (recipe.inner_gain if kind == "weight" else 1)
        case "out_lin":
            return recipe.inner_gain / (recipe.value_gain if kind == "weight" else 1)
        case "lin1":
            return 1 / recipe.inner_gain if kind == "weight" else 1.0
        case "lin2":
            return recipe.inner_gain
        case "vocab_transform":
            return 1 / recipe.last_gain if kind == "weight" else 1.0
    return 1.0
