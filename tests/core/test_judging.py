from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grader.records import Attempt, Evidence, Observation, Status, Verdict
from grader.rubric.assignment import Assignment
from grader.rubric.compare import close, expect_close, expect_equal, passed
from grader.rubric.judge import judge, score
from grader.rubric.questions import call
from tests.toy import TOY

SEED = "00ff"


def evidence(**values) -> Evidence:
    ids = {"sum": "add/sum", "negative": "add/negative", "upper": "shout/upper"}
    return Evidence(
        SEED, {ids[k]: v if isinstance(v, Observation) else Observation(Attempt.VALUE, v) for k, v in values.items()}
    )


def verdicts(found: Evidence):
    return judge(TOY, found, TOY.draw(SEED, None))


def right() -> int:
    return TOY.draw(SEED, None)["add/sum"].secret["expected"]


def test_right_answers_earn_everything() -> None:
    result = score(TOY, verdicts(evidence(sum=right(), negative=-7, upper="HEJ")))
    assert (result.total, result.possible, result.review) == (9, 9, ())


def test_a_failed_root_skips_what_builds_on_it_and_names_it() -> None:
    found = verdicts(evidence(sum=right() + 1, negative=-7, upper="HEJ"))
    assert found["add/sum"].status is Status.FAILED
    assert (found["add/negative"].status, found["add/negative"].because) == (Status.SKIPPED, "add/sum")
    assert score(TOY, found).total == 3


def test_absent_evidence_never_passes() -> None:
    assert all(v.status is not Status.PASSED for v in verdicts(Evidence(SEED, {})).values())


@pytest.mark.parametrize(("attempt", "status"), [
    (Attempt.MISSING, Status.FAILED), (Attempt.RAISED, Status.FAILED), (Attempt.NOT_ASKED, Status.FAILED), (Attempt.FAULT, Status.ERROR),
])  # fmt: skip
def test_attempts_without_a_value(attempt, status) -> None:
    assert verdicts(evidence(upper=Observation(attempt, error="why")))["shout/upper"].status is status


def test_a_bug_in_a_check_is_nobodys_zero() -> None:
    buggy = Assignment("buggy", "Buggy")

    @buggy.check("one", points=5, probe=lambda draw: call("f"))
    def broken(asked, seen):
        """It works."""
        return 1 / 0

    @buggy.check("two", points=5, probe=lambda draw: call("f"))
    def odd(asked, seen):
        """It works, too."""
        return True

    @buggy.check("three", points=5, probe=lambda draw: call("f"), after=["one"])
    def later(asked, seen):
        """It builds on the first."""
        return passed()

    seen = Observation(Attempt.VALUE, 1)
    found = judge(buggy, Evidence("a", {"one": seen, "two": seen, "three": seen}), buggy.draw("a", None))
    assert {v.status for v in found.values()} == {Status.ERROR}
    result = score(buggy, found)
    assert result.total is None
    assert len(result.review) == 3
    assert "ZeroDivisionError" in result.review[0]


def test_an_override_settles_a_review_and_always_wins() -> None:
    found = {**verdicts(evidence(sum=right(), negative=-7, upper="HEJ")), "add/negative": Verdict(Status.ERROR, "odd")}
    assert score(TOY, found).total is None
    settled = score(TOY, found, {"add/negative": (1, "seen by hand"), "add/sum": (99, "capped")})
    assert settled.total == 1 + 4 + 3
    assert settled.criteria[1].override == "seen by hand"


def test_the_renamed_stand_in_is_told() -> None:
    found = verdicts(evidence(upper=Observation(Attempt.VALUE, "HEJ", renamed="yell")))
    assert found["shout/upper"].status is Status.PASSED
    assert "yell" in found["shout/upper"].notices[0].text


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(plain)
def test_judging_is_total_and_deterministic_for_any_plain_evidence(value) -> None:
    found = verdicts(evidence(sum=value, negative=value, upper=value))
    assert str(found) == str(verdicts(evidence(sum=value, negative=value, upper=value)))
    if value != right() or type(value) is not int:
        assert found["add/sum"].status is not Status.PASSED
    result = score(TOY, found)
    assert result.total is None or 0 <= result.total <= result.possible


@given(plain)
def test_the_real_assignment_never_passes_arbitrary_evidence(value) -> None:
    from grader.assignments import load_assignment

    assignment = load_assignment("finetuning")
    names = [name for name in assignment.questions if name != "training"]
    questions = {name: assignment.questions[name](_draw(name)) for name in names}
    found = judge(assignment, Evidence("a", {name: Observation(Attempt.VALUE, value) for name in names}), questions)
    assert all(v.status is not Status.PASSED for v in found.values())


def _draw(name):
    from types import SimpleNamespace

    from grader.rubric.questions import Draw, generator

    return Draw(generator("a", name), SimpleNamespace(dim=8))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_never_passes_a_comparison(bad) -> None:
    wanted = np.ones((2, 2))
    seen = wanted.copy()
    seen[0, 0] = bad
    assert not close(seen, wanted)
    assert not close(wanted, seen)
    assert expect_close(seen, wanted).status is Status.FAILED
    assert expect_close(np.full((2, 2), bad), np.full((2, 2), bad)).status is Status.FAILED


def test_comparisons_say_what_they_saw() -> None:
    assert "True" in expect_equal(True, 1).message
    assert expect_equal(1.0, 1).status is Status.FAILED
    assert "shape (2,)" in expect_close(np.zeros(2), np.zeros(3)).message
    assert "None" in expect_close(None, np.zeros(3)).message
    assert expect_close(np.zeros(3) + 1e-9, np.zeros(3)).status is Status.PASSED
    assert expect_close(np.zeros(3) + 1e-3, np.zeros(3)).status is Status.FAILED
