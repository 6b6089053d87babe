"""The labelled corpus: short variations of a base handwriting with the criteria that each of them must lose."""

from tests.corpus import counting, finding, layers, lora_class, unseen, unseen_class, unseen_mistakes
from tests.corpus.base import CASES
from tests.corpus.judged import judged
from tests.corpus.matrix import matrix

__all__ = [
    "CASES",
    "counting",
    "finding",
    "judged",
    "layers",
    "lora_class",
    "matrix",
    "unseen",
    "unseen_class",
    "unseen_mistakes",
]
