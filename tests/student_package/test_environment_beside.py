"""A virtual environment in the notebook's folder, as VS Code makes it: its packages are not taken for modules of the student's."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest

from grader.inside import agent
from grader.inside.witness import Witness


@pytest.fixture
def loaded(monkeypatch):
    """Imports a file that defines a function of its own name."""

    def load(file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"def {file.stem}(model):\n    return 1\n")
        spec = importlib.util.spec_from_file_location(f"beside_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)

    return load


@pytest.mark.parametrize(
    "place", [".venv/lib/python3.11/site-packages/lib", "env/Lib/site-packages", "lib/dist-packages"]
)
def test_packages_beside_a_notebook_are_not_tried(place, loaded, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(agent._state, "home", str(tmp_path))
    loaded(tmp_path / "mine.py")
    loaded(tmp_path / "src" / "deeper.py")
    loaded(tmp_path / place / "library.py")
    shell = types.SimpleNamespace(user_ns={})
    context = agent.Context(types.SimpleNamespace(shell=shell), Witness())
    tried = context.candidates(callable, lambda _: True)
    assert {each.__name__ for each in tried} == {"mine", "deeper"}
