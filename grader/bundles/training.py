"""Trains a bundle's model as students do, several seeds at once, and prints what came of it. Trusted; imports torch.

Runs as its own process: `python -m grader.bundles.training BUNDLE JOBS`. JOBS is a file with a JSON list of objects with a `setting` (the
fields of `grader.bundles.grid.Setting` that differ from its defaults) and its `seeds`.

The loop does what the `Trainer` does, number by number: its draw of the head, its order of the reviews, its dropout, clipping, schedule
and optimizer (`tests/bundles/test_training.py` compares the two). It is cheaper in three ways that change no result: models of
several seeds are one stack of matrices, columns that are padding in the whole batch are left out, and of the last block only
the position is computed that the head reads. A frozen body without dropout is computed once for all trainings.
"""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, DistilBertForSequenceClassification, set_seed
from transformers.optimization import Adafactor

from grader.bundles.bundle import Bundle, load_bundle
from grader.bundles.grid import HELDOUT_SEED_TEXT, Setting
from grader.bundles.measures import accuracy_of, label_correlation

CLIP: Final = 1.0
"""Largest norm of the gradients of one model, as the Trainer has it."""
ADAPTED: Final = ("q_lin", "v_lin")
HEAD: Final = ("pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias")
_LONGEST: Final = 512
_AT_ONCE: Final = 64
"""Reviews in a batch where nothing is trained."""


@dataclass(frozen=True, slots=True)
class Reviews:
    """Reviews in tokens."""

    tokens: Tensor
    """Token ids, (reviews, longest); the padding is `pad_token_id`."""
    lengths: Tensor
    """Tokens per review, (reviews,)."""
    labels: Tensor
    """0 or 1, (reviews,)."""


class Stack:
    """Two-label DistilBERTs of one bundle, one per seed, that are computed together.

    A tensor that is trained has the seeds as its first axis; what is frozen is there once.
    """

    def __init__(
        self, config: Any, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], scaling: float
    ) -> None:
        self.config = config
        self.frozen = frozen
        self.trained: Mapping[str, Tensor] = trained
        self.scaling = scaling
        self.generators: list[torch.Generator] = []
        """One per seed while it is trained; without them nothing is dropped."""

    def __getitem__(self, name: str) -> Tensor:
        return self.trained[name] if name in self.trained else self.frozen[name]

    def logits(self, reviews: Reviews, rows: Tensor) -> Tensor:
        """Logits (seeds, rows, 2) of the reviews in `rows` (seeds, rows)."""
        return self.head(self.summaries(reviews, rows))

    def head(self, summaries: Tensor) -> Tensor:
        """Logits (seeds, rows, 2) of what the body says at the first position (seeds, rows, dim)."""
        hidden = functional.relu(self._linear(summaries, "pre_classifier"))
        return self._linear(self._dropout(hidden, self.config.seq_classif_dropout), "classifier")

    def summaries(self, reviews: Reviews, rows: Tensor) -> Tensor:
        """The body's last hidden state at the first position, (seeds, rows, dim)."""
        seeds, count = rows.shape
        width = int(reviews.lengths[rows].max())
        tokens = reviews.tokens[rows, :width]
        attended = (torch.arange(width) < reviews.lengths[rows][..., None]).view(seeds * count, 1, 1, width)
        body = "distilbert.embeddings."
        words, positions = self[f"{body}word_embeddings.weight"], self[f"{body}position_embeddings.weight"]
        if words.dim() == 3:
            tokens = tokens + (torch.arange(seeds) * words.shape[1])[:, None, None]
            words = words.flatten(0, 1)
        places = positions[..., :width, :].unsqueeze(-3)
        hidden = (functional.embedding(tokens, words) + places).view(seeds, count * width, -1)
        hidden = self._dropout(self._norm(hidden, f"{body}LayerNorm"), self.config.dropout)
        last = self.config.n_layers - 1
        for block in range(self.config.n_layers):
            hidden = self._block(
                hidden, attended, f"distilbert.transformer.layer.{block}.", (seeds, count), block == last
            )
        return hidden

    def _block(self, hidden: Tensor, attended: Tensor, block: str, sizes: tuple[int, int], last: bool) -> Tensor:
        seeds, count = sizes
        asking = hidden.view(seeds, count, -1, hidden.shape[-1])[:, :, 0] if last else hidden
        heads = self.config.n_heads
        query, key, value = (
            self._linear(states, f"{block}attention.{name}").view(seeds * count, -1, heads, states.shape[-1] // heads)
            for name, states in (("q_lin", asking), ("k_lin", hidden), ("v_lin", hidden))
        )
        dropped = self.config.attention_dropout if self.generators else 0.0
        found = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attended, dropped
        )
        found = self._linear(found.transpose(1, 2).reshape(asking.shape), f"{block}attention.out_lin")
        middle = self._norm(found + asking, f"{block}sa_layer_norm")
        wide = functional.gelu(self._linear(middle, f"{block}ffn.lin1"))
        added = self._dropout(self._linear(wide, f"{block}ffn.lin2"), self.config.dropout)
        return self._norm(added + middle, f"{block}output_layer_norm")

    def _linear(self, inputs: Tensor, name: str) -> Tensor:
        weight, bias = self[f"{name}.weight"], self[f"{name}.bias"]
        if weight.dim() == 2:
            output = functional.linear(inputs, weight, bias)
        else:
            output = torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2))
        if f"{name}.A" in self.trained:
            output = output + self.scaling * (inputs @ self[f"{name}.A"] @ self[f"{name}.B"])
        return output

    def _norm(self, inputs: Tensor, name: str) -> Tensor:
        weight, bias = self[f"{name}.weight"], self[f"{name}.bias"]
        if weight.dim() == 1:
            return functional.layer_norm(inputs, weight.shape, weight, bias, 1e-12)
        return torch.addcmul(bias[:, None], functional.layer_norm(inputs, weight.shape[1:], eps=1e-12), weight[:, None])

    def _dropout(self, inputs: Tensor, share: float) -> Tensor:
        if not self.generators or not share:
            return inputs
        kept = [
            torch.empty_like(part).bernoulli_(1 - share, generator=own)
            for part, own in zip(inputs, self.generators, strict=True)
        ]
        return inputs * torch.stack(kept) / (1 - share)


