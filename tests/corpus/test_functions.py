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
    fitted = ("lora-integers", "lora-dropout-always-on-input", "lora-mean-of-batch")  # their scaling is a fit
    for name in ("lora-merge-on-eval", "lora-scale-floor", "lora-between-gelu", "lora-b-tiny", "count-all", *fitted):
        assert not differences(name, CASES[name].loses, verdicts(CASES[name].source, seed))


def test_a_function_that_only_prints_is_given_no_model_with_data(capsys):
    """Two of DistilBERT's real size would cost two seconds, to see nothing once more."""
    verdicts(
        "def count_trainable_parameters(model):\n    print(sum(p.numel() for p in model.parameters() if not p.is_meta))"
    )
    printed = [int(line) for line in capsys.readouterr().out.split()]
    assert len(printed) > 5
    assert max(printed) < 1_000_000
