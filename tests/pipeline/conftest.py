"""Real kernels in the best sandbox this machine has, shared by the tests of the pipeline."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator

import pytest

from grader.bundles import load_bundle
from grader.grading.pipeline import Grader, RunContext, report_for
from grader.records import Report, Submission
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
