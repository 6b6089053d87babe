"""The loop of the calibration against the Trainer itself: the same trainings give the same models."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import DistilBertModel

from grader.bundles import Bundle
from grader.bundles.grid import OWN_HEADS, Setting
from grader.bundles.training import HEAD, Workbench
from tests.trainer import fresh, train


@pytest.fixture(scope="module")
def bench(standin: Bundle) -> Workbench:
    torch.set_num_threads(1)
    return Workbench(standin)


@pytest.mark.parametrize("kind", OWN_HEADS)
def test_heads_of_ones_own_read_as_torchs_layers_do(bench: Workbench, kind: str) -> None:
    stack = bench.stack(Setting("head", head=kind), (3, 8))
    rows = torch.tensor([[0, 5, 9, 4], [2, 1, 7, 3]])
    lengths = bench.heldout.lengths[rows]
    width = int(lengths.max())
    assert lengths.min() < width
    body = DistilBertModel.from_pretrained(bench.model_dir).eval()
    dim = body.config.dim
    for number, own in enumerate(rows):
        mask = torch.arange(width) < lengths[number][:, None]
        states = body(bench.heldout.tokens[own, :width], mask.long()).last_hidden_state
        tensors = {name: value[number] for name, value in stack.trained.items()}
        if kind == "deep":
            first, second, last = nn.Linear(dim, dim), nn.Linear(dim, 256), nn.Linear(256, 2)
            layers = {"first": first, "second": second, "last": last}
            answer = lambda: last(second(first(states[:, 0]).relu()).relu())  # noqa: B023, E731
        else:
            lstm, last = nn.LSTM(dim, dim, batch_first=True), nn.Linear(dim, 2)
            layers = {"lstm": lstm, "last": last}
            end = lengths[number] - 1 if kind == "lstm" else width - 1
            answer = lambda: last(lstm(states)[0][torch.arange(len(own)), end])  # noqa: B023, E731
        nn.ModuleDict(layers).load_state_dict(tensors)
        torch.testing.assert_close(stack.logits(bench.heldout, rows)[number], answer(), rtol=1e-4, atol=1e-5)


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
def test_a_stack_learns_what_the_trainer_teaches(
    bench: Workbench, standin: Bundle, setting: Setting, tmp_path: Path
) -> None:
    seeds = (3, 8)
    start, stack = bench.stack(setting, seeds), bench.stack(setting, seeds)
    bench.fit(stack, setting, seeds)
    for number, seed in enumerate(seeds):
        far = 0
        model = fresh(standin, setting, seed)
        train(model, standin, setting, seed, tmp_path)
        tensors = {name.replace(".base.", "."): value for name, value in model.state_dict().items()}
        for name, value in stack.trained.items():
            if name.endswith("k_lin.bias"):
                continue  # adds the same to all scores of a query: its gradient is rounding, which Adam makes large
            moved = float((tensors[name] - start.trained[name][number]).abs().max())
            atol = 0.02 * moved + 1e-6 * float(tensors[name].abs().max())
            torch.testing.assert_close(value[number], tensors[name], rtol=0, atol=atol, msg=name)
            far += moved > 1e-5
        assert far >= len(HEAD)
