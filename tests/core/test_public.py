"""The public face: its names, their types, and that importing it costs nothing."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import grader
from tests.pipeline.conftest import notebook_bytes
from tests.toy import TOY

ROOT = Path(__file__).parents[2]
HEAVY = (
    "accelerate",
    "dask",
    "datasets",
    "distributed",
    "evaluate",
    "jinja2",
    "nbclient",
    "numpy",
    "peft",
    "rich",
    "torch",
)
RIGHT = ("def add(a, b): return a + b", "def shout(text): return text.upper()")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_exported_names() -> None:
    assert sorted(grader.__all__) == grader.__all__
    assert {*grader._HOME, "__version__"} == set(grader.__all__)
    for name, home in grader._HOME.items():
        assert name in import_module(home).__all__, f"{name} is no public name of {home}"
        assert getattr(grader, name) is getattr(import_module(home), name)
    assert set(grader.__all__) <= set(dir(grader))
    with pytest.raises(AttributeError, match="nothing"):
        _ = grader.nothing


def test_exported_names_are_typed(tmp_path) -> None:
    """For mypy none of them is Any, which would let every mistake pass."""
    names = [name for name in grader.__all__ if name != "__version__"]
    lines = ["import grader", *(f"reveal_type(grader.{name})" for name in names)]
    (tmp_path / "use.py").write_text("\n".join([*lines, 'grader.grade("a.ipynb", nothing=1)', ""]))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "use.py")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    revealed = re.findall(r'use\.py:(\d+): note: Revealed type is "(.*)"', told)
    assert len(revealed) == len(names), told
    for line, kind in revealed:
        assert not re.match(r"(Any|Unknown)\b", kind), f"{names[int(line) - 2]} is {kind}"
    assert 'Unexpected keyword argument "nothing"' in told


@pytest.mark.parametrize("code", ["import grader", "import grader.cli.main as c; c.main(['--help'])"])
def test_start_imports_nothing_heavy(code) -> None:
    loaded = python(f"import sys\n{code}\nprint(sorted(sys.modules))")
    assert "'grader'" in loaded
    for heavy in HEAVY:
        assert f"'{heavy}'" not in loaded


def test_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "grader", "--version"]
    assert grader.__version__ in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def notebook(tmp_path) -> Path:
    path = tmp_path / "lab.ipynb"
    path.write_bytes(notebook_bytes(*RIGHT))
    return path


def test_grade_works_in_a_running_event_loop(notebook) -> None:
    async def cell() -> int | None:  # as in Jupyter, where the loop that runs the cell cannot be entered again
        return grader.grade(notebook, TOY, sandbox="none").score.total

    assert asyncio.run(cell()) == 9
    assert grader.grade(notebook, "tests.toy:TOY", sandbox="none").score.total == 9


def test_agrade_leaves_the_event_loop_free(notebook) -> None:
    async def beside() -> tuple[int | None, int]:
        ticks, done = 0, asyncio.Event()

        async def tick() -> None:
            nonlocal ticks
            while not done.is_set():
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        report = await grader.agrade(notebook, TOY, sandbox="none")
        done.set()
        await ticking
        return report.score.total, ticks

    total, ticks = asyncio.run(beside())
    assert total == 9
    assert ticks > 20
