"""The warm start: what is imported beforehand, when a zygote refuses, what becomes of sessions when it hangs, and who starts cold."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

import grader.sandbox.zygote
from grader.grading.execution import RunRequest, run_notebook
from grader.notebook.reader import read_notebook
from grader.reports import for_student
from grader.sandbox import conformance
from grader.sandbox.environment import environment
from grader.sandbox.host import why_no_box
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession
from tests.pipeline.conftest import notebook_bytes
from tests.reports import samples

from .conftest import SMALL, run_in
from .imports import late_imports, listed

WHY_NOT = why_no_box()
pytestmark = [pytest.mark.box, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "boxes work")]

MOST_LATE_BYTES = 100_000


@pytest.mark.slow
def test_the_reference_run_imports_little_after_the_fork():
    late = late_imports()
    size, names = sum(module.size for module in late), ", ".join(listed(late))
    assert size < MOST_LATE_BYTES, f"{size} bytes late: {names}; run `python -m tests.sandbox.imports --write`"


@pytest.fixture
def with_thread(monkeypatch):
    """Lets a library start a thread in zygotes, at once or as soon as another one is imported."""
    folder = tempfile.TemporaryDirectory()
    place = Path(folder.name)
    place.chmod(0o755)  # for the ordinary user that the zygote runs as

    def begin(when: str) -> None:
        (place / "sitecustomize.py").write_text(
            f"""
import sys, threading, time
def begin(): threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {when!r}:
            sys.meta_path.remove(self)
            begin()
begin() if {not when} else sys.meta_path.insert(0, Finder())
"""
        )
        found = {"PYTHONPATH": str(place)}
        monkeypatch.setattr("grader.sandbox.pool.environment", lambda *given: {**environment(*given), **found})

    with folder:
        yield begin


@pytest.mark.slow
def test_a_zygote_with_a_second_thread_refuses(with_thread):
    with_thread("pandas")
    with KernelPool("warm") as pool:
        assert pool.zygote.ready() is None
        assert "forking would not be safe: the imports started threads" in pool.zygote.failure
        refused = pool.zygote.pid
        notebook = read_notebook(notebook_bytes("print(6 * 7)"))
        ran = asyncio.run(run_notebook(RunRequest(pool, notebook, {}, SMALL))).execution
        assert (ran.sandbox, ran.cells[0].output) == ("cold", "42\n")
        assert pool.zygote.pid == refused  # it would refuse again
    assert [notice.kind for notice in ran.notices] == ["cold-start"]
    assert "the imports started threads" in ran.notices[0].text
    report = samples.perfect()
    seen = for_student(replace(report, execution=replace(report.execution, notices=ran.notices)))
    assert seen.execution.notices == ()


def test_the_doctor_is_told_why_kernels_start_cold(with_thread, monkeypatch):
    monkeypatch.setattr(conformance, "CHECKS", {})
    reasons = []
    with_thread("")
    assert list(conformance.conform(reasons.append)) == []
    assert len(reasons) == 1
    assert "there are threads already" in reasons[0]


@pytest.mark.slow
def test_a_zygote_that_hangs_is_ended_while_kernels_go_on(monkeypatch):
    monkeypatch.setattr(grader.sandbox.zygote, "_ANSWER_SECONDS", 1.0)

    async def talk(pool):
        async with KernelSession(pool, limits=SMALL) as session:
            await session.run_cell("x = 5", 0)
            os.kill(pool.zygote.pid, signal.SIGSTOP)
            other = await run_in(pool, ["print(1)"])
            return session.kernel.mode, other.mode, other.text, (await session.run_cell("print(x)", 1)).output

    with KernelPool("warm", preload=()) as pool:
        pool.warm_up()
        assert asyncio.run(talk(pool)) == ("warm", "cold", "1\n", "5\n")
        assert not pool.zygote.alive


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_a_pool_imports_what_it_is_told_to(mode):
    with KernelPool(mode, preload=["xml.dom.minidom"]) as pool:
        ran = asyncio.run(run_in(pool, ["import sys; print([n in sys.modules for n in ('xml.dom.minidom', 'torch')])"]))
    assert (ran.mode, ran.text) == (mode, "[True, False]\n")


def test_deaths_are_forgotten_once_a_kernel_was_forked(warm_pool):
    warm_pool.zygote._deaths = 2
    assert asyncio.run(run_in(warm_pool, ["1"])).mode == "warm"
    assert warm_pool.zygote._deaths == 0
