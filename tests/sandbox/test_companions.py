"""What lies beside a notebook, and is called what its author likes: it starts with the notebook, never before it."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc

import pytest

from grader.bundles.bundle import load_bundle
from grader.grading.execution import _words_of
from grader.grading.pipeline import Grader, RunContext, report_for
from grader.records import Cell, Notebook, Outcome
from grader.sandbox.contract import BoxSpec, Limits
from tests.pipeline.conftest import notebook_bytes, submission_of
from tests.toy import TOY

from .conftest import box_missing

EARLY = b"import os\nos.close(os.open('/tmp/taken', os.O_CREAT))\nraise SystemExit\n"
OTHERS = (
    "IPython",
    "ipykernel",
    "zmq",
    "traitlets",
    "comm",
    "jedi",
    "matplotlib_inline",
    "ipython_config",
    "sitecustomize",
    "grader",
)
SHADOWS = {f"{name}.py": EARLY for name in (*sys.stdlib_module_names, *OTHERS) if not name.startswith("_")}
"""Modules under every name that a kernel could import while it starts."""
SOURCES = ("import os, helper\nprint(helper.SIX, os.path.exists('/tmp/taken'))", "def add(a, b): return a + b")


@pytest.mark.box
@pytest.mark.attack
@pytest.mark.parametrize("mode", ["warm", pytest.param("cold", marks=pytest.mark.slow)])
def test_modules_called_like_pythons_own_do_not_run_early(mode):
    if why := box_missing():
        pytest.skip(why)
    data = notebook_bytes(*SOURCES)
    context = RunContext.create(TOY, load_bundle(None), b"a secret for tests")
    with Grader(context, sandbox=mode, limits=Limits(cpu_seconds=60, wall_seconds=300)) as grader:
        run = asyncio.run(grader.run(submission_of(data), data, {**SHADOWS, "helper.py": b"SIX = 6"}))
    report = report_for(context, submission_of(data), run)
    assert report.execution.outcome is Outcome.COMPLETED
    assert report.execution.cells[0].output == "6 False\n"
    assert {c.id: c.earned for c in report.score.criteria} == {"add/sum": 4, "add/negative": 2, "shout/upper": 0}


@pytest.mark.attack
def test_words_of_a_large_module_take_little_memory():
    module = b" ".join(b"w%x" % number for number in range(200_000))
    spec = BoxSpec(files={"large.py": module, "data.csv": b"w_of_a_table"})
    tracemalloc.start()
    try:
        known = _words_of(Notebook((Cell(0, "def näme(): pass"),), 1), spec)
        assert all(map(known, ("näme", "w1a", "w30d3f", "w1")))
        assert not any(map(known, ("zz", "w_of_a_table", "w1 w2", "")))
        assert tracemalloc.get_traced_memory()[1] < 4 * len(module)
    finally:
        tracemalloc.stop()
