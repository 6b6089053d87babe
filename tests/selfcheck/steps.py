"""The template filled in step by step, as a student does: each mistake is checked before the right cell takes its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Step:
    """A cell, and the card that has to follow it."""

    source: str
    """What the student runs."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Criterion -> its mark on the last card; nothing where no card is expected."""
    says: tuple[str, ...] = ()
    """What the card says, besides."""
    name: str = ""
    """What is wrong with it; empty for what is right."""


def marks(mark: str, *criteria: str) -> dict[str, str]:
    return dict.fromkeys(criteria, mark)


COUNT = ("count/distilbert", "count/frozen", "count/any-module")
CLASS = ("lora/identity", "lora/forward", "lora/rank-scaling", "lora/gradients")
FULL = ("full/trained", "full/accuracy")
HEAD = ("head/frozen", "head/trained", "head/accuracy")
MODEL = ("lora/model", "lora/accuracy")
_CHECK_COUNT, _CHECK_CLASS = "\ncheck(count_trainable_parameters)", "\ncheck(LoRA)"
_MODEL = "model = AutoModelForSequenceClassification.from_pretrained(MODEL_NAME, num_labels=2)\n"
SHORT = """
Trainer(
    model=model, train_dataset=reviews["train"], processing_class=tokenizer,
    args=TrainingArguments("runs/short", max_steps=40, save_strategy="no", report_to="none", disable_tqdm=True),
).train()
"""
LORA = """class LoRA(nn.Module):
    def __init__(self, pretrained, rank=12, alpha=24):
        super().__init__()
        self.pretrained = pretrained.requires_grad_(False)
        self.A = nn.Linear(pretrained.in_features, rank, bias=False)
        self.B = nn.Linear(rank, pretrained.out_features, bias=False)
        nn.init.zeros_(self.B.weight)
        self.scaling = alpha / rank

    def forward(self, x):
        return self.pretrained(x) + self.scaling * self.B(self.A(x))
"""


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


MISTAKES = {
    "def count_trainable_parameters": [
        Step(
            "def count_trainable_parameters(model):\n    return sum(p.numel() for p in model.parameters())"
            + _CHECK_COUNT,
            {**marks("passed", "count/distilbert", "count/any-module"), "count/frozen": "failed"},
            ("66955010; 592130 is right",),
            "counts frozen parameters, too",
        ),
        Step(
            "def count_trainable_parameters(model):\n    print(sum(p.numel() for p in model.parameters() if p.requires_grad))"
            + _CHECK_COUNT,
            marks("failed", *COUNT),
            ("it returned None",),
            "prints instead of returning",
        ),
        Step(
            "def count_trainable_parameters(model):\n    return len([p for p in model.parameters() if p.requires_grad])"
            + _CHECK_COUNT,
            {**marks("failed", "count/distilbert", "count/any-module"), "count/frozen": "passed"},
            ("counts tensors",),
            "counts tensors, not numbers",
        ),
    ],
    "def replace_layers": [
        Step(
            "def extract_qv_layers(model):\n    return [m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))]\n"
            "check(extract_qv_layers)",
            {"layers/extract": "failed"},
            ("It returned a list",),
            "returns a list",
        ),
        Step(
            "def replace_layers(model, named_layers):\n    for name, layer in named_layers.items():\n"
            "        model.__dict__[name] = layer\ncheck(replace_layers)",
            {"layers/replace": "failed"},
            ("0 of 12 layers are where their names say",),
            "sets a dotted attribute",
        ),
    ],
    "class LoRA": [
        Step(
            changed(LORA, "alpha / rank", "alpha // rank") + _CHECK_CLASS,
            {**marks("passed", "lora/identity", "lora/forward", "lora/gradients"), "lora/rank-scaling": "failed"},
            ("scaled by 0, not by 0.5",),
            "rounds the scaling down",
        ),
        Step(
            changed(LORA, "        nn.init.zeros_(self.B.weight)\n", "") + _CHECK_CLASS,
            {**marks("passed", "lora/forward", "lora/rank-scaling", "lora/gradients"), "lora/identity": "failed"},
            ("differs from the wrapped layer's",),
            "starts with a random B",
        ),
    ],
    "model.distilbert.requires_grad_(False)\n": [
        Step(
            _MODEL + "model.distilbert.requires_grad = False\n" + SHORT + 'check("head", model)',
            {"head/frozen": "failed", "head/trained": "passed"},
            ("This counts as full fine-tuning", "100 tensors"),
            "sets requires_grad of a module",
        ),
        Step(
            "model.requires_grad_(False)\nmodel.pre_classifier.requires_grad_(True)\nmodel.classifier.requires_grad_(True)\n"
            + SHORT
            + 'check("head", model)',
            {"head/frozen": "failed", "head/trained": "passed"},
            ("This counts as head only", "do not have their pretrained values", "0 of 139,584 numbers of the body"),
            "goes on with the model of the step before",
        ),
    ],
    "replace_layers(model, {": [
        Step(
            _MODEL
            + "replace_layers(model, {name: LoRA(layer) for name, layer in extract_qv_layers(model).items()})\n"
            + "model.distilbert.requires_grad_(False)\n"
            + SHORT
            + 'check("lora", model)',
            {"lora/model": "failed"},
            ("12 layers have no trainable adapter", "12 LoRA layers of 12, the head is trainable"),
            "freezes the adapters, too",
        ),
    ],
}
"""What a cell of the reference defines -> mistakes that are made in its place."""
_RIGHT = {
    "def count_trainable_parameters": Step("check(count_trainable_parameters)", marks("passed", *COUNT)),
    "def replace_layers": Step('check("layers")', marks("passed", "layers/extract", "layers/replace")),
    "class LoRA": Step("%load_ext grader\n%check LoRA", marks("passed", *CLASS)),
    '"full")': Step(
        'check("full", trainers["full"])',
        marks("passed", *FULL),
        ("139,584 of 139,584 numbers", "500 reviews of eval.csv"),
    ),
    '"head")': Step(
        'check("head", trainers["head"])', marks("passed", *HEAD), ("This counts as head only", "0 of 139,584 numbers")
    ),
    '"lora")': Step(
        'check("lora", trainers["lora"])',
        marks("passed", *MODEL),
        ("This counts as LoRA: 12 LoRA layers of 12, the head is trainable, 0 of 139,584 numbers",),
    ),
}
_OURS = re.compile(r"^[ \t]*(check\(.*|%check.*|# !grader.*|### (BEGIN|END) SOLUTION)\n?", re.MULTILINE)


def steps() -> Iterator[Step]:
    """All cells in order; trainings take one epoch. A mistake is made before the first cell that it stands for."""
    wrong = dict(MISTAKES)
    cells = json.loads((ROOT / "reference_solution" / "finetuning.ipynb").read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        source = _OURS.sub("", "".join(cell["source"])).replace("num_train_epochs=3", "num_train_epochs=1")
        if cell["cell_type"] != "code" or not source.strip():
            continue
        for key in [key for key in wrong if key in source]:
            yield from wrong.pop(key)
        yield Step(source)
        yield from [step for key, step in _RIGHT.items() if key in source and "def fine_tune" not in source]
    yield Step("check()", marks("passed", *COUNT, *FULL, *HEAD, "layers/extract", "layers/replace", *CLASS, *MODEL))
