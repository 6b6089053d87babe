from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import grader
from grader.assignments import load_assignment
from grader.errors import DeclarationError, UsageError
from grader.grading.context import RunContext
from grader.rubric.assignment import Assignment
from grader.rubric.compare import passed
from grader.rubric.questions import Followup, Question, call, seed_for
from tests.pipeline.conftest import submission_of
from tests.toy import TOY

RUBRIC = {
    "count/distilbert": 8, "count/frozen": 6, "count/any-module": 6, "full/trained": 5, "full/accuracy": 10,
    "head/frozen": 10, "head/trained": 5, "head/accuracy": 8, "layers/extract": 6, "layers/replace": 6,
    "lora/identity": 4, "lora/forward": 6, "lora/rank-scaling": 4, "lora/gradients": 2, "lora/model": 8, "lora/accuracy": 6,
}  # fmt: skip


def test_the_rubric_is_the_published_one() -> None:
    assignment = load_assignment("finetuning")
    assert {c.id: c.points for c in assignment.checks.values()} == RUBRIC
    assert list(assignment.checks) == list(RUBRIC)
    assert assignment.possible == 100


def test_every_check_has_a_sentence_for_the_student() -> None:
    for check in load_assignment("finetuning").checks.values():
        assert 20 < len(check.title) < 160
        assert check.title.endswith(".")


def _probe(draw):
    return call("f")


@pytest.mark.parametrize(
    ("arguments", "doc", "message"),
    [
        ({"id": "Bad Id", "points": 1, "probe": _probe}, "x", "lower-case"),
        ({"id": "a/b", "points": 1, "probe": _probe}, "x", "declared twice"),
        ({"id": "c", "points": 0, "probe": _probe}, "x", "positive integer"),
        ({"id": "c", "points": 1.5, "probe": _probe}, "x", "positive integer"),
        ({"id": "c", "points": True, "probe": _probe}, "x", "positive integer"),
        ({"id": "c", "points": 1, "probe": _probe}, None, "no docstring"),
        ({"id": "c", "points": 1}, "x", "either probe"),
        ({"id": "c", "points": 1, "probe": _probe, "asks": "a/b"}, "x", "either probe"),
        ({"id": "c", "points": 1, "asks": "nothing"}, "x", "not declared above"),
        ({"id": "c", "points": 1, "probe": _probe, "after": ["later"]}, "x", "not declared above"),
        ({"id": "shared", "points": 1, "probe": _probe}, "x", "use asks="),
    ],
)
def test_bad_declarations_are_refused_with_the_fix(arguments, doc, message) -> None:
    assignment = Assignment("some", "Some")
    assignment.question("shared")(_probe)

    @assignment.check("a/b", points=1, probe=_probe)
    def good(asked, seen):
        """Good."""
        return passed()

    def judge(asked, seen):
        return passed()

    judge.__doc__ = doc
    with pytest.raises(DeclarationError, match=message):
        assignment.check(**arguments)(judge)
    with pytest.raises(DeclarationError, match="declared twice"):
        assignment.question("shared")(_probe)


def test_same_seed_same_questions_other_seed_other_questions() -> None:
    from tests.toy import TOY

    first, again, other = TOY.draw("aa", None), TOY.draw("aa", None), TOY.draw("ab", None)
    assert first == again
    assert first != other


def test_seed_depends_on_secret_and_submission() -> None:
    assert seed_for(b"s", "x") == seed_for(b"s", "x")
    assert len({seed_for(b"s", "x"), seed_for(b"t", "x"), seed_for(b"s", "y")}) == 3


def test_seed_depends_on_every_companion() -> None:
    context = RunContext(TOY, None, b"s", None)
    one = submission_of(b"{}")
    seeds = [
        context.seed(one, files)
        for files in (None, {"a.py": b"1"}, {"a.py": b"2"}, {"b.py": b"1"}, {"a.py": b"1", "b.py": b""})
    ]
    assert len(set(seeds)) == len(seeds)
    assert context.seed(one, {"b.py": b"", "a.py": b"1"}) == seeds[-1]
    assert context.seed(one, {}) == seeds[0]


def test_an_operation_without_a_declared_answer_is_refused() -> None:
    for question in (
        Question("some.module:probe"),
        replace(call("add"), followup=Followup(Question("some.module:probe"), bool)),
        replace(call("add"), then=Question("some.module:probe")),
    ):
        place = Assignment("place", "A place")
        place.question("odd")(lambda _draw, asked=question: asked)
        with pytest.raises(
            DeclarationError, match=r"test_assignment.py:\d+: question 'odd' does not declare its `answer`"
        ):
            place.draw("a", None)


def test_unknown_assignments_are_refused() -> None:
    with pytest.raises(UsageError, match="known are finetuning"):
        load_assignment("nothing")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_assignment("tests.toy:NOTHING")
    with pytest.raises(UsageError, match="not an Assignment"):
        load_assignment("tests.toy:call")
    assert load_assignment("tests.toy:TOY").id == "toy"


def test_assignment_ids_are_checked() -> None:
    with pytest.raises(DeclarationError):
        Assignment("Not Good", "x")


CORE = (
    "errors.py",
    "records.py",
    "serialization.py",
    "rubric",
    "grading",
    "runs",
    "reports",
    "lms",
    "intake",
    "sandbox",
)


def test_core_names_no_assignment() -> None:
    """Files, shims, groups and methods of the first assignment come from its declaration."""
    assignment = load_assignment()
    methods = [key for key in assignment.groups if f"{key}/accuracy" in assignment.checks]
    assert methods
    words = [assignment.id, "distilbert", *assignment.checks, *assignment.data_files]
    words += [f"{quote}{method}{quote}" for method in methods for quote in "\"'"]
    package = Path(grader.__file__).parent
    files = [file for room in CORE for file in (package / room, *(package / room).rglob("*")) if file.suffix == ".py"]
    assert len(files) > 40
    found = [
        f"{file.relative_to(package)}: {word}"
        for file in files
        for word in words
        if word in file.read_text("utf-8").lower()
    ]
    assert not found
