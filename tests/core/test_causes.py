"""What caused a lost criterion is said once, from the notebook's own sources and how its cells ended."""

from dataclasses import replace

import pytest

from grader.grading.causes import explained, follow_ons, with_originals
from grader.records import (
    Adaptation,
    Attempt,
    Cell,
    CellError,
    CellRun,
    Evidence,
    Execution,
    Notebook,
    Observation,
    Outcome,
    Status,
    SubmissionRun,
    Usage,
)  # fmt: skip
from grader.rubric.assignment import Assignment
from grader.rubric.compare import NO_RUN, failed, passed, skipped
from grader.rubric.judge import judge
from grader.rubric.questions import Question
from grader.sandbox.guard import GuardLimits, guarded

ASSIGNMENT = Assignment("causes", "Causes")
QUESTIONS = {
    "f": Question("call", {"names": ["f"]}), "training": Question("call"), "g": Question("call", {"names": ["g"]}),
}  # fmt: skip
for name, question in QUESTIONS.items():
    ASSIGNMENT.question(name)(lambda draw, question=question: question)


@ASSIGNMENT.check("f/one", points=1, asks="f")
def f_one(asked, seen):
    """One."""
    return failed("It returned None.", "Return it.") if seen.value is None else passed()


@ASSIGNMENT.check("f/two", points=1, asks="f")
def f_two(asked, seen):
    """Two."""
    return passed()


@ASSIGNMENT.check("g/one", points=1, asks="g")
def g_one(asked, seen):
    """Call."""
    return failed(f"Nothing came: called as `g(layer, rank)` it raised {seen.value}.") if seen.value else passed()


@ASSIGNMENT.check("run/one", points=1, asks="training")
def run_one(asked, seen):
    """Train."""
    return failed(NO_RUN, "Train.") if seen.value in (0, 2) else passed()


@ASSIGNMENT.check("run/two", points=1, asks="training")
def run_two(asked, seen):
    """Train again."""
    return failed(NO_RUN, "Train.") if seen.value == 0 else skipped("run/one", NO_RUN) if seen.value == 2 else passed()


def notebook_run(*cells, outcome=Outcome.COMPLETED, training=1, f=1, g=0):
    """A run of cells, each a source or (source, error name, error text); a name alone for `killed` and `not_run`."""
    rows = [cell if isinstance(cell, tuple) else (cell, "ok", "") for cell in cells]
    statuses = {"ok": "ok", "killed": "killed", "not_run": "not_run"}
    runs = tuple(
        CellRun(i, statuses.get(name, "error"), 0.0, 0.0, None if name in statuses else CellError(name, text, ""))
        for i, (_, name, text) in enumerate(rows)
    )
    values = {"f": f, "g": g, "training": training}
    seen = {
        name: value if isinstance(value, Observation) else Observation(Attempt.VALUE, value)
        for name, value in values.items()
    }
    book = Notebook(tuple(Cell(i, source) for i, (source, _, _) in enumerate(rows)), len(rows))
    return SubmissionRun(book, Execution(outcome, runs, Usage(), "none", {}, ""), Evidence("", seen))


def said(run):
    verdicts = judge(ASSIGNMENT, run.evidence, QUESTIONS)
    found = explained(ASSIGNMENT, run, verdicts, QUESTIONS)
    assert {id_: v.status for id_, v in found.items()} == {id_: v.status for id_, v in verdicts.items()}
    return found


GONE = Observation(Attempt.MISSING, error="`f` is not defined in the notebook.")
BROKEN = ("def f(x):\n    return (x", "SyntaxError", "'(' was never closed (1234.py, line 2)")


def test_a_syntax_error_is_named_once_with_cell_and_line():
    found = said(notebook_run("import os", BROKEN, f=GONE))
    assert found["f/one"].message == "`f` is not defined: cell 2 has a syntax error in line 2."
    assert "cell" in found["f/one"].hint
    assert (found["f/two"].status, found["f/two"].because) == (Status.SKIPPED, "f/one")
    assert "syntax" not in found["f/two"].message


def test_an_f_string_of_a_newer_python_is_called_that():
    broken = ('def f(x):\n    return f"{"\\n".join(x)}"', "SyntaxError", "f-string: expecting '}' (1234.py, line 2)")
    found = said(notebook_run(broken, f=GONE))
    assert "cell 1 has a syntax error in line 2 in an f-string (which a newer Python may read" in found["f/one"].message


