"""The reference notebook's own definitions, as source."""

from __future__ import annotations

import ast
import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "reference_solution" / "finetuning.ipynb"
NAMES = ("count_trainable_parameters", "extract_qv_layers", "replace_layers", "LoRA")


def cells() -> dict[str, str]:
    """The sources of the code cells, by their ids."""
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return {cell["id"]: "".join(cell["source"]) for cell in found if cell["cell_type"] == "code"}


def definitions() -> dict[str, ast.stmt]:
    """The four definitions that the grader asks for, by name."""
    found = {}
    for source in cells().values():
        if not source.lstrip().startswith(("%", "!", "#")) and "def " in source:
            for node in ast.parse(source).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in NAMES:
                    found[node.name] = node
    return found


def source(nodes: dict[str, ast.stmt]) -> str:
    """Definitions as a module."""
    return "import torch\nfrom torch import nn\n" + "\n".join(ast.unparse(node) for node in nodes.values())
