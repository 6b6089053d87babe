"""One budget of time for a submission: however often it is run and asked, it uses its limits once (and once more for questions)."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace

import pytest

from grader.bundles.bundle import load_bundle
from grader.grading.pipeline import RunContext, report_for
from grader.records import Attempt, Outcome, Usage
from grader.sandbox.contract import Limits
from tests.pipeline.conftest import notebook_bytes, submission_of
from tests.pipeline.test_reruns import LUCK

pytestmark = pytest.mark.attack

BURN = "import time\nend = time.thread_time() + {}\nwhile time.thread_time() < end: pass"
CRASH = "import ctypes\nctypes.string_at(0)"
WORKS = "def add(a, b): return a + b\ndef shout(text): return text.upper()"


@pytest.fixture
def place(grader):
    """A grader that gives each submission three CPU seconds."""
    found = copy.copy(grader)
    found.limits = Limits(cpu_seconds=3, wall_seconds=240)
    return found


def go(place, *sources):
    data, stages = notebook_bytes(*sources), []
    result = asyncio.run(place.run(submission_of(data), data, on_progress=stages.append))
    return result, stages


def test_what_a_run_has_used_is_not_there_for_the_next():
    limits = Limits(cpu_seconds=100, wall_seconds=1000)
    assert limits.after(Usage()) == limits
    assert limits.after(Usage(cpu_seconds=60, wall_seconds=100)) == replace(limits, cpu_seconds=40, wall_seconds=900)
    assert limits.after(Usage(wall_seconds=850)) == replace(limits, wall_seconds=150)
    assert limits.after(Usage(wall_seconds=880)).wall_seconds == 120
    assert limits.after(Usage(cpu_seconds=95)) is None
    assert limits.after(Usage(wall_seconds=950)) is None


@pytest.mark.slow
def test_crashes_do_not_multiply_the_limit(place):
    """One cell after the other ends the kernel, and before each the same work is done again."""
    result, stages = go(place, WORKS, BURN.format(1.7), CRASH, CRASH, CRASH)
    assert result.execution.outcome is Outcome.TIMED_OUT
    assert result.execution.usage.cpu_seconds < 2 * place.limits.cpu_seconds
    assert "once more: cell 2 of 5" in stages


def test_who_has_used_nearly_all_is_not_run_again(place):
    result, stages = go(place, WORKS, BURN.format(2.75), CRASH)
    assert result.execution.outcome is Outcome.KERNEL_DIED
    assert not [stage for stage in stages if "once more" in stage]
    assert "no-time" in [notice.kind for notice in result.execution.notices]


def test_an_early_crash_leaves_time_to_run_again(place):
    result, _ = go(place, WORKS, CRASH, BURN.format(1.2))
    report = report_for(place.context, submission_of(b""), result)
    assert report.score.total == 9
    assert "no-time" not in [notice.kind for notice in result.execution.notices]


@pytest.mark.slow
def test_questions_share_their_time(place):
    result, _ = go(place, "def add(a, b):\n    while True: pass", WORKS.splitlines()[1])
    seen = result.evidence.observations
    assert [seen[name].attempt for name in ("add/sum", "add/negative", "shout/upper")] == [Attempt.RAISED] * 3
    assert "earlier questions" in seen["shout/upper"].error
    assert result.execution.usage.cpu_seconds < 2 * place.limits.cpu_seconds


@pytest.mark.slow
def test_other_seeds_do_not_multiply_the_limit(place):
    place.context = RunContext.create(LUCK, load_bundle(None), b"a secret for tests")
    luck = "def number(): return 1\ndef numbers(): return [1.0]\ndef sure(): return True"
    result, stages = go(place, luck, BURN.format(1.7))
    assert [stage for stage in stages if "seeds" in stage] == ["other seeds 1 of 2", "other seeds 2 of 2"]
    assert result.evidence.observations["luck/mean"].again == ()
    assert result.execution.usage.cpu_seconds < 2 * place.limits.cpu_seconds
    report = report_for(place.context, submission_of(b""), result)
    assert (report.score.total, report.score.criteria[1].earned) == (None, 5)
