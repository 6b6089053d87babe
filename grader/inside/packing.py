"""Plain data and arrays, packed for the way out of (and into) the box. Runs inside: stdlib, numpy, torch if loaded.

A packed value is a JSON tree plus a list of byte buffers; an array or tensor becomes `{"__nd__": [buffer, dtype, shape]}`.
What comes out of the box is decoded on the other side by `grader.grading.wire`, which trusts none of it.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from grader.inside.hooks import torch

ARRAY = "__nd__"
_TEXT_LIMIT = 20_000
_LARGEST_INTEGER = 10**40
_MOST_VALUES, _MOST_ARRAYS, _MOST_BYTES = 190_000, 4_000, 15 << 20
"""Just below what is decoded outside: a function that gives back more has given a wrong answer, not an unreadable one."""
_NAME = type.__dict__["__name__"].__get__
"""The name of a class, whatever its own metaclass says."""
_RESERVED = frozenset({ARRAY, "__float__", "__object__", "__ndarray__"})
"""Keys that mean something else on the way, or where answers are stored: a student's dict does not have them."""


class TooMuch(Exception):  # noqa: N818 - news about an answer
    """More values, arrays or bytes than an answer may hold."""


def pack(value: Any) -> tuple[Any, list[bytes]]:
    """Pack `value`; objects that are not plain data become the name of their type, never their `repr`. Raises TooMuch."""
    packer = _Packer()
    return packer.pack(value, 0), packer.buffers


class _Packer:
    """One answer on its way."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = []
        self.values = self.bytes = 0

    def pack(self, value: Any, depth: int) -> Any:
        """The JSON tree of `value`."""
        self.values += 1
        if self.values > _MOST_VALUES or len(self.buffers) > _MOST_ARRAYS:
            raise TooMuch
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if abs(value) < _LARGEST_INTEGER else self.odd("int of far too many digits")
        if kind is float:
            return value if math.isfinite(value) else {"__float__": str(value)}
        if kind is str:
            return self.text(value)
        if depth > 30:
            return self.odd("nested too deeply")
        if kind in (list, tuple):
            return [self.pack(item, depth + 1) for item in value]
        if kind is dict:
            kept = {key: item for key, item in value.items() if type(key) is str and key not in _RESERVED}
            return {self.text(key): self.pack(item, depth + 1) for key, item in kept.items()}
        if "torch" in sys.modules and issubclass(kind, torch.Tensor):
            try:
                value = tensor_to_array(value)
            except Exception:  # a tensor without data, or of a class that answers every question its own way
                return self.odd("Tensor")
            kind = type(value)
        if kind is np.ndarray and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8 and value.ndim <= 8:
            return self.array(value)
        return self.odd(str(_NAME(kind)))

    def count(self, size: int) -> None:
        """Take note of so many bytes more."""
        self.bytes += size
        if self.bytes > _MOST_BYTES:
            raise TooMuch

    def text(self, value: str) -> str:
        """As much of a text as travels: no halves of surrogate pairs, which are no UTF-8."""
        shown = value[:_TEXT_LIMIT].encode("utf-8", "replace").decode("utf-8")
        self.count(len(shown))
        return shown

    def odd(self, what: str) -> Any:
        """What stands in the tree for an object that is no plain data."""
        self.values += 1
        return {self.text("__object__"): self.text(what[:100])}

    def array(self, value: np.ndarray[Any, Any]) -> Any:
        """What stands in the tree for an array, whose bytes are kept."""
        self.count(value.nbytes)
        data = value.astype(value.dtype.newbyteorder("<"), order="C")
        self.buffers.append(data.tobytes())
        return {ARRAY: [len(self.buffers) - 1, data.dtype.str, list(data.shape)]}


def tensor_to_array(tensor: Any) -> np.ndarray[Any, Any]:
    """Copy a tensor to a numpy array on the CPU; half precision is widened to float32."""
    plain = torch.Tensor.detach(tensor)
    if plain.dtype in (torch.bfloat16, torch.float16):
        plain = torch.Tensor.to(plain, torch.float32)
    return np.array(torch.Tensor.cpu(plain).numpy(), copy=True)


def unpack(tree: Any, buffers: list[bytes]) -> Any:
    """Rebuild what the grader sent in (trusted)."""
    if isinstance(tree, dict):
        if set(tree) == {ARRAY}:
            index, dtype, shape = tree[ARRAY]
            return np.frombuffer(bytes(buffers[index]), dtype=np.dtype(dtype)).reshape(shape).copy()
        if set(tree) == {"__float__"}:
            return float(tree["__float__"])
        return {key: unpack(item, buffers) for key, item in tree.items()}
    if isinstance(tree, list):
        return [unpack(item, buffers) for item in tree]
    return tree
