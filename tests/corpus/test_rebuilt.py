"""Every right way to write the LoRA class gives models that can be rebuilt from their tensors, without the class."""

import pytest

from grader.records import Attempt
from tests.corpus import CASES
from tests.corpus.base import PARTS
from tests.corpus.training import STEPS, about_training, in_two_halves, tiny_world, trained

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, about a tiny model

CLASSES = [name for name, case in CASES.items() if case.parts["lora"] != PARTS["lora"] and not case.loses]
NOT_CALLED_SO = (AttributeError, NameError, TypeError)
"""What `LoRA(layer, 4, 8)` raises for classes with another name, or other arguments in other places."""


def runs_of(name, folder, facts):
    """The one run with this class's layers, None where it is called in another way."""
    try:
        with trained((CASES[name].source, STEPS["setup"], STEPS["lora"]), folder) as namespace:
            seen = in_two_halves(namespace, about_training(facts), folder)
    except NOT_CALLED_SO:
        return None
    assert seen.attempt is Attempt.VALUE, seen.error
    return seen.value["runs"]


def not_rebuilt(names, folder):
    """How many classes were tried, and those with a run that answered itself, could not be read or is not explained."""
    tried, odd = 0, {}
    with tiny_world(folder) as facts:
        for name in names:
            runs = runs_of(name, folder, facts)
            tried += runs is not None
            for run in runs or []:
                if run.get("own") or run.get("raised") or run["unexplained"] or "start_logits" not in run:
                    odd[name] = run.get("own") or run.get("raised")
    return tried, odd


def test_a_sample_of_right_classes_is_rebuilt(tmp_path):
    tried, odd = not_rebuilt(CLASSES[::32], tmp_path)
    assert not odd
    assert tried >= 3


@pytest.mark.slow
def test_every_right_class_is_rebuilt(tmp_path):
    tried, odd = not_rebuilt(CLASSES, tmp_path)
    assert not odd
    assert tried >= 105
    assert len(CLASSES) - tried < 25, "of these only the way they are called differs"