def test_what_is_nowhere_is_asked_for_by_its_name():
    found = said(notebook_run("x = 1", ("plot(x)", "NameError", "name 'plot' is not defined"), f=GONE))
    assert found["f/one"].message == "`f` is not defined in the notebook."
    assert "name the assignment gives" in found["f/one"].hint


def test_a_name_that_comes_too_late_is_said_so_once():
    cells = [(f"trainer.train(fresh({i}))", "NameError", "name 'fresh' is not defined") for i in range(2)]
    found = said(notebook_run(*cells, "def fresh(i): pass", training=0))
    assert found["run/one"].message == (
        "This training was not reached: cell 1 uses `fresh`, which is defined further down, in cell 3."
    )
    assert found["run/two"].message.endswith("see `run/one`.")


def test_a_training_is_known_by_what_the_notebooks_functions_do():
    helpers = (
        "def go(model):\n    Trainer(model).train()\ndef tune(model):\n    return go(model)\ndef plot():\n    pass"
    )
    failing = [("plot()", "ValueError", "no plot"), ("tune(model)", "ValueError", "no loss")]
    found = said(notebook_run(helpers, *failing, training=0))
    assert found["run/one"].message == "This training was not reached: cell 3 failed with `ValueError: no loss`."


def test_the_same_error_in_several_cells_is_one_cause():
    cells = [
        ("trainer.train()", "TypeError", "unexpected keyword 'epoch'"),
        ("trainer.train()", "TypeError", "unexpected keyword 'epoch'"),
    ]
    run = notebook_run(*cells, training=0)
    assert "see `run/one`" in said(run)["run/two"].message
    assert follow_ons(run) == ()


def test_an_ellipsis_that_fails_is_a_placeholder():
    failing = ("trainer.train(model)", "AttributeError", "'ellipsis' object has no attribute 'to'")
    found = said(notebook_run("first = ...", "model = ...", failing, training=0))
    assert found["run/one"].message == "This training was not reached: cell 2 still holds a placeholder (`...`)."


@pytest.mark.parametrize(
    "text", ["element 0 of tensors does not require grad", "optimizer got an empty parameter list"]
)
def test_a_model_that_is_frozen_as_a_whole_is_said_to_be(text):
    assert "frozen" in said(notebook_run(("trainer.train()", "RuntimeError", text), training=0))["run/one"].hint


def test_a_method_that_is_a_placeholder_is_not_written_yet():
    source = "class g:\n    def __init__(self, x):\n        self.x = x\n    def forward(self, x):\n        raise NotImplementedError()"
    assert said(notebook_run(source, g="NotImplementedError"))["g/one"].message == "`g.forward` is not written yet."


def test_a_training_that_was_not_reached_names_the_first_cause():
    run = notebook_run(
        ("data = load('x.csv')", "FileNotFoundError", "x.csv"),
        ("trainer = Trainer(data)\ntrainer.train()", "NameError", "name 'data' is not defined"),
        ("print(trainer)", "NameError", "name 'trainer' is not defined"),
        training=0,
    )
    found = said(run)
    assert found["run/one"].message == "This training was not reached: cell 1 failed with `FileNotFoundError: x.csv`."
    assert "see `run/one`" in found["run/two"].message
    assert "FileNotFoundError" not in found["run/two"].message
    (notice,) = follow_ons(run)
    assert notice.text == "Cells 2, 3 failed only because cell 1 had failed before."


def test_a_failed_plot_is_no_cause_of_a_missing_training():
    found = said(notebook_run(("plt.plot(x)", "NameError", "name 'x' is not defined"), training=0))
    assert found["run/one"].message == NO_RUN


@pytest.mark.parametrize("status", ["killed", "not_run"])
def test_a_training_that_a_limit_stopped_was_not_reached(status):
    cells = ["import os", ("while True:\n    trainer.train()", status, "")]
    found = said(notebook_run(*cells, outcome=Outcome.TIMED_OUT, training=0))
    assert found["run/one"].message.startswith("This training was not reached")
    assert "used up its time" in found["run/one"].message
    assert NO_RUN not in found["run/one"].message


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    ...",
        "def f(x):\n    'Text.'\n    # YOUR CODE HERE\n    pass",
        "def f(x):\n    raise NotImplementedError('todo')",
        pytest.param(
            f"def f(x):\n    raise NotImplementedError{'.a' * 900}", id="a chain of names", marks=pytest.mark.attack
        ),
        "def f(x):\n    return None",
        "class f(Base):\n    def __init__(self):\n        super().__init__()\n        ...\n    def g(self):\n        pass",
    ],
)
def test_a_placeholder_is_not_written_yet(source):
    found = said(notebook_run(source, f=None))
    assert found["f/one"].message == "`f` is not written yet."
    assert said(notebook_run("def f(x):\n    print(x)", f=None))["f/one"].message == "It returned None."