class Workbench:
    """A bundle's data in tokens and its model; trains one setting after the other."""

    def __init__(self, bundle: Bundle, secret: bytes = HELDOUT_SEED_TEXT.encode()) -> None:
        self.model_dir = str(bundle.model_dir)
        self.tokenizer = AutoTokenizer.from_pretrained(self.model_dir)
        columns = bundle.manifest["columns"]
        with bundle.train_csv.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        self.train = self._encode([row[columns["text"]] for row in rows], [int(row[columns["label"]]) for row in rows])
        heldout = bundle.heldout(secret)
        self.heldout = self._encode(heldout.texts, heldout.labels)
        model = DistilBertForSequenceClassification.from_pretrained(self.model_dir, num_labels=2)
        self.config = model.config
        self.body = {name: value for name, value in model.state_dict().items() if name.startswith("distilbert.")}
        self._known: dict[int, Tensor] = {}

    def _encode(self, texts: Sequence[str], labels: Sequence[int]) -> Reviews:
        found = self.tokenizer(list(texts), truncation=True, max_length=_LONGEST)["input_ids"]
        lengths = torch.tensor([len(ids) for ids in found])
        tokens = torch.full((len(found), int(lengths.max())), self.tokenizer.pad_token_id)
        for row, ids in enumerate(found):
            tokens[row, : len(ids)] = torch.tensor(ids)
        return Reviews(tokens, lengths, torch.tensor(labels))

    def run(self, setting: Setting, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Trains once per seed; what came of each: held-out `accuracy`, `correlation` (see `label_correlation`), CPU seconds.

        Both measures are None where the training diverged.
        """
        began = time.process_time()
        stack = self.stack(setting, seeds)
        with torch.no_grad():
            before = stack.head(self._features(self.heldout).expand(len(seeds), -1, -1))
        if setting.steps(len(self.train.labels)):
            self.fit(stack, setting, seeds)
        with torch.inference_mode():
            after = self._answers(stack, setting)
        seconds = round((time.process_time() - began) / len(seeds), 2)
        labels = self.heldout.labels.numpy()
        results = []
        for first, last in zip(before.numpy(), after.numpy(), strict=True):
            finite = bool(np.isfinite(last).all())
            accuracy = round(accuracy_of(last, labels), 4) if finite else None
            correlation = round(label_correlation(first, last, labels), 4) if finite else None
            results.append({"accuracy": accuracy, "correlation": correlation, "cpu_seconds": seconds})
        return results

    def stack(self, setting: Setting, seeds: Sequence[int]) -> Stack:
        """The models as students set them up before training."""
        drawn: list[dict[str, Tensor]] = []
        for seed in seeds:
            set_seed(seed)
            model = DistilBertForSequenceClassification.from_pretrained(self.model_dir, num_labels=2)
            own = {name: value for name, value in model.state_dict().items() if name in HEAD}
            if setting.head_gain != 1:
                own = {name: value * setting.head_gain for name, value in own.items()}
            if setting.method == "lora":
                for name, value in self.body.items():
                    layer, _, kind = name.rpartition(".")
                    if kind == "weight" and layer.endswith(ADAPTED):
                        own[f"{layer}.A"] = draw_a(value.shape[1], setting)
                        own[f"{layer}.B"] = torch.zeros(setting.rank, value.shape[0])
            drawn.append(own)
        trained = {name: torch.stack([own[name] for own in drawn]) for name in drawn[0]}
        frozen = dict(self.body)
        if setting.method == "full":
            trained |= {name: value.expand(len(seeds), *value.shape) for name, value in frozen.items()}
            frozen = {}
        return Stack(self.config, frozen, trained, setting.alpha / setting.rank)

    def _features(self, reviews: Reviews) -> Tensor:
        """What the pretrained body says of all reviews, (1, reviews, dim); computed once."""
        if id(reviews) not in self._known:
            stack = Stack(self.config, self.body, {}, 1.0)
            with torch.no_grad():
                self._known[id(reviews)] = torch.cat(
                    [stack.summaries(reviews, rows) for rows in _batches(reviews, 1)], 1
                )
                order = torch.cat([rows[0] for rows in _batches(reviews, 1)])
                self._known[id(reviews)] = self._known[id(reviews)][:, order.argsort()]
        return self._known[id(reviews)]

    def _answers(self, stack: Stack, setting: Setting) -> Tensor:
        """Logits (seeds, reviews, 2) of the held-out reviews."""
        seeds = len(stack.trained[HEAD[0]])
        if setting.method == "head":
            return stack.head(self._features(self.heldout).expand(seeds, -1, -1))
        batches = list(_batches(self.heldout, seeds))
        found = torch.cat([stack.logits(self.heldout, rows) for rows in batches], 1)
        return found[:, torch.cat([rows[0] for rows in batches]).argsort()]

    def fit(self, stack: Stack, setting: Setting, seeds: Sequence[int]) -> None:
        """Trains the stack."""
        count = min(setting.reviews or len(self.train.labels), len(self.train.labels))
        labels = torch.stack([_labels(self.train.labels[:count], setting, seed) for seed in seeds])
        steady = setting.method == "head" and not self.config.dropout and not self.config.attention_dropout
        features = self._features(self.train)[0] if steady else None
        weights = Weights(stack.trained, setting)
        each = torch.arange(len(seeds))[:, None]
        stack.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        step, total = 0, setting.steps(len(self.train.labels))
        for epoch in range(setting.epochs):
            orders = torch.stack(
                [torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch)) for seed in seeds]
            )
            for own in stack.generators:
                torch.empty((), dtype=torch.int64).random_(generator=own)  # a DataLoader draws a seed for its workers
            for first in range(0, count, setting.batch):
                rows = orders[:, first : first + setting.batch]
                stack.trained = weights.tensors()
                logits = stack.logits(self.train, rows) if features is None else stack.head(features[rows])
                losses = functional.cross_entropy(logits.transpose(1, 2), labels[each, rows], reduction="none")
                losses.mean(dim=1).sum().backward()
                weights.step(setting.lr * setting.rate(step, total))
                step += 1
        stack.generators, stack.trained = [], {name: value.detach() for name, value in weights.tensors().items()}


class Weights:
    """The trained tensors as the optimizer sees them.

    AdamW and SGD treat every number by itself, so all models of a stack are one matrix for them (with weight decay, two). Adafactor looks
    at whole matrices, and gets every tensor of every model alone.
    """

    def __init__(self, trained: Mapping[str, Tensor], setting: Setting) -> None:
        self.shapes = {name: value.shape for name, value in trained.items()}
        self.seeds = len(next(iter(trained.values())))
        self.clips = setting.clips
        decayed = [
            name
            for name in trained
            if not name.endswith("bias") and "LayerNorm" not in name and "layer_norm" not in name
        ]
        self.groups = [names for names in (decayed, [name for name in trained if name not in decayed]) if names]
        self.flat = setting.optimizer != "adafactor"
        if self.flat:
            self.leaves = [torch.cat([trained[name].flatten(1) for name in names], 1) for names in self.groups]
            held = [[leaf] for leaf in self.leaves]
        else:
            held = [[part.clone() for name in names for part in trained[name]] for names in self.groups]
            self.leaves = [leaf for group in held for leaf in group]
        for leaf in self.leaves:
            leaf.requires_grad_()
        decays = [setting.weight_decay if names is decayed else 0.0 for names in self.groups]
        groups = [{"params": leaves, "weight_decay": decay} for leaves, decay in zip(held, decays, strict=True)]
        match setting.optimizer:
            case "adamw":
                self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, setting.lr, fused=True)
            case "sgd":
                self.optimizer = torch.optim.SGD(groups, setting.lr, momentum=0.9)
            case _:
                self.optimizer = Adafactor(groups, setting.lr, scale_parameter=False, relative_step=False)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, seeds first; gradients flow from them into the leaves."""
        found: dict[str, Tensor] = {}
        leaves = iter(self.leaves)
        for names in self.groups:
            if self.flat:
                sizes = [math.prod(self.shapes[name][1:]) for name in names]
                parts = next(leaves).split(sizes, 1)
                found |= {name: part.view(self.shapes[name]) for name, part in zip(names, parts, strict=True)}
            else:
                found |= {name: torch.stack([next(leaves) for _ in range(self.seeds)]) for name in names}
        return found

    def step(self, lr: float) -> None:
        """One step of the optimizer at this rate, after the gradients of each model were clipped by themselves."""
        if self.clips:
            self._clip()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _clip(self) -> None:
        gradients = [leaf.grad for leaf in self.leaves if leaf.grad is not None]
        if self.flat:
            norms = torch.stack([gradient.norm(dim=1) for gradient in gradients]).norm(dim=0)
            for gradient in gradients:
                gradient.mul_((CLIP / (norms + 1e-6)).clamp(max=1.0)[:, None])
            return
        for seed in range(self.seeds):
            torch.nn.utils.clip_grad_norm_(self.leaves[seed :: self.seeds], CLIP)


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


def _batches(reviews: Reviews, seeds: int) -> Iterator[Tensor]:
    """All rows, (seeds, at most 64) at a time, short reviews first, so that little is padded."""
    for rows in reviews.lengths.argsort(stable=True).split(_AT_ONCE):
        yield rows.expand(seeds, -1)


def main() -> None:
    """Prints one JSON object per seed of each job."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    bench = Workbench(load_bundle(Path(sys.argv[1])))
    for job in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")):
        setting = Setting(**job["setting"])
        for seed, found in zip(job["seeds"], bench.run(setting, job["seeds"]), strict=True):
            print(json.dumps({**job["setting"], "seed": seed, **found}), flush=True)


if __name__ == "__main__":
    main()
