"""Close results are settled by running again with other seeds, in real kernels; the first run's evidence stays."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from statistics import fmean

import pytest

from grader.bundles.bundle import load_bundle
from grader.grading.pipeline import RunContext, report_for
from grader.records import Attempt, Evidence, Observation, Outcome, Status, Verdict
from grader.rubric.assignment import Assignment
from grader.rubric.compare import failed, passed
from grader.rubric.questions import Draw, Followup, Question, call
from grader.serialization import dumps, loads
from tests.pipeline.conftest import notebook_bytes, submission_of

LUCK = Assignment("luck", "Results that depend on the seed")
OPEN = Verdict(Status.ERROR, "Close to the minimum.", again=True)


def _numbers(_draw: Draw) -> Question:
    """What reruns are asked is the whole question, whatever a sample would say."""
    return replace(call("number"), followup=Followup(call("numbers"), lambda seen: seen.value == 1))


@LUCK.check("luck/mean", points=5, probe=_numbers)
def mean_of_all_runs(asked: Question, seen: Observation) -> Verdict:
    """The mean of all runs is positive."""
    if not seen.again:
        return OPEN
    found = [first[0] for first in (seen.value, *(o.value for o in seen.again if o.attempt is Attempt.VALUE))]
    return passed() if fmean(found) > 0 else failed(f"Mean {fmean(found):.3f}.")


@LUCK.check("luck/sure", points=5, probe=lambda draw: call("sure"))
def not_in_doubt(asked: Question, seen: Observation) -> Verdict:
    """It is sure."""
    return passed() if seen.value is True else failed("Not sure.")


SEEDED = """
import random, numpy as np, torch
from torch.random import manual_seed
random.seed(1); np.random.seed(seed=2); torch.manual_seed(3)
first = [random.random(), float(np.random.rand()), float(torch.rand(()))]
manual_seed(3)
second = float(torch.rand(()))
generator = np.random.default_rng(5).random()
def number(): return 1 if first[0] == 0.13436424411240122 else 2  # with the notebook's own seed only
def numbers(): return [*first, second, generator]
def sure(): return True
"""


@pytest.fixture
def place(grader):
    found = copy.copy(grader)  # the same zygote, another assignment
    found.context = RunContext.create(LUCK, load_bundle(None), b"a secret for tests")
    return found


def go(place, *sources):
    data, stages = notebook_bytes(*sources), []
    submission = submission_of(data)
    result = asyncio.run(place.run(submission, data, on_progress=stages.append))
    return submission, result, stages


def test_a_close_result_is_run_again_with_other_seeds(place):
    submission, result, stages = go(place, SEEDED)
    seen = result.evidence.observations["luck/mean"]
    values = [seen.value, *(further.value for further in seen.again)]
    assert len(values) == 3
    for place_in_list in range(4):
        assert len({value[place_in_list] for value in values}) == 3, "every fixed seed is another one"
    assert all(value[2] == value[3] for value in values), "and the same one in every place of a run"
    assert len({value[4] for value in values}) == 1, "how data are split stays as it is"
    assert result.evidence.observations["luck/sure"].again == (), "what is sure is not asked again"
    assert [stage for stage in stages if "seeds" in stage] == ["other seeds 1 of 2", "other seeds 2 of 2"]
    report = report_for(place.context, submission, result)
    assert report.score.total == 10
    assert [n.kind for n in report.notices] == ["other-seeds"]
    assert "twice more" in report.notices[0].text
    stored = loads(dumps(result.evidence), Evidence)
    assert stored == result.evidence, "what was seen again is kept for judging again"
    once = asyncio.run(copy.copy(place).run(submission, notebook_bytes("def sure(): return True")))
    assert result.execution.usage.wall_seconds > once.execution.usage.wall_seconds


def test_who_fixes_no_seed_gets_other_numbers_in_each_run(place):
    drawn = (
        "import random, numpy, torch\nfound = [random.random(), float(numpy.random.rand()), float(torch.rand(()))]\n"
    )
    _, result, _ = go(place, drawn + "def number(): return 1\ndef numbers(): return found")
    seen = result.evidence.observations["luck/mean"]
    runs = [seen.value, *(further.value for further in seen.again)]
    assert len({value for values in runs for value in values}) == 9


def test_what_is_not_in_doubt_runs_once(grader):
    _, result, stages = go(grader, "def add(a, b): return a + b")
    assert not [stage for stage in stages if "seeds" in stage]
    assert result.execution.notices == ()


@pytest.mark.slow
def test_a_rerun_that_does_not_end_by_itself_leaves_it_open(place):
    dies = (
        SEEDED
        + "\nif round(random.Random(0).random(), 3) and first[1] != 0.43599490214200376:\n    import os; os._exit(1)"
    )
    submission, result, _ = go(place, dies)
    assert result.execution.outcome is Outcome.COMPLETED
    report = report_for(place.context, submission, result)
    assert report.score.total is None
    assert report.score.criteria[0].verdict.status is Status.ERROR
    assert report.score.criteria[1].earned == 5
