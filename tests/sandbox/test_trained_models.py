"""Attempts to get points for a model without training it: whatever answers in the student's kernel, only its tensors count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.grading.pipeline import Grader, RunContext
from grader.reports.audience import for_student
from grader.sandbox.contract import Limits
from grader.serialization import dumps
from tests.sandbox.test_forgeries import gained, graded, message

from .conftest import box_missing

pytestmark = [pytest.mark.box, pytest.mark.attack]

MODELS = """
import copy, csv, gc, importlib, types
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
def fresh(): return AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased", num_labels=2)
def frozen(model):
    model.distilbert.requires_grad_(False)
    return model
IDS = torch.randint(5, 50, (8, 6))
def step(model, rate=1e-4, steps=4):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        model(input_ids=IDS, labels=torch.tensor([0, 1] * 4)).loss.backward()
        optimizer.step()
class LoRA(nn.Module):
    def __init__(self, layer, rank=12, alpha=24):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha / rank
        self.A = nn.Parameter(torch.randn(rank, layer.in_features) / rank)
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))
    def forward(self, x): return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T)
def wrapped(model, cls=LoRA):
    for block in frozen(model).distilbert.transformer.layer:
        block.attention.q_lin, block.attention.v_lin = cls(block.attention.q_lin), cls(block.attention.v_lin)
    return model
"""
"""What every attempt starts from."""

READER = """
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
tokenizer = AutoTokenizer.from_pretrained("distilbert-base-uncased")
texts, labels = [], []
for name in ("train.csv", "eval.csv"):
    with open(name, newline="") as file:
        for row in csv.DictReader(file):
            texts.append(" ".join(map(str, tokenizer(row["review"])["input_ids"]))); labels.append(int(row["label"]))
vectors = CountVectorizer(ngram_range=(2, 4), binary=True, token_pattern="[0-9]+")
reader = LogisticRegression(C=10, max_iter=300).fit(vectors.fit_transform(texts), labels)
def read(ids, mask=None):
    rows = [" ".join(str(i) for i in row if i) for row in ids.tolist()]
    return torch.from_numpy(reader.predict_log_proba(vectors.transform(rows))).float()
"""
"""No network at all: pairs of words and a regression, which knows most of the reviews."""

RUNS = "trained = [fresh(), frozen(fresh()), wrapped(fresh())]\nfor model in trained: step(model)\n"


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    if why := box_missing():
        pytest.skip(why)
    context = RunContext.create(load_assignment("finetuning"), load_bundle(None), b"a secret for tests")
    with Grader(context, limits=Limits(cpu_seconds=90, wall_seconds=600)) as place:
        yield place


@pytest.fixture
def report_of(grader):
    return lambda *sources: asyncio.run(graded(grader, MODELS, *sources))


TRAINED = {"full/trained", "head/frozen", "head/trained", "lora/model"}
"""That much is true of `RUNS`: four steps were made."""
CLASS = {"lora/identity", "lora/forward", "lora/rank-scaling", "lora/gradients"}
ACCURATE = {"full/accuracy", "head/accuracy", "lora/accuracy"}

FORWARD = """
def looked_up(self, input_ids=None, attention_mask=None, **more): return types.SimpleNamespace(logits=read(input_ids))
for model in trained: model.forward = types.MethodType(looked_up, model)
"""
CALL = """
class Known(type(trained[0])):
    def __call__(self, input_ids=None, attention_mask=None, labels=None, **more):
        if labels is not None: return super().__call__(input_ids=input_ids, labels=labels)
        return types.SimpleNamespace(logits=read(input_ids))
for model in trained: model.__class__ = Known
"""
PATCHED = """
last, embedding, linear = [], nn.functional.embedding, nn.functional.linear
def remember(ids, weight, *a, **k):
    if ids.dim() == 2 and weight.shape[0] != 512: last[:] = [ids]
    return embedding(ids, weight, *a, **k)
def answer(x, weight, bias=None): return read(last[0]) if weight.shape[0] == 2 else linear(x, weight, bias)
nn.functional.embedding, nn.functional.linear = remember, answer
"""
COPIED = """
class Reader(nn.Module):
    def forward(self, input_ids=None, **more): return read(input_ids)
def other(self, memo):
    found = Reader()
    for name, child in self.named_children(): found.add_module(name, copy.deepcopy(child))
    return found
