"""Trains a bundle's model as students do, and prints what came of it. Trusted; imports torch.

Runs as its own process: `python -m grader.bundles.training BUNDLE JOBS`. JOBS is a file with a JSON list of trainings: the fields of
`grader.bundles.grid.Setting` that differ from its defaults, and a `seed`.

The loop does what the `Trainer` does, number by number, with the library's own classes (`tests/bundles/test_training.py` compares the
two). It is cheaper in two ways that change no result: columns that are padding in the whole batch are left out, and what a frozen
body without dropout says at the first position is computed once for all trainings.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoTokenizer, DistilBertForSequenceClassification, get_scheduler, set_seed
from transformers.optimization import Adafactor

from grader.bundles.bundle import Bundle, Labelled, load_bundle
from grader.bundles.grid import HELDOUT_SEED_TEXT, Setting
from grader.bundles.measures import accuracy_of, label_correlation
from grader.inside.distilbert import ADAPTED
from grader.inside.rebuild import kinship

CLIP: Final = 1.0
"""Largest norm of the gradients, as the Trainer has it."""
_OWN_WIDTH: Final = 256
_REAL_WIDTH: Final = 768
_LONGEST: Final = 512
_AT_ONCE: Final = 64
"""Reviews in a batch where nothing is trained."""


@dataclass(frozen=True, eq=False, slots=True)
class Reviews:
    """Reviews in tokens."""

    tokens: Tensor
    """Token ids, (reviews, longest); the padding is `pad_token_id`."""
    lengths: Tensor
    """Tokens per review, (reviews,)."""
    labels: Tensor
    """0 or 1, (reviews,)."""


class LoRA(nn.Module):
    """A linear layer with an adapter beside it."""

    def __init__(self, base: nn.Linear, setting: Setting) -> None:
        super().__init__()
        self.base, self.scaling = base, setting.alpha / setting.rank
        self.A = nn.Parameter(draw_a(base.in_features, setting))
        self.B = nn.Parameter(torch.zeros(setting.rank, base.out_features))

    def forward(self, inputs: Tensor) -> Tensor:
        """`W x + b + alpha / rank * B(A x)` of inputs (..., in)."""
        output: Tensor = self.base(inputs) + self.scaling * (inputs @ self.A @ self.B)
        return output

    @property
    def merged(self) -> Tensor:
        """The weight with the adapter in it, (out, in)."""
        return self.base.weight + self.scaling * (self.A @ self.B).T


class RecurrentHead(nn.Module):
    """An LSTM over all positions, and a linear layer that reads where it ends."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(width, width, batch_first=True), nn.Linear(width, 2)

    def forward(self, states: Tensor, ends: Tensor) -> Tensor:
        """Logits (reviews, 2) of the body's states (reviews, longest, dim); `ends`: the position to read of each."""
        logits: Tensor = self.last(self.lstm(states)[0][torch.arange(len(ends)), ends])
        return logits


class Model:
    """The bundle's two-label DistilBERT as a student sets it up before training: with its adapters, or a head of its own."""

    def __init__(self, bundle: Bundle, setting: Setting, seed: int) -> None:
        set_seed(seed)
        library = DistilBertForSequenceClassification.from_pretrained(str(bundle.model_dir), num_labels=2)
        self.setting, self.body = setting, library.distilbert
        self.head: nn.Module = nn.Sequential(
            library.pre_classifier, nn.ReLU(), library.dropout, library.classifier
        ).requires_grad_()
        for parameter in self.head.parameters():
            parameter.data.mul_(setting.head_gain)
        if setting.head:
            self.head = draw_head(setting.head, library.config.dim, bundle.head_gain)
        self.body.requires_grad_(setting.method == "full")
        if setting.method == "lora":
            for name, layer in list(self.body.named_modules()):
                if name.endswith(ADAPTED):
                    self.body.set_submodule(name, LoRA(layer, setting))

    @property
    def reads_first(self) -> bool:
        """Whether the head reads the first position alone."""
        return not isinstance(self.head, RecurrentHead)

    @property
    def dropout(self) -> float:
        """The highest share that the body drops while it is trained."""
        return max(self.body.config.dropout, self.body.config.attention_dropout)

    def train(self, mode: bool) -> None:
        """Put body and head into train or eval mode."""
        self.body.train(mode)
        self.head.train(mode)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What is trained, by name."""
        for part in (self.body, self.head):
            yield from ((name, parameter) for name, parameter in part.named_parameters() if parameter.requires_grad)

    def states(self, reviews: Reviews, rows: Tensor) -> Tensor:
        """What the body says at each position, (rows, longest, dim)."""
        width = int(reviews.lengths[rows].max())
        attended = torch.arange(width) < reviews.lengths[rows][:, None]
        found: Tensor = self.body(reviews.tokens[rows, :width], attended.long())[0]
        return found

    def logits(self, reviews: Reviews, rows: Tensor) -> Tensor:
        """Logits (rows, 2)."""
        states = self.states(reviews, rows)
        if self.reads_first:
            return self.head(states[:, 0])
        whole = self.setting.head == "lstm-padded"
        return self.head(states, torch.full_like(rows, states.shape[1] - 1) if whole else reviews.lengths[rows] - 1)

    def merged(self) -> dict[str, Tensor]:
        """The body's tensors by name, its adapters merged."""
        found = {f"distilbert.{name}": value for name, value in self.body.state_dict().items()}
        layers = (item for item in self.body.named_modules() if isinstance(item[1], LoRA))
        return found | {f"distilbert.{name}.weight": layer.merged for name, layer in layers}


