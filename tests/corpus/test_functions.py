"""The function-level corpus: every case loses exactly what its label says."""

import pytest

from grader.records import Status
from tests.corpus import CASES
from tests.corpus.functions import ASKED, ASSIGNMENT, CRITERIA, asked_of, differences, verdicts, verdicts_of

pytestmark = pytest.mark.filterwarnings("ignore")  # of code that is wrong on purpose


TWO_MISTAKES = {"count-module-flag", "count-first-of-layer", "count-hf-method-all"}
"""Each counts frozen numbers and, for another reason, does not count any module."""


@pytest.mark.parametrize("name", CASES)
def test_case_loses_what_its_label_says(name):
    case = CASES[name]
    seen = verdicts_of(case)
    found = differences(name, case.loses, seen)
    assert not found, "\n".join(f"{difference.kind}: {difference.text}" for difference in found)
    failed = [criterion for criterion, verdict in seen.items() if verdict.status is Status.FAILED]
    assert len(failed) == (2 if name in TWO_MISTAKES else min(1, len(case.loses))), "what follows from it names it"


def test_corpus_is_large_and_every_criterion_is_lost_alone_or_as_a_root():
    right = [case for case in CASES.values() if not case.loses]
    assert len(right) >= 80
    assert len(CASES) - len(right) >= 160
    assert set().union(*(case.loses for case in CASES.values())) == set(CRITERIA)


def test_a_case_is_asked_what_concerns_it():
    asked = {name: asked_of(case) for name, case in CASES.items()}
    for name, case in CASES.items():
        assert {ASSIGNMENT.checks[criterion].asks for criterion in case.loses} <= {*asked[name]}, name
    assert asked["count-all"] == ("count",)
    assert asked["lora-scale-floor"] == ("lora",)
    assert 15 <= sum(questions == ASKED for questions in asked.values()) <= 60
    for name in ("count-all", "lora-scale-floor", "replace-renamed"):
        whole, own = verdicts(CASES[name].source), verdicts_of(CASES[name])
        assert own == {criterion: whole[criterion] for criterion in own}
        assert CASES[name].loses <= {*own}


@pytest.mark.parametrize("seed", ["01", "02", "03"])
def test_labels_do_not_depend_on_the_seed(seed):
    fitted = ("lora-integers", "lora-dropout-always-on-input", "lora-mean-of-batch")  # their scaling is a fit
    for name in ("lora-merge-on-eval", "lora-scale-floor", "lora-between-gelu", "lora-b-tiny", "count-all", *fitted):
        assert not differences(name, CASES[name].loses, verdicts(CASES[name].source, seed))
