"""The reference's LoRA class and peft's give the same outputs and gradients for the same matrices, and train as well."""

import math
from statistics import stdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grader.bundles.bundle import load_bundle
from grader.bundles.grid import Setting
from grader.bundles.measures import accuracy_of
from grader.bundles.training import Workbench
from tests.finetuning.reference import definitions, source
from tests.trainer import fresh, train

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
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_third_run_is_as_accurate_with_peft(tmp_path):
    bundle, setting = load_bundle(), Setting("lora", epochs=1, initial="uniform")
    torch.set_num_threads(1)
    bench = Workbench(bundle)
    ours = [bench.run(setting, seed)["accuracy"] for seed in range(5)]
    model = fresh(bundle, Setting("full"), 0)
    head, adapted = ["pre_classifier", "classifier"], ["q_lin", "v_lin"]
    config = peft.LoraConfig(r=setting.rank, lora_alpha=setting.alpha, target_modules=adapted, modules_to_save=head)
    model = peft.get_peft_model(model, config)
    train(model, bundle, setting, 0, tmp_path)
    model = model.merge_and_unload()
    rows = torch.arange(1000)[None]
    with torch.no_grad():
        reviews = bench.heldout
        batch = {
            "input_ids": reviews.tokens[rows[0]],
            "attention_mask": torch.arange(reviews.tokens.shape[1]) < reviews.lengths[rows[0], None],
        }
        theirs = accuracy_of(model.eval()(**batch).logits.numpy(), reviews.labels[rows[0]].numpy())
    usual = sum(ours) / len(ours)
    noise = math.hypot(stdev(ours), math.sqrt(usual * (1 - usual) / rows.numel()))
    assert theirs >= bundle.calibrations["lora"].accuracy
    assert abs(usual - theirs) <= 3 * noise