class Workbench:
    """A bundle's data in tokens and its model; trains one setting after the other."""

    def __init__(self, bundle: Bundle, secret: bytes = HELDOUT_SEED_TEXT.encode()) -> None:
        self.bundle = bundle
        self.tokenizer = AutoTokenizer.from_pretrained(str(bundle.model_dir))
        self.train, self.heldout = self._encode(bundle.train), self._encode(bundle.heldout(secret))
        self.pretrained = Model(bundle, Setting("head"), 0)
        self.summaries = functools.cache(self._summaries)
        """What the pretrained body says of reviews at the first position, (reviews, dim)."""

    def _encode(self, reviews: Labelled) -> Reviews:
        found = self.tokenizer(list(reviews.texts), truncation=True, max_length=_LONGEST)["input_ids"]
        lengths = torch.tensor([len(ids) for ids in found])
        tokens = torch.full((len(found), int(lengths.max())), self.tokenizer.pad_token_id)
        for row, ids in enumerate(found):
            tokens[row, : len(ids)] = torch.tensor(ids)
        return Reviews(tokens, lengths, torch.tensor(reviews.labels))

    def run(self, setting: Setting, seed: int) -> dict[str, Any]:
        """Trains once; what came of it: held-out `accuracy`, `correlation` (see `label_correlation`), CPU seconds.

        Both measures are None where the training diverged. With LoRA also `kinship`, the cosine of the body with its adapters and the
        pretrained one.
        """
        began = time.process_time()
        model = Model(self.bundle, setting, seed)
        before = self._answers(model, frozen=True)
        if setting.steps(len(self.train.labels)):
            self.fit(model, seed)
        after = self._answers(model, frozen=setting.method == "head")
        labels = self.heldout.labels.numpy()
        finite = bool(np.isfinite(after).all())
        found: dict[str, Any] = {
            "accuracy": round(accuracy_of(after, labels), 4) if finite else None,
            "correlation": round(label_correlation(before, after, labels), 4) if finite else None,
            "cpu_seconds": round(time.process_time() - began, 2),
        }
        if setting.method == "lora":
            with torch.no_grad():
                cosine = kinship(self.pretrained.merged(), model.merged())
            found["kinship"] = round(cosine, 4) if math.isfinite(cosine) else 0.0
        return found

    def _summaries(self, reviews: Reviews) -> Tensor:
        return _by_length(reviews, lambda rows: self.pretrained.states(reviews, rows)[:, 0])

    def _answers(self, model: Model, *, frozen: bool) -> Any:
        """Logits (reviews, 2) of the held-out reviews; `frozen`: the body is the pretrained one."""
        model.train(False)
        if frozen and model.reads_first:
            with torch.no_grad():
                return model.head(self.summaries(self.heldout)).numpy()
        return _by_length(self.heldout, lambda rows: model.logits(self.heldout, rows)).numpy()

    def fit(self, model: Model, seed: int) -> None:
        """Trains a model."""
        setting, train = model.setting, self.train
        count = min(setting.reviews or len(train.labels), len(train.labels))
        labels = _labels(train.labels[:count], setting, seed)
        steady = setting.method == "head" and model.reads_first and not model.dropout
        features = self.summaries(train) if steady else None
        optimizer, total = _optimizer(model, setting), setting.steps(len(train.labels))
        warmup = setting.warmup if setting.warmup >= 1 else setting.warmup * total
        schedule = get_scheduler(setting.schedule, optimizer, math.ceil(warmup), total)
        parameters = [parameter for _, parameter in model.named_parameters()]
        model.train(True)
        torch.manual_seed(seed)
        for epoch in range(setting.epochs):
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))
            torch.empty((), dtype=torch.int64).random_()  # a DataLoader draws a seed for its workers
            for rows in order.split(setting.batch):
                logits = model.logits(train, rows) if features is None else model.head(features[rows])
                nn.functional.cross_entropy(logits, labels[rows]).backward()
                if setting.clips:
                    nn.utils.clip_grad_norm_(parameters, CLIP)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()


