"""What keeps a notebook running in the box that was written for another machine: Colab, a GPU, a network, other versions.

Runs in the box, before the first cell: standard library only; other packages are changed when the student's code imports them.
Every change that takes effect is recorded. Nothing that is graded is touched; `docs/adaptations.md` lists all rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grader.inside.hooks import Record, replacing, running_shell
from grader.inside.shims import adapting, colab, commands, compat, fetched, hub, literals, paths, small_model, syntax

__all__ = ["install"]

DECLARED = (compat, fetched, hub)
"""Shims that do nothing but to declare what takes a library's place."""

_OURS = str(Path(__file__).parents[1])


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Prepare this process for a student's notebook.

    `record` takes rule, before, after and reason. `config` has `data_files` and `companions` (base names of the data files in the work
    folder, and of files handed in beside the notebook), `sizes` (number true of the real model -> the bundle's) and `head_gain` (how
    much narrower than PyTorch does a layer for the hidden states is drawn).
    """
    adapting.begin(record, config)
    for shim in (commands, syntax, colab, paths, literals, small_model):
        shim.install()

    @replacing(running_shell().InteractiveTB, "get_records")
    def theirs(real: Any, *given: Any) -> Any:
        """What a traceback shows: the student's lines and the libraries', none of ours."""
        records = real(*given)
        return [record for record in records if not str(record.filename).startswith(_OURS)] or records
