"""Training-level cases: three short trainings of a tiny random DistilBERT, seen by the real witness and judged by the real judge.

A case replaces steps of the base handwriting. Four steps teach nothing, so most runs have no minimum accuracy: the criterion is judged
only where it is lost without one, because there was no run or the model gave no logits. A run that `learns` has to reach one.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from grader.assignments import load_assignment
from grader.assignments.finetuning.facts import JudgeFacts, digest, read_checkpoint
from grader.bundles.thresholds import Calibration
from grader.inside import agent
from grader.inside.distilbert import BLOCKS, layout
from grader.inside.tensors import HANDED
from grader.inside.witness import Witness
from grader.records import Attempt, Evidence, Observation, Verdict
from grader.rubric.judge import judge
from grader.rubric.questions import Draw, Question, generator
from tests.corpus.base import PARTS
from tests.corpus.functions import ASKED, ask, drawn

WORDS = ["good", "great", "bad", "poor", "film", "plot", "actor", "the", "was", "a"]
MINIMUM = 0.7
"""Accuracy that a run which learns has to reach: right ones have 0.83 and more, wrong ones 0.58 and less."""
DIRECTION = 0.5
"""Correlation of the labels with what a run taught that is enough as well: right ones have 0.6 after a few steps, wrong ones 0.2."""
NO_MINIMUM = "no calibrated threshold"
"""What the judge says of an accuracy that has no minimum."""
STEPS = {
    "setup": """
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments
def fresh():
    return AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2)
IDS = torch.randint(5, 12, (8, 6), generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1] * 4)
def train(model, optimizer=None, steps=4):
    optimizer = optimizer or torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=LABELS).loss.backward()
        optimizer.step()
""",
    "full": """
model = fresh()
train(model)
""",
    "head": """
model = fresh()
for p in model.distilbert.parameters():
    p.requires_grad = False
train(model)
""",
    "lora": """
model = fresh()
for p in model.distilbert.parameters():
    p.requires_grad = False
replace_layers(model, {n: LoRA(m, 4, 8) for n, m in extract_qv_layers(model).items()})
train(model)
""",
    "end": "",
}


@dataclass(frozen=True)
class Training:
    """One labelled variation of the three trainings."""

    name: str
    """Unique."""
    cells: tuple[str, ...]
    """The cells, run one after the other."""
    loses: frozenset[str]
    """Criteria that are not passed."""
    learns: str
    """The method whose run is long enough for its accuracy to be judged; empty for none."""


TRAININGS: dict[str, Training] = {}
BASE = "\n".join(PARTS.values())
"""The definitions of the base handwriting."""


def training(name: str, *, loses: str = "", learns: str = "", **changes: str) -> None:
    """Add a case: whole steps (`setup`, `full`, `head`, `lora`, `end`), or parts of the definitions (`lora_class`, ...)."""
    definitions = {**PARTS, **{k.removeprefix("def_"): v for k, v in changes.items() if k.startswith("def_")}}
    steps = {**STEPS, **{k: v for k, v in changes.items() if not k.startswith("def_")}}
    assert name not in TRAININGS and set(steps) == set(STEPS) and set(definitions) == set(PARTS), name
    TRAININGS[name] = Training(
        name, ("\n".join(definitions.values()), *steps.values()), frozenset(loses.split()), learns
    )


def tiny_checkpoint(folder: Path) -> JudgeFacts:
    """Write a tiny six-block DistilBERT without a head's training into `folder`; returns what the judge knows of it.

    Its first block carries every word to the token that the head reads, so that a head alone can learn which films are good.
    """
    import torch
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizerFast

    (folder / "words.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]), encoding="utf-8"
    )
    DistilBertTokenizerFast(vocab=str(folder / "words.txt")).save_pretrained(folder)
    torch.manual_seed(3)
    config = DistilBertConfig(
        vocab_size=5 + len(WORDS), dim=16, hidden_dim=24, n_heads=2, n_layers=BLOCKS, max_position_embeddings=16
    )
    model = DistilBertModel(config)
    first, last = model.transformer.layer[0].attention, model.transformer.layer[-1].output_layer_norm
    with torch.no_grad():
        for layer in (first.v_lin, first.out_lin):
            layer.weight.copy_(3 * torch.eye(config.dim))
        last.weight.mul_(4)
        for name, bias in model.named_parameters():  # as in any checkpoint: no two of them are alike
            if name.endswith("bias"):
                bias.uniform_(-0.02, 0.02)
    model.save_pretrained(folder)
    tensors = {f"distilbert.{name}": array for name, array in read_checkpoint(folder / "model.safetensors").items()}
    return JudgeFacts(
        dim=16,
        digests=frozenset(digest(array) for array in tensors.values()),
        texts=tuple(f"the {noun} was {word}" for word in WORDS[:4] for noun in WORDS[4:7]) * 8,
        labels=tuple(int(word in WORDS[:2]) for word in WORDS[:4] for _noun in WORDS[4:7]) * 8,
        calibrations={},
        public=tuple(f"a {noun} was {word}" for word in WORDS[:4] for noun in WORDS[4:7]),
    )


_seen: dict[str, Observation] = {}


def _of_definitions(source: str, namespace: dict[str, object], name: str, question: Question) -> Observation:
    """Ask about the functions and the class; most cases share the base's definitions, where once is enough."""
    if source != BASE:
        return ask(namespace, question)
    if name not in _seen:
        exec(compile(source, "<definitions>", "exec"), fresh := {"__name__": "__main__"})
        _seen[name] = ask(fresh, question)
    return _seen[name]


