"""What comes back about the LoRA class is a claim: where a part of it is absent, short or no number, nothing passes for it."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench import short
from grader.records import Attempt, Evidence, Observation, Status
from grader.rubric.judge import judge
from grader.rubric.questions import Draw, Question, generator
from tests.corpus import CASES
from tests.corpus.functions import ASSIGNMENT, ask

RIGHT = "lora-linear"
CHANGES: dict[str, Callable[[list[Any]], Any]] = {
    "shorter": lambda parts: parts[:1],
    "empty": lambda _parts: [],
    "none": lambda parts: [None for _ in parts],
    "nan": lambda parts: [np.full_like(part, np.nan) for part in parts],
    "text": lambda parts: ["0.0" for _ in parts],
    "other shape": lambda parts: [part[..., :1] for part in parts],
    "zero": lambda parts: [np.zeros_like(part) for part in parts],
}


@pytest.fixture(scope="module")
def answered() -> tuple[Question, Any]:
    question = ASSIGNMENT.questions["lora"](Draw(generator("ab", "lora"), types.SimpleNamespace(dim=32)))
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(CASES[RIGHT].source, "<case>", "exec"), namespace)
    return question, ask(namespace, question).value


def test_the_short_assignment_of_the_benches_asks_it_too() -> None:
    namespace: dict[str, object] = {}
    exec(compile("import torch\nfrom torch import nn\n" + short.LORA, "<case>", "exec"), namespace)
    question = short.SHORT.questions["lora"](Draw(generator("ab", "lora")))
    seen = ask(namespace, question)
    found = judge(short.SHORT, Evidence("ab", {"lora": seen}), {"lora": question})
    assert found["lora/identity"].status is Status.PASSED


def statuses(question: Question, value: Any) -> dict[str, Status]:
    evidence = Evidence("ab", {"lora": Observation(Attempt.VALUE, value)})
    found = judge(ASSIGNMENT, evidence, {"lora": question})
    return {
        name: found[name].status for name in ("lora/identity", "lora/forward", "lora/rank-scaling", "lora/gradients")
    }


def test_the_right_class_passes(answered) -> None:
    assert set(statuses(*answered).values()) == {Status.PASSED}


def holders(value: Any, part: str) -> list[dict[str, Any]]:
    """Where the outputs called `part` stand: those of fresh layers, or of those with the drawn matrices."""
    if part in ("eval", "train"):
        return [case["fresh"] for case in value["cases"]]
    return [factorization for case in value["cases"] for factorization in case["factorizations"]]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("part", "criterion"),
    [
        ("outputs", "lora/forward"),
        ("zeroed", "lora/forward"),
        ("eval", "lora/identity"),
        ("train", "lora/identity"),
    ],
)
def test_outputs_that_are_not_there_pass_nothing(answered, part, criterion, change) -> None:
    question, value = answered
    forged = copy.deepcopy(value)
    for holder in holders(forged, part):
        holder[part] = CHANGES[change](holder[part])
    assert statuses(question, forged)[criterion] is not Status.PASSED
    for holder in holders(forged, part):
        del holder[part]
    assert statuses(question, forged)[criterion] is not Status.PASSED


@pytest.mark.parametrize("gone", [[], [None], "x", None, 3])
def test_cases_that_are_not_there_pass_nothing(answered, gone) -> None:
    question, _ = answered
    assert Status.PASSED not in statuses(question, {"cases": gone}).values()
