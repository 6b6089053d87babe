"""Every right way to write the LoRA class gives models that can be rebuilt from their tensors, without the class."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from grader.inside.probes.training import logits_for
from grader.records import Attempt
from tests.corpus import CASES
from tests.corpus.base import PARTS
from tests.corpus.training import STEPS, TRAININGS, about_training, in_two_halves, tiny_world, trained
from tests.corpus.unseen_runs import NET_LOOP

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


@pytest.mark.parametrize("step", [2, 3, 4], ids=["full", "head", "lora"])
def test_a_head_of_ones_own_answers_as_it_began_and_ended(step, tmp_path):
    cells = TRAININGS["own-head-lstm"].cells
    begun = cells[step].replace(NET_LOOP, f"import copy\nbegun = copy.deepcopy(model)\n{NET_LOOP}")
    with tiny_world(tmp_path) as facts, trained((*cells[:2], begun), tmp_path) as namespace:
        question = about_training(facts)
        (run,) = in_two_halves(namespace, question, tmp_path).value["runs"]
        tokens = AutoTokenizer.from_pretrained(tmp_path)(question.followup.question.params["texts"])["input_ids"]
        start, end = (logits_for(namespace[name], tokens, 64).numpy() for name in ("begun", "model"))
    assert run["own"]
    assert np.abs(start - end).max() > 1e-3
    np.testing.assert_allclose(run["start_logits"], start, atol=1e-6)
    np.testing.assert_allclose(run["logits"], end, atol=1e-6)


@pytest.mark.slow
def test_every_right_class_is_rebuilt(tmp_path):
    tried, odd = not_rebuilt(CLASSES, tmp_path)
    assert not odd
    assert tried >= 105
    assert len(CLASSES) - tried < 25, "of these only the way they are called differs"
