"""The template filled in step by step in a real JupyterLab, with ten mistakes on the way: the right card stands on the screen."""

from __future__ import annotations

import pytest

from tests.jupyterlab import jupyterlab
from tests.selfcheck.lab import at_home, run_steps

pytestmark = pytest.mark.slow


def test_each_step_in_jupyterlab_shows_its_card(machine) -> None:
    with jupyterlab(machine / "lab", kernels=True) as lab:
        at_home(lab.folder)
        cards = 0
        for step, shown, _ in run_steps(lab):
            what = f"{step.name or step.source}: {shown}"
            assert not shown["errors"], what
            found = [card for card in shown["cards"] if not card["said"].startswith("Seen: ")]
            assert bool(found) == bool(step.marks), what
            for card in found[-1:]:
                cards += 1
                said = " ".join(card["said"].split())
                assert {name: mark for name, mark in card["rows"] if name in step.marks} == dict(step.marks), what
                assert not [text for text in step.says if text not in said], what
        assert cards == 17
        assert not lab.dialogs() and not lab.faults
