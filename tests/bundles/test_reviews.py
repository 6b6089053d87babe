"""The generator: deterministic, balanced, short, and not to be solved by counting words."""

import math
import re
from collections import Counter

import pytest

from grader.bundles.reviews import MAX_WORDS, NEUTRAL, Review, draw_balanced, draw_reviews

FIRST = "Critics found it painful, and I agree. It is a romance about a bad letter. The direction was not great."


def words(review: Review) -> list[str]:
    return re.findall(r"\w+|[.,]", review.text.lower())


def test_the_same_seed_gives_the_same_reviews_everywhere() -> None:
    assert draw_reviews(20, 5) == draw_reviews(20, 5)
    assert draw_reviews(20, 5) != draw_reviews(20, 6)
    # Written down, so that a change of Python or of this module that changes every bundle does not go unseen.
    assert draw_reviews(1, 5)[0].text == FIRST


def test_balanced_sets_are_balanced_different_and_mixed() -> None:
    first = draw_balanced(400, 1)
    second = draw_balanced(400, 1, avoid={review.text for review in first})
    texts = {review.text for review in first + second}
    assert len(texts) == 800
    assert sum(review.label for review in first) == 200
    assert 30 < sum(review.label for review in first[:100]) < 70
    assert draw_balanced(0, 1) == []


@pytest.mark.parametrize("count", [3, -2])
def test_a_balanced_set_has_an_even_size(count: int) -> None:
    with pytest.raises(ValueError, match="even number"):
        draw_balanced(count, 1)


def test_reviews_are_short_sentences_whose_polarity_is_known() -> None:
    for review in draw_reviews(500, 3):
        assert len(words(review)) <= MAX_WORDS
        assert len(review.polarities) == review.text.count(".")
        opinions = [polarity for polarity in review.polarities if polarity != NEUTRAL]
        assert opinions.count(review.label) > opinions.count(1 - review.label)
        assert re.fullmatch(r"([A-Z][^.]*\. ?)+", review.text)


def test_counting_words_does_not_solve_the_task() -> None:
    train = draw_balanced(2000, 11)
    test = draw_balanced(2000, 12, {review.text for review in train})
    counts = {label: Counter(w for r in train if r.label == label for w in words(r)) for label in (0, 1)}
    weight = {word: math.log((counts[1][word] + 1) / (counts[0][word] + 1)) for word in counts[0] | counts[1]}
    right = sum((sum(weight.get(word, 0) for word in words(review)) > 0) == bool(review.label) for review in test)
    assert right / len(test) < 0.65
