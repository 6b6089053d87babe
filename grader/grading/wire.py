"""Decoding of what comes out of the box. Everything read here is hostile until it has passed the limits below.

Only None, bool, int, float, str, list, dict and numpy arrays of plain numbers come out; there is no pickle anywhere. What comes out
is what the question declares (`grader.rubric.answers`), and no larger than what came in: an array is used once. Nothing of what runs
notebooks is imported: a self-check reads replies, too.
"""

from __future__ import annotations

import builtins
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from grader.errors import EvidenceError
from grader.records import ARRAY as STORED_ARRAY
from grader.records import Attempt, Observation
from grader.rubric.answers import (
    ANYTHING,
    Answer,
    Anything,
    Array,
    Count,
    Float,
    Kind,
    Many,
    Named,
    OneOf,
    Raised,
    Text,
)
from grader.rubric.questions import Question

__all__ = ["TOO_LARGE", "decode", "encode", "fit", "observed"]

_ARRAY = "__nd__"
_SCALARS = frozenset({type(None), bool, int, float, str})
_DTYPES = frozenset({"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"})


_DEPTH = 32
"""Nesting of lists and dicts in one answer."""
_ITEMS = 200_000
"""Values in total, containers included."""
_TEXT = 20_000
"""Characters in one string."""
_DIGITS = 40
"""Decimal digits of an integer."""
_BUFFERS = 4_096
"""Number of arrays."""
_TOTAL_BYTES = 16 << 20
"""Bytes of all arrays and texts together, each counted wherever it is referred to."""
TOO_LARGE = "nothing, but gave back more data than can be read"
"""What is said of an answer beyond these."""


def decode(tree: Any, buffers: Sequence[bytes] = ()) -> Any:
    """Rebuild an answer as plain data; arrays are fresh copies, floats may be NaN or infinite. `fit` holds it against a declaration.

    Raises EvidenceError for anything malformed, oversized or of a type that is not on the list, and for arrays that are referred to
    twice or never.
    """
    if len(buffers) > _BUFFERS:
        raise EvidenceError(f"{len(buffers)} arrays in one answer, at most {_BUFFERS} are read")
    decoder = _Decoder(buffers)
    value = decoder.value(tree, 0)
    if decoder.unused:
        raise EvidenceError(f"an answer with {len(decoder.unused)} arrays that stand nowhere in it")
    return value


class _Decoder:
    def __init__(self, buffers: Sequence[bytes]) -> None:
        self.buffers, self.items, self.bytes = buffers, 0, 0
        self.unused = set(range(len(buffers)))

    def count(self, size: int) -> None:
        """Take note of so many bytes more. Raises EvidenceError when they are too many."""
        self.bytes += size
        if self.bytes > _TOTAL_BYTES:
            raise EvidenceError(f"an answer with more than {_TOTAL_BYTES} bytes")

    def value(self, tree: Any, depth: int) -> Any:
        self.items += 1
        if self.items > _ITEMS:
            raise EvidenceError(f"an answer with more than {_ITEMS} values")
        if depth > _DEPTH:
            raise EvidenceError(f"an answer nested deeper than {_DEPTH}")
        kind = type(tree)
        if tree is None or kind is bool or kind is float:
            return tree
        if kind is int:
            if abs(tree) >= 10**_DIGITS:
                raise EvidenceError("an integer with too many digits")
            return tree
        if kind is str:
            return self.text(tree)
        if kind is list:
            return [self.value(item, depth + 1) for item in tree]
        if kind is dict:
            return self.mapping(tree, depth)
        raise EvidenceError(f"a value of type {kind.__name__} in an answer")

    def text(self, tree: str) -> str:
        if len(tree) > _TEXT:
            raise EvidenceError(f"a text of {len(tree)} characters in an answer")
        self.count(len(tree))
        return tree.encode("utf-8", "replace").decode("utf-8")

    def mapping(self, tree: dict[Any, Any], depth: int) -> Any:
        if set(tree) == {_ARRAY}:
            return self.array(tree[_ARRAY])
        if set(tree) == {"__float__"}:
            if tree["__float__"] not in ("nan", "inf", "-inf"):
                raise EvidenceError("a malformed float in an answer")
            return float(tree["__float__"])
        if STORED_ARRAY in tree:
            raise EvidenceError("a reserved key in an answer")  # it would be read from the store as something else
        if not all(type(key) is str for key in tree):
            raise EvidenceError("a key that is not text in an answer")
        return {self.text(key): self.value(item, depth + 1) for key, item in tree.items()}

    def array(self, spec: Any) -> np.ndarray[Any, Any]:
        try:
            index, dtype, shape = spec
        except (TypeError, ValueError) as error:
            raise EvidenceError("a malformed array in an answer") from error
        if type(index) is not int or index not in self.unused or type(dtype) is not str or dtype not in _DTYPES:
            raise EvidenceError("an array of unknown dtype or place, or one that is used twice, in an answer")
        if type(shape) is not list or len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
            raise EvidenceError("an array with a malformed shape in an answer")
        data = self.buffers[index]
        if math.prod(shape) * np.dtype(dtype).itemsize != len(data):
            raise EvidenceError("an array whose bytes do not fit its shape in an answer")
        self.unused.remove(index)
        self.count(len(data))
        try:
            return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape).copy()
        except ValueError as error:  # nothing of a size that numpy cannot even have nothing of
            raise EvidenceError("an array of a shape that cannot be in an answer") from error