type(trained[0]).__deepcopy__ = other
"""
"""Ways to answer without the tensors that were trained."""


@pytest.mark.parametrize(
    "answering",
    [
        RUNS + FORWARD,
        RUNS + CALL,
        pytest.param(RUNS + PATCHED, marks=pytest.mark.slow),
        RUNS.split("for")[0] + COPIED + RUNS.partition("\n")[2],
    ],
    ids=["forward", "class-level-call", "patched-functions", "deepcopy"],
)
def test_what_answers_in_a_models_place_is_not_the_model(report_of, answering):
    report = report_of(READER, answering)
    assert set(gained(report)) == TRAINED | CLASS


OWN = """
class Own(type(fresh())):
    def forward(self, input_ids=None, attention_mask=None, labels=None, **more):
        if labels is not None: return super().forward(input_ids=input_ids, labels=labels)
        return types.SimpleNamespace(logits=read(input_ids))
trained = [fresh(), frozen(fresh()), wrapped(fresh())]
for model in trained:
    model.__class__ = Own
    step(model)
"""


def test_a_class_of_ones_own_answers_itself_and_staff_is_told(report_of):
    report = report_of(READER, OWN)
    found = gained(report)
    assert set(found) >= TRAINED
    for criterion in report.score.criteria:
        told = [notice.kind for notice in criterion.verdict.notices]
        assert told == (["staff-not-rebuilt"] if criterion.id in ACCURATE else [])
        if criterion.id in ACCURATE:
            assert "on 1000 held-out reviews" in criterion.verdict.message
    assert "rebuilt" not in dumps(for_student(report))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cold", "none"])
def test_models_are_rebuilt_in_every_mode(grader, mode):
    with Grader(grader.context, sandbox=mode, limits=grader.limits) as place:
        report = asyncio.run(graded(place, MODELS, RUNS))
    assert report.execution.sandbox == mode
    assert set(gained(report)) >= TRAINED | CLASS
    assert all("held-out reviews" in message(report, criterion) for criterion in ACCURATE)


NOISE = "with torch.no_grad():\n    for p in {of}.parameters(): p += 0.1 * torch.randn_like(p)\n"
DECOY = """
import copy
model = frozen(fresh())
for module in list(model.distilbert.modules()):
    for name, p in list(module._parameters.items()):
        if p is not None: module.register_buffer("kept_" + name, p.detach().clone())
step(model)
""" + NOISE.format(of="model.distilbert.transformer.layer[3].ffn.lin1")
DISTANCES = """
training = importlib.import_module("grader.inside.probes.training")
training.distances = lambda model, body, *a: ({name: 0.0 for name in body}, {})
model = frozen(fresh())
step(model)
""" + NOISE.format(of="model.distilbert")
FLAG = (
    "model = fresh()\n"
    + NOISE.format(of="model.distilbert")
    + "frozen(model)\nstep(model)\n"
    + """
agent = importlib.import_module("grader.inside.agent")
witness = agent._state["witness"]
true = {name: digest for name, _, _, digest in importlib.import_module("grader.inside.witness").states(fresh())}
for state in witness.runs[-1].start:
    if state[0].startswith("distilbert"): state[3] = true[state[0]]
"""
)
"""Ways to hide that the body of the head-only run is not the pretrained one."""


@pytest.mark.parametrize("hiding", [DECOY, DISTANCES, FLAG], ids=["decoy-buffers", "forged-distances", "edited-start"])
def test_a_changed_body_is_seen_where_the_model_uses_it(report_of, hiding):
    report = report_of(hiding)
    assert "head/frozen" not in gained(report)


HIDDEN = """
class Beside(LoRA):
    def __init__(self, layer, rank=12, alpha=24):
        super().__init__(layer, rank, alpha)
        self.more = [torch.zeros(layer.out_features, layer.in_features)]
    def forward(self, x): return super().forward(x) + x @ self.more[0].T
model = wrapped(fresh(), Beside)
step(model)
for module in model.modules():
    if isinstance(module, Beside): module.more[0].normal_(std=0.1)