def _optimizer(model: Model, setting: Setting) -> torch.optim.Optimizer:
    """The setting's optimizer; weight decay is for matrices alone, as the Trainer has it."""
    groups = [
        {
            "params": [p for name, p in model.named_parameters() if _decays(name) == decays],
            "weight_decay": setting.weight_decay * decays,
        }
        for decays in (True, False)
    ]
    match setting.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, setting.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, setting.lr, momentum=setting.momentum)
    found: torch.optim.Optimizer = Adafactor(groups, setting.lr, scale_parameter=False, relative_step=False)
    return found


def _decays(name: str) -> bool:
    return not name.endswith("bias") and "LayerNorm" not in name and "layer_norm" not in name


def draw_head(kind: str, width: int, gain: float) -> nn.Module:
    """A head of one's own, drawn as in the box (`grader.inside.shims.small_model`), which narrows layers of the body's width."""
    if kind == "deep":
        first, second, last = nn.Linear(width, width), nn.Linear(width, _OWN_WIDTH), nn.Linear(_OWN_WIDTH, 2)
        head: nn.Module = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
    else:
        head = RecurrentHead(width)
    for layer in head.modules():
        factor = gain if getattr(layer, "in_features", 0) == width else 1.0
        factor = (width / _REAL_WIDTH) ** 0.5 if isinstance(layer, nn.LSTM) else factor
        for parameter in layer.parameters(recurse=False):
            parameter.data.mul_(factor)
    return head


def draw_a(inputs: int, setting: Setting) -> Tensor:
    """A LoRA layer's A, (inputs, rank), as the setting's `initial` says."""
    rank = setting.rank
    match setting.initial:
        case "normal":
            return torch.randn(inputs, rank)
        case "uniform":  # also what nn.Linear and kaiming_uniform_(a=sqrt(5)) draw
            return (torch.rand(inputs, rank) * 2 - 1) / inputs**0.5
        case "kaiming":
            return torch.randn(inputs, rank) * (2 / inputs) ** 0.5
        case "rank":
            return torch.randn(inputs, rank) / rank**0.5
    return torch.randn(inputs, rank) * float(setting.initial)


def _labels(labels: Tensor, setting: Setting, seed: int) -> Tensor:
    """The labels that reach the model: the true ones, or those of a broken notebook."""
    own = torch.Generator().manual_seed(seed)
    match setting.broken:
        case "shuffled":
            return labels[torch.randperm(len(labels), generator=own)]
        case "constant":
            return torch.full_like(labels, seed % 2)
        case "random":
            return torch.randint(0, 2, labels.shape, generator=own)
    return labels


def _by_length(reviews: Reviews, answer: Callable[[Tensor], Tensor]) -> Tensor:
    """What `answer` gives for all rows, at most 64 at a time, short reviews first, so that little is padded."""
    order = reviews.lengths.argsort(stable=True)
    with torch.no_grad():
        return torch.cat([answer(rows) for rows in order.split(_AT_ONCE)])[order.argsort()]


def main() -> None:
    """Prints one JSON object per training."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    bench = Workbench(load_bundle(Path(sys.argv[1])))
    for job in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")):
        setting = Setting(**{name: value for name, value in job.items() if name != "seed"})
        print(json.dumps({**job, **bench.run(setting, job["seed"])}), flush=True)


if __name__ == "__main__":
    main()
