"""Runs function-level cases: the student's definitions, the real questions, the real judge, one process, no training."""

from __future__ import annotations

import types
from collections.abc import Mapping

from grader.assignments import load_assignment
from grader.grading.wire import decode, encode
from grader.inside import agent
from grader.records import Attempt, Evidence, Observation, Verdict
from grader.rubric.judge import judge
from grader.rubric.questions import Draw, Question, generator
from tests.corpus.matrix import Difference, Judged, difference

ASSIGNMENT = load_assignment("finetuning")
ASKED = ("count", "extract", "replace", "lora")
CRITERIA = tuple(check.id for check in ASSIGNMENT.checks.values() if check.asks in ASKED)
_ATTEMPT = {"ok": Attempt.VALUE, "missing": Attempt.MISSING, "raised": Attempt.RAISED, "fault": Attempt.FAULT}


def ask(namespace: dict[str, object], question: Question) -> Observation:
    """Put one question to the student's names, through the wire and back."""
    kernel = types.SimpleNamespace(shell=types.SimpleNamespace(user_ns=namespace))
    tree, buffers = encode(dict(question.params))
    reply, out = agent.handle(kernel, {"op": question.op, "params": tree}, buffers)
    renamed = str(reply.get("renamed", ""))
    return Observation(_ATTEMPT[reply["status"]], decode(reply.get("value"), out), str(reply.get("error", "")), renamed)


def verdicts(source: str, seed: str = "c0ffee") -> dict[str, Verdict]:
    """Judge the nine criteria on functions and the class for a student's source."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(source, "<case>", "exec"), namespace)
    draw = {
        name: ASSIGNMENT.questions[name](Draw(generator(seed, name), types.SimpleNamespace(dim=48))) for name in ASKED
    }
    evidence = Evidence(seed, {name: ask(namespace, question) for name, question in draw.items()})
    found = judge(ASSIGNMENT, evidence, draw)
    return {name: found[name] for name in CRITERIA}


def differences(name: str, loses: frozenset[str], found: Mapping[str, Verdict]) -> list[Difference]:
    """Compare verdicts with a label; empty when they agree."""
    wrong = difference(Judged(name, "", loses, found))
    return [] if wrong is None else [wrong]
