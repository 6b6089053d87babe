"""Cuts columns that are padding in the whole batch before DistilBERT computes them. Runs inside; stdlib, torch, transformers.

`padding="max_length", max_length=512` makes a submission compute mostly zeros, at forty times the cost. What stands behind the last
attended token of every row changes no logit and no loss but by float rounding (other kernels run for other lengths), so it is
left out. Where a configuration asks for dropout in the body, the random numbers fall on fewer columns: other draws, same law.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DistilBertForSequenceClassification

from grader.inside.hooks import replacing


def install() -> None:
    """Patches `DistilBertForSequenceClassification.forward`; its signature stays what `Trainer` expects."""

    @replacing(DistilBertForSequenceClassification, "forward")
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


_LABELS = 1
"""Place of the labels among the positional arguments after the attention mask."""
_HARMLESS = frozenset({"labels", "return_dict", "num_items_in_batch"})
