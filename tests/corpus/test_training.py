"""The training-level corpus: three short trainings per case, seen by the witness, judged as they are labelled."""

import pytest

from grader.records import Status
from tests.corpus import finding, learning, public, roots, runs, unseen_runs  # noqa: F401 - declare the cases
from tests.corpus.functions import differences
from tests.corpus.training import ASKED_THEMSELVES, TRAININGS, tiny_world, verdicts

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, about a tiny model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    with tiny_world(folder) as facts:
        yield folder, facts


OWN_HEAD = {"own-class-around-the-body", "own-head-convolution", "own-head-lstm", "own-head-sequential"}
"""What it computes from the body is its own, so that it answers itself."""
SEVERAL_MISTAKES = {"nothing", "public-frozen-by-the-optimizer-alone"}
"""The same one in each of the three trainings."""
SLOW = {"compiled", "many-trials"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in TRAININGS]
)
def test_training_loses_what_its_label_says(name, tiny):
    case = TRAININGS[name]
    seen = verdicts(case, *tiny)
    found = differences(name, case.loses, seen)
    assert not found, "\n".join(f"{difference.kind}: {difference.text}" for difference in found)
    failed = sum(verdict.status is Status.FAILED for verdict in seen.values())
    assert failed == (3 if name in SEVERAL_MISTAKES else min(1, len(case.loses))), "what follows from it names it"
    assert case.loses or name in OWN_HEAD or not ASKED_THEMSELVES[name], (
        "the model of a right handwriting is rebuilt from its tensors"
    )


@pytest.mark.parametrize("method", ["full", "head", "lora"])
def test_a_minimum_accuracy_alone_decides_some_cases(method):
    cases = [case for case in TRAININGS.values() if case.learns == method]
    assert {frozenset(), frozenset({f"{method}/accuracy"})} <= {case.loses for case in cases}
