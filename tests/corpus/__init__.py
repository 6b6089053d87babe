"""The labelled corpus: short variations of a base handwriting with the criteria that each of them must lose."""

from tests.corpus import counting, layers, lora_class
from tests.corpus.base import CASES

__all__ = ["CASES", "counting", "layers", "lora_class"]
