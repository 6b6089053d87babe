"""From bytes to a report through a real kernel, with the toy assignment."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace

import pytest

from grader.grading.execution import RunRequest, run_notebook
from grader.grading.pipeline import report_for
from grader.notebook.reader import read_notebook
from grader.records import Attempt, CellRun, Evidence, Outcome, Status, SubmissionRun
from grader.reports.view import Reason, review_reasons
from grader.rubric.judge import judge
from grader.rubric.questions import Followup, call
from grader.sandbox.session import KernelSession
from grader.serialization import dumps, loads
from tests.pipeline.conftest import notebook_bytes, submission_of

ADD = "def add(a, b):\n    return a + b"
SHOUT = "def shout(text):\n    return text.upper()"


def earned(report) -> dict[str, int | None]:
    return {c.id: c.earned for c in report.score.criteria}


def test_a_right_notebook_gets_full_marks(run) -> None:
    report = run(ADD, SHOUT, "print(add(1, 2))")
    assert report.score.total == report.score.possible == 9
    assert [c.status for c in report.execution.cells] == ["ok", "ok", "ok"]
    assert report.execution.cells[2].output.strip() == "3"


def test_kernels_have_imported_what_the_assignment_names(run) -> None:
    report = run("import sys; print('torch' in sys.modules)", ADD, SHOUT)
    assert report.execution.cells[0].output == "False\n"
    assert report.score.total == 9


def test_a_wrong_function_costs_its_own_criterion(run) -> None:
    report = run(ADD, "def shout(text):\n    return text")
    assert earned(report) == {"add/sum": 4, "add/negative": 2, "shout/upper": 0}
    assert "'hej'" in report.score.criteria[2].verdict.message


def test_what_is_missing_or_raises_is_told(run) -> None:
    report = run("def add(a, b):\n    return a + c")
    assert earned(report) == {"add/sum": 0, "add/negative": 0, "shout/upper": 0}
    assert "NameError" in report.score.criteria[0].verdict.message
    assert report.score.criteria[1].verdict.because == "add/sum"
    assert "`shout` is not defined" in report.score.criteria[2].verdict.message


def test_a_cell_that_fails_costs_only_what_depends_on_it(run) -> None:
    report = run("1 / 0", ADD, "undefined_name\n" + SHOUT, "x = 1")
    assert report.score.total == 9
    assert [c.status for c in report.execution.cells] == ["error", "ok", "error", "ok"]
    assert report.execution.cells[0].error.name == "ZeroDivisionError"


def test_definitions_after_a_failing_line_of_one_big_cell_are_judged(run) -> None:
    report = run(f"import math\nraise RuntimeError('training failed')\n{ADD}\n{SHOUT}")
    assert report.score.total == 9


@pytest.mark.parametrize("package", ["spacy", "unheard_of"])
def test_points_lost_with_a_package_that_is_not_there_need_a_person(run, package) -> None:
    """Whether a stand-in took its place or the import failed; who loses nothing by it needs nobody."""
    use = f"import {package}\nwords = {package}.load('x')"
    report = run(ADD, use, SHOUT)
    assert report.score.total == 9
    report = run(ADD, use, SHOUT.replace("upper", "lower"))
    assert report.score.total is None
    assert report.score.review == (f"The notebook uses `{package}`, which this grader does not have.",)
    assert run(ADD, "import wandb\nwandb.init()\n1 / 0", SHOUT.replace("upper", "lower")).score.total == 6


@pytest.mark.parametrize("killer", ["import os; os._exit(1)", "import ctypes; ctypes.string_at(0)"])
def test_a_cell_that_ends_the_kernel_costs_only_what_depends_on_it(run, killer) -> None:
    report = run(ADD, f"{killer}\nresult = 3", SHOUT)
    assert report.score.total == 9
    assert report.execution.outcome is Outcome.KERNEL_DIED
    assert [c.status for c in report.execution.cells] == ["ok", "killed", "ok"]
    assert any(n.kind == "rerun" and "Cell 2" in n.text for n in report.notices)


def test_a_kernel_that_the_machine_kills_costs_nothing(run, monkeypatch) -> None:
    real, killed = KernelSession.run_cell, []

    async def run_cell(session: KernelSession, source: str, index: int) -> CellRun:
        if index == 1 and not killed:
            killed.append(session.kernel.pid)
            os.kill(session.kernel.pid, signal.SIGKILL)
        return await real(session, source, index)

    monkeypatch.setattr(KernelSession, "run_cell", run_cell)
    report = run(ADD, SHOUT + "\nprint(shout('a'))", "x = 1")
    assert killed
    assert report.score.total == 9
    assert report.execution.outcome is Outcome.COMPLETED
    assert [c.status for c in report.execution.cells] == ["ok", "ok", "ok"]
    assert not [n for n in report.notices if n.kind == "rerun"], "no cell is blamed"


STOP = "import os\nget_ipython().kernel.io_loop.add_callback(os._exit, 1)"


def test_a_kernel_that_ends_after_its_cells_reply_is_not_blamed_on_the_next_cell(run) -> None:
    report = run(ADD, STOP, f"kind = str\n{SHOUT.replace('text)', 'text: kind)')}")
    assert report.score.total == 9
    assert report.execution.outcome is Outcome.KERNEL_DIED
    assert [c.status for c in report.execution.cells] == ["ok", "killed", "ok"]
    assert [n.text for n in report.notices if n.kind == "rerun"] == [
        "Cell 2 ended the kernel; the notebook was run again with only that cell's definitions."
    ]


def test_a_kernel_that_ends_after_its_last_cell_costs_no_answer(run) -> None:
    report = run(ADD, SHOUT, STOP)
    assert report.score.total == 9
    assert [c.status for c in report.execution.cells] == ["ok", "ok", "killed"]


@pytest.mark.parametrize("end", ["import os\nos.kill(os.getpid(), 9)", "quit()"])
def test_a_restart_of_the_kernel_is_no_crash(run, end) -> None:
    report = run(ADD, end, SHOUT)
    assert report.score.total == 9
    assert report.execution.outcome is Outcome.COMPLETED
    assert [(a.cell, a.rule) for a in report.adaptations] == [(1, "restart")]


def test_an_endless_loop_keeps_what_was_earned(run) -> None:
    report = run(ADD, "while True:\n    pass", SHOUT)
    assert report.score.total == 9
    assert report.execution.outcome is Outcome.TIMED_OUT


@pytest.mark.slow
def test_adaptations_before_an_endless_loop_are_listed(run) -> None:
    report = run(
        f"n = 66955010\n!pip install x\n{ADD}",
        "try:\n    while True:\n        pass\nexcept KeyboardInterrupt:\n    import os\n    os._exit(1)",
    )
    assert [(a.cell, a.rule) for a in report.adaptations] == [(0, "size"), (0, "install")]


@pytest.mark.parametrize(
    "left", ["sys.stdout.close()", "sys.stdout = open('log.txt', 'w'); sys.stdout.close()", "del sys.stdout"]
)
def test_streams_that_cells_leave_behind_reach_no_question(run, left) -> None:
    report = run(ADD.replace("    return", "    print(a, b)\n    return"), SHOUT, f"import sys\n{left}")
    assert report.score.total == 9


def test_a_call_to_exit_ends_nothing(run) -> None:
    report = run(ADD, "import sys; sys.exit(1)", SHOUT)
    assert report.score.total == 9


def test_the_last_definition_wins_and_overwritten_names_are_remembered(run) -> None:
    report = run(f"def add(a, b):\n    return 0\n{ADD}", SHOUT, "add = add(1, 2)")
    assert report.score.total == 9


def test_helper_modules_are_taken_along(run) -> None:
    report = run("from helpers import add\nimport helpers", companions={"helpers.py": f"{ADD}\n{SHOUT}\n".encode()})
    assert report.score.total == 9


def test_helper_modules_are_adapted_like_cells(run) -> None:
    helper = "import torch\nlayer = torch.nn.Linear(2, 2).to('cuda')\n" + ADD
    report = run("from helpers import add, layer", SHOUT, companions={"helpers.py": helper.encode()})
    assert report.score.total == 9
    assert [(a.cell, a.rule, a.before, a.after) for a in report.adaptations] == [(0, "device", "'cuda'", "'cpu'")]


@pytest.mark.slow
def test_a_function_that_never_returns_costs_its_own_criterion(run) -> None:
    report = run(ADD, "def shout(text):\n    while True:\n        pass")
    assert earned(report) == {"add/sum": 4, "add/negative": 2, "shout/upper": 0}
    assert "CPU time" in report.score.criteria[2].verdict.message


def test_stderr_and_warnings_are_no_failures(run) -> None:
    report = run(
        ADD,
        "import sys, warnings\ndef shout(t):\n    print('x', file=sys.stderr)\n    warnings.warn('old')\n    return t.upper()",
    )
    assert report.score.total == 9


@pytest.mark.parametrize("data", [b"%PDF-1.4 ...", b"", notebook_bytes(ADD)[:-9]], ids=["pdf", "empty", "cut off"])
def test_what_cannot_be_read_has_no_score_until_a_person_decides(grader, data) -> None:
    submission = submission_of(data)
    result = asyncio.run(grader.run(submission, data))
    report = report_for(grader.context, submission, result)
    problem = report.submission.problem
    assert report.score.total is None and problem
    assert set(earned(report).values()) == {None}
    assert review_reasons(report) == (Reason(f"No notebook: decide. {problem}"),)
    assert report_for(grader.context, submission, result, no_notebook_is_zero=True).score.total == 0
    assert report_for(grader.context, submission, result, {"add/sum": (3, "it was on paper")}).score.total == 3


def test_a_package_that_is_not_here_is_for_a_person_to_decide(run) -> None:
    report = run("import zzz_not_a_package\nfrom zzz_not_a_package import add", SHOUT)
    assert report.score.total is None
    assert "zzz_not_a_package" in report.score.review[0]
    assert run("try:\n    import zzz_not_a_package\nexcept ImportError:\n    pass", ADD, SHOUT).score.total == 9


def test_a_fault_of_the_box_needs_review(grader, monkeypatch) -> None:
    from grader.errors import SandboxError

    def broken(*_args, **_kwargs):
        raise SandboxError("no box today")

    monkeypatch.setattr("grader.grading.execution.KernelSession", broken)
    data = notebook_bytes(ADD, SHOUT)
    submission = submission_of(data)
    result = asyncio.run(grader.run(submission, data))
    report = report_for(grader.context, submission, result)
    assert report.score.total is None
    assert all(c.earned is None and c.verdict.status is Status.ERROR for c in report.score.criteria)
    assert "no box today" in " ".join(report.score.review)


def test_a_bug_of_ours_needs_review(grader, monkeypatch) -> None:
    async def broken(*_args, **_kwargs):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("grader.grading.pipeline.run_notebook", broken)
    data = notebook_bytes(ADD)
    submission = submission_of(data)
    report = report_for(grader.context, submission, asyncio.run(grader.run(submission, data)))
    assert report.score.total is None
    assert "ZeroDivisionError" in report.score.review[0]


def test_stored_evidence_judges_the_same(grader) -> None:
    data = notebook_bytes(ADD, SHOUT)
    submission = submission_of(data)
    result = asyncio.run(grader.run(submission, data))
    stored = loads(dumps(result.evidence), Evidence)
    assert {o.attempt for o in stored.observations.values()} == {Attempt.VALUE}
    again = type(result)(result.notebook, result.execution, stored)
    assert dumps(report_for(grader.context, submission, again)) == dumps(report_for(grader.context, submission, result))


def test_evidence_of_other_questions_is_for_a_person_to_decide(grader, monkeypatch) -> None:
    data = notebook_bytes(ADD, SHOUT)
    submission = submission_of(data)
    result = asyncio.run(grader.run(submission, data))
    probes = dict(grader.context.assignment.questions)
    monkeypatch.setitem(grader.context.assignment.questions, "shout/upper", lambda draw: call("shout", "ho"))
    report = report_for(grader.context, submission, result)
    assert earned(report) == {"add/sum": 4, "add/negative": 2, "shout/upper": None}
    assert "has changed since" in report.score.review[0]
    monkeypatch.setitem(grader.context.assignment.questions, "shout/upper", probes["shout/upper"])
    assert report_for(grader.context, submission, result).score.total == 9


def test_a_followup_is_asked_of_the_same_kernel_where_it_is_wanted(grader) -> None:
    count = "calls = []\ndef ask(word):\n    calls.append(word)\n    return list(calls)"
    dear = call("ask", "dear")
    questions = {
        name: replace(call("ask", name), followup=Followup(dear, lambda _seen, wanted=wanted: wanted))
        for name, wanted in (("enough", False), ("open", True))
    }
    notebook = read_notebook(notebook_bytes(count))
    ran = asyncio.run(run_notebook(RunRequest(grader.pool, notebook, questions, spec=grader.spec({}))))
    observations = ran.evidence.observations
    assert observations["enough"].value == ["enough"]
    assert observations["open"].value == ["enough", "open", "dear"]


def test_a_second_half_is_asked_where_nothing_of_the_students_is(grader) -> None:
    look = "import os\ndef look():\n    return sorted(os.listdir())\nopen('left', 'w').close()"
    again = replace(call("look"), then=call("look", cpu_seconds=9))
    questions = {"alone": call("look"), "both": again, "none": replace(call("gone"), then=call("look"))}
    notebook = read_notebook(notebook_bytes(look))
    ran = asyncio.run(run_notebook(RunRequest(grader.pool, notebook, questions, spec=grader.spec({}))))
    seen = ran.evidence.observations
    assert "left" in seen["alone"].value
    assert seen["both"].attempt is Attempt.MISSING, "the function is not there"
    assert seen["none"].attempt is Attempt.MISSING, "without an answer there is nothing to go on with"
    assert "`gone`" in seen["none"].error
    assert ran.execution.outcome is Outcome.COMPLETED


def test_a_submission_draws_the_same_random_numbers_whenever_it_is_run(run) -> None:
    """Nobody's accuracy changes because a batch was interrupted, run on a cluster or graded again."""
    drawn = "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), float(torch.rand(())))"
    first, again, other = run(drawn), run(drawn), run(drawn, "# another submission")
    numbers = [report.execution.cells[0].output for report in (first, again, other)]
    assert numbers[0] == numbers[1]
    assert not set(numbers[0].split()) & set(numbers[2].split())


def test_preparing_one_submission_holds_up_no_other(grader, monkeypatch) -> None:
    """The clocks of kernels run in the same event loop: what computes for long does so in a thread."""

    def slow(function):
        def called(*given):
            time.sleep(0.4)
            return function(*given)

        return called

    monkeypatch.setattr("grader.grading.pipeline.read_notebook", slow(read_notebook))
    monkeypatch.setattr("grader.grading.reruns.judge", slow(judge))
    monkeypatch.setattr(grader.context.assignment, "draw", slow(grader.context.assignment.draw))
    gaps: list[float] = []

    async def ticks() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    async def both() -> SubmissionRun:
        clock = asyncio.create_task(ticks())
        await asyncio.sleep(0.02)
        data = notebook_bytes(ADD, SHOUT)
        result = await grader.run(submission_of(data), data)
        await asyncio.sleep(0.02)
        clock.cancel()
        return result

    assert asyncio.run(both()).execution.outcome is Outcome.COMPLETED
    assert max(gaps) < 0.35
