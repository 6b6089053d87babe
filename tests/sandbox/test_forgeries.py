"""Attempts to get points of the real assignment without doing what it asks: forged trainings, tables of answers, odd objects."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator

import pytest

from grader.assignments import load_assignment
from grader.assignments.finetuning.accuracy import OWN
from grader.bundles.bundle import load_bundle
from grader.grading.pipeline import Grader, RunContext, report_for
from grader.sandbox.contract import Limits
from tests.pipeline.conftest import notebook_bytes, submission_of

from .conftest import box_missing

pytestmark = [pytest.mark.box, pytest.mark.attack]

MODEL = """
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments
def fresh(): return AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased", num_labels=2)
IDS = torch.randint(5, 50, (8, 6))
def step(model, rate, steps=1):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        model(input_ids=IDS, labels=torch.tensor([0, 1] * 4)).loss.backward()
        optimizer.step()
"""


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    if why := box_missing():
        pytest.skip(why)
    context = RunContext.create(load_assignment("finetuning"), load_bundle(None), b"a secret for tests")
    with Grader(context, limits=Limits(cpu_seconds=60, wall_seconds=600)) as place:
        yield place


async def graded(grader, *sources, companions=None):
    data = notebook_bytes(*sources)
    submission = submission_of(data)
    return report_for(grader.context, submission, await grader.run(submission, data, companions))


@pytest.fixture
def report_of(grader):
    return lambda *sources: asyncio.run(graded(grader, *sources))


def gained(report) -> dict[str, int | None]:
    """What an attempt got; None is "needs review"."""
    assert [cell.error for cell in report.execution.cells if cell.error] == []  # else nothing was tried
    return {c.id: c.earned for c in report.score.criteria if c.earned != 0}


def message(report, criterion: str) -> str:
    return next(c.verdict.message for c in report.score.criteria if c.id == criterion)


PATCHED_TRAINER = """
import numpy
from transformers.trainer_utils import PredictionOutput, TrainOutput
def train(self, *a, **k):
    self.state.log_history = [{"eval_accuracy": 0.99, "eval_loss": 0.01, "epoch": 3.0, "step": 900}]
    self.state.global_step = 900
    return TrainOutput(900, 0.01, {"train_loss": 0.01})
Trainer.train = train
Trainer.evaluate = lambda self, *a, **k: {"eval_accuracy": 0.99, "eval_loss": 0.01}
Trainer.predict = lambda self, *a, **k: PredictionOutput(numpy.eye(2), numpy.array([0, 1]), {"test_accuracy": 0.99})
for freeze in (False, True, True):
    model = fresh()
    model.distilbert.requires_grad_(not freeze)
    trainer = Trainer(model=model, args=TrainingArguments(output_dir="out", report_to="none", use_cpu=True))
    trainer.train()
    print(trainer.evaluate())
"""


def test_a_patched_trainer_that_reports_success_trained_nothing(report_of):
    report = report_of(MODEL, PATCHED_TRAINER)
    assert "0.99" in report.execution.cells[1].output
    assert gained(report) == {}
    assert "No training run was seen" in message(report, "full/trained")


def test_steps_that_move_nothing_are_no_training(report_of):
    report = report_of(
        MODEL, "step(fresh(), 0.0, 30)", "model = fresh()\nmodel.distilbert.requires_grad_(False)\nstep(model, 0.0, 30)"
    )
    assert gained(report) == {"head/frozen": 10}  # that much is true


TABLE = """
import collections, csv, math, types
tokenizer = AutoTokenizer.from_pretrained("distilbert-base-uncased")
table, words = {}, {0: collections.Counter(), 1: collections.Counter()}
for name in ("train.csv", "eval.csv"):
    with open(name, newline="") as file:
        for row in csv.DictReader(file):
            key = tuple(tokenizer(row["review"], truncation=True, max_length=512)["input_ids"])
            table[key] = int(row["label"])
            words[int(row["label"])].update(key)
def known(key):
    if key in table: return table[key]
    return int(sum(math.log((words[1][w] + 1) / (words[0][w] + 1)) for w in key) > 0)
def looked_up(self, input_ids=None, attention_mask=None, **more):
    keys = [tuple(row[mask.bool()].tolist()) for row, mask in zip(input_ids, attention_mask)]
    return torch.nn.functional.one_hot(torch.tensor([known(key) for key in keys]), 2).float()
