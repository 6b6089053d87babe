"""The reference's LoRA class and peft's give the same outputs and gradients for the same matrices, and train as well."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grader.bundles import load_bundle, prepare_home
from grader.bundles.calibration import Training
from grader.bundles.process import run_module
from tests.finetuning.reference import definitions, source

peft_layer = pytest.importorskip("peft.tuners.lora.layer")
peft = pytest.importorskip("peft")


def reference_class():
    namespace = {"__name__": "__main__"}
    exec(source({"LoRA": definitions()["LoRA"]}), namespace)
    return namespace["LoRA"]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    rank=st.integers(1, 16),
    alpha=st.integers(1, 32),
    bias=st.booleans(),
    leading=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    seed=st.integers(0, 2**31),
)
def test_outputs_and_gradients_agree(sizes, rank, alpha, bias, leading, seed):
    torch.manual_seed(seed)
    inside, outside = sizes
    base = torch.nn.Linear(inside, outside, bias=bias)
    ours = reference_class()(base, rank, alpha)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha)
    theirs = peft_layer.Linear(base, "default", config=config, r=rank, lora_alpha=alpha)
    A, B = torch.randn(rank, inside), torch.randn(outside, rank)
    with torch.no_grad():
        for a, b in (
            (ours.A.weight, ours.B.weight),
            (theirs.lora_A["default"].weight, theirs.lora_B["default"].weight),
        ):
            a.copy_(A)
            b.copy_(B)
    x = torch.randn(*leading, inside)
    g = torch.randn(*leading, outside)
    results = []
    for layer, a, b in (
        (ours, ours.A.weight, ours.B.weight),
        (theirs, theirs.lora_A["default"].weight, theirs.lora_B["default"].weight),
    ):
        inputs = x.clone().requires_grad_(True)
        y = layer(inputs)
        y.backward(g)
        results.append((y.detach(), inputs.grad, a.grad, b.grad))
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4 * (1 + float(other.abs().max())))


@pytest.mark.slow
def test_the_third_run_is_as_accurate_with_peft(tmp_path):
    bundle = load_bundle()
    needed = bundle.calibrations["lora"]
    prepare_home(bundle, tmp_path)
    job = json.dumps({"secret": "calibration", "trainings": [asdict(Training("peft", 0))], "draws": 0})
    lines = run_module("tests.finetuning.peft_training", [str(bundle.path), job], tmp_path)
    theirs = next(json.loads(line) for line in lines if line.startswith("{"))["accuracy"]
    # The reference's A is drawn by nn.Linear, as peft's is: uniform. So it was trained with many seeds for the thresholds.
    recorded = [json.loads(line) for line in (bundle.path / "calibration.jsonl").read_text().splitlines()]
    ours = [run["accuracy"] for run in recorded if run["method"] == "lora-uniform"]
    assert len(ours) >= 30
    held_out = len(bundle.heldout(b"calibration").labels)
    usual = sum(ours) / len(ours)
    noise = math.hypot(needed.seed_std, math.sqrt(usual * (1 - usual) / held_out))
    assert theirs >= needed.accuracy
    assert abs(usual - theirs) <= 3 * noise
