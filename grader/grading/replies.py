"""From a reply of the agent's to an observation. Nothing of what runs notebooks is imported: a self-check reads replies, too."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from grader.grading import wire
from grader.records import Attempt, Observation
from grader.rubric.answers import ANYTHING, Many, OneOf, Text
from grader.rubric.questions import Question

__all__ = ["TOO_LARGE", "observed"]

_OF_ALL = {"renamed": Text(80), "cpu_seconds": float}
_REPLY = OneOf(
    {"status": "ok", "value": ANYTHING, **_OF_ALL},
    {"status": "raised", "error": Text(500), **_OF_ALL},
    {"status": "missing", "names": Many(Text(80), 5), **_OF_ALL},
    {"status": "large", **_OF_ALL},
    {"status": "fault", "error": Text(500), **_OF_ALL},
    {"status": "error", "error": {"name": str, "message": str}},  # not the agent but the kernel around it
)
"""What is replied to a question."""
TOO_LARGE = "nothing, but gave back more data than can be read"


def observed(
    question: Question, reply: Mapping[str, Any], buffers: Sequence[bytes], known: Container[str] | None = None
) -> Observation:
    """Read what was replied; of names only those are told that are `known`, words of the notebook, since the others were made up later.

    Raises EvidenceError for what is never replied: something else has spoken then.
    """
    said = wire.fit(_REPLY, wire.decode({**reply}, buffers), None, "the reply")
    tell = None if question.public else wire.name_of

    def named(name: str) -> str:
        return name if known is None or name in known else "another name"

    cpu, renamed = said.get("cpu_seconds", 0.0), said.get("renamed", "") and named(said["renamed"])
    match said["status"]:
        case "ok":
            return Observation(Attempt.VALUE, wire.fit(question.answer, said["value"], tell), "", renamed, cpu)
        case "raised":
            error = said["error"] if tell is None else tell(said["error"])
            return Observation(Attempt.RAISED, None, error, renamed, cpu)
        case "large":
            return Observation(Attempt.RAISED, None, TOO_LARGE, renamed, cpu)
        case "missing":
            several = ", ".join(f"`{named(name)}`" for name in said["names"])
            more = f" Several names could stand for it: {several}." if several else ""
            wanted = next(iter(question.params.get("names", ())), "?")
            error = f"`{wanted}` is not defined in the notebook.{more}"
            return Observation(Attempt.MISSING, None, error, renamed, cpu)
    why = f"The question could not be asked ({said['error']}); a person has to look."
    return Observation(Attempt.FAULT, None, why, renamed, cpu)
