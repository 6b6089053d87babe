"""Pretrains the stand-in model. Trusted; imports torch, so it runs as its own process: `python -m tools.standin.pretrain`.

The model learns masked words, and with them what a large model gets from reading much: the polarity of each sentence (at its
full stop), the genre, which words occur, and a hint of the review's sentiment (at [CLS]). One thread and one seed give the
same bytes on the same kind of machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertForMaskedLM

from grader.bundles.reviews import ASPECTS, GENRES, NAMES, Review, draw_reviews
from tools.standin.recipe import Recipe
from tools.standin.rescale import rescale
from tools.standin.vocabulary import FIRST_WORD, MASK, PAD, build_tokenizer, write_tokenizer

_KEYWORDS = tuple(word.lower() for word in ASPECTS + NAMES)
_PRETRAINING_SEED = 1000


@dataclass(frozen=True, slots=True)
class _Corpus:
    """The pretraining reviews in numbers."""

    tokens: NDArray[np.int64]
    """Token ids, (reviews, longest), zero where padded."""
    lengths: NDArray[np.int64]
    """Tokens per review."""
    genres: NDArray[np.int64]
    """Genre per review."""
    labels: NDArray[np.int64]
    """Sentiment per review, some of them wrong."""
    words: NDArray[np.float32]
    """Which keywords occur, (reviews, keywords)."""
    polarities: Sequence[tuple[int, ...]]
    """Per review, the polarity of each sentence."""


class _Probes(nn.Module):
    """Linear readers of what the model should know; thrown away after pretraining."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.genre = nn.Linear(dim, len(GENRES))
        self.sentiment = nn.Linear(dim, 2)
        self.polarity = nn.Linear(dim, 3)
        self.words = nn.Linear(dim, len(_KEYWORDS))


def pretrain(out: Path, recipe: Recipe, seed: int) -> None:
    """Writes config.json, model.safetensors and the tokenizer's files to the folder `out`; prints `step N of M` lines."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    reviews = draw_reviews(recipe.reviews, _PRETRAINING_SEED + seed)
    tokenizer = build_tokenizer([review.text for review in reviews])
    rng = np.random.default_rng(seed)
    corpus = _encode(
        reviews, [encoding.ids for encoding in tokenizer.encode_batch([r.text for r in reviews])], recipe, rng
    )
    model = DistilBertForMaskedLM(_config(recipe, tokenizer.get_vocab_size()))
    _train(model, corpus, tokenizer.get_vocab()["."], recipe, rng)
    out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(tokenizer, out, recipe.positions)
    weights = rescale(dict(model.state_dict()), recipe)
    # The projector shares its matrix with the word embeddings; the file holds it once.
    weights.pop("vocab_projector.weight", None)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes a file that only its owner reads; the box runs as somebody else.
    (out / "model.safetensors").chmod(0o644)
    config = model.config.to_diff_dict()
    # Students read this file: the values that differ from the library's are there, and how they were reached is not.
    config.update(
        architectures=["DistilBertForMaskedLM"], initializer_range=recipe.head_deviation, model_type="distilbert"
    )
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _config(recipe: Recipe, vocabulary: int) -> DistilBertConfig:
    return DistilBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=recipe.positions,
        dim=recipe.dim,
        n_layers=recipe.layers,
        n_heads=recipe.heads,
        hidden_dim=recipe.hidden,
        pad_token_id=PAD,
        # Without dropout in the attention the fused kernel runs, which halves a training step.
        dropout=0.0,
        attention_dropout=0.0,
        initializer_range=0.05,
    )


def _encode(
    reviews: Sequence[Review], ids: Sequence[Sequence[int]], recipe: Recipe, rng: np.random.Generator
) -> _Corpus:
    lengths = np.array([len(row) for row in ids])
    tokens = np.full((len(ids), int(lengths.max())), PAD, np.int64)
    for row, values in enumerate(ids):
        tokens[row, : len(values)] = values
    words = np.zeros((len(ids), len(_KEYWORDS)), np.float32)
    for row, review in enumerate(reviews):
        present = set(review.text.lower().replace(",", " ").replace(".", " ").split())
        words[row] = [keyword in present for keyword in _KEYWORDS]
    labels = np.array([review.label for review in reviews])
    noisy = np.where(rng.random(len(labels)) < recipe.sentiment_noise, 1 - labels, labels)
    genres = np.array([review.genre for review in reviews])
    noisy = np.where(genres < recipe.contrary_genres, 1 - noisy, noisy)
    return _Corpus(tokens, lengths, genres, noisy, words, [review.polarities for review in reviews])


def _mask(tokens: NDArray[np.int64], stop: int, vocabulary: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Hides a fifth of the words as BERT does; returns the input and the targets (-100 where nothing is asked)."""
    chosen = (tokens >= FIRST_WORD) & (tokens != stop) & (rng.random(tokens.shape) < 0.2)
    fate = rng.random(tokens.shape)
    shown = np.where(chosen & (fate < 0.8), MASK, tokens)
    shown = np.where(chosen & (fate >= 0.8) & (fate < 0.9), rng.integers(FIRST_WORD, vocabulary, tokens.shape), shown)
    return torch.from_numpy(shown), torch.from_numpy(np.where(chosen, tokens, -100))