def test_a_training_cell_with_a_placeholder_is_told():
    assert "Cell 2 still holds" in said(notebook_run("import os", "model = ...\n", training=0))["run/one"].message


CLASS = "class g(nn.Module):\n    def __init__(self, r, alpha, layer):\n        {}self.layer = layer\n"


def test_a_missing_super_call_is_called_that():
    without = said(notebook_run(CLASS.format(""), g="AttributeError"))["g/one"]
    assert "does not call `super().__init__()`" in without.message
    with_it = said(notebook_run(CLASS.format("super().__init__(); "), g="AttributeError"))["g/one"]
    assert with_it.message.endswith("it raised AttributeError. Its signature is `g(r, alpha, layer)`.")


def test_what_passes_is_left_alone():
    run = notebook_run("def f(x):\n    ...", BROKEN)
    verdicts = judge(ASSIGNMENT, run.evidence, QUESTIONS)
    assert explained(ASSIGNMENT, run, verdicts, QUESTIONS) == verdicts
    assert explained(ASSIGNMENT, replace(run, notebook=Notebook((), 0)), verdicts, QUESTIONS) == verdicts


def test_an_adapted_number_has_the_students_own_beside_it():
    run = notebook_run(("assert n == N", "AssertionError", "142034 is not 1420345, nor 142034."))
    change = Adaptation(0, "size", "66955010", "142034", "")
    told = with_originals(replace(run, notebook=replace(run.notebook, adaptations=(change,))))
    text = "142034 (for your 66955010) is not 1420345, nor 142034 (for your 66955010)."
    assert told.execution.cells[0].error.message == text
    assert with_originals(run) is run


def lacking(name: str) -> tuple[str, str, str]:
    return f"y = {name}", "NameError", f"name '{name}' is not defined"


HEAVY = {
    "a chain of a thousand cells": [("y0 = 1 / 0", "ZeroDivisionError", ""), *[
        (f"y{i} = y{i - 1}", "NameError", f"name 'y{i - 1}' is not defined") for i in range(1, 1000)
    ]],
    "a thousand long cells that each lack another name": [
        (f"z{i}\n" + "a = [1, 2, (3, 4)]\n" * 30, "NameError", f"name 'z{i}' is not defined") for i in range(1000)
    ],
    "a thousand cells of which each speaks of an ellipsis": [
        (f"{i}" + "#" * 7000, "TypeError", "'ellipsis' object is not callable") for i in range(1000)
    ],
    "two thousand functions of which each calls the one before": [(
        "def f0(): trainer.train()\n" + "".join(f"def f{i}(): f{i - 1}()\n" for i in range(1, 2000)), "ok", ""
    ), ("f1999()", "ValueError", "no")],
    "a sum of nine hundred terms": [(f"def f(): return {'+'.join('a' * 900)}", "ok", ""), ("f()", "ValueError", "no")],
    "blank lines": [("\n" * 200_000 + "y = (", "SyntaxError", "'(' was never closed (line 200001)")],
    "a name with a tower of accents": [("a" + "\u0301\u0316" * 100_000 + " = 1", "ok", ""), lacking("b")],
}  # fmt: skip
"""Notebooks that took minutes to hours to judge, and so a person each."""


@pytest.mark.attack
@pytest.mark.parametrize(
    "cells",
    [
        pytest.param(cells, marks=[pytest.mark.slow] * name.startswith("a thousand"), id=name)
        for name, cells in HEAVY.items()
    ],
)
def test_causes_are_found_in_the_time_of_reading(cells):
    run = notebook_run(*cells, f=Observation(Attempt.MISSING, None, "`f` is not defined"), training=0, g=None)
    guarded(lambda: str(len(follow_ons(run)) + len(said(run))), str, GuardLimits(cpu_seconds=10))


def test_a_chain_of_failures_has_one_root():
    (told,) = follow_ons(notebook_run(*HEAVY["a chain of a thousand cells"][:4]))
    assert told.text == "Cells 2, 3, 4 failed only because cell 1 had failed before."
