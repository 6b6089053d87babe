"""What keeps a notebook running in the box that was written for another machine: Colab, a GPU, a network, other versions.

Runs in the box, before the first cell: standard library only; other packages are changed when the student's code imports them.
Every change that takes effect is recorded. Nothing that is graded is touched; `docs/adaptations.md` lists all rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grader.inside.hooks import Record
from grader.inside.shims import colab, commands, compat, devices, fetched, hub, literals, paths, small_model, syntax

__all__ = ["install"]


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Prepare this process for a student's notebook.

    `record` takes rule, before, after and reason. `config` has `data_files` (base name -> path), `companions` (base names of
    files handed in beside the notebook), `gpu` (whether there is one), `sizes` (number true of the real model -> the bundle's) and
    `head_gain` (how much narrower than PyTorch does a layer for the hidden states is drawn).
    """
    for shim in (commands, syntax, colab, paths, hub, devices, compat, fetched, literals, small_model):
        shim.install(record, config)
