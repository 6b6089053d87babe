"""A second assignment, 30 lines and free of torch: the seam is used before it is needed."""

from __future__ import annotations

from grader.records import Observation, Verdict
from grader.rubric.assignment import Assignment
from grader.rubric.compare import expect_equal, failed, passed
from grader.rubric.questions import Draw, Question, call

TOY = Assignment("toy", "Two small functions", preload=())


def _sum(draw: Draw) -> Question:
    a, b = (int(n) for n in draw.rng.integers(10, 99, size=2))
    return call("add", a, b, expected=a + b)


@TOY.check("add/sum", points=4, probe=_sum)
def adds(asked: Question, seen: Observation) -> Verdict:
    """`add(a, b)` returns the sum."""
    return expect_equal(seen.value, asked.secret["expected"], what="the sum", hint="Did you forget `return`?")


@TOY.check("add/negative", points=2, probe=lambda draw: call("add", -3, -4, expected=-7), after=["add/sum"])
def adds_negative(asked: Question, seen: Observation) -> Verdict:
    """It works for negative numbers."""
    return expect_equal(seen.value, asked.secret["expected"])


@TOY.check("shout/upper", points=3, probe=lambda draw: call("shout", "hej"))
def shouts(asked: Question, seen: Observation) -> Verdict:
    """`shout(text)` returns the text in capitals."""
    return passed() if seen.value == "HEJ" else failed(f"It returned {seen.value!r}.", "`str.upper` helps.")
