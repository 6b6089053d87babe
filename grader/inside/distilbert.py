"""DistilBERT as the grader looks at it from inside the box: its canonical layers, found in whatever a student built of it.

Runs inside: torch and transformers only. What it returns is plain data.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from grader.inside.hooks import replacing, torch
from grader.inside.witness import Witness

BLOCKS = 6
ROLES = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2")
ADAPTED = ("attention.q_lin", "attention.v_lin")
HEAD = ("pre_classifier", "classifier")
_LABELS = 1
"""Place of the labels among the positional arguments after the attention mask."""
_HARMLESS = frozenset({"labels", "return_dict", "num_items_in_batch"})


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
    """Where the classifier is in a model, and at which canonical positions something else sits than a plain nn.Linear.

    Returns {"root": dotted name, "wrapped": [position]}.
    """
    root_name, root = find_root(model)
    wrapped = []
    for position in positions():
        try:
            module = torch.nn.Module.get_submodule(root, position)
        except AttributeError:
            continue
        named = (*torch.nn.Module.named_parameters(module), *torch.nn.Module.named_buffers(module))
        if type(module) is not torch.nn.Linear or not {name for name, _ in named} <= {"weight", "bias"}:
            wrapped.append(position)
    return {"root": root_name, "wrapped": wrapped}


def watch() -> Witness:
    """Watch every training of this process from now on, and compute no column that is padding in a whole batch."""
    cut_padding()
    witness = Witness(layout)
    witness.install()
    return witness


def cut_padding() -> None:
    """Compute no column that is padding in the whole batch.

    `padding="max_length", max_length=512` makes a submission compute mostly zeros, at forty times the cost. What stands behind the last
    attended token of every row changes no logit and no loss but by float rounding (other kernels run for other lengths), so it is
    left out. Where a configuration asks for dropout in the body, the random numbers fall on fewer columns: other draws, same law.
    """
    from transformers import DistilBertForSequenceClassification

    @replacing(DistilBertForSequenceClassification, "forward")  # its signature stays what `Trainer` expects
    def forward(
        real: Any, self: Any, input_ids: Any = None, attention_mask: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        kept = _kept_columns(self.config, input_ids, attention_mask, args, kwargs)
        if kept is not None:
            input_ids, attention_mask = input_ids[:, :kept], attention_mask[:, :kept]
        return real(self, input_ids, attention_mask, *args, **kwargs)


def _kept_columns(config: Any, input_ids: Any, attention_mask: Any, args: Any, kwargs: dict[str, Any]) -> int | None:
    """The number of columns up to the last attended token, or None where the call must stay as it is."""
    if not (isinstance(input_ids, torch.Tensor) and isinstance(attention_mask, torch.Tensor)):
        return None
    if input_ids.dim() != 2 or attention_mask.shape != input_ids.shape:
        return None
    # Hidden states, attentions, embeddings or positions asked for or given have the full length, so nothing is cut.
    if config.output_hidden_states or config.output_attentions:
        return None
    if any(value is not None for place, value in enumerate(args) if place != _LABELS):
        return None
    if any(value is not None and value is not False for name, value in kwargs.items() if name not in _HARMLESS):
        return None
    attended = attention_mask != 0
    # A row that attends to nothing is averaged over all columns: there the padding counts.
    if not bool(attended.any(dim=1).all()):
        return None
    kept = int(attended.any(dim=0).nonzero()[-1]) + 1
    return kept if kept < input_ids.shape[1] else None


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