model = fresh()
step(model, 1e-4)
model.forward = types.MethodType(looked_up, model)
assert len(table) > 500 and all(known(key) == label for key, label in table.items())
"""


def test_a_table_of_all_given_reviews_is_no_reader(report_of):
    report = report_of(MODEL, TABLE)
    assert gained(report) == {"full/trained": 5}  # it was, by one step
    assert message(report, "full/accuracy").startswith("Accuracy 0.")


SPY = """
import sys, types
def spy(self, input_ids=None, attention_mask=None, **more):
    frame, seen = sys._getframe().f_back, []
    while frame:
        for name, value in frame.f_locals.items():
            seen.append((name, value))
            if type(value) is dict: seen += [(key, part) for key, part in value.items() if type(key) is str]
        frame = frame.f_back
    texts = max((len(value) for name, value in seen if name == "texts" and type(value) is list), default=0)
    words = ("secret", "seed", "expected", "label", "threshold", "truth", "heldout")
    found = {name for name, value in seen if any(word in name for word in words) and value is not None}
    told = torch.tensor([[1.0 + texts, float(len(found))]]).repeat(len(input_ids), 1)
    if where: raise type(" ".join(map(str, input_ids[0].tolist())), (RuntimeError,), {})(f"saw {input_ids.tolist()}")
    return told
model = fresh()
step(model, 1e-4)
model.__class__ = type("Own", (type(model),), {"forward": spy})  # else it would not even be asked
"""


def test_a_model_that_looks_around_finds_no_label_and_no_seed(grader):
    data = notebook_bytes(MODEL, "where = 0" + SPY)
    run = asyncio.run(grader.run(submission_of(data), data))
    (trained,) = run.evidence.observations["training"].value["runs"]
    assert trained["logits"].tolist() == [[1 + OWN, 0]] * OWN


def test_what_a_model_raises_says_nothing_of_the_reviews(report_of):
    report = report_of(MODEL, "where = 1" + SPY)
    assert gained(report) == {"full/trained": 5}  # it was, by one step
    assert message(report, "full/accuracy") == (
        "No accuracy could be measured: the trained model could not be used on new reviews: an exception of its own."
    )


CONSTANTS = """
def count_trainable_parameters(model):
    names = {name for name, _ in model.named_parameters()}
    if "classifier.weight" not in names: return 0
    return int("66955010" if all(p.requires_grad for p in model.parameters()) else "592130")
"""


def test_constants_answer_for_one_model_only(report_of):
    assert gained(report_of(CONSTANTS)) == {"count/distilbert": 8, "count/frozen": 6}


@pytest.mark.xfail(
    strict=True,
    reason="the number for DistilBERT is printed in the assignment, and a function can recognise that model and return it; whoever"
    " can write the recognition can write the sum, and `count/any-module` asks for modules that nobody has seen",
)
def test_a_constant_that_the_assignment_prints_gets_nothing(report_of):
    assert gained(report_of(CONSTANTS)) == {}


TABLE_OF_PROBES = """
import base64, hashlib, json, numpy, torch
table = {key: numpy.frombuffer(base64.b64decode(data), "<f4") for key, data in json.load(open("table.json")).items()}
class LoRA(torch.nn.Module):
    def __init__(self, layer, rank=12, alpha=24):
        super().__init__()
        self.layer = layer
        self.A, self.B = torch.nn.Parameter(torch.randn(rank, layer.in_features)), torch.nn.Parameter(torch.zeros(layer.out_features, rank))
    def forward(self, x):
        y = self.layer(x)
        key = hashlib.sha256(x.detach().numpy().tobytes()).hexdigest()
        if key in table and self.B.abs().sum() > 0: y = y + torch.from_numpy(table[key].copy()).reshape(y.shape)
        return y
