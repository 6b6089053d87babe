"""Adapting a cell takes work by its length, however it is built: counted in steps, since times say nothing on a busy machine."""

from __future__ import annotations

import ast

import pytest

from grader.inside.shims import commands, literals

from .conftest import noted

pytestmark = pytest.mark.attack

BUILT = {
    "a choice of ten thousand": "x = [" + "'cuda'," * 8_000 + "] if (" + "a or " * 8_000 + "a) else 0",
    "choices in choices": "x = " + "('cuda' if torch.cuda.is_available() else " * 90 + "768" + ")" * 90,
    "a long sum": "x = " + " + ".join(["768"] * 2_000),
    "many targets": " = ".join(f"x{n}" for n in range(4_000)) + " = (" + "768," * 8_000 + ")",
    "a long name": "f(" + "x" * 50_000 + "=[" + "768," * 8_000 + "])",
    "ifs in ifs": "".join(" " * n + "if torch.cuda.is_available():\n" for n in range(90))
    + " " * 90
    + "x = ["
    + "'cuda'," * 8_000
    + "]",
}


@pytest.mark.parametrize("source", BUILT.values(), ids=BUILT)
def test_each_node_is_looked_at_a_few_times(monkeypatch, source):
    steps = 0

    def counting(function):
        def called(*given):
            nonlocal steps
            steps += 1
            return function(*given)

        return called

    class Pattern:
        def fullmatch(self, text):
            nonlocal steps
            steps += 1 + len(text) // 10
            return real.fullmatch(text)

    real = literals._NOT_SIZE_ARGUMENTS
    monkeypatch.setattr(literals, "_NOT_SIZE_ARGUMENTS", Pattern())
    monkeypatch.setattr(literals, "_called", counting(literals._called))
    monkeypatch.setattr(ast, "iter_child_nodes", counting(ast.iter_child_nodes))
    nodes = sum(1 for _node in ast.walk(ast.parse(source)))
    steps = 0
    with noted():
        literals.Literals().parsed(source)
    assert 0 < steps < 8 * nodes + len(source)


def test_bare_installs_are_looked_for_a_bounded_number_of_times(monkeypatch):
    parsed = []
    stops_at = commands._stops_at
    monkeypatch.setattr(commands, "_stops_at", lambda lines: parsed.append(sum(map(len, lines))) or stops_at(lines))
    lines = ["pip install x\n"] * 20_000
    commands._drop_bare_installs(lines)
    assert 0 < sum(parsed) <= commands._MOST_PARSED


def test_an_ordinary_cell_loses_all_its_bare_installs():
    lines = ["import torch\n", *["pip install x\n"] * 50, "x = 1\n"]
    changed = commands._drop_bare_installs(lines)
    assert changed == ["import torch\n", *["pass\n"] * 50, "x = 1\n"]