_EXCEPTIONS = frozenset(
    name for name, thing in vars(builtins).items() if isinstance(thing, type) and issubclass(thing, BaseException)
)
_WORDS = frozenset(name for name, thing in vars(builtins).items() if isinstance(thing, type)).union(
    ("None", "NoneType", "function", "method", "builtin_function_or_method", "module", "generator"),
    ("OrderedDict", "Counter", "defaultdict", "deque", "Series", "DataFrame", "DatasetDict", "Dataset"),
    ("Tensor", "Parameter", "Size", "ndarray", "tensor", "of", "shape", "numpy", "integer", "array", "without", "dimensions"),
    ("Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"),
    ("Linear", "Embedding", "LayerNorm", "Dropout", "Identity"),
)  # fmt: skip
"""What types of objects may be told in: the type of a student's own may be called after what it was given."""


def _name_of(raised: str) -> str:
    """The name of an exception of Python's own, of what a student's code raised as `Name: text`; empty stays empty."""
    name = raised.partition(":")[0]
    return name if not name or name in _EXCEPTIONS else "an exception of its own"


def _known_kind(kind: str) -> str:
    return kind if len(kind) <= 60 and _WORDS.issuperset(re.findall(r"[^\W\d]\w*", kind)) else "object"


def fit(answer: Answer, value: Any, *, public: bool = False, where: str = "the answer") -> Any:
    """Hold a decoded value against what a question declares, and return it; made-up names are left out of one that is not `public`.

    Raises EvidenceError, which says where it does not fit.
    """
    match answer:
        case OneOf():
            for option in answer.options:
                try:
                    return fit(option, value, public=public, where=where)
                except EvidenceError as error:
                    last = error
            raise last
        case Mapping() if type(value) is dict:
            wanted = {name.removesuffix("?"): (part, not name.endswith("?")) for name, part in answer.items()}
            if value.keys() - wanted or any(needed and name not in value for name, (_, needed) in wanted.items()):
                raise EvidenceError(f"{where} has other parts than it can have")
            return {n: fit(wanted[n][0], part, public=public, where=f"{where}, {n}") for n, part in value.items()}
        case tuple() | Many() if type(value) is list:
            parts = answer if isinstance(answer, tuple) else (answer.of,) * min(answer.most, len(value))
            if len(parts) != len(value):
                raise EvidenceError(f"{where} has {len(value)} parts, not {len(parts)}")
            pairs = enumerate(zip(parts, value, strict=True))
            return [fit(part, item, public=public, where=f"{where}[{n}]") for n, (part, item) in pairs]
        case Named() if type(value) is dict and len(value) <= answer.most:
            return {n: fit(answer.of, part, public=public, where=f"{where}, {n}") for n, part in value.items()}
        case Raised() if type(value) is str:
            return value if public else _name_of(value)
        case Kind() if type(value) is str:
            return value if public else _known_kind(value)
    if not _fits(answer, value):
        raise EvidenceError(f"{where} is not {answer.__name__ if isinstance(answer, type) else answer!r}")
    return value


