"""Records to JSON and back, and their JSON Schema, all from their type annotations (msgspec).

Trusted files only: evidence from a box goes through `grader.grading.wire`. Arrays are written as base64 of their little-endian bytes with
dtype and shape, so that a stored run needs no pickle.
"""

from __future__ import annotations

import ast
import base64
import inspect
import itertools
import json
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from grader.errors import StoreError
from grader.records import ARRAY

__all__ = ["dumps", "from_plain", "loads", "schema_of", "to_plain"]

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Turn a record (or any nesting of records, mappings, sequences, arrays) into JSON-ready data."""
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_plain, builtin_types=(bytes, bytearray))
    except (TypeError, RecursionError) as error:
        raise StoreError(f"cannot store this: {error}") from error


def dumps(value: Any, *, compact: bool = False) -> str:
    """Write a record as canonical JSON: same record, same bytes (NaN and infinities as in Python's json).

    `compact` puts it on one line: with line breaks Python's json takes ten times as long, which counts for evidence. Raises
    StoreError for a value of a type that has no place in a record.
    """
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    try:
        return json.dumps(to_plain(value), ensure_ascii=False, **layout) + "\n"
    except TypeError as error:
        raise StoreError(f"cannot store this: {error}") from error


def loads(text: str | bytes, cls: type[T]) -> T:
    """Read a record of type `cls`; bytes are UTF-8. Raises StoreError when the text does not describe one."""
    try:
        plain = json.loads(text, object_hook=_revived)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"stored {cls.__name__} is not JSON: {error}") from error
    except (TypeError, ValueError) as error:
        raise StoreError(f"stored {cls.__name__} holds a damaged array: {error}") from error
    return from_plain(plain, cls)


def from_plain(plain: Any, cls: type[T]) -> T:
    """Rebuild a value of annotated type `cls` from JSON data. Raises StoreError when it does not fit; unknown keys are ignored."""
    try:
        return msgspec.convert(plain, cls)
    except (msgspec.ValidationError, RecursionError) as error:
        raise StoreError(f"stored data does not fit {getattr(cls, '__name__', cls)}: {error}") from error


def schema_of(cls: type) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a record as `dumps` writes it: all of its fields, described by their docstrings.

    The records that it holds have to be defined in the same module.
    """
    _, definitions = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    for name, definition in definitions.items():
        if "properties" in definition:
            texts = _field_docstrings(getattr(sys.modules[cls.__module__], name))
            for field, entry in definition["properties"].items():
                entry.pop("default", None)
                entry["description"] = texts[field]
            definition |= {"required": list(definition["properties"]), "additionalProperties": False}
    top = definitions.pop(cls.__name__)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, "$defs": definitions}


def _field_docstrings(cls: type) -> dict[str, str]:
    """Field -> the string that follows it in the source of a dataclass."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def _plain(value: Any) -> Any:
    """What stands for a value that msgspec does not know."""
    if isinstance(value, np.ndarray):
        data = value.astype(value.dtype.newbyteorder("<"), order="C")
        return {ARRAY: [data.dtype.str, list(data.shape), base64.b64encode(data.tobytes()).decode("ascii")]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__} has no place in a record")


def _revived(plain: dict[str, Any]) -> Any:
    """An array in place of an object that stands for one; called for every object as it is read."""
    if len(plain) != 1 or ARRAY not in plain:
        return plain
    dtype, shape, data = plain[ARRAY]
    if np.dtype(dtype).hasobject:
        raise TypeError("stored array has objects")
    return np.frombuffer(base64.b64decode(data), dtype=np.dtype(dtype)).reshape(shape).copy()
