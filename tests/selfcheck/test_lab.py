"""The template filled in step by step in a real JupyterLab, with ten mistakes on the way: the right card stands on the screen.

`PICTURES=docs/images python -m pytest tests/selfcheck/test_lab.py` takes those of docs/students.md.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from grader.bundles.bundle import load_bundle
from tests.jupyterlab import jupyterlab
from tests.selfcheck.lab import PICTURES, least_contrast, run_steps, take_picture

pytestmark = pytest.mark.slow


def test_each_step_in_jupyterlab_shows_its_card(machine) -> None:
    with jupyterlab(machine / "lab", kernels=True) as lab:
        for file in (load_bundle().train_csv, load_bundle().eval_csv):
            shutil.copy(file, lab.folder)
        cards = 0
        for step, shown, picture in run_steps(lab):
            what = f"{step.name or step.source}: {shown}"
            assert not shown["errors"], what
            found = [card for card in shown["cards"] if not card["said"].startswith("Seen: ")]
            assert bool(found) == bool(step.marks), what
            for card in found[-1:]:
                cards += 1
                said = " ".join(card["said"].split())
                assert {name: mark for name, mark in card["rows"] if name in step.marks} == dict(step.marks), what
                assert not [text for text in step.says if text not in said], what
            name = PICTURES.get(step.name or step.source)
            if name and os.environ.get("PICTURES"):
                take_picture(lab, name, picture, Path(os.environ["PICTURES"]))
        assert cards == 17
        assert least_contrast(lab, "JupyterLab Light") > 4
        assert least_contrast(lab, "JupyterLab Dark") > 4
        assert not lab.dialogs() and not lab.faults
