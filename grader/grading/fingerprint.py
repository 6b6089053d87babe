"""What evidence depends on beside the submission: versions of libraries, our own code, the questions. Trusted."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import grader
from grader.grading import wire
from grader.rubric.questions import Question

__all__ = ["code_digest", "digest_of", "package_digest", "question_digest", "versions"]

_VERSIONED = ("torch", "transformers", "datasets", "evaluate", "accelerate", "numpy", "ipykernel")
_PACKAGE = Path(grader.__file__).parent
_ROOMS = ("grading", "inside", "notebook", "sandbox")


@cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of what grading depends on."""
    found = {"python": platform.python_version(), "grader": grader.__version__}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def code_digest(package: Path = _PACKAGE) -> str:
    """Digest of the code that evidence depends on: what prepares a notebook, builds its box, runs it and asks.

    All of these rooms count, file by file: whoever changes one runs submissions again rather than trust that it makes no difference.
    """
    return _digest_of_files(package, [path for room in _ROOMS for path in (package / room).rglob("*.py")])


@cache
def package_digest() -> str:
    """Digest of all files of the grader's package."""
    return _digest_of_files(_PACKAGE, [p for p in _PACKAGE.rglob("*") if p.is_file() and p.suffix != ".pyc"])


def _digest_of_files(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def question_digest(question: Question) -> str:
    """Digest of what is sent into boxes and of what may come back, follow-up and second half included."""
    params, buffers = wire.encode(question.params)
    state: list[Any] = [question.op, params, [hashlib.sha256(buffer).hexdigest() for buffer in buffers]]
    state.append(f"{question.answer!r} {question.public}")
    if question.followup is not None:
        state.append(question_digest(question.followup.question))
    if question.then is not None:
        state.append({"then": question_digest(question.then)})
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def digest_of(state: Mapping[str, str]) -> str:
    """Digest of names and their values, whatever their order."""
    return hashlib.sha256(json.dumps(dict(state), sort_keys=True).encode()).hexdigest()
