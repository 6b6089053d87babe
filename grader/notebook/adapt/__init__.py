"""Adapt a notebook to the box it runs in, and list every change.

Trusted code over untrusted text: sources are parsed, never run. Whatever a version, a missing GPU or network, Colab or a
laptop's folders would break is adapted here (what the source shows) or inside the box (what only the run shows, see
`grader.inside.shims.colab`); `docs/adaptations.md` lists all rules. Nothing that is graded is adapted. The result is the same
for the same notebook and environment, and adapting it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from grader.notebook.adapt.edits import apply_edits, parse
from grader.notebook.adapt.environment import Environment
from grader.notebook.adapt.literals import literal_edits
from grader.notebook.adapt.magics import magic_edits, to_python
from grader.notebook.adapt.packages import SERVICES, STAND_INS, import_adaptations
from grader.notebook.adapt.shell import LEFT_OUT
from grader.records import Adaptation, Cell, Notebook

__all__ = ["Environment", "adapt", "adapt_source", "merge", "shim_config"]

_LARGEST_CELL = 400_000
"""Longer cells hold pasted data; they run as they stand."""


def adapt(notebook: Notebook, environment: Environment) -> Notebook:
    """`notebook` with every cell's `source` adapted to `environment` and the changes added to its `adaptations`.

    A cell is always adapted from its `original`, so that a second time changes nothing.
    """
    cells: list[Cell] = []
    done: list[Adaptation] = []
    for cell in notebook.cells:
        source, changes = adapt_source(cell.original, environment, cell.index)
        cells.append(replace(cell, source=source))
        done += changes
    return replace(notebook, cells=tuple(cells), adaptations=merge(notebook.adaptations, done))


def adapt_source(source: str, environment: Environment, cell: int = 0) -> tuple[str, tuple[Adaptation, ...]]:
    """One cell (or helper module) as it will run, with as many lines as before, and what was changed."""
    if len(source) > _LARGEST_CELL:
        return source, ()
    python, done = to_python(source, cell)
    tree = parse(python)
    if tree is None:
        return python, tuple(done)

    def written(text: str) -> str:
        """Python that the cell writes to a file, adapted by the same rules."""
        inner = parse(text)
        if inner is None:
            return text
        adapted, changes = apply_edits(text, literal_edits(text, inner, environment), cell)
        done.extend(changes)
        done.extend(import_adaptations(inner, environment, cell))
        return adapted

    python, changes = apply_edits(python, magic_edits(tree, environment, written), cell)
    done += changes
    tree = parse(python)
    if tree is None:
        return python, tuple(done)
    done += import_adaptations(tree, environment, cell)
    python, changes = apply_edits(python, literal_edits(python, tree, environment), cell)
    return python, tuple(done + changes)


def merge(known: Iterable[Adaptation], more: Iterable[Adaptation]) -> tuple[Adaptation, ...]:
    """Both lists, without those of `more` that say the same as an earlier one; for what the box reports as well."""
    return tuple(dict.fromkeys([*known, *more]))


def shim_config(environment: Environment) -> dict[str, Any]:
    """What `grader.inside.shims.colab.install` has to know, as plain data."""
    return {
        "data_files": dict(environment.data_files),
        "companions": list(environment.companions),
        "gpu": environment.gpu,
        "packages": sorted(environment.packages & (STAND_INS | {"google"})),
        "stand_ins": sorted(STAND_INS),
        "services": sorted(SERVICES),
        "commands": sorted(LEFT_OUT),
    }
