"""What a question can be answered with: declared beside it in a few words, enforced by `grader.grading.wire`.

A declaration looks like the answer that it stands for:

| declared | what fits |
|---|---|
| `bool`, `int`, `float`, `str`, `None` | a value of just that type; a float is finite |
| `"word"` | this very word |
| `{"a": X, "b?": Y}` | a record of these keys and no others; one with a question mark may be missing |
| `(X, Y)` | a list of these in their order; `(X,) * n` is n of them |
| `ANYTHING`, `Many`, `Named`, `OneOf`, `Count`, `Float`, `Text`, `Array`, `Raised`, `Kind` | what their docstrings say |

What does not fit, no code of ours has said: it earns nothing and is told to staff. So whatever a student's object can make of an
answer has to be declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "ANYTHING",
    "ODD",
    "Answer",
    "Anything",
    "Array",
    "Count",
    "Float",
    "Kind",
    "Many",
    "Named",
    "OneOf",
    "Raised",
    "Text",
]

Answer = Any
"""A declaration: one of the types and values above, nested as the answer is."""


@dataclass(frozen=True, slots=True)
class Anything:
    """Plain data of any kind, within the limits of the wire: what a student's function gives back."""


@dataclass(frozen=True, slots=True)
class Many:
    """A list."""

    of: Answer
    """What each of its parts is."""
    most: int
    """How many they are, at most."""


@dataclass(frozen=True, slots=True)
class Named:
    """A record of parts that are all alike, under whatever names."""

    of: Answer
    """What each of its parts is."""
    most: int
    """How many they are, at most."""


@dataclass(frozen=True, slots=True, init=False)
class OneOf:
    """What fits one of several declarations."""

    options: tuple[Answer, ...]
    """Tried in this order."""

    def __init__(self, *options: Answer) -> None:
        object.__setattr__(self, "options", options)


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number from `least` to `most`."""

    most: int = 2**31
    """The largest."""
    least: int = 0
    """The smallest."""


@dataclass(frozen=True, slots=True)
class Float:
    """A float that need not be finite: a loss, a distance, whatever a student's code worked out."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text."""

    most: int
    """Its characters, at most."""


@dataclass(frozen=True, slots=True)
class Array:
    """A numpy array; as everywhere it has at most 8 dimensions, each below 2**31."""

    kinds: str = "biuf"
    """Kinds of dtype as numpy has them: b, i, u, f."""
    shape: tuple[int | None, ...] | None = None
    """Size of each dimension, None where any will do; None alone for any shape."""
    finite: bool = False
    """Whether all of its numbers are finite."""


@dataclass(frozen=True, slots=True)
class Raised:
    """What a student's code raised, as `Name: text`; empty when it raised nothing.

    Only a question that is `public` shows the text, since whatever the code was given can stand in it, and else only names of Python's
    own exceptions, since the name of a class can be made up, too.
    """


@dataclass(frozen=True, slots=True)
class Kind:
    """Words for the type of a student's object, as in `tensor of shape [3]`; where a question is not `public`, of known types only."""


ANYTHING = Anything()
ODD = {"__object__": Text(100)}
"""What stands in an answer for an object that is no plain data: the name of its type."""
