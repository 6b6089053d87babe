"""Mutants of the reference: each is killed by a criterion of its own definition, or is equivalent for a stated reason."""

from __future__ import annotations

import pytest

from grader.assignments import load_assignment
from grader.grading.pipeline import Grader, RunContext
from tests.corpus.functions import CRITERIA
from tests.finetuning import mutants
from tests.finetuning.reasons import SURVIVES


def test_every_mutant_of_a_function_is_killed_where_it_belongs_or_is_equivalent():
    outcomes = {mutant: mutants.lost_by_functions(mutant) for mutant in mutants.mutants(mutants.FUNCTIONS)}
    ours = {
        problem
        for problem in mutants.problems_of(outcomes)
        if "kills no mutant" not in problem and "no such" not in problem
    }
    assert not ours, "\n".join(sorted(ours))
    assert set().union(*outcomes.values()) == set(CRITERIA)


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        (set(), "loses nothing"),
        ({"layers/extract"}, "layers/extract"),
        ({"?count/frozen"}, "?count/frozen"),
    ],
)
def test_a_mutant_that_is_killed_nowhere_or_elsewhere_is_a_problem(lost, expected):
    mutant = next(m for m in mutants.mutants({"count": ""}) if m.name not in SURVIVES)
    assert any(mutant.name in problem and expected in problem for problem in mutants.problems_of({mutant: lost}))
    assert not any(mutant.name in problem for problem in mutants.problems_of({mutant: {"count/frozen"}}))


@pytest.mark.slow
def test_whole_notebooks_are_killed_where_they_belong(tmp_path):
    bundle = mutants.small_bundle(tmp_path / "bundle")
    context = RunContext.create(load_assignment("finetuning"), bundle, b"mutants")
    not_frozen, never_placed = (
        next(m for m in mutants.edited(mutants.DOMAIN, cell) if removed in m.name and m.name.endswith("nothing"))
        for cell, removed in (("head", "requires_grad_(False)"), ("lora-model", "replace_layers("))
    )
    with Grader(context) as grader:
        assert mutants.lost_by_trainings(grader, None, tmp_path) == set()
        for mutant, own in ((not_frozen, "head/"), (never_placed, "lora/")):
            lost = mutants.lost_by_trainings(grader, mutant, tmp_path)
            assert lost, mutant.name
            assert all(criterion.startswith(own) for criterion in lost), (mutant.name, lost)
