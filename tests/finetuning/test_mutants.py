"""Mutants of the reference's definitions: each is killed by a criterion of its own definition, or is equivalent for a stated reason."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

import pytest

from grader.records import Status
from tests.corpus.functions import CRITERIA, verdicts
from tests.finetuning.reference import definitions, source

pytestmark = pytest.mark.filterwarnings("ignore")  # of code that is wrong on purpose

OWN = {
    "count_trainable_parameters": "count/",
    "extract_qv_layers": "layers/extract",
    "replace_layers": "layers/replace",
    "LoRA": "lora/",
}
EQUIVALENT = {
    "7-LoRA: default 12 -> 13": "the grader gives the rank, whose default is free",
    "8-LoRA: default 24 -> 25": "the grader gives alpha, whose default is free",
    "14-LoRA: False -> True": "where the base is frozen is free: it is judged in the model when training starts",
    "21-LoRA: B -> A": "A starts at zero instead of B: an identity at first, and it learns",
}
"""Mutant -> why it is right. The number is its place among all mutants."""
_SWAP = {ast.Add: ast.Sub, ast.Mult: ast.Div, ast.Div: ast.Mult}


def mutants(name: str, node: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """Change one thing: an operator, a constant, a name's twin; or leave out a statement or a condition."""
    sites = list(ast.walk(node))
    for number, site in enumerate(sites):
        for label, change in _changes(site):
            mutant = copy.deepcopy(node)
            change(list(ast.walk(mutant))[number])
            yield f"{name}: {label}", ast.fix_missing_locations(mutant)


def _changes(site: ast.AST):
    if isinstance(site, ast.BinOp) and type(site.op) in _SWAP:
        other = _SWAP[type(site.op)]
        yield f"{ast.unparse(site)}: {type(site.op).__name__} -> {other.__name__}", lambda n: setattr(n, "op", other())
        if isinstance(site.op, ast.Div):
            yield f"{ast.unparse(site)}: / -> //", lambda n: setattr(n, "op", ast.FloorDiv())
    if isinstance(site, ast.arguments):
        for i, default in enumerate(site.defaults):
            value = default.value
            yield (
                f"default {value} -> {value + 1}",
                lambda n, i=i, v=value: n.defaults.__setitem__(i, ast.Constant(v + 1)),
            )
    if isinstance(site, ast.comprehension) and site.ifs:
        yield f"no `if {ast.unparse(site.ifs[0])}`", lambda n: n.ifs.clear()
        yield f"`if not {ast.unparse(site.ifs[0])}`", lambda n: n.ifs.__setitem__(0, ast.UnaryOp(ast.Not(), n.ifs[0]))
    if isinstance(site, ast.Constant) and site.value is False:
        yield "False -> True", lambda n: setattr(n, "value", True)
    if isinstance(site, ast.Tuple) and len(site.elts) == 2 and all(isinstance(e, ast.Constant) for e in site.elts):
        yield "first of a tuple left out", lambda n: n.elts.pop(0)
        yield "second of a tuple left out", lambda n: n.elts.pop(1)
    if isinstance(site, ast.Attribute) and site.attr in _TWINS:
        yield f"{site.attr} -> {_TWINS[site.attr]}", lambda n: setattr(n, "attr", _TWINS[n.attr])
    if isinstance(site, ast.FunctionDef | ast.For):
        for i, statement in enumerate(site.body):
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                yield f"without `{ast.unparse(statement)[:60]}`", lambda n, i=i: n.body.__setitem__(i, ast.Pass())


_TWINS = {
    "numel": "dim", "in_features": "out_features", "out_features": "in_features", "named_modules": "named_children",
    "zeros_": "ones_", "rpartition": "partition", "A": "B", "B": "A", "parameters": "buffers",
}  # fmt: skip
MUTANTS = {
    f"{number}-{label}": (name, label, mutant)
    for name, node in definitions().items()
    for number, (label, mutant) in enumerate(mutants(name, node))
}


def lost(mutant_of: str, mutant: ast.stmt) -> set[str]:
    found = verdicts(source({**definitions(), mutant_of: mutant}))
    assert not any(verdict.status is Status.ERROR for verdict in found.values())
    return {criterion for criterion, verdict in found.items() if verdict.status is not Status.PASSED}


@pytest.fixture(scope="module")
def outcomes():
    return {key: lost(name, mutant) for key, (name, _, mutant) in MUTANTS.items()}


def test_reference_loses_nothing():
    assert lost("LoRA", definitions()["LoRA"]) == set()


def test_every_mutant_is_killed_where_it_belongs_or_is_equivalent(outcomes):
    wrong = []
    for key, (name, _, _) in MUTANTS.items():
        own = all(criterion.startswith(OWN[name]) for criterion in outcomes[key])
        if (key in EQUIVALENT) != (not outcomes[key]) or not own:
            wrong.append(f"{key}: loses {sorted(outcomes[key])}")
    assert not wrong, "\n".join(wrong)


def test_every_criterion_kills_a_mutant(outcomes):
    assert set().union(*outcomes.values()) == set(CRITERIA)
