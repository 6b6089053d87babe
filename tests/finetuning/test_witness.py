"""Learning rates as the witness sees them: at every step of an optimizer that has one, and never made up."""

import gc

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.optimization import Adafactor

from grader.inside.distilbert import layout
from grader.inside.witness import Witness
from tests.corpus.training import tiny_checkpoint, watching

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, about a tiny model


def by_hand(model):
    model.zero_grad()
    yield
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad


def by(optimizer):
    def step(model, made=[]):  # noqa: B006 - one optimizer for all steps of a test
        made = made or made.append(optimizer(model)) or made
        made[0].zero_grad()
        yield
        made[0].step()

    return step


def groups(model):
    halves = list(model.parameters())
    return torch.optim.AdamW([{"params": halves[:5], "lr": 3e-4}, {"params": halves[5:]}], lr=2e-5)


@pytest.mark.parametrize(
    ("step", "rated", "peak"),
    [
        (by(lambda model: torch.optim.AdamW(model.parameters(), lr=5e-5)), True, 5e-5),
        (by(groups), True, 3e-4),
        (by(lambda model: Adafactor(model.parameters(), lr=1e-3, relative_step=False)), True, 1e-3),
        (by(lambda model: Adafactor(model.parameters())), False, 0.0),
        (by_hand, False, 0.0),
    ],
)
def test_rates_are_seen_where_there_are_any(tmp_path, step, rated, peak):
    tiny_checkpoint(tmp_path)
    gc.collect()
    witness = Witness(layout)
    with watching(witness):
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=2)
        ids, labels = torch.randint(5, 12, (4, 6)), torch.tensor([0, 1, 0, 1])
        for _ in range(3):
            moving = step(model)
            next(moving)
            model(input_ids=ids, labels=labels).loss.backward()
            next(moving, None)
        witness.snapshot_models()
    (run,) = witness.runs
    assert run.steps == 3
    assert (run.rated, run.peak_rate) == (rated, peak)
    assert run.lr_sum == pytest.approx(3 * peak)
