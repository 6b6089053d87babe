"""Real kernels in the best sandbox this machine has, shared by the tests of the pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from grader.bundles.bundle import load_bundle
from grader.grading.pipeline import Grader, RunContext, report_for
from grader.notebook.reader import read_notebook
from grader.records import Attempt, Evidence, Execution, Observation, Outcome, Report, Submission, SubmissionRun, Usage
from grader.runs.engines import Job, LocalEngine, Session
from grader.sandbox.contract import Limits
from tests.toy import TOY


def notebook_bytes(*sources: str) -> bytes:
    cells = [
        {"cell_type": "code", "source": s, "metadata": {}, "outputs": [], "execution_count": None} for s in sources
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).encode()


def submission_of(data: bytes, name: str = "anna") -> Submission:
    digest = hashlib.sha256(data).hexdigest()
    return Submission(name, ("1",), name, f"{name}.ipynb", f"intake/{name}/{name}.ipynb", digest)


def told_without_a_kernel(monkeypatch: pytest.MonkeyPatch, window: int, before: Callable[[Job], None]) -> None:
    """Let the local engine bring evidence of 3 of the toy's 9 points for every notebook; `before` is called for each job."""

    def told(job: Job) -> Future[SubmissionRun]:
        before(job)
        execution = Execution(Outcome.COMPLETED, (), Usage(), "none", {}, "b")
        seen = {"shout/upper": Observation(Attempt.VALUE, "HEJ")}
        future: Future[SubmissionRun] = Future()
        future.set_result(SubmissionRun(read_notebook(job.data), execution, Evidence("5eed", seen)))
        return future

    @contextlib.contextmanager
    def open_told(*_given: Any) -> Iterator[Session]:
        yield Session(told, window)

    monkeypatch.setattr(LocalEngine, "open", open_told)


@pytest.fixture(scope="session")
def grader() -> Iterator[Grader]:
    context = RunContext.create(TOY, load_bundle(None), b"a secret for tests")
    with Grader(context, limits=Limits(cpu_seconds=8, wall_seconds=300)) as place:
        yield place


@pytest.fixture
def run(grader):
    def go(*sources: str, companions=None) -> Report:
        data = notebook_bytes(*sources)
        submission = submission_of(data)
        result = asyncio.run(grader.run(submission, data, companions))
        return report_for(grader.context, submission, result)

    return go
