"""What a case is: a few lines over a base handwriting, and the criteria that it must lose; and the base handwriting itself."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

PARTS = {
    "imports": """
import copy, functools, math
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
""",
    "count": """
def count_trainable_parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
""",
    "extract": """
def extract_qv_layers(model):
    return {n: m for n, m in model.named_modules() if n.endswith(("q_lin", "v_lin"))}
""",
    "replace": """
def replace_layers(model, named_layers):
    for name, layer in named_layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer)
""",
    "lora": """
class LoRA(nn.Module):
    def __init__(self, pretrained, rank=12, alpha=24):
        super().__init__()
        self.pretrained = pretrained
        for p in pretrained.parameters():
            p.requires_grad = False
        self.A = nn.Parameter(torch.randn(rank, pretrained.in_features) / rank)
        self.B = nn.Parameter(torch.zeros(pretrained.out_features, rank))
        self.scaling = alpha / rank
    def forward(self, x):
        return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)
""",
}


@dataclass(frozen=True)
class Case:
    """One labelled variation of the base handwriting."""

    name: str
    """Unique, `part-what`."""
    parts: dict[str, str]
    """The source of every part."""
    loses: frozenset[str] = field(default_factory=frozenset)
    """Criteria that are not passed; empty for a right case."""

    @property
    def source(self) -> str:
        """The whole of it, in order."""
        return "\n".join(textwrap.dedent(text) for text in self.parts.values())


CASES: dict[str, Case] = {}


def case(name: str, *, loses: str = "", edit: tuple[str, str] | None = None, **replace: str) -> None:
    """Add a case: whole parts by name, or `edit=(old, new)` in the part that holds `old`. `loses`: criteria, with spaces between."""
    parts = {**PARTS, **replace}
    assert name not in CASES, f"{name} is there twice"
    assert set(parts) == set(PARTS), f"{name}: unknown part"
    if edit is not None:
        old, new = edit
        where = [part for part, text in parts.items() if old in text]
        assert len(where) == 1, f"{name}: {old!r} is in {where}"
        parts[where[0]] = parts[where[0]].replace(old, new)
    CASES[name] = Case(name, parts, frozenset(loses.split()))


HEAD = "self, pretrained, rank=12, alpha=24"


def lora(name: str, init: str = "", forward: str = "", *, loses: str = "", head: str = HEAD, before: str = "") -> None:
    """Add a case of the class from the lines of its two methods; lines that are not given are the base's."""
    init = init or PARTS["lora"].partition("super().__init__()\n")[2].partition("    def forward")[0]
    forward = forward or "return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)"
    body = textwrap.indent(textwrap.dedent(init).strip(), " " * 8)
    source = f"""{textwrap.dedent(before)}
class LoRA(nn.Module):
    def __init__({head}):
        super().__init__()
{body}
    def forward(self, x):
{textwrap.indent(textwrap.dedent(forward).strip(), " " * 8)}
"""
    case(f"lora-{name}", lora=source, loses=loses)