def _fits(answer: Answer, value: Any) -> bool:
    """Whether a value without parts is what is declared."""
    match answer:
        case Anything():
            return True
        case None | str():
            return type(value) is type(answer) and value == answer
        case type():
            return type(value) is answer and (type(value) is not float or math.isfinite(value))
        case Float():
            return type(value) is float
        case Count():
            return type(value) is int and answer.least <= value <= answer.most
        case Text():
            return type(value) is str and len(value) <= answer.most
        case Array() if isinstance(value, np.ndarray):
            shape = answer.shape if answer.shape is not None else value.shape
            shaped = len(shape) == value.ndim and all(a in (None, b) for a, b in zip(shape, value.shape, strict=True))
            return shaped and value.dtype.kind in answer.kinds and not (answer.finite and not np.isfinite(value).all())
    return False


_OF_ALL = {"renamed": Text(80), "cpu_seconds": float}
_REPLY = OneOf(
    {"status": "ok", "value": ANYTHING, **_OF_ALL},
    {"status": "raised", "error": Text(500), **_OF_ALL},
    {"status": "missing", "names": Many(Text(80), 5), **_OF_ALL},
    {"status": "large", **_OF_ALL},
    {"status": "fault", "error": Text(500), **_OF_ALL},
    {"status": "error", "error": {"name": str, "message": str}},  # not the agent but the kernel around it
)
"""What is replied to a question."""


def observed(
    question: Question,
    reply: Mapping[str, Any],
    buffers: Sequence[bytes],
    known: Callable[[str], bool] = lambda _name: True,
) -> Observation:
    """Read what was replied; of names only those are told that are `known`, words of the notebook, since the others were made up later.

    Raises EvidenceError for what is never replied: something else has spoken then.
    """
    said = fit(_REPLY, decode({**reply}, buffers), public=True, where="the reply")

    def named(name: str) -> str:
        return name if known(name) else "another name"

    value, error, attempt = None, said.get("error", ""), Attempt.RAISED
    match said["status"]:
        case "ok":
            attempt, value = Attempt.VALUE, fit(question.answer, said["value"], public=question.public)
        case "raised":
            error = error if question.public else _name_of(error)
        case "large":
            error = TOO_LARGE
        case "missing":
            several = ", ".join(f"`{named(name)}`" for name in said["names"])
            more = f" Several names could stand for it: {several}." if several else ""
            wanted = (*question.names, "?")[0]
            attempt, error = Attempt.MISSING, f"`{wanted}` is not defined in the notebook.{more}"
        case _:
            attempt, error = Attempt.FAULT, f"The question could not be asked ({error}); a person has to look."
    renamed = said.get("renamed", "") and named(said["renamed"])
    return Observation(attempt, value, error, renamed, said.get("cpu_seconds", 0.0))


def encode(value: Any) -> tuple[Any, list[bytes]]:
    """Pack trusted plain data and arrays for the way in: a JSON tree and the arrays' bytes."""
    buffers: list[bytes] = []

    def walk(item: Any) -> Any:
        if type(item) is float and not math.isfinite(item):
            return {"__float__": str(item)}
        if type(item) in _SCALARS:
            return item
        if isinstance(item, np.ndarray):
            data = item.astype(item.dtype.newbyteorder("<"), order="C")
            buffers.append(data.tobytes())
            return {_ARRAY: [len(buffers) - 1, data.dtype.str, list(data.shape)]}
        if isinstance(item, Mapping):
            return {str(key): walk(part) for key, part in item.items()}
        if isinstance(item, list | tuple):
            return [walk(part) for part in item]
        return item

    return walk(value), buffers