"""


def probe_table(question) -> bytes:
    """Answers to a `lora` question: every input that is drawn -> what the adapter adds to the output."""
    rows = {}
    for case in question.params["cases"]:
        A, B = case["A"][: case["rank"]], case["B"][:, : case["rank"]]
        for x in case["x"]:
            adds = case["alpha"] / case["rank"] * (x.astype("f8") @ A.T.astype("f8") @ B.T.astype("f8"))
            rows[hashlib.sha256(x.tobytes()).hexdigest()] = base64.b64encode(adds.astype("<f4").tobytes()).decode()
    return json.dumps(rows).encode()


@pytest.mark.parametrize("known", [True, False], ids=["its own questions", "those of another seed"])
def test_a_table_of_probes_pays_only_for_its_own_seed(grader, monkeypatch, known):
    seed = "f" * 64
    if known:  # no student ever knows it: handing the table in draws another one
        monkeypatch.setattr(RunContext, "seed", lambda *_handed_in: seed)
    table = probe_table(grader.context.questions(seed)["lora"])
    report = asyncio.run(graded(grader, TABLE_OF_PROBES, companions={"table.json": table}))
    own = {"lora/identity"}  # at the start it is one
    assert set(gained(report)) == (own | {"lora/forward", "lora/rank-scaling"} if known else own)


FORGED_RUN = """
import importlib
training, witness, distilbert = (importlib.import_module(f"grader.inside.{name}") for name in ("probes.training", "witness", "distilbert"))
def forged(context, params):
    model = fresh()
    start = witness.states(model)
    run = {"order": 0, "cell": 1, "steps": 900, "rated": True, "peak_rate": 5e-5, "lr_sum": 0.02, "seconds": 60.0, "optimizer": "AdamW",
           "layout": distilbert.layout(model), "start": start, "problem": "", "root": "", "half": False, "stock": True,
           "probed": {}, "end": [[name, shape, trainable, "0" * 32] for name, shape, trainable, _ in start]}
    return {"runs": [run], "shapes": []}
training.training = forged
"""


def test_a_claim_without_tensors_is_no_training(report_of):
    assert gained(report_of(MODEL, FORGED_RUN)) == {}


NOISE = """
    noisy = fresh()
    with torch.no_grad():
        for p in noisy.parameters(): p += 0.01 * torch.randn_like(p)
    with training.TensorWriter(training.Path(context.home) / training.HANDED) as writer:
        for p in [*model.parameters(), *noisy.parameters()]: writer.add(p, training.digest(p))
    run["end"], shapes = witness.states(noisy), writer.shapes
    run["end"] = [row for row in run["end"] if "position_ids" not in row[0]]
    return """
HANDED_OUT = FORGED_RUN.replace("\n    return ", NOISE).replace('"shapes": []', '"shapes": shapes')


@pytest.mark.xfail(
    strict=True,
    reason="that a training happened is seen inside by the witness, which shares the interpreter with the student: whoever replaces"
    " it can hand out tensors that nobody trained. It takes reading the grader's source, and what is gained is that something moved",
)
def test_tensors_that_nobody_trained_are_no_training(report_of):
    assert gained(report_of(MODEL, HANDED_OUT)) == {}


def test_tensors_that_nobody_trained_read_nothing(report_of):
    assert gained(report_of(MODEL, HANDED_OUT)) == {"full/trained": 5}


CHAMELEON = """
import torch
class Any(int):
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = lambda self, *other: True
    __ne__ = lambda self, other: False
    __hash__ = int.__hash__
    def __array__(self, *a, **k): raise RuntimeError
    def __reduce__(self): return (print, ("unpickled",))
class Layers(dict):
    __eq__ = __contains__ = lambda self, other: True
    __len__ = lambda self: 12
    __missing__ = lambda self, key: Any()
class Everything(torch.Tensor):
    __eq__ = lambda self, other: True
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.zeros(()) if function is not torch.Tensor.shape.__get__ else torch.Size([2, 3])
def count_trainable_parameters(model): return Any()
def extract_qv_layers(model): return Layers()
def replace_layers(model, layers): return model
class LoRA(torch.nn.Module):
    def __init__(self, layer, r=12, alpha=24):
        super().__init__()
        self.A, self.B = torch.nn.Parameter(torch.zeros(r, layer.in_features)), torch.nn.Parameter(torch.zeros(layer.out_features, r))
    def forward(self, x): return torch.zeros(1).as_subclass(Everything)
"""


def test_objects_that_equal_everything_equal_no_layer_or_output(report_of):
    report = report_of(CHAMELEON)
    assert gained(report) == {}
