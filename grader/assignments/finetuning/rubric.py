"""The assignment's declaration. The modules beside it add the questions and the criteria."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grader.assignments.finetuning.facts import read_facts
from grader.assignments.finetuning.runs import summarise
from grader.records import Observation, Reading
from grader.rubric.assignment import Assignment
from grader.rubric.questions import Question

__all__ = [
    "ASSIGNMENT",
    "ON_DISTILBERT",
    "ON_FINE_TUNING",
    "ON_FREEZING",
    "ON_LAYERS",
    "ON_LINEAR",
    "ON_LORA",
    "ON_LORA_MODEL",
    "ON_MODULES",
    "ON_PARAMETERS",
    "ON_SUBMODULES",
    "ON_TENSORS",
    "ON_TRAINER",
]

_TORCH = "https://docs.pytorch.org/docs/stable"
_LIBRARY = "https://huggingface.co/docs/transformers"
ON_MODULES = Reading("`nn.Module` and its parameters", f"{_TORCH}/generated/torch.nn.Module.html")
ON_LAYERS = Reading("`nn.Module`, and how it lists what it is made of", f"{_TORCH}/generated/torch.nn.Module.html")
ON_SUBMODULES = Reading(
    "names with dots in `nn.Module`", f"{_TORCH}/generated/torch.nn.Module.html#torch.nn.Module.get_submodule"
)
ON_TENSORS = Reading("what a tensor tells of itself", f"{_TORCH}/tensors.html")
ON_PARAMETERS = Reading("`nn.Parameter`", f"{_TORCH}/generated/torch.nn.parameter.Parameter.html")
ON_LINEAR = Reading("`nn.Linear`, its sizes and shapes", f"{_TORCH}/generated/torch.nn.Linear.html")
ON_FREEZING = Reading(
    "`requires_grad`, and what it means to freeze", f"{_TORCH}/notes/autograd.html#setting-requires-grad"
)
ON_FINE_TUNING = Reading("fine-tuning with Transformers", f"{_LIBRARY}/training")
ON_TRAINER = Reading("`Trainer` and `TrainingArguments`", f"{_LIBRARY}/main_classes/trainer")
ON_DISTILBERT = Reading("DistilBERT for classification", f"{_LIBRARY}/model_doc/distilbert")
ON_LORA = Reading("the LoRA paper, section 4.1", "https://arxiv.org/abs/2106.09685")
ON_LORA_MODEL = Reading("the LoRA paper, section 4.2", "https://arxiv.org/abs/2106.09685")


def _metrics(questions: Mapping[str, Question], observations: Mapping[str, Observation]) -> dict[str, Any]:
    """Give the measured numbers of the three runs, for reports."""
    return summarise(questions["training"], observations["training"])


ASSIGNMENT = Assignment(
    "finetuning",
    "Comparing fine-tuning methods",
    facts=read_facts,
    metrics=_metrics,
    groups={
        "count": "Counting parameters",
        "full": "Full fine-tuning",
        "head": "Final layers only",
        "layers": "Replacing layers",
        "lora": "LoRA",
    },
    data_files=("train.csv", "eval.csv"),
    watch="grader.inside.distilbert:watch",
    needs_run=("training",),
)
