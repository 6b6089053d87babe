"""DistilBERT as the grader looks at it from inside the box: its canonical layers, found in whatever a student built of it.

Runs inside: torch and transformers only. What it returns is plain data.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from grader.inside.hooks import torch
from grader.inside.witness import Witness

BLOCKS = 6
ROLES = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2")
ADAPTED = ("attention.q_lin", "attention.v_lin")
HEAD = ("pre_classifier", "classifier")


def positions() -> list[str]:
    """Names of the linear layers of a two-label DistilBERT: 36 in the body, 2 in the head."""
    body = [f"distilbert.transformer.layer.{i}.{role}" for i in range(BLOCKS) for role in ROLES]
    return [*body, *HEAD]


def find_root(model: Any) -> tuple[str, Any]:
    """Find the module that has `distilbert` and `classifier` below it; ('', model) when it is the model itself."""
    best = ("", model)
    for name, module in torch.nn.Module.named_modules(model):
        children = dict(torch.nn.Module.named_children(module))
        if "distilbert" in children and "classifier" in children:
            return name, module
        if "transformer" in children and "embeddings" in children:
            best = (name, module)
    return best


def layout(model: Any) -> dict[str, Any]:
    """What sits at each canonical position when training starts: kind of layer, and its tensors beyond weight and bias.

    Returns {"root": dotted name, "at": {position: {"plain", "type", "tensors": [[name, shape, trainable]]}}}.
    """
    root_name, root = find_root(model)
    found: dict[str, Any] = {}
    for position in positions():
        try:
            module = torch.nn.Module.get_submodule(root, position)
        except AttributeError:
            continue
        tensors = [[n, list(p.shape), bool(p.requires_grad)] for n, p in torch.nn.Module.named_parameters(module)]
        tensors += [[n, list(b.shape), False] for n, b in torch.nn.Module.named_buffers(module)]
        plain = type(module) is torch.nn.Linear and {t[0] for t in tensors} <= {"weight", "bias"}
        found[position] = {"plain": plain, "type": type(module).__name__[:80], "tensors": tensors[:40]}
    return {"root": root_name, "at": found}


def watch() -> Witness:
    """Watch every training of this process from now on, and compute no column that is padding in a whole batch."""
    from grader.inside import padding

    padding.install()
    witness = Witness(layout)
    witness.install()
    return witness


def small_model() -> Any:
    """Give a new two-label DistilBERT with six blocks and the real names, random and small; leaves the random state alone."""
    return copy.deepcopy(_model("cpu", vocab_size=60, dim=24, hidden_dim=40, n_heads=2, n_layers=BLOCKS)).eval()


def real_size_model() -> Any:
    """Give a new two-label DistilBERT of the real size (66955010 parameters).

    Its tensors lie in memory that nobody has written to: each has an address of its own, and costs nothing until it is read.
    """
    return copy.deepcopy(_model("meta")).to_empty(device="cpu")


@functools.cache
def _model(device: str, **sizes: int) -> Any:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    with torch.random.fork_rng(devices=[]), torch.device(device):
        return DistilBertForSequenceClassification(DistilBertConfig(num_labels=2, **sizes))
