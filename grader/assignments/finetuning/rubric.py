"""The assignment's declaration. The modules beside it add the questions and the criteria."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grader.assignments.finetuning.facts import read_facts
from grader.assignments.finetuning.runs import summarise
from grader.records import Observation
from grader.rubric.assignment import Assignment
from grader.rubric.questions import Question

__all__ = ["ASSIGNMENT"]


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
