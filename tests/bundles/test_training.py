"""The loop of the calibration against the Trainer itself: the same trainings give the same models."""

from pathlib import Path

import pytest
import torch

from grader.bundles.bundle import Bundle
from grader.bundles.grid import OWN_HEADS, Setting
from grader.bundles.training import Model, Workbench
from tests.trainer import fresh, train

_LIBRARYS = {
    "pre_classifier.weight": "0.weight", "pre_classifier.bias": "0.bias", "classifier.weight": "3.weight", "classifier.bias": "3.bias",
}  # fmt: skip
"""Name of the library's head -> name in ours."""


@pytest.fixture(scope="module")
def bench(standin: Bundle) -> Workbench:
    torch.set_num_threads(1)
    return Workbench(standin)


@pytest.mark.parametrize("kind", OWN_HEADS)
def test_heads_of_ones_own_read_where_they_say(bench: Workbench, standin: Bundle, kind: str) -> None:
    model = Model(standin, Setting("head", head=kind), 3)
    rows = torch.tensor([5, 0, 9, 4])
    lengths = bench.heldout.lengths[rows]
    width = int(lengths.max())
    assert lengths.min() < width
    alone = [model.states(bench.heldout, row[None])[0] for row in rows]
    together = model.states(bench.heldout, rows)
    for number, (length, state) in enumerate(zip(lengths, alone, strict=True)):
        torch.testing.assert_close(together[number, :length], state, rtol=1e-4, atol=1e-4)
        read = together[number] if kind == "lstm-padded" else state
        answer = model.head(read[0]) if kind == "deep" else model.head.last(model.head.lstm(read)[0][-1])
        torch.testing.assert_close(model.logits(bench.heldout, rows)[number], answer, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        Setting("full", epochs=2, reviews=84, warmup=5, weight_decay=0.1, lr=2e-4),
        Setting("lora", epochs=1, reviews=80, schedule="cosine", initial="uniform", rank=4, alpha=16, lr=1e-3),
        Setting("head", epochs=2, reviews=100, schedule="constant", lr=1e-3),
        Setting("full", epochs=1, reviews=64, optimizer="adafactor", lr=1e-4),
        Setting("lora", epochs=1, reviews=64, optimizer="sgd", lr=1e-2),
    ],
    ids=lambda setting: f"{setting.method}-{setting.optimizer}-{setting.schedule}",
)
def test_the_loop_teaches_what_the_trainer_teaches(
    bench: Workbench, standin: Bundle, setting: Setting, tmp_path: Path
) -> None:
    for seed in (3, 8):
        start, model = Model(standin, setting, seed), Model(standin, setting, seed)
        bench.fit(model, seed)
        theirs = fresh(standin, setting, seed)
        train(theirs, standin, setting, seed, tmp_path)
        tensors = {_LIBRARYS.get(name, name.removeprefix("distilbert.")): t for name, t in theirs.named_parameters()}
        began, far = dict(start.named_parameters()), 0
        for name, value in model.named_parameters():
            if name.endswith("k_lin.bias"):
                continue  # adds the same to all scores of a query: its gradient is rounding, which Adam makes large
            moved = float((tensors[name] - began[name]).detach().abs().max())
            atol = 0.02 * moved + 1e-6 * float(tensors[name].detach().abs().max())
            torch.testing.assert_close(value, tensors[name], rtol=0, atol=atol, msg=name)
            far += moved > 1e-5
        assert far >= len(_LIBRARYS)
