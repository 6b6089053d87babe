"""The template filled in step by step, with ten mistakes on the way: after each cell stands the right card."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.selfcheck.steps import MISTAKES, Step, steps

pytestmark = pytest.mark.slow
_ROW = re.compile(r"^  ([✓✗○?]) .*?\(([a-z-]+/[a-z-]+),\s+\d+\s+of\s+\d+\)", re.MULTILINE | re.DOTALL)
_MARKS = {"✓": "passed", "✗": "failed", "○": "open", "?": "undecided"}


def read(card: str) -> dict[str, str]:
    """Criterion -> mark of a card's text."""
    return {name: _MARKS[mark] for mark, name in _ROW.findall(card)}


def compare(step: Step, cards: list[str]) -> None:
    """Hold the last card that a cell showed against what is expected after it."""
    assert bool(cards) == bool(step.marks), f"{step.name or step.source}: {cards}"
    if cards:
        seen, said = read(cards[-1]), " ".join(cards[-1].split())
        assert {name: seen.get(name) for name in step.marks} == step.marks, f"{step.name or step.source}:\n{cards[-1]}"
        assert not [text for text in step.says if text not in said], f"{step.name or step.source}:\n{cards[-1]}"


def test_there_are_ten_mistakes() -> None:
    names = [step.name for wrong in MISTAKES.values() for step in wrong]
    assert len(set(names)) == len(names) == 10
    assert sorted(step.name for step in steps() if step.name) == sorted(names)


async def filled_in(folder: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    client = NotebookClient(notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(folder)}})
    async with client.async_setup_kernel():
        for number, step in enumerate(steps()):
            cell = nbformat.v4.new_code_cell(step.source)
            notebook.cells.append(cell)
            await client.async_execute_cell(cell, number)
            shown = [output["data"] for output in cell.outputs if output.output_type == "display_data"]
            cards = [data["text/plain"] for data in shown if "max-width:52em" in data.get("text/html", "")]
            compare(step, [card for card in cards if not card.startswith("Seen: ")])


def test_each_step_in_a_kernel_shows_its_card(place) -> None:
    """By the kernel's protocol alone, as VS Code uses it."""
    asyncio.run(filled_in(place))
