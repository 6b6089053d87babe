"""Imports go one way: a module imports only from its own row of the house, or from rows above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import grader

ROOT = Path(grader.__file__).parent
# From the foundation down to the door; a package stands for all of its modules. See docs/architecture.md.
ROWS: list[set[str]] = [
    {"errors"},
    {"records"},
    {"serialization"},
    {"rubric", "grading.wire"},
    {"notebook", "intake", "sandbox", "bundles", "assignments", "authoring", "inside"},
    {"reports", "lms"},
    {"grading", "runs.directory", "runs.hold", "runs.marks"},
    {"runs"},
    {"cli"},
]
SEALED = {
    "inside": {"inside"},
    "assignments": {"errors", "records", "serialization", "rubric", "grading.wire", "assignments"},
}


def modules() -> list[str]:
    return sorted(
        ".".join(p.relative_to(ROOT).with_suffix("").parts) for p in ROOT.rglob("*.py") if "_data" not in p.parts
    )


def row_of(name: str) -> int | None:
    """Row of the most specific entry that covers a module."""
    best: tuple[int, int] | None = None
    for number, row in enumerate(ROWS):
        for entry in row:
            if (name == entry or name.startswith(entry + ".")) and (best is None or len(entry) > best[0]):
                best = (len(entry), number)
    return best[1] if best else None


def imported(name: str) -> set[str]:
    tree = ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            found |= {f"{node.module}.{a.name}" if node.module == "grader" else str(node.module) for a in node.names}
    return {n.removeprefix("grader.") for n in found if n.startswith("grader.") and n != "grader.__version__"}


@pytest.mark.parametrize("name", [m for m in modules() if m != "__init__"])
def test_imports_go_one_way(name: str) -> None:
    own = row_of(name.removesuffix(".__init__"))
    assert own is not None, f"{name} has no row in the house; add it to ROWS and to docs/architecture.md"
    for other in imported(name):
        row = row_of(other)
        assert row is not None, f"{name} imports {other}, which has no row"
        assert row <= own, f"{name} imports {other} from a row below its own"
        room = name.split(".")[0]
        if room in SEALED:
            assert {other, other.split(".")[0]} & SEALED[room], f"{name} may not import {other}"


HEAVY = {"torch", "transformers", "datasets", "evaluate", "peft", "accelerate"}


@pytest.mark.parametrize("name", [m for m in modules() if not m.startswith("inside")])
def test_torch_stays_in_the_box(name: str) -> None:
    """Outside of the box torch is imported by nobody, except lazily where a bundle is built."""
    tree = ast.parse((ROOT / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module).split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
    assert name.startswith("bundles.") or not names & HEAVY


def test_the_command_line_starts_without_heavy_packages() -> None:
    import subprocess
    import sys

    code = "import sys, grader.cli.main as c; c.main(['--help']); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'grader.cli.main'" in loaded
    for heavy in (*HEAVY, "distributed", "dask", "numpy", "nbclient", "rich", "jinja2"):
        assert f"'{heavy}'" not in loaded


def test_public_names() -> None:
    assert sorted(grader.__all__) == ["__version__", "grade", "load_assignment", "rejudge"]
    for name in grader.__all__:
        assert getattr(grader, name)
    with pytest.raises(AttributeError):
        _ = grader.nothing
