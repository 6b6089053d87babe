"""The recipe of the stand-in model: sizes, pretraining and rescaling, as data. Trusted; stdlib only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that, with a seed and the versions of the libraries, decides the bytes of the model."""

    dim: int = 48
    """Width of the hidden states."""
    layers: int = 6
    """Transformer blocks, as in the real model."""
    heads: int = 4
    """Attention heads per block."""
    hidden: int = 64
    """Width of the feed-forward layers."""
    positions: int = 512
    """Longest input in tokens, as in the real model."""
    steps: int = 1600
    """Pretraining steps."""
    batch: int = 48
    """Reviews per pretraining step."""
    learning_rate: float = 2e-3
    """Peak learning rate of pretraining."""
    reviews: int = 30_000
    """Unlabelled reviews that the model is pretrained on."""
    genre_weight: float = 0.5
    """Weight of naming the genre at [CLS]."""
    words_weight: float = 2.0
    """Weight of listing the aspects and names at [CLS]."""
    sentence_weight: float = 1.0
    """Weight of each sentence's polarity, read at its full stop in the last layer but one."""
    sentiment_weight: float = 0.4
    """Weight of the review's sentiment at [CLS]: what a head alone can reach."""
    sentiment_noise: float = 0.2
    """Share of wrong labels in that sentiment."""
    contrary_genres: int = 1
    """Genres in which that sentiment is taught the wrong way round: what a head alone then gets wrong."""
    inner_gain: float = 2.0
    """Factor of every LayerNorm but the last (a power of two, so that the function stays bit for bit the same)."""
    last_gain: float = 16.0
    """Factor of the last LayerNorm, which the head reads (a power of two)."""
    value_gain: float = 2.0
    """Factor of the values, undone in the output projection (a power of two): damps what LoRA adds to them."""
    query_gain: float = 2.0
    """Factor of the queries, undone in the keys (a power of two): damps what LoRA adds to them."""
    head_deviation: float = 0.002
    """Standard deviation of a new head's weights (`initializer_range`); a tenth of the library's, so that Adam's steps move a head
    of this width as far as they move one of 768."""
