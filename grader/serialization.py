"""Records to JSON and back, driven by their type annotations. Trusted files only: evidence from a box goes through `wire`.

Arrays are written as base64 of their little-endian bytes with dtype and shape, so that a stored run needs no pickle.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import numpy as np

from grader.errors import StoreError

__all__ = ["ARRAY", "SCALARS", "dumps", "from_plain", "loads", "to_plain"]

T = TypeVar("T")
ARRAY = "__ndarray__"
"""Key of an object that stands for an array."""
SCALARS = frozenset({type(None), bool, int, float, str})
"""Types that are JSON as they are."""


def to_plain(value: Any) -> Any:
    """Turn a record (or any nesting of records, mappings, sequences, arrays) into JSON-ready data."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        data = value.astype(value.dtype.newbyteorder("<"), order="C")
        return {ARRAY: [data.dtype.str, list(data.shape), base64.b64encode(data.tobytes()).decode("ascii")]}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, int | float | str):
        return value
    raise StoreError(f"cannot store a value of type {type(value).__name__}")


def dumps(value: Any, *, compact: bool = False) -> str:
    """Write a record as canonical JSON: same record, same bytes (NaN and infinities as in Python's json).

    `compact` puts it on one line: with line breaks Python's json takes ten times as long, which counts for evidence.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    return json.dumps(to_plain(value), ensure_ascii=False, **layout) + "\n"


def loads(text: str | bytes, cls: type[T]) -> T:
    """Read a record of type `cls`; bytes are UTF-8. Raises StoreError when the text does not describe one."""
    try:
        plain = json.loads(text, object_hook=_revived)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"stored {cls.__name__} is not JSON: {error}") from error
    except (TypeError, ValueError) as error:
        raise StoreError(f"stored {cls.__name__} holds a damaged array: {error}") from error
    return typing.cast("T", from_plain(plain, cls))


def from_plain(plain: Any, cls: Any) -> Any:
    """Rebuild a value of annotated type `cls` from JSON data without arrays. Raises StoreError when it does not fit."""
    try:
        return _build(plain, cls)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"stored data does not fit {getattr(cls, '__name__', cls)}: {error}") from error


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@cache
def _taken_apart(cls: Any) -> tuple[Any, tuple[Any, ...], bool]:
    """Origin and arguments of an annotation, and whether it is a record; asked for every field of every record."""
    return typing.get_origin(cls), typing.get_args(cls), isinstance(cls, type) and dataclasses.is_dataclass(cls)


def _build(plain: Any, cls: Any) -> Any:
    origin, args, is_record = _taken_apart(cls)
    if cls is Any:
        return plain
    if origin in (typing.Union, types.UnionType):
        if plain is None and type(None) in args:
            return None
        return _build(plain, next(arg for arg in args if arg is not type(None)))
    if origin is tuple:
        return tuple(_build(item, args[0]) for item in plain)
    if origin is list:
        return [_build(item, args[0]) for item in plain]
    if origin is not None and issubclass(origin, Mapping):
        return {key: _build(item, args[1]) for key, item in plain.items()}
    if is_record:
        hints = _hints(cls)
        return cls(**{name: _build(item, hints[name]) for name, item in plain.items() if name in hints})
    if isinstance(cls, type) and issubclass(cls, Enum):
        return cls(plain)
    if cls is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if not isinstance(plain, cls) or (cls is int and isinstance(plain, bool)):
        raise TypeError(f"expected {cls.__name__}, found {type(plain).__name__}")
    return plain


def _revived(plain: dict[str, Any]) -> Any:
    """An array in place of an object that stands for one; called for every object as it is read."""
    if len(plain) != 1 or ARRAY not in plain:
        return plain
    dtype, shape, data = plain[ARRAY]
    if np.dtype(dtype).hasobject:
        raise TypeError("stored array has objects")
    return np.frombuffer(base64.b64decode(data), dtype=np.dtype(dtype)).reshape(shape).copy()
