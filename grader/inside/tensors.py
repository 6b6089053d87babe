"""Tensors in a file: how trained models leave a student's kernel, and how they are read where no code of the student's runs.

Runs inside; torch and numpy. The file is nothing but float32 numbers, one tensor after the other; a table of shapes beside it says
where each begins. Tensors are known by their digest, so that one that is shared, or was seen before, lies there once.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from grader.inside.hooks import torch

__all__ = ["HANDED", "TensorWriter", "digest", "read_tensors"]

HANDED = ".handed-out"
"""Name of the file in the work folder."""
MOST_BYTES, MOST_TENSORS = 1 << 30, 8_000
"""How much is handed out: three times the real DistilBERT and more; what was trained last goes first."""


def digest(tensor: Any) -> str:
    """Digest of a tensor's float32 values and shape; equal tensors have equal digests wherever they are kept."""
    plain = torch.Tensor.detach(tensor)
    if plain.is_floating_point():
        plain = plain.to(torch.float32)
    data = plain.cpu().contiguous()
    shape = ",".join(str(n) for n in data.shape)
    found = hashlib.blake2b(shape.encode(), digest_size=16)
    if data.numel():
        found.update(data.numpy().reshape(-1).view(np.uint8))
    return found.hexdigest()


class TensorWriter:
    """Writes tensors into a new file, each once; a context manager. Raises OSError."""

    def __init__(self, path: Path) -> None:
        """Take the place of whatever lies at `path`."""
        path.unlink(missing_ok=True)
        self._file: IO[bytes] = path.open("xb")
        self.shapes: list[list[int]] = []
        """The table: the shape of every tensor in the file, in order."""
        self._seen: set[str] = set()
        self._bytes = 0

    def add(self, tensor: Any, name: str) -> None:
        """Write a tensor whose digest is `name`; what is no float, lies there already or is too much is passed over."""
        size = 4 * tensor.numel()
        full = self._bytes + size > MOST_BYTES or len(self.shapes) >= MOST_TENSORS
        if name in self._seen or full or not tensor.is_floating_point() or not size:
            return
        data = torch.Tensor.detach(tensor).to(torch.float32).cpu().contiguous()
        self._file.write(memoryview(data.numpy().reshape(-1)).cast("B"))
        self.shapes.append(list(data.shape))
        self._seen.add(name)
        self._bytes += size

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()


def read_tensors(file: int | str, shapes: Iterable[Any]) -> dict[str, Any]:
    """Tensors by digest; they are views of the file, which is copied nowhere.

    `file`: a descriptor or a path; `shapes`: the table, which may be anything. Raises ValueError or TypeError for a table that
    is none or does not fit the file, OSError where this cannot be read.
    """
    table: list[tuple[int, ...]] = []
    for shape in shapes:
        if type(shape) is not list or len(shape) > 8 or not all(type(n) is int and 0 < n < 2**31 for n in shape):
            raise ValueError("a shape in the table of tensors is none")
        table.append(tuple(shape))
    total = 4 * sum(math.prod(shape) for shape in table)
    if len(table) > MOST_TENSORS or total > MOST_BYTES:
        raise ValueError("more tensors than are read")
    with open(file, "rb", closefd=isinstance(file, str)) as stream:
        if total != stream.seek(0, 2):
            raise ValueError("the file of tensors is not as long as its table says")
        if not total:
            return {}
        # a hole is filled when it is read, and where its file system is full that ends the reader
        if hasattr(os, "SEEK_HOLE") and os.lseek(stream.fileno(), 0, os.SEEK_HOLE) < total:
            raise ValueError("the file of tensors has holes")
        pages = mmap.mmap(stream.fileno(), total, access=mmap.ACCESS_COPY)
    everything, found, start = torch.frombuffer(pages, dtype=torch.float32), {}, 0
    for shape in table:
        size = math.prod(shape)
        tensor = everything[start : start + size].view(shape)
        found[digest(tensor)] = tensor
        start += size
    return found
