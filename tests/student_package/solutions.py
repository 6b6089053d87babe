"""The reference's solutions in small pieces, and a search for them in code, comments, docstrings and messages.

Pieces are compared as tokens, and every variable counts as the same one: `sum(p.numel() for p in net.parameters())` is found whatever the
parameters and the model are called. A piece is a line between solution marks, or an expression in it.
"""

from __future__ import annotations

import ast
import builtins
import json
import keyword
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

__all__ = ["IDIOMS", "JUDGES_OWN", "LEAST", "found_in", "pieces"]

REFERENCE = Path(__file__).parents[2] / "reference_solution" / "finetuning.ipynb"
LEAST = 6
"""Tokens of the shortest piece that is looked for: shorter ones (`return {`, `super().__init__()`) tell nothing."""
IDIOMS = {
    "for name, layer in named_layers.items():": "a loop over any dictionary, in nearly every program",
}
"""Pieces that say nothing about the assignment, and why."""
JUDGES_OWN = {
    "model.get_submodule(parent)": "the judge looks at the layers of models, too",
    'name.rpartition(".")': "the judge reads dotted names, too",
    "pretrained.requires_grad_(False)": "the judge builds modules with frozen parts to count in",
}
"""Single calls that stand in the judge's own code, and why; in its texts they count as any other piece."""
_TOKEN = re.compile(r"[^\W\d]\w*|\d[\w.]*|\S")
_MARK = re.compile(r"\s*(?:###|<!--) (BEGIN|END) SOLUTION\b")
_EXPRESSIONS = (ast.Call, ast.BinOp, ast.DictComp, ast.GeneratorExp, ast.ListComp, ast.IfExp)


def tokens(text: str) -> str:
    """The tokens of a text, with spaces between them and around; every name of a variable is `_`, where it is no word in quotes."""
    found = _TOKEN.findall(text)
    for place, token in enumerate(found):
        plain = token[0].isalpha() and not keyword.iskeyword(token) and not hasattr(builtins, token)
        after = found[place + 1] if place + 1 < len(found) else ""
        before = found[place - 1] if place else ""
        if plain and before not in (".", "'", '"') and after not in ("(", "="):
            found[place] = "_"
    return f" {' '.join(found)} "


def pieces() -> dict[str, str]:
    """What must not be told, as written -> its tokens: lines of at least `LEAST` tokens, expressions, sentences of text."""
    found: dict[str, str] = {}
    for kind, block in _blocks():
        found |= {line: tokens(line) for line in map(str.strip, block.splitlines())}
        if kind == "code":
            nodes = (node for node in ast.walk(ast.parse(block)) if isinstance(node, _EXPRESSIONS))
            written = (ast.get_source_segment(block, node) or "" for node in nodes)
            found |= {" ".join(text.split()): tokens(text) for text in written}
    return {text: found[text] for text in found if len(found[text].split()) >= LEAST and text not in IDIOMS}


def found_in(text: str, *, python: bool = False) -> list[str]:
    """The pieces that a text tells; of Python also those that stand in a string, over however many lines it is written."""
    nodes = ast.walk(ast.parse(text)) if python else ()
    strings = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    whole, told = tokens(text), [tokens(string) for string in strings]
    return [
        piece
        for piece, wanted in pieces().items()
        if any(wanted in one for one in told) or (wanted in whole and not (python and piece in JUDGES_OWN))
    ]


def _blocks() -> Iterator[tuple[str, str]]:
    """What stands between solution marks: the kind of cell, and the dedented text."""
    for cell in json.loads(REFERENCE.read_text(encoding="utf-8"))["cells"]:
        lines: list[str] | None = None
        for line in "".join(cell["source"]).splitlines():
            mark = _MARK.match(line)
            if mark and mark[1] == "END" and lines is not None:
                yield cell["cell_type"], textwrap.dedent("\n".join(lines))
            if mark:
                lines = [] if mark[1] == "BEGIN" else None
            elif lines is not None:
                lines.append(line)
