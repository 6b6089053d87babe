"""Synthetic film reviews whose sentiment a reader understands and a bag of words does not. Trusted; pure Python.

The label is compositional: negation, contrast, disagreement with what others say, and one dissenting opinion among three.
Plot sentences carry praise and blame that mean nothing. So counting words tells little, and reading in context tells nearly
all. Everything is drawn from `random.Random.random()`, whose sequence is the same for a seed on every Python and machine.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PRAISE = _words(
    "good great wonderful brilliant superb excellent charming delightful funny clever moving gripping fresh warm stunning"
    " beautiful touching smart thrilling memorable lovely rich elegant convincing fantastic"
)
BLAME = _words(
    "bad awful terrible dreadful poor boring dull clumsy weak shallow stale cold ugly silly stupid lifeless tedious"
    " forgettable bland messy flat hollow painful lazy horrible"
)
ASPECTS = _words(
    "acting plot script music ending dialogue photography direction cast story pacing humour editing soundtrack atmosphere"
    " opening finale villain camera lighting"
)
NAMES = _words("Anna John Maria Peter Lucy Frank Clara Henry Rosa Victor Emma Oscar")
GENRES = {
    "comedy": _words("clown wedding waiter neighbour prank hotel"),
    "thriller": _words("detective spy bomb agent murder train"),
    "western": _words("sheriff ranch horse saloon outlaw desert"),
    "drama": _words("widow lawyer village doctor farmer court"),
    "horror": _words("ghost monster cabin cellar vampire forest"),
    "romance": _words("painter dancer letter beach lover garden"),
    "musical": _words("singer stage piano band theatre chorus"),
    "documentary": _words("archive island factory whale volcano museum"),
}
_VERBS = _words("finds follows loses hides meets steals saves leaves remembers chases")
_DEGREES = _words("really very truly quite simply utterly rather absolutely")
_NEGATIONS = ("was not", "was never", "was hardly", "was far from", "was anything but", "was in no way")
_CONTRASTS = (
    "although {b}, {a}",
    "{b}, but {a}",
    "while {b}, {a}",
    "{b}, yet {a}",
    "even though {b}, {a}",
    "{a}, although {b}",
    "{a}, even if {b}",
)
_DISAGREEING = (
    "I expected it to be {x}, and it was the opposite",
    "people call it {x}, and they are wrong",
    "critics found it {x}, but I disagree",
    "my friends say it is {x}, which is nonsense",
)
_AGREEING = (
    "I expected it to be {x}, and it was",
    "people call it {x}, and they are right",
    "critics found it {x}, and I agree",
    "my friends say it is {x}, which is true",
)
_PLOTS = (
    "{name} {verb} a {adjective}{thing}",
    "a {adjective}{thing} {verb} the {other}",
    "{name} {verb} {friend} near the {thing}",
    "it is a {genre} about a {adjective}{thing}",
    "the {adjective}{thing} {verb} {name}",
)
NEUTRAL = 2
"""Polarity of a sentence that tells the plot; 0 is blame and 1 is praise."""
MAX_WORDS = 34
"""Longest review, in words and punctuation marks; two special tokens come on top."""


@dataclass(frozen=True, slots=True)
class Review:
    """One review with what its writer knew."""

    text: str
    """The review as a student sees it."""
    label: int
    """1 positive, 0 negative."""
    genre: int
    """Position of the film's genre in `GENRES`."""
    polarities: tuple[int, ...]
    """Per sentence: 0 blame, 1 praise, `NEUTRAL` plot."""


def draw_reviews(count: int, seed: int) -> list[Review]:
    """Draws `count` reviews; labels fall as they may and texts may repeat."""
    writer = _Writer(seed)
    return [writer.review() for _ in range(count)]


def draw_balanced(count: int, seed: int, avoid: Collection[str] = ()) -> list[Review]:
    """Draws `count` different reviews, half of each label, shuffled, none of whose texts is in `avoid`.

    Raises ValueError where `count` is odd or negative.
    """
    if count < 0 or count % 2:
        raise ValueError(f"a balanced set has an even number of reviews, not {count}")
    writer = _Writer(seed)
    seen = set(avoid)
    chosen: list[Review] = []
    missing = {0: count // 2, 1: count // 2}
    while any(missing.values()):
        review = writer.review()
        if review.text not in seen and missing[review.label]:
            seen.add(review.text)
            missing[review.label] -= 1
            chosen.append(review)
    # What comes last is mostly of one label, so the order is drawn anew.
    writer.shuffle(chosen)
    return chosen


class _Writer:
    """Writes reviews from one stream of random numbers."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self._random() * len(options))]

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def shuffle(self, items: list[Review]) -> None:
        for last in range(len(items) - 1, 0, -1):
            other = int(self._random() * (last + 1))
            items[last], items[other] = items[other], items[last]

    def review(self) -> Review:
        while True:
            label = int(self.chance(0.5))
            genre = self.pick(tuple(GENRES))
            opinions = 2 if self.chance(1 / 3) else 3
            dissent = opinions == 3 and self.chance(0.35)
            sentences = [(label, self.opinion(label)) for _ in range(opinions - dissent)]
            if dissent:
                sentences.append((1 - label, self.opinion(1 - label)))
            sentences.append((NEUTRAL, self.plot(genre)))
            for last in range(len(sentences) - 1, 0, -1):
                other = int(self._random() * (last + 1))
                sentences[last], sentences[other] = sentences[other], sentences[last]
            text = " ".join(f"{sentence[0].upper()}{sentence[1:]}." for _, sentence in sentences)
            if len(text.split()) + text.count(",") + text.count(".") <= MAX_WORDS:
                return Review(text, label, tuple(GENRES).index(genre), tuple(polarity for polarity, _ in sentences))

    def word(self, polarity: int) -> str:
        return self.pick(PRAISE if polarity else BLAME)

    def degree(self) -> str:
        return self.pick(_DEGREES) + " " if self.chance(0.3) else ""

    def clause(self, polarity: int) -> str:
        subject = f"the {self.pick(ASPECTS)}"
        if self.chance(0.33):
            return f"{subject} {self.pick(_NEGATIONS)} {self.word(1 - polarity)}"
        return f"{subject} was {self.degree()}{self.word(polarity)}"

    def opinion(self, polarity: int) -> str:
        kind = self._random()
        if kind < 0.60:
            return self.clause(polarity)
        if kind < 0.80:
            return self.pick(_CONTRASTS).format(a=self.clause(polarity), b=self.clause(1 - polarity))
        if kind < 0.92:
            return self.pick(_DISAGREEING).format(x=self.degree() + self.word(1 - polarity))
        return self.pick(_AGREEING).format(x=self.degree() + self.word(polarity))

    def plot(self, genre: str) -> str:
        things = GENRES[genre]
        adjective = self.word(int(self.chance(0.5))) + " " if self.chance(0.4) else ""
        return self.pick(_PLOTS).format(
            name=self.pick(NAMES),
            friend=self.pick(NAMES),
            verb=self.pick(_VERBS),
            adjective=adjective,
            thing=self.pick(things),
            other=self.pick(things),
            genre=genre,
        )
