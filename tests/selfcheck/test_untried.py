"""What lies beside a student's notebook is not tried out by a check of the whole notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import grader
from grader.inside.own_calls import is_beside

_LEAVES_A_MARK = """
def {name}(model, *more):
    open("{mark}", "w").close()
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
"""
_NOTEBOOK = """
import sys
sys.path[:0] = [".venv/lib/site-packages", "."]
import toolbox
{own}
from grader import check
card = check()
assert {row.mark for row in card.rows} == {"open"}, card
"""


@pytest.mark.slow
def test_check_tries_neither_packages_nor_other_names(tmp_path: Path) -> None:
    installed = tmp_path / ".venv/lib/site-packages"
    installed.mkdir(parents=True)
    (installed / "toolbox.py").write_text(_LEAVES_A_MARK.format(name="count_trainable_parameters", mark="installed"))
    script = tmp_path / "notebook.py"
    script.write_text(_NOTEBOOK.replace("{own}", _LEAVES_A_MARK.format(name="my_training", mark="own")))
    done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "installed").exists()
    assert not (tmp_path / "own").exists()


def test_modules_in_environments_beside_notebooks_are_no_students(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert is_beside(str(tmp_path / "helper.py"), home)
    assert is_beside(str(tmp_path / "lora" / "layer.py"), home)
    assert not is_beside(str(tmp_path / ".venv/lib/python3.12/site-packages/torch/nn/modules/linear.py"), home)
    assert not is_beside(str(tmp_path.parent / "helper.py"), home)
    assert not is_beside(str(Path(grader.__file__).parent / "errors.py"), str(Path(grader.__file__).parents[1]))
