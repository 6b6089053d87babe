"""What a submission is adapted to: the box it will run in, in plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Environment"]


@dataclass(frozen=True, slots=True)
class Environment:
    """The box and the bundle, as far as a notebook can depend on them."""

    data_files: Mapping[str, str] = field(default_factory=dict)
    """Base name of each data file -> its path in the box, e.g. `{"train.csv": "train.csv"}`."""
    companions: tuple[str, ...] = ()
    """Base names of the files that were handed in beside the notebook."""
    gpu: bool = False
    """Whether the box has a GPU; nothing about devices is adapted when it has."""
    sizes: Mapping[int, int] = field(default_factory=dict)
    """Numbers that are true of the real model only -> the bundle's. Empty for the real model."""
    packages: frozenset[str] = frozenset()
    """Importable top-level packages in the box."""
