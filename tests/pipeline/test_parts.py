"""A part of the assignment, and functions and classes without running anything: what a student asks for while working."""

from __future__ import annotations

from pathlib import Path

import pytest

from grader import grade
from grader.assignments import load_assignment
from grader.cli.main import main
from grader.errors import UsageError
from grader.rubric.assignment import Assignment
from grader.rubric.compare import passed
from grader.rubric.questions import call
from tests.pipeline.conftest import notebook_bytes
from tests.toy import TOY

CELLS = (
    "import time\n\ndef add(a, b):\n    return a + b\n\nraise SystemError('a cell that must not run')",
    "open('ran', 'w').close()\nshout = str.upper  # not a definition",
    "class Later:\n    pass\n\ndef shout(text):\n    return text.upper()",
)


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "lab.ipynb"
    path.write_bytes(notebook_bytes(*CELLS))
    return path


def test_definitions_are_judged_and_no_cell_is_run(notebook) -> None:
    report = grade(notebook, TOY, sandbox="none", definitions=True)
    assert report.score.total == report.score.possible == 9
    assert report.execution is not None and {cell.status for cell in report.execution.cells} == {"not_run"}


def test_the_command_says_what_it_looked_at(notebook, capsys) -> None:
    assert main(["check", str(notebook), "--assignment", "tests.toy:TOY", "--sandbox", "none", "--fast"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "9 / 9" in told and "No cell was run: only imports, functions, classes and plain settings were taken" in told
    assert "Without --fast the notebook is run" in told


def test_one_step_has_its_own_points(notebook, capsys) -> None:
    code = main(["check", str(notebook), "--assignment", "tests.toy:TOY", "--sandbox", "none", "--step", "shout"])
    told = " ".join(capsys.readouterr().out.split())
    assert code == 0 and "3 / 3" in told and "Only shout was looked at." in told and "returns the sum" not in told


def test_a_part_that_is_none_is_an_error(notebook, capsys) -> None:
    assert main(["check", str(notebook), "--assignment", "tests.toy:TOY", "--step", "speed"]) == 2
    assert "the parts are add, shout" in " ".join(capsys.readouterr().err.split())


def test_what_trains_is_left_out() -> None:
    whole = load_assignment()
    fast = whole.only(definitions=True)
    assert set(fast.questions) == {"count", "extract", "replace", "lora"} == set(whole.questions) - {"training"}
    assert fast.possible == 48 and whole.possible == 100
    assert {name.partition("/")[0] for name in whole.only("lora").checks} == {"lora"}
    with pytest.raises(UsageError, match="the parts are count, full"):
        whole.only("full", definitions=True)


def test_what_a_part_builds_on_elsewhere_holds_nothing_up() -> None:
    made = Assignment("x", "X", preload=())
    made.check("a/one", points=1, probe=lambda _draw: call("f"))(_fine)
    made.check("b/two", points=1, probe=lambda _draw: call("g"), after=["a/one"])(_fine)
    assert made.only("b").checks["b/two"].after == ()
    assert made.checks["b/two"].after == ("a/one",)


def _fine(asked: object, seen: object) -> object:
    """It is fine."""
    return passed()
