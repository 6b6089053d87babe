"""Plain data and arrays, packed for the way out of (and into) the box. Runs inside: stdlib, numpy, torch if loaded.

A packed value is a JSON tree plus a list of byte buffers; an array or tensor becomes `{"__nd__": [buffer, dtype, shape]}`.
What comes out of the box is decoded on the other side by `grader.grading.wire`, which trusts none of it.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

ARRAY = "__nd__"
_TEXT_LIMIT = 20_000
_LARGEST_INTEGER = 10**40
_MOST_VALUES, _MOST_ARRAYS = 190_000, 4_000
"""Just below what is decoded outside: a function that gives back more has given a wrong answer, not an unreadable one."""


class _TooMuch(Exception):  # noqa: N818 - news about an answer
    """More values or arrays than an answer may hold."""


def pack(value: Any) -> tuple[Any, list[bytes]]:
    """Pack `value`; objects that are not plain data, or far too large, become a short description, never their `repr`."""
    packer = _Packer()
    try:
        return packer.pack(value, 0), packer.buffers
    except _TooMuch:
        return {"__object__": f"{type(value).__name__} with far too many values"[:100]}, []


class _Packer:
    """One answer on its way."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = []
        self.values = 0

    def pack(self, value: Any, depth: int) -> Any:
        """The JSON tree of `value`."""
        self.values += 1
        if self.values > _MOST_VALUES or len(self.buffers) > _MOST_ARRAYS:
            raise _TooMuch
        return _pack(value, self, depth)


def _text(value: str) -> str:
    """As much of a text as travels: no halves of surrogate pairs, which are no UTF-8."""
    return value[:_TEXT_LIMIT].encode("utf-8", "replace").decode("utf-8")


def _pack(value: Any, packer: _Packer, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if abs(value) < _LARGEST_INTEGER else {"__object__": "int of far too many digits"}
    if kind is float:
        return value if math.isfinite(value) else {"__float__": str(value)}
    if kind is str:
        return _text(value)
    if depth > 30:
        return {"__object__": "nested too deeply"}
    if kind in (list, tuple):
        return [packer.pack(item, depth + 1) for item in value]
    if kind is dict:
        return {_text(key): packer.pack(item, depth + 1) for key, item in value.items() if type(key) is str}
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = tensor_to_array(value)
        kind = type(value)
    if kind is np.ndarray and value.dtype.kind in "biuf":
        data = value.astype(value.dtype.newbyteorder("<"), order="C")
        packer.buffers.append(data.tobytes())
        return {ARRAY: [len(packer.buffers) - 1, data.dtype.str, list(data.shape)]}
    return {"__object__": str(kind.__name__)[:100]}


def tensor_to_array(tensor: Any) -> np.ndarray[Any, Any]:
    """Copy a tensor to a numpy array on the CPU; half precision is widened to float32."""
    torch = sys.modules["torch"]
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
        return {key: unpack(item, buffers) for key, item in tree.items()}
    if isinstance(tree, list):
        return [unpack(item, buffers) for item in tree]
    return tree
