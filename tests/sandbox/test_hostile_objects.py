"""Whatever is raised while a student's objects are touched is the student's: no question about them needs a person."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.grading.pipeline import Grader, RunContext, report_for
from grader.records import Attempt
from grader.sandbox.contract import Limits
from tests.pipeline.conftest import notebook_bytes, submission_of

from .conftest import box_missing

pytestmark = [pytest.mark.box, pytest.mark.attack]

NAMES = ["count_trainable_parameters", "extract_qv_layers", "replace_layers", "LoRA"]
EVIL = """
class Gone(BaseException): pass
def gone(*a, **k): raise Gone
class Class:
    @property
    def __class__(self): raise Gone
class Meta(type):
    @property
    def __name__(cls): raise Gone
class Named(metaclass=Meta): pass
class Length:
    def __len__(self): return -1
    def __iter__(self): return 5
    def keys(self): return self
class Text(str):
    def __getitem__(self, key): raise Gone
    def encode(self, *a): return 7
class Attributes:
    def __getattr__(self, name): raise Gone
    def __call__(self, *a, **k): return self
    def __eq__(self, other): raise Gone
    def __repr__(self): raise Gone
    def __hash__(self): raise Gone
class Raises(Exception, metaclass=Meta):
    def __str__(self): raise Gone
def raises(*a, **k): raise Raises
"""
ANSWER = "def answer(*a, **k): return {}\n" + "\n".join(f"{name} = answer" for name in NAMES)
HOSTILE = {
    "an own BaseException": EVIL + "\n".join(f"{name} = gone" for name in NAMES),
    "an error that cannot be named": EVIL + "\n".join(f"{name} = raises" for name in NAMES),
    "a class that cannot be asked for": EVIL + ANSWER.format("Class()"),
    "a class without a name": EVIL + ANSWER.format("Named()"),
    "a length below zero": EVIL + ANSWER.format("Length()"),
    "a text of an own kind": EVIL + ANSWER.format("{Text('a'): Text('b')}"),
    "a generator that raises": EVIL + "def found():\n    yield 1\n    raise Gone\n" + ANSWER.format("found()"),
    "attributes that raise": EVIL + "\n".join(f"{name} = Attributes()" for name in NAMES),
    "names that are no text": EVIL + "globals()[1] = print\nglobals()[2] = Attributes()\nhelper = Attributes()",
    "modules that are none": EVIL + "import sys\nsys.modules['helper'] = Attributes()\nsys.modules['other'] = Class()",
    "a built-in that is gone": "import builtins\nbuiltins.len = builtins.isinstance = None",
    "a tensor without data": "import torch\n" + ANSWER.format("torch.zeros(3, 3, device='meta')"),
    "a sparse tensor": "import torch\n" + ANSWER.format("torch.eye(3).to_sparse()"),
    "layers that cannot be read": """
import torch
class Bad(torch.nn.Module):
    def __init__(self, *a, **k):
        super().__init__()
        self.A = torch.nn.Parameter(torch.eye(8).to_sparse(), requires_grad=True)
        self.B = torch.nn.Parameter(torch.zeros(2, device='meta'))
    def forward(self, x): return x.to_sparse()
LoRA = Bad
def extract_qv_layers(model): return {"a": Bad()}
def replace_layers(model, layers):
    model.broken = Bad(); del model._modules; return model
""",
    "thousands of tiny parameters": """
import torch
class Crowd(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.distilbert = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(1)) for _ in range(6000)])
        self.classifier = torch.nn.Linear(1, 2)
    def forward(self, x): return self.classifier(sum(self.distilbert) + x)
model = Crowd()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(1, 1)).sum().backward()
optimizer.step()
""",
    "a model that raises when it is copied": """
import torch
from transformers import AutoModelForSequenceClassification
class Gone(BaseException): pass
model = AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased", num_labels=2)
def gone(*a, **k): raise Gone
type(model).__deepcopy__ = gone
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(input_ids=torch.ones(1, 4, dtype=torch.long), labels=torch.tensor([1])).loss.backward()
optimizer.step()
type(model).forward = type(model).named_parameters = gone
""",
}  # fmt: skip


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    if why := box_missing():
        pytest.skip(why)
    context = RunContext.create(load_assignment(), load_bundle(None), b"a secret for tests")
    with Grader(context, limits=Limits(cpu_seconds=120, wall_seconds=600)) as place:
        yield place


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_what_hostile_objects_raise_is_the_students(grader, source):
    data = notebook_bytes(source, "done = True")
    submission = submission_of(data)
    run = asyncio.run(grader.run(submission, data))
    faults = {name: seen.error for name, seen in run.evidence.observations.items() if seen.attempt is Attempt.FAULT}
    assert faults == {}
    assert report_for(grader.context, submission, run).score.total == 0


@pytest.mark.parametrize(
    "raised", ["MemoryError()", "RuntimeError('[enforce fail] DefaultCPUAllocator: can\\'t allocate memory')"]
)
def test_no_memory_left_for_a_question_needs_a_person(grader, raised):
    source = f"""
from transformers import DistilBertForSequenceClassification as Model
def count_trainable_parameters(model): return sum(p.numel() for p in model.parameters() if p.requires_grad)
def full(*args, **kwargs): raise {raised}
Model.__init__ = full
"""
    run = asyncio.run(grader.run(submission_of(notebook_bytes(source)), notebook_bytes(source)))
    assert run.evidence.observations["count"].attempt is Attempt.FAULT
