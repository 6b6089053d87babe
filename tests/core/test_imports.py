"""Attacks by files beside a notebook: no process of the grader imports, or starts, what lies in the current folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import grader
from grader.bundles.process import run_module
from grader.sandbox.host import why_no_box

PACKAGE = Path(grader.__file__).parent
PYTHON_S_OWN = {
    "runpy", "warnings", "importlib", "contextlib", "collections", "functools", "keyword", "operator", "reprlib", "types",
}  # fmt: skip
"""What Python imports for `-m` before any line of ours: `grader` without `python -m` is the command for such a folder."""
OTHERS = (
    "click",
    "rich",
    "numpy",
    "psutil",
    "filelock",
    "jinja2",
    "msgspec",
    "nbformat",
    "torch",
    "tools",
    "tests",
    "datasets",
)


def mark(folder: Path) -> str:
    return f"open({str(folder / 'ran')!r}, 'a').write(__name__ + chr(10))\n"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder of submissions with a module of every name that the grader could want."""
    folder = tmp_path / "submissions"
    folder.mkdir()
    for name in {*sys.stdlib_module_names, *OTHERS} - PYTHON_S_OWN:
        (folder / f"{name}.py").write_text(f"{mark(tmp_path)}raise ImportError('of a student')\n")
    (folder / "lab.ipynb").write_text("{}")
    return folder


def ran(folder: Path) -> list[str]:
    found = folder.parent / "ran"
    return found.read_text().split() if found.exists() else []


def start(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    return subprocess.run(words, cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.attack
@pytest.mark.parametrize("command", [["--version"], ["grade", "--help"]])
def test_python_m_grader_beside_a_module_of_every_name(hostile, command) -> None:
    done = start(hostile, sys.executable, "-m", "grader", *command)
    assert ran(hostile) == []
    assert done.returncode == 0, done.stderr


@pytest.mark.attack
@pytest.mark.parametrize("entry", ["", "HERE"])
def test_an_import_path_that_names_the_current_folder(hostile, entry) -> None:
    """As `export PYTHONPATH=$PYTHONPATH:/courses` does where nothing was set before."""
    for name in sys.stdlib_module_names:  # with this path Python's own start would run them
        (hostile / f"{name}.py").unlink(missing_ok=True)
    path = os.pathsep.join([str(hostile) if entry == "HERE" else entry, str(PACKAGE.parent)])
    entry_point = "from grader.__main__ import main; raise SystemExit(main(['grade', '--help']))"
    for words in (["-m", "grader", "grade", "--help"], ["-Pc", entry_point]):
        done = start(hostile, sys.executable, *words, PYTHONPATH=path)
        assert done.returncode == 0, done.stderr
    assert ran(hostile) == []


@pytest.mark.attack
def test_processes_that_train_start_in_the_current_folder(hostile, monkeypatch) -> None:
    monkeypatch.chdir(hostile)
    assert list(run_module("grader.inside.seeds", [])) == []
    assert ran(hostile) == []


@pytest.mark.attack
def test_submissions_at_the_top_of_a_checkout() -> None:
    """The zygote runs outside of the box: what it tries to import, and does not find, must not come from beside the notebooks."""
    if why := why_no_box():
        pytest.skip(why)
    with tempfile.TemporaryDirectory() as name:
        checkout = Path(name)
        checkout.chmod(0o755)  # the zygote's user gets here: only the import path refuses
        shutil.copytree(PACKAGE, checkout / "grader", ignore=shutil.ignore_patterns("__pycache__", "_data"))
        (checkout / "uvloop_of_a_student.py").write_text("raise SystemExit('ran outside of the box')\n")
        code = """
from grader.sandbox.pool import KernelPool
with KernelPool("warm", preload=("uvloop_of_a_student",)) as pool:
    pool.warm_up()
    print(pool.zygote.ready()["missing"])
"""
        done = start(checkout, sys.executable, "-Pc", code, PYTHONPATH=str(checkout))
    assert done.stdout == "['uvloop_of_a_student']\n", done.stderr


@pytest.mark.attack
def test_programs_in_the_current_folder_are_not_started(hostile) -> None:
    for name in ("bwrap", "unshare", "nsenter", "sh", "sbatch"):
        (hostile / name).write_text(f"#!/bin/sh\necho {name} >>{hostile.parent / 'ran'}\n")
        (hostile / name).chmod(0o755)
    code = """
from grader.imports import leave_out
leave_out()  # as every command does first
from grader.sandbox.host import why_no_box
import json
print(json.dumps(why_no_box()))
"""
    path = {"PYTHONPATH": str(PACKAGE.parent)}
    done = start(hostile, sys.executable, "-Pc", code, PATH=os.pathsep.join([str(hostile), os.environ["PATH"]]), **path)
    assert json.loads(done.stdout) == why_no_box(), done.stderr
    assert ran(hostile) == []


def test_an_assignment_named_by_hand_is_found_in_the_current_folder(tmp_path) -> None:
    (tmp_path / "quiz.py").write_text("from grader.assignments import load_assignment\nQUIZ = load_assignment()\n")
    code = """
from grader.imports import leave_out
leave_out()
from grader.assignments import load_assignment
print(load_assignment('quiz:QUIZ').id)
import quizzes
"""
    (tmp_path / "quizzes.py").write_text("print('imported')\n")
    done = start(tmp_path, sys.executable, "-c", code, PYTHONPATH=os.pathsep.join([".", str(PACKAGE.parent)]))
    assert done.stdout == "finetuning\n"
    assert "No module named 'quizzes'" in done.stderr
