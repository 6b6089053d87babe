"""Questions that never end: slow ones are given up by CPU time, sleeping ones ever sooner; only a busy machine needs a person."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from grader.errors import EvidenceError
from grader.sandbox.contract import KernelGone, Outcome, QuestionCpuStarved, QuestionIdle, QuestionTimedOut
from grader.sandbox.pool import KernelPool
from grader.sandbox.question_clock import QuestionClock
from grader.sandbox.session import KernelSession

from .conftest import SMALL, throttled

AGENT = """
import importlib, time
def handle(kernel, content, buffers):
    exec(content["code"], globals())
    return {"answer": content["code"]}, []
importlib.import_module("grader.inside.agent").handle = handle
"""
SLEEP = "time.sleep(600)"
POLITE = "try: time.sleep(600)\nexcept KeyboardInterrupt: pass"
WORK = "end = time.thread_time() + 1.5\nwhile time.thread_time() < end: pass"
DROWSY = (
    "while True:\n    end = time.thread_time() + 0.01\n    while time.thread_time() < end: pass\n    time.sleep(0.5)"
)


def watch(clock: QuestionClock, cpu_seconds: float, share: float, seconds: float, waits: float = 0.0) -> float | None:
    """Let a question use `share` of a processor, and wait for one `waits` of the time; when it is over, None if not within `seconds`."""
    clock.begin(100.0, cpu_seconds, 5_000.0, 7.0)
    for reading in range(int(10 * seconds)):
        if clock.expired(100.0 + share * reading / 10, 5_000.0 + reading / 10, 7.0 + waits * reading / 10):
            return reading / 10
    clock.end()
    return None


def test_cpu_time_is_the_limit():
    clock = QuestionClock(120)
    assert watch(clock, 20, 1.0, 19.9) is None
    assert watch(clock, 20, 1.0, 21) is not None
    assert isinstance(clock.verdict, QuestionTimedOut)


@pytest.mark.parametrize("cpu_seconds", [20, 900])
def test_who_does_not_compute_is_idle_whatever_cpu_time_is_left(cpu_seconds):
    clock = QuestionClock(120)
    assert watch(clock, cpu_seconds, 0.001, 119) is None
    assert watch(clock, cpu_seconds, 0.001, 122) is not None
    assert isinstance(clock.verdict, QuestionIdle)


def test_after_an_idle_question_the_next_get_less_time():
    clock = QuestionClock(120)
    needed = []
    for sleeper in range(3):
        assert not clock.exhausted
        needed.append(watch(clock, 20, 0.0, 200))
        assert clock.idled == sleeper + 1
    assert clock.exhausted
    assert sum(needed) < 145


def turns(clock: QuestionClock, share: float, waits: float = 0.0) -> list[bool]:
    """Fifty cells of 9 s, one after the other, which use `share` of a processor: which were taken for sleepers."""
    found = []
    for cell in range(50):
        clock.begin(9 * share * cell, math.inf, 9.0 * cell, 9 * waits * cell)
        times = [9 * cell + tenth / 10 for tenth in range(90)]
        found.append(any(clock.expired(share * now, now, waits * now) for now in times))
        clock.end()
    return found


@pytest.mark.attack
def test_a_long_sleep_in_many_cells_is_a_long_sleep():
    clock = QuestionClock(120)
    slept = turns(clock, 0.001)
    assert slept.index(True) == 13
    assert clock.exhausted


@pytest.mark.parametrize(("share", "waits"), [(0.1, 0.0), (0.001, 0.5)])
def test_many_cells_that_work_are_no_sleeper(share, waits):
    assert not any(turns(QuestionClock(120), share, waits))


@pytest.mark.parametrize("slept", [0, 1])
@pytest.mark.parametrize("share", [0.04, 0.0])
def test_who_waits_for_a_processor_is_on_a_busy_machine(slept, share):
    clock = QuestionClock(120)
    for _sleeper in range(slept):
        watch(clock, 20, 0.0, 200)
    assert watch(clock, 20, share, 390, waits=0.9) is None
    assert watch(clock, 20, share, 410, waits=0.9) is not None
    assert isinstance(clock.verdict, QuestionCpuStarved)
    assert clock.idled == slept


def test_a_slow_answer_on_a_machine_at_rest_is_the_students():
    clock = QuestionClock(120)
    clock.begin(0.0, 2.0, 0.0)
    assert not clock.expired(1.5, 1.0)
    for second in range(2, 130):  # a burst, then little: not asleep for long enough, and done with waiting
        clock.expired(1.5 + second * 0.003, second)
    assert isinstance(clock.verdict, QuestionTimedOut | QuestionIdle)


def test_a_cell_has_no_clock_but_the_sleepers():
    clock = QuestionClock(120)
    assert watch(clock, math.inf, 0.06, 10_000) is None
    assert watch(clock, math.inf, 0.0, 10_000, waits=0.9) is None
    assert watch(clock, math.inf, 0.04, 10_000) is not None
    assert isinstance(clock.verdict, QuestionIdle)


def test_a_grader_that_was_suspended_has_not_been_waiting():
    clock = QuestionClock(120)
    clock.begin(0, 20, 0)
    assert not clock.expired(0.0, 1)
    assert not clock.expired(0.0, 100_000)


@pytest.fixture(params=["control group", "watchdog", "none"])
def pool(request):
    if request.param == "none":
        with KernelPool("none", preload=()) as plain:
            yield plain
    else:
        yield request.getfixturevalue("warm_pool" if request.param == "control group" else "watched_pool")


@pytest.mark.box
@pytest.mark.attack
def test_the_third_idle_question_ends_the_kernel(pool):
    async def talk():
        seen = []
        async with KernelSession(pool, limits=replace(SMALL, idle_seconds=3)) as session:
            await session.run_cell(AGENT, 0)
            for code in (WORK, SLEEP, WORK, POLITE, "x = 1", SLEEP, "x = 2"):
                try:
                    reply, _buffers = await session.ask({"code": code}, cpu_seconds=20)
                    seen.append(reply["answer"] == code)
                except (QuestionIdle, KernelGone) as error:
                    seen.append(str(error) if isinstance(error, KernelGone) else type(error))
        return seen, session.outcome

    seen, outcome = asyncio.run(talk())
    assert seen == [True, QuestionIdle, True, QuestionIdle, True, QuestionIdle, Outcome.IDLE.sentence]
    assert outcome is Outcome.IDLE


async def ask_slowly(pool: KernelPool, code: str, share: float) -> tuple[str, Outcome]:
    """Ask for what takes long where the box may use `share` of a processor; what came of it, and how the session ended."""
    async with KernelSession(pool, limits=replace(SMALL, idle_seconds=3)) as session:
        await session.run_cell(AGENT, 0)
        with throttled(session, share), pytest.raises(EvidenceError) as slow:
            await session.ask({"code": code}, cpu_seconds=0.2)
        assert (await session.ask({"code": "x = 1"}, cpu_seconds=5))[0] == {"answer": "x = 1"}
    return type(slow.value).__name__, session.outcome


@pytest.mark.box
@pytest.mark.attack
def test_a_slow_answer_on_a_free_processor_needs_nobody(pool):
    assert asyncio.run(ask_slowly(pool, DROWSY, 1.0)) == ("QuestionIdle", Outcome.COMPLETED)


@pytest.mark.box
def test_a_question_without_cpu_time_needs_a_person(pool):
    assert asyncio.run(ask_slowly(pool, "while True: pass", 0.02)) == ("QuestionCpuStarved", Outcome.COMPLETED)
