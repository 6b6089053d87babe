"""Decoding of what comes out of the box. Everything read here is hostile until it has passed the limits below.

Only None, bool, int, float, str, list, dict and numpy arrays of plain numbers come out; there is no pickle anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grader import serialization
from grader.errors import EvidenceError

__all__ = ["WireLimits", "decode", "encode"]

_ARRAY = "__nd__"
_DTYPES = frozenset({"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"})


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How much one answer may hold."""

    depth: int = 32
    """Nesting of lists and dicts."""
    items: int = 200_000
    """Values in total, containers included."""
    text: int = 20_000
    """Characters in one string."""
    digits: int = 40
    """Decimal digits of an integer."""
    buffers: int = 4_096
    """Number of arrays."""
    total_bytes: int = 64 << 20
    """Bytes of all arrays together."""


def decode(tree: Any, buffers: Sequence[bytes] = (), limits: WireLimits | None = None) -> Any:
    """Rebuild an answer as plain data; arrays are fresh copies, floats may be NaN or infinite.

    Raises EvidenceError for anything malformed, oversized or of a type that is not on the list.
    """
    bounds = limits if limits is not None else WireLimits()
    if len(buffers) > bounds.buffers:
        raise EvidenceError(f"{len(buffers)} arrays in one answer, at most {bounds.buffers} are read")
    if sum(len(buffer) for buffer in buffers) > bounds.total_bytes:
        raise EvidenceError(f"an answer with more than {bounds.total_bytes} bytes of arrays")
    return _Decoder(buffers, bounds).value(tree, 0)


class _Decoder:
    def __init__(self, buffers: Sequence[bytes], limits: WireLimits) -> None:
        self.buffers, self.limits, self.items = buffers, limits, 0

    def value(self, tree: Any, depth: int) -> Any:
        self.items += 1
        if self.items > self.limits.items:
            raise EvidenceError(f"an answer with more than {self.limits.items} values")
        if depth > self.limits.depth:
            raise EvidenceError(f"an answer nested deeper than {self.limits.depth}")
        kind = type(tree)
        if tree is None or kind is bool or kind is float:
            return tree
        if kind is int:
            if abs(tree) >= 10**self.limits.digits:
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
        if len(tree) > self.limits.text:
            raise EvidenceError(f"a text of {len(tree)} characters in an answer")
        return tree.encode("utf-8", "replace").decode("utf-8")

    def mapping(self, tree: dict[Any, Any], depth: int) -> Any:
        if set(tree) == {_ARRAY}:
            return self.array(tree[_ARRAY])
        if set(tree) == {"__float__"}:
            if tree["__float__"] not in ("nan", "inf", "-inf"):
                raise EvidenceError("a malformed float in an answer")
            return float(tree["__float__"])
        if serialization.ARRAY in tree:
            raise EvidenceError("a reserved key in an answer")  # it would be read from the store as something else
        if not all(type(key) is str for key in tree):
            raise EvidenceError("a key that is not text in an answer")
        return {self.text(key): self.value(item, depth + 1) for key, item in tree.items()}

    def array(self, spec: Any) -> np.ndarray[Any, Any]:
        try:
            index, dtype, shape = spec
        except (TypeError, ValueError) as error:
            raise EvidenceError("a malformed array in an answer") from error
        if type(index) is not int or not 0 <= index < len(self.buffers) or dtype not in _DTYPES:
            raise EvidenceError("an array of unknown place or dtype in an answer")
        if type(shape) is not list or len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
            raise EvidenceError("an array with a malformed shape in an answer")
        count = 1
        for size in shape:
            count *= size
        if count * np.dtype(dtype).itemsize != len(self.buffers[index]):
            raise EvidenceError("an array whose bytes do not fit its shape in an answer")
        return np.frombuffer(self.buffers[index], dtype=np.dtype(dtype)).reshape(shape).copy()


def encode(value: Any) -> tuple[Any, list[bytes]]:
    """Pack trusted plain data and arrays for the way in: a JSON tree and the arrays' bytes."""
    buffers: list[bytes] = []

    def walk(item: Any) -> Any:
        if type(item) in serialization.SCALARS:
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