@contextlib.contextmanager
def tiny_world(folder: Path) -> Iterator[JudgeFacts]:
    """Put the tiny checkpoint into `folder`, and freeze what there is: as in a fork of the zygote it belongs to no student."""
    facts = tiny_checkpoint(folder)
    gc.collect()
    gc.freeze()
    try:
        yield facts
    finally:
        gc.unfreeze()


def in_two_halves(namespace: dict[str, object], question: Question, folder: Path) -> Observation:
    """Ask for the tensors of all runs, and what the models made of them answer; in one process, but through the file."""
    seen = ask(namespace, question)
    if question.followup is not None and question.followup.wanted(seen):
        question = question.followup.question
        seen = ask(namespace, question)
    assert question.then is not None
    if seen.attempt is not Attempt.VALUE:
        return seen
    then = replace(question.then, params={**question.then.params, "handed": seen.value})
    return ask({}, then, handed=str(folder / HANDED))


ASKED_THEMSELVES: dict[str, list[str]] = {}
"""Case -> why models of it could not be rebuilt and had to answer themselves."""


@contextlib.contextmanager
def watching(witness: Witness) -> Iterator[None]:
    """Let a witness watch this process, and take its hooks out again."""
    from torch import autograd, nn
    from torch.optim import optimizer
    from transformers import Trainer

    patched = ((autograd, "backward"), (autograd, "grad"), (nn.Module, "__init__"), (Trainer, "train"))
    hooks = (optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks)
    with contextlib.ExitStack() as stack:
        for place, name in patched:
            stack.callback(setattr, place, name, getattr(place, name))
        for registered in hooks:
            stack.callback(registered.update, dict(registered))
            stack.callback(registered.clear)
        witness.install()
        yield


@contextlib.contextmanager
def trained(cells: Iterable[str], folder: Path) -> Iterator[dict[str, object]]:
    """Run cells under the witness; what they have defined, and for a while the agent that can be asked about them."""
    import torch

    torch.manual_seed(1)
    gc.collect()
    with contextlib.chdir(folder):
        witness = Witness(layout)
    before = dict(agent._state)
    agent._state.update(witness=witness, once={}, checkpoint=str(folder), home=str(folder))
    namespace: dict[str, object] = {"__name__": "__main__", "MODEL": str(folder), "HOME": tempfile.mkdtemp(dir=folder)}
    try:
        with watching(witness):
            for cell in cells:
                exec(compile(cell, "<cell>", "exec"), namespace)
                witness.snapshot_models()
            yield namespace
    finally:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(f"{folder}/"):
                del sys.modules[name]  # a helper module of this case
        agent._state.clear()
        agent._state.update(before)


def about_training(facts: JudgeFacts) -> Question:
    """The question about training that every case is asked."""
    return load_assignment("finetuning").questions["training"](Draw(generator("c0ffee", "training"), facts))


def verdicts(case: Training, folder: Path, facts: JudgeFacts) -> dict[str, Verdict]:
    """Run a case's cells under the witness and judge all it can be judged by."""
    if case.learns:
        facts = replace(facts, calibrations={case.learns: Calibration(MINIMUM, correlation=DIRECTION)})
    questions = {**drawn("c0ffee"), "training": about_training(facts)}
    with trained(case.cells, folder) as namespace:
        seen = {name: _of_definitions(case.cells[0], namespace, name, questions[name]) for name in ASKED}
        seen["training"] = in_two_halves(namespace, questions["training"], folder)
    runs = seen["training"].value["runs"] if seen["training"].attempt is Attempt.VALUE else []
    ASKED_THEMSELVES[case.name] = [run["own"] for run in runs if run.get("own")]
    found = judge(load_assignment("finetuning"), Evidence("c0ffee", seen), questions)
    return {name: verdict for name, verdict in found.items() if NO_MINIMUM not in verdict.message}


__all__ = [
    "ASKED_THEMSELVES",
    "TRAININGS",
    "about_training",
    "in_two_halves",
    "tiny_checkpoint",
    "tiny_world",
    "trained",
    "training",
    "verdicts",
]
