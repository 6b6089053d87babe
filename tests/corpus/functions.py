"""Runs function-level cases: the student's definitions, the real questions, the real judge, one process, no training."""

from __future__ import annotations

import functools
import types
import zlib
from collections.abc import Iterable, Mapping

from grader.assignments import load_assignment
from grader.grading.wire import encode, observed
from grader.inside import agent
from grader.records import Evidence, Observation, Verdict
from grader.rubric.judge import judge
from grader.rubric.questions import Draw, Question, generator
from tests.corpus.base import PARTS, Case
from tests.corpus.matrix import Difference, Judged, difference

ASSIGNMENT = load_assignment("finetuning")
ASKED = ("count", "extract", "replace", "lora")
CRITERIA = tuple(check.id for check in ASSIGNMENT.checks.values() if check.asks in ASKED)
WHOLE = 16
"""One case of so many is asked everything: what a change does to the parts beside it."""


def ask(namespace: dict[str, object], question: Question, handed: str = "") -> Observation:
    """Put one question to the student's names, through the wire and back; `handed` is a file of tensors for a second half."""
    parent = types.SimpleNamespace(descriptors={"handed": handed})
    kernel = types.SimpleNamespace(shell=types.SimpleNamespace(user_ns=namespace), parent=parent)
    tree, buffers = encode(dict(question.params))
    reply, out = agent.handle(kernel, {"op": question.op, "params": tree}, buffers)
    return observed(question, reply, out)


@functools.cache
def drawn(seed: str) -> Mapping[str, Question]:
    """The four questions on functions and the class, drawn from a seed."""
    facts = types.SimpleNamespace(dim=48)
    return {name: ASSIGNMENT.questions[name](Draw(generator(seed, name), facts)) for name in ASKED}


def verdicts(source: str, seed: str = "c0ffee", asked: Iterable[str] = ASKED) -> dict[str, Verdict]:
    """Judge a student's source by the criteria of these questions; by default all nine on functions and the class."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(source, "<case>", "exec"), namespace)
    questions = {name: drawn(seed)[name] for name in asked}
    evidence = Evidence(seed, {name: ask(namespace, question) for name, question in questions.items()})
    found = judge(ASSIGNMENT, evidence, questions)
    return {name: found[name] for name in CRITERIA if ASSIGNMENT.checks[name].asks in questions}


def asked_of(case: Case) -> tuple[str, ...]:
    """The questions that concern a case: of the parts that it changes and the criteria that it loses; all for a sample."""
    changed = {part for part, text in case.parts.items() if text != PARTS[part]}
    if not changed or "imports" in changed or zlib.crc32(case.name.encode()) % WHOLE == 0:
        return ASKED
    lost = {ASSIGNMENT.checks[criterion].asks for criterion in case.loses}
    return tuple(name for name in ASKED if name in changed | lost)


def verdicts_of(case: Case) -> dict[str, Verdict]:
    """Judge a case by the questions that concern it."""
    return verdicts(case.source, asked=asked_of(case))


def differences(name: str, loses: frozenset[str], found: Mapping[str, Verdict]) -> list[Difference]:
    """Compare verdicts with a label; empty when they agree."""
    wrong = difference(Judged(name, "", loses, found))
    return [] if wrong is None else [wrong]