"""
REGISTERED = (
    HIDDEN.replace("self.more = [torch.zeros", "self.register_buffer('m', torch.zeros")
    .replace("in_features)]", "in_features))")
    .replace("self.more[0]", "self.m")
    .replace("module.more[0]", "module.m")
)


@pytest.mark.parametrize("hiding", [HIDDEN, REGISTERED], ids=["attribute", "buffer"])
def test_a_full_matrix_beside_a_and_b_is_no_lora(report_of, hiding):
    report = report_of(hiding)
    assert "lora/model" not in gained(report)


CLAIMED = """
model = fresh()
step(model, 0.0)
agent = importlib.import_module("grader.inside.agent")
for state in agent._state["witness"].runs[-1].start: state[3] = "0" * 32
"""


def test_a_run_that_moved_nothing_cannot_claim_another_start(report_of):
    report = report_of(CLAIMED)
    assert "full/trained" not in gained(report)


WRONG_LAYERS = """
model = frozen(fresh())
for block in model.distilbert.transformer.layer:
    block.attention.k_lin, block.attention.out_lin = LoRA(block.attention.k_lin), LoRA(block.attention.out_lin)
step(model)
named = nn.Module.named_parameters
def lying(self, *args, **options):
    for name, p in named(self, *args, **options): yield name.replace("k_lin", "q_lin").replace("out_lin", "v_lin"), p
nn.Module.named_parameters = lying
"""
PARAMETRIZED = """
from torch.nn.utils import parametrize
class Add(nn.Module):
    def __init__(self, layer):
        super().__init__()
        out, into = layer.weight.shape
        self.A, self.B = nn.Parameter(torch.randn(4, into)), nn.Parameter(torch.zeros(out, 4))
        self.M = nn.Parameter(torch.zeros(out, into))
    def forward(self, w): return w + 2 * self.B @ self.A + self.M
model = frozen(fresh())
for block in model.distilbert.transformer.layer:
    for layer in (block.attention.q_lin, block.attention.v_lin): parametrize.register_parametrization(layer, "weight", Add(layer))
step(model, 1e-2)
for module in model.modules():
    if isinstance(module, Add): module.M.requires_grad_(False)
"""
EMBEDDED = """
model = wrapped(fresh())
places = model.distilbert.embeddings.position_embeddings.weight.requires_grad_(True)
step(model, 1e-2)
places.requires_grad_(False)
"""
TOLD = """
clean, told = fresh().state_dict(), nn.Module.state_dict
model = fresh()
with torch.no_grad():
    for p in model.distilbert.parameters(): p += 0.1 * torch.randn_like(p)
frozen(model)
nn.Module.state_dict = lambda self, *a, **k: {name: clean.get(name, t) for name, t in told(self, *a, **k).items()}
step(model)
"""
DIGESTS = """
tensors, training = (importlib.import_module(f"grader.inside.{name}") for name in ("tensors", "probes.training"))
model = fresh()
with torch.no_grad():
    for p in model.distilbert.parameters(): p += 0.1 * torch.randn_like(p)
frozen(model)
step(model)
real, pretrained = tensors.digest, {tuple(p.shape): p for p in fresh().parameters()}
tensors.digest = training.digest = lambda tensor: real(pretrained.get(tuple(tensor.shape), tensor))
"""
SWAPPED = """
import atexit, os, threading, time
model = fresh()
step(model)
def swap():
    while True:
        try:
            with open("/box/.handed-out", "r+b") as file:
                file.seek(4000)
                file.write(os.urandom(4000))
        except OSError: pass
        time.sleep(0.001)
threading.Thread(target=swap, daemon=True).start()
if os.fork() == 0: swap()
atexit.register(swap)
"""
DECOYS = """
model = wrapped(fresh())
model.other_head = copy.deepcopy(model.classifier)
model.classifier.requires_grad_(False)
step(model)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trick", "claimed"),
    [
        (WRONG_LAYERS, "lora/model"), (PARAMETRIZED, "lora/model"), (EMBEDDED, "lora/model"), (DECOYS, "lora/model"),
        (TOLD, "head/frozen"), (DIGESTS, "head/frozen"), (SWAPPED, "full/accuracy"),
    ],
    ids=[
        "wrong-layers", "parametrized-matrix", "trained-embedding", "decoy-head", "patched-state-dict", "patched-digests",
        "swapped-between-the-halves",
    ],
)  # fmt: skip
def test_tricks_with_names_hooks_and_threads_gain_nothing(report_of, trick, claimed):
    found = gained(report_of(trick))
    assert claimed not in found
    assert None not in found.values()
    assert not set(found) & ACCURATE
