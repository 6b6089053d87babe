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
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch import Tensor, nn
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
_LAST: Final = "last.weight"
"""The matrix of a head of one's own that gives the logits."""
_OWN_WIDTH: Final = 256
_REAL_WIDTH: Final = 768
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
        self.reads_words = True
        """Whether a recurrent head ends at a review's last word, not at the end of the batch."""
        self.generators: list[torch.Generator] = []
        """One per seed while it is trained; without them nothing is dropped."""

    @property
    def seeds(self) -> int:
        """Number of models."""
        return len(next(iter(self.trained.values())))

    def __getitem__(self, name: str) -> Tensor:
        return self.trained[name] if name in self.trained else self.frozen[name]

    def logits(self, reviews: Reviews, rows: Tensor) -> Tensor:
        """Logits (seeds, rows, 2) of the reviews in `rows` (seeds, rows)."""
        if _LAST in self.trained:
            return self._own_head(reviews, rows)
        return self.head(self.summaries(reviews, rows))

    def _own_head(self, reviews: Reviews, rows: Tensor) -> Tensor:
        if "lstm.weight_ih_l0" not in self.trained:
            states = self.summaries(reviews, rows)
            for layer in ("first", "second"):
                states = functional.relu(self._linear(states, layer))
            return self._linear(states, "last")
        states = self._states(reviews, rows, every=True)
        weights = [self[name] for name in self.trained if name.startswith("lstm.")]
        read = []
        for seed, own in enumerate(states):
            start = own.new_zeros(1, len(own), weights[0].shape[1] // 4)
            read.append(
                torch.lstm(own, (start, start), [w[seed] for w in weights], True, 1, 0.0, False, False, True)[0]
            )
        ends = reviews.lengths[rows] - 1 if self.reads_words else torch.full(rows.shape, states.shape[2] - 1)
        each = torch.arange(rows.shape[1])
        return self._linear(torch.stack([o[each, end] for o, end in zip(read, ends, strict=True)]), "last")

    def head(self, summaries: Tensor) -> Tensor:
        """Logits (seeds, rows, 2) of what the body says at the first position (seeds, rows, dim)."""
        hidden = functional.relu(self._linear(summaries, "pre_classifier"))
        return self._linear(self._dropout(hidden, self.config.seq_classif_dropout), "classifier")

    def summaries(self, reviews: Reviews, rows: Tensor) -> Tensor:
        """The body's last hidden state at the first position, (seeds, rows, dim)."""
        return self._states(reviews, rows, every=False)

    def _states(self, reviews: Reviews, rows: Tensor, *, every: bool) -> Tensor:
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
                hidden, attended, f"distilbert.transformer.layer.{block}.", (seeds, count), block == last and not every
            )
        return hidden.view(seeds, count, width, -1) if every else hidden

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
        self.head_gain = bundle.head_gain
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

        Both measures are None where the training diverged. With LoRA also `kinship`, the cosine of the body with its adapters and the
        pretrained one.
        """
        began = time.process_time()
        stack = self.stack(setting, seeds)
        with torch.no_grad():
            before = self._answers(stack, replace(setting, method="head"))  # the body is still the pretrained one
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
        if setting.method == "lora":
            for result, kinship in zip(results, self._kinships(stack), strict=True):
                result["kinship"] = round(kinship, 4)
        return results

    def _kinships(self, stack: Stack) -> list[float]:
        """Cosine of the body's matrices with the pretrained ones, for each model, its adapters merged."""
        matrices = {name: value for name, value in self.body.items() if value.dim() == 2}
        whole = sum(float(value.square().sum()) for value in matrices.values())
        product, own = torch.full((2, stack.seeds), whole, dtype=torch.float64)
        for name, value in matrices.items():
            layer = name.removesuffix(".weight")
            if f"{layer}.A" in stack.trained:
                added = stack.scaling * (stack.trained[f"{layer}.A"] @ stack.trained[f"{layer}.B"]).transpose(1, 2)
                along = (added * value).sum((1, 2))
                product += along
                own += 2 * along + added.square().sum((1, 2))
        return [float(cosine) for cosine in (product / (own * whole).sqrt()).nan_to_num()]

    def stack(self, setting: Setting, seeds: Sequence[int]) -> Stack:
        """The models as students set them up before training."""
        drawn: list[dict[str, Tensor]] = []
        for seed in seeds:
            set_seed(seed)
            model = DistilBertForSequenceClassification.from_pretrained(self.model_dir, num_labels=2)
            own = {name: value for name, value in model.state_dict().items() if name in HEAD}
            if setting.head_gain != 1:
                own = {name: value * setting.head_gain for name, value in own.items()}
            if setting.head:
                own = draw_head(setting.head, self.config.dim, self.head_gain)
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
        stack = Stack(self.config, frozen, trained, setting.alpha / setting.rank)
        stack.reads_words = setting.head != "lstm-padded"
        return stack

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
        seeds = stack.seeds
        if setting.method == "head" and not setting.head:
            return stack.head(self._features(self.heldout).expand(seeds, -1, -1))
        batches = list(_batches(self.heldout, seeds))
        found = torch.cat([stack.logits(self.heldout, rows) for rows in batches], 1)
        return found[:, torch.cat([rows[0] for rows in batches]).argsort()]

    def fit(self, stack: Stack, setting: Setting, seeds: Sequence[int]) -> None:
        """Trains the stack."""
        count = min(setting.reviews or len(self.train.labels), len(self.train.labels))
        labels = torch.stack([_labels(self.train.labels[:count], setting, seed) for seed in seeds])
        frozen = setting.method == "head" and not setting.head
        steady = frozen and not self.config.dropout and not self.config.attention_dropout
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

    AdamW and SGD treat every number by itself, so the tensors of all models of a stack are one for them. Adafactor looks at whole
    matrices, and gets every tensor of every model alone.
    """

    def __init__(self, trained: Mapping[str, Tensor], setting: Setting) -> None:
        self.clips = setting.clips
        self.alone = setting.optimizer == "adafactor"
        self.leaves = {
            name: [part.clone().requires_grad_() for part in (value if self.alone else [value])]
            for name, value in trained.items()
        }
        groups = [
            {"params": [leaf for name in self.leaves if _decays(name) == decays for leaf in self.leaves[name]],
             "weight_decay": setting.weight_decay * decays}
            for decays in (True, False)
        ]  # fmt: skip
        match setting.optimizer:
            case "adamw":
                self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, setting.lr, fused=True)
            case "sgd":
                self.optimizer = torch.optim.SGD(groups, setting.lr, momentum=setting.momentum)
            case _:
                self.optimizer = Adafactor(groups, setting.lr, scale_parameter=False, relative_step=False)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, seeds first; gradients flow from them into the leaves."""
        return {name: torch.stack(parts) if self.alone else parts[0] for name, parts in self.leaves.items()}

    def step(self, lr: float) -> None:
        """One step of the optimizer at this rate, after the gradients of each model were clipped by themselves."""
        if self.clips:
            self._clip()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _clip(self) -> None:
        if self.alone:
            for own in zip(*self.leaves.values(), strict=True):
                torch.nn.utils.clip_grad_norm_(own, CLIP)
            return
        gradients = [leaf.grad for (leaf,) in self.leaves.values() if leaf.grad is not None]
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        shares = (CLIP / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(shares.view(-1, *[1] * (gradient.dim() - 1)))


def _decays(name: str) -> bool:
    """Whether weight decay is for a tensor: the Trainer leaves biases and norms out."""
    return not name.endswith("bias") and "LayerNorm" not in name and "layer_norm" not in name


def draw_head(kind: str, width: int, gain: float) -> dict[str, Tensor]:
    """The tensors of a head of one's own, drawn as in the box (`grader.inside.shims.drawing`), which narrows layers of the body's width."""
    if kind == "deep":
        first = nn.Linear(width, width), nn.Linear(width, _OWN_WIDTH), nn.Linear(_OWN_WIDTH, 2)
        layers: dict[str, nn.Module] = dict(zip(("first", "second", "last"), first, strict=True))
    else:
        layers = {"lstm": nn.LSTM(width, width), "last": nn.Linear(width, 2)}
    drawn: dict[str, Tensor] = {}
    for name, layer in layers.items():
        narrow = gain if name != "lstm" else (width / _REAL_WIDTH) ** 0.5
        factor = narrow if width in (getattr(layer, "in_features", 0), getattr(layer, "hidden_size", 0)) else 1.0
        drawn |= {f"{name}.{part}": value * factor for part, value in layer.state_dict().items()}
    return drawn


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
