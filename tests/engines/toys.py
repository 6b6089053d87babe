"""A small class for the toy assignment, and what a run of it on an engine comes to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grader.grading.context import RunContext
from grader.runs.batch import Event, run_batch
from grader.runs.directory import IntakeRecord, RunDirectory, RunInfo, load_context
from grader.runs.engines import Engine, Job
from grader.runs.plan import make_plan
from grader.runs.publish import judge_run
from grader.sandbox.contract import Limits
from grader.serialization import dumps
from tests.pipeline.conftest import notebook_bytes, submission_of

ADD = "def add(a, b):\n    return a + b"
SHOUT = "def shout(text):\n    return text.upper()"
WRONG = "def add(a, b):\n    return a - b"
LIMITS = Limits(cpu_seconds=20, wall_seconds=300)
CLASS = ((ADD, SHOUT), (WRONG, SHOUT), ("1 / 0", ADD), (ADD, "print('hej')", "def shout(text):\n    return text"))


def toy_class(
    root: Path, sources: Sequence[Sequence[str]], assignment: str = "tests.toy:TOY"
) -> tuple[RunDirectory, RunContext, tuple[Job, ...]]:
    """A run directory that holds one submission per list of cells, with a secret that is always the same."""
    run = RunDirectory(root)
    info = RunInfo(assignment, "standin", "", "", "auto", "test")
    run.start(info, b"a secret for engines")
    submissions = []
    for number, cells in enumerate(sources):
        data = notebook_bytes(*cells)
        submission = submission_of(data, f"student{number:02d}")
        (root / submission.path).parent.mkdir(parents=True)
        (root / submission.path).write_bytes(data)
        submissions.append(submission)
    run.write("intake.json", IntakeRecord(tuple(submissions)))
    context = load_context(info, run.secret())
    return run, context, make_plan(run, context, LIMITS, submissions).jobs


def grade_on(
    engine: Engine,
    root: Path,
    sources: Sequence[Sequence[str]],
    on_event: Callable[[Event], None] = lambda _event: None,
    assignment: str = "tests.toy:TOY",
) -> dict[str, Any]:
    """Grade a toy class on an engine; returns what reports say, without what every run measures anew."""
    run, context, jobs = toy_class(root, sources, assignment)
    run_batch(run, context, jobs, engine, on_event)
    return reports_of(run)


def reports_of(run: RunDirectory) -> dict[str, Any]:
    """What the reports of a run say of each submission: score and verdicts, statuses and outputs of cells."""
    reports = {}
    for report in judge_run(run):
        execution = report.execution  # None where judging ended badly
        cells = [(cell.status, cell.output) for cell in execution.cells] if execution else []
        scored = json.loads(dumps(replace(report.score)))
        outcome = execution.outcome.value if execution else ""
        reports[report.submission.id] = {"score": scored, "outcome": outcome, "cells": cells}
    return reports


def totals(reports: dict[str, Any]) -> list[int | None]:
    """Total of each submission; None where it needs review."""
    return [entry["score"]["total"] for entry in reports.values()]