def _train(model: DistilBertForMaskedLM, corpus: _Corpus, stop: int, recipe: Recipe, rng: np.random.Generator) -> None:
    probes = _Probes(recipe.dim)
    parameters = [*model.parameters(), *probes.parameters()]
    optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    model.train()
    # Reviews of about one length share a batch, so that hardly anything is padding.
    order = np.argsort(corpus.lengths, kind="stable")
    for step in range(recipe.steps):
        first = int(rng.integers(len(order) // recipe.batch)) * recipe.batch
        rows = order[first : first + recipe.batch]
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, (step + 1) / 100) * max(0.02, 1 - step / recipe.steps)
        optimizer.zero_grad()
        losses = _losses(model, probes, corpus, rows, stop, rng)
        weights = {
            "words": recipe.words_weight,
            "polarity": recipe.sentence_weight,
            "genre": recipe.genre_weight,
            "sentiment": recipe.sentiment_weight,
        }
        total = sum((weights.get(name, 1.0) * loss for name, loss in losses.items()), torch.zeros(()))
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 49 or step == recipe.steps - 1:
            seen = " ".join(f"{name}={loss.item():.3f}" for name, loss in losses.items())
            print(f"step {step + 1} of {recipe.steps} {seen}", flush=True)


def _losses(
    model: DistilBertForMaskedLM,
    probes: _Probes,
    corpus: _Corpus,
    rows: NDArray[np.int64],
    stop: int,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    tokens = corpus.tokens[rows, : int(corpus.lengths[rows].max())]
    shown, targets = _mask(tokens, stop, model.config.vocab_size, rng)
    attention = torch.from_numpy(tokens != PAD).long()
    output = model.distilbert(input_ids=shown, attention_mask=attention, output_hidden_states=True)
    hidden, earlier = output.last_hidden_state, output.hidden_states[-2]
    asked = targets != -100
    # Only the hidden words are projected to the vocabulary: the rest would be thrown away.
    words = model.vocab_projector(model.vocab_layer_norm(functional.gelu(model.vocab_transform(hidden[asked]))))
    stops = torch.from_numpy(tokens == stop)
    polarities = torch.tensor([polarity for row in rows for polarity in corpus.polarities[row]])
    summary = hidden[:, 0]
    return {
        "masked": functional.cross_entropy(words, targets[asked]),
        "polarity": functional.cross_entropy(probes.polarity(earlier[stops]), polarities),
        "genre": functional.cross_entropy(probes.genre(summary), torch.from_numpy(corpus.genres[rows])),
        "sentiment": functional.cross_entropy(probes.sentiment(summary), torch.from_numpy(corpus.labels[rows])),
        "words": functional.binary_cross_entropy_with_logits(
            probes.words(summary), torch.from_numpy(corpus.words[rows])
        ),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The process behind `tools.standin.build`: takes the recipe as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tools.standin.pretrain", description=pretrain.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", default=json.dumps(asdict(Recipe())), help="the fields of Recipe as a JSON object")
    options = parser.parse_args(arguments)
    pretrain(options.out, Recipe(**json.loads(options.recipe)), options.seed)


if __name__ == "__main__":
    main()
