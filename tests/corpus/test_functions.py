"""The function-level corpus: every case loses exactly what its label says."""

import pytest

from tests.corpus import CASES
from tests.corpus.functions import CRITERIA, differences, verdicts

pytestmark = pytest.mark.filterwarnings("ignore")  # of code that is wrong on purpose


@pytest.mark.parametrize("name", CASES)
def test_case_loses_what_its_label_says(name):
    case = CASES[name]
    found = differences(name, case.loses, verdicts(case.source))
    assert not found, "\n".join(f"{difference.kind}: {difference.text}" for difference in found)


def test_corpus_is_large_and_every_criterion_is_lost_alone_or_as_a_root():
    right = [case for case in CASES.values() if not case.loses]
    assert len(right) >= 80
    assert len(CASES) - len(right) >= 160
    assert set().union(*(case.loses for case in CASES.values())) == set(CRITERIA)


@pytest.mark.parametrize("seed", ["01", "02", "03"])
def test_labels_do_not_depend_on_the_seed(seed):
    for name in ("lora-merge-on-eval", "lora-scale-floor", "lora-between-gelu", "lora-b-tiny", "count-all"):
        assert not differences(name, CASES[name].loses, verdicts(CASES[name].source, seed))
