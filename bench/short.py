"""The short assignment that peers are compared on: a count, a LoRA layer, three runs of twelve steps on a tiny random model.

Ten points in three checks with hidden halves. `CELLS` is what all graders are given; `SHORT` is its declaration for this one.
"""

from __future__ import annotations

import math

from grader.assignments.finetuning.counting import ENTRY
from grader.assignments.finetuning.lora_case import ask_lora
from grader.assignments.finetuning.lora_layer import starts_as_identity
from grader.records import Observation, Verdict
from grader.rubric.assignment import Assignment
from grader.rubric.compare import failed, passed
from grader.rubric.questions import Draw, Question, call

IMPORTS = """\
import copy
import numpy as np
import torch
from torch import nn
from datasets import Dataset
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig,
                          DistilBertForSequenceClassification, Trainer, TrainingArguments)
torch.manual_seed(0)"""
COUNT = """\
def count_trainable_parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)"""
LORA = """\
class LoRA(nn.Module):
    def __init__(self, linear, rank=4, alpha=8):
        super().__init__()
        self.linear = linear
        for p in self.linear.parameters():
            p.requires_grad = False
        self.A = nn.Parameter(torch.randn(linear.in_features, rank) / rank ** 0.5)
        self.B = nn.Parameter(torch.zeros(rank, linear.out_features))
        self.scale = alpha / rank

    def forward(self, x):
        return self.linear(x) + (x @ self.A @ self.B) * self.scale"""
DATA = """\
config = DistilBertConfig(vocab_size=200, dim=64, n_layers=2, n_heads=4, hidden_dim=128, max_position_embeddings=64)
rng = np.random.default_rng(0)
ids = rng.integers(5, 200, size=(64, 16))
labels = (ids[:, 0] > 100).astype(int)
data = Dataset.from_dict({"input_ids": ids.tolist(), "attention_mask": np.ones_like(ids).tolist(),
                          "labels": labels.tolist()})
base_model = DistilBertForSequenceClassification(config)"""
TRAIN = """\
def train(model, steps=12):
    args = TrainingArguments(output_dir="out", max_steps=steps, per_device_train_batch_size=16, learning_rate=1e-3,
                             report_to="none", save_strategy="no", logging_steps=4, seed=0)
    trainer = Trainer(model=model, args=args, train_dataset=data)
    return trainer.train().training_loss

def head_only(model):
    for p in model.distilbert.parameters():
        p.requires_grad = False
    return model

def with_lora(model, rank=4, alpha=8):
    head_only(model)
    for layer in model.distilbert.transformer.layer:
        layer.attention.q_lin = LoRA(layer.attention.q_lin, rank, alpha)
        layer.attention.v_lin = LoRA(layer.attention.v_lin, rank, alpha)
    return model"""
RUNS = """\
models, losses = {}, {}
for name, change in {"full": lambda m: m, "head": head_only, "lora": with_lora}.items():
    models[name] = change(copy.deepcopy(base_model))
    losses[name] = train(models[name])"""
RESULTS = '''\
def results():
    """What the runs came to: losses, trainable parameters of the second, whose embeddings are as they were."""
    same = {n: all(torch.equal(a, b) for a, b in zip(models[n].distilbert.embeddings.parameters(),
                                                     base_model.distilbert.embeddings.parameters())) for n in models}
    return {"losses": losses, "head": count_trainable_parameters(models["head"]), "same": same}'''

TEST_COUNT = """\
with torch.device("meta"):
    full_size = DistilBertForSequenceClassification(DistilBertConfig())
assert count_trainable_parameters(full_size) == 66955010"""
HIDDEN_COUNT = """\
for p in full_size.distilbert.parameters():
    p.requires_grad = False
assert count_trainable_parameters(full_size) == 592130"""
TEST_LORA = """\
base = nn.Linear(32, 16)
x = torch.randn(5, 32)
before = base(x).detach().clone()
wrapped = LoRA(base, rank=4, alpha=8)
assert torch.allclose(wrapped(x), before, atol=1e-6)"""
HIDDEN_LORA = """\
assert count_trainable_parameters(wrapped) == 4 * (32 + 16)
wrapped(x).sum().backward()
assert base.weight.grad is None"""
TEST_RUNS = """\
found = results()
assert set(found["losses"]) == {"full", "head", "lora"}
assert all(np.isfinite(v) for v in found["losses"].values())"""
HIDDEN_RUNS = """\
assert found["head"] == 64 * 64 + 64 + 64 * 2 + 2
assert found["same"] == {"full": False, "head": True, "lora": True}"""

CELLS: tuple[tuple[str, ...], ...] = (
    ("given", "imports", IMPORTS),
    ("solution", "count", COUNT),
    ("test", "test_count", TEST_COUNT, HIDDEN_COUNT, "3"),
    ("solution", "lora", LORA),
    ("test", "test_lora", TEST_LORA, HIDDEN_LORA, "4"),
    ("given", "data", DATA),
    ("solution", "train", f"{TRAIN}\n\n{RUNS}\n\n{RESULTS}"),
    ("test", "test_runs", TEST_RUNS, HIDDEN_RUNS, "3"),
)
"""(kind, id, source) or (`test`, id, shown source, hidden source, points)."""

SHORT = Assignment(
    "short",
    "Fine-tuning three ways, in short",
    data_files=("train.csv", "eval.csv"),
    watch="grader.inside.distilbert:watch",
)


@SHORT.question("count")
def _count(_draw: Draw) -> Question:
    params = {"names": ["count_trainable_parameters"], "modules": [], "pairs": []}
    answer = {"distilbert": ENTRY, "frozen": ENTRY, "modules": (), "pairs": ()}
    return Question("grader.inside.probes.functions:count", params, answer=answer)


@SHORT.check("count/distilbert", points=3, asks="count")
def counts(_asked: Question, seen: Observation) -> Verdict:
    """The count is 66955010 for DistilBERT, and 592130 when its body is frozen."""
    found = [seen.value[which]["number"] for which in ("distilbert", "frozen")]
    return passed() if found == [66955010, 592130] else failed(f"It gave {found}.")


@SHORT.question("lora")
def _lora(draw: Draw) -> Question:
    rng = draw.rng
    case = {
        "W": rng.normal(size=(16, 32)).astype("f4"), "b": rng.normal(size=16).astype("f4"), "rank": 4, "alpha": 8,
        "A": rng.normal(size=(8, 32)).astype("f4"), "B": rng.normal(size=(16, 8)).astype("f4"),
        "x": [rng.normal(size=(5, 32)).astype("f4")], "g": rng.normal(size=(5, 16)).astype("f4"),
    }  # fmt: skip
    return ask_lora(["LoRA"], [case])


SHORT.check("lora/identity", points=4, asks="lora")(starts_as_identity)


@SHORT.check("runs/three", points=3, probe=lambda _draw: call("results"))
def three_runs(_asked: Question, seen: Observation) -> Verdict:
    """Three runs have a finite loss, trained what they should, and left the frozen embeddings alone."""
    losses, head, same = (seen.value[name] for name in ("losses", "head", "same"))
    if set(losses) != {"full", "head", "lora"} or not all(math.isfinite(loss) for loss in losses.values()):
        return failed(f"The losses are {losses}.")
    if head != 64 * 64 + 64 + 64 * 2 + 2 or same != {"full": False, "head": True, "lora": True}:
        return failed(f"Trainable parameters of the head's run: {head}; embeddings unchanged: {same}.")
    return passed()
