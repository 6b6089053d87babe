"""What a report lists is capped, and says so; what a cell displays costs the grader time by its length."""

from __future__ import annotations

import asyncio

import pytest

from grader.grading.execution import RunRequest, run_notebook
from grader.notebook.reader import read_notebook
from grader.sandbox.session import KernelSession
from tests.adapt.conftest import CONFIG
from tests.pipeline.conftest import notebook_bytes

pytestmark = pytest.mark.attack


def adapted(grader, *sources: str):
    notebook = read_notebook(notebook_bytes(*sources))
    shims = {"shims": ("grader.inside.shims",), "shim_config": CONFIG}
    return asyncio.run(run_notebook(RunRequest(grader.pool, notebook, {}, spec=grader.spec({}), **shims)))


def paths(number: int) -> str:
    return f"x = [{', '.join(repr(f'/content/data-{n}/a.csv') for n in range(number))}]"


def test_adaptations_beyond_five_hundred_are_left_out_with_a_sentence(grader) -> None:
    ran = adapted(grader, "y = '/content/b.csv'", paths(700), "z = '/content/c.csv'")
    assert len(ran.notebook.adaptations) == 500
    assert "Only the first 500 adaptations are listed." in [notice.text for notice in ran.execution.notices]


def test_all_of_fewer_adaptations_are_listed(grader) -> None:
    """Also when the kernel ends in a cell that adapted nothing, after others that did."""
    ran = adapted(grader, "y = '/content/b.csv'", "x = 1", "import ctypes\nctypes.string_at(0)")
    assert [change.before for change in ran.notebook.adaptations] == ["'/content/b.csv'"]
    assert "many-adaptations" not in [notice.kind for notice in ran.execution.notices]


def test_what_is_displayed_under_one_id_is_updated_in_few_places(grader) -> None:
    """A message for each of ten thousand outputs changed ten thousand outputs."""
    show = "from IPython.display import display, update_display\nfor n in range(300): display(n, display_id='a')\n"

    async def run():
        async with KernelSession(grader.pool, limits=grader.limits) as session:
            cell = await session.run_cell(show + "update_display('new', display_id='a')", 0)
            updated = await session.run_cell("h = display(1, display_id=True)\nh.update(2)", 1)
            return cell.output.splitlines(), updated.output

    lines, updated = asyncio.run(run())
    assert (len(lines), lines[-1], updated) == (300, "299", "2\n")
    assert lines.count("'new'") == 20
