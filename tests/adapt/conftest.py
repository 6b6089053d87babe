"""Notebooks in real kernels with the shims installed, forked from one zygote for each test process."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest

from grader.inside.shims import adapting
from grader.notebook.adaptations import REASONS, read_adaptations
from grader.sandbox.contract import BoxSpec, Limits
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

SIZES = {66955010: 160000, 592130: 9000, 768: 64, 3072: 256}
CONFIG = {
    "data_files": ["eval.csv", "train.csv"],
    "companions": ["helper.py"],
    "sizes": {str(real): ours for real, ours in SIZES.items()},
    "head_gain": 1.0,
}
ROWS = "index,review,label\n" + "".join(f"{i},good film {i},{i % 2}\n" for i in range(4))
FILES = {"train.csv": ROWS.encode(), "eval.csv": ROWS.encode(), "helper.py": b"x = 1\n"}


@contextlib.contextmanager
def noted(config=None):
    """What the shims note in this process, whose libraries stay as they are."""
    changes = []
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(adapting, "_declared", [])
        adapting.begin(lambda *change: changes.append(change), config or CONFIG)
        yield changes


@dataclass
class Ran:
    """What a notebook did."""

    cells: list = field(default_factory=list)
    """One `CellRun` per cell."""
    changes: list = field(default_factory=list)
    """Cell, rule, before, after and reason of each adaptation."""
    answers: list = field(default_factory=list)
    """What the functions that were called gave, or the word of what went wrong."""

    @property
    def records(self):
        """Rule, before and after of each adaptation."""
        return [tuple(change[1:4]) for change in self.changes]

    @property
    def rules(self):
        """The rules alone."""
        return [change[1] for change in self.changes]


@pytest.fixture(scope="session")
def pools():
    """Pools of kernels by mode and by whether the libraries are imported before the shims."""
    opened = {}
    with contextlib.ExitStack() as stack:

        def pool(mode="auto", *, preloaded=True):
            key = mode, preloaded
            if key not in opened:
                opened[key] = stack.enter_context(KernelPool(mode, preload=None if preloaded else ()))
            return opened[key]

        yield pool


@pytest.fixture
def notebook(pools):
    """A function that runs cells one after the other; a cell that fails fails the test unless `fails` says so.

    Afterwards the functions in `calls` are asked: name and arguments of each.
    """

    def run(*cells, config=None, files=None, fails=False, mode="auto", preloaded=True, calls=()):
        async def go():
            ran = Ran()
            spec = BoxSpec(files={**FILES, **(files or {})})
            async with KernelSession(pools(mode, preloaded=preloaded), spec, Limits()) as session:

                async def ask(op, **params):
                    reply, _ = await session.ask({"op": op, "params": params}, cpu_seconds=60)
                    assert reply["status"] == "ok", reply
                    return reply["value"]

                await ask("install", modules=["grader.inside.shims"], config=CONFIG | (config or {}))
                for index, source in enumerate(cells):
                    await ask("begin_cell", index=index)
                    ran.cells.append(await session.run_cell(source, index))
                    if ran.cells[-1].status == "error":
                        await ask("define", index=index, source=source)
                for name, *args in calls:
                    question = {"op": "call", "params": {"names": [name], "args": args}}
                    reply, _ = await session.ask(question, cpu_seconds=60)
                    ran.answers.append(reply["value"] if reply["status"] == "ok" else reply["error"])
                ran.changes = await ask("adaptations")
            return ran

        ran = asyncio.run(go())
        for cell in ran.cells:
            assert "grader/inside" not in cell.output, cell.output
            assert fails or cell.status == "ok", f"{cell.error}\n{cell.output}"
        told = read_adaptations(ran.changes, {None, *range(len(cells))})
        assert [change.rule for change in told] == ran.rules  # none is unknown outside of the box
        assert [change.reason for change in told] == [REASONS[change[4]] for change in ran.changes]
        return ran

    return run
