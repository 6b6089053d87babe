"""What an assignment is: a rubric of checks and the questions they are judged by.

```python
TOY = Assignment("toy", "Two functions")

@TOY.check("add/sum", points=4, probe=lambda draw: call("add", 2, 3, expected=5))
def adds_two_numbers(asked, seen):
    \"\"\"`add(a, b)` returns the sum.\"\"\"
    return expect_equal(seen.value, asked.secret["expected"], hint="Did you forget `return`?")
```
The docstring is the sentence the student reads. Declarations are checked here, when they are made.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grader.errors import DeclarationError, UsageError
from grader.records import Observation, Reading, Shown, Verdict
from grader.rubric.answers import ANYTHING
from grader.rubric.questions import Draw, Question, generator

__all__ = ["Assignment", "Check"]

Probe = Callable[[Draw], Question]
Judge = Callable[..., Verdict]
_ADDRESS = re.compile(r"https://[\w./#%-]+")
_ID = re.compile(r"^[a-z0-9]+(?:-[a-z0-9]+)*(?:/[a-z0-9]+(?:-[a-z0-9]+)*)?$")


@dataclass(frozen=True, slots=True)
class Check:
    """One criterion of the rubric and the function that judges it."""

    id: str
    """Stable id, never reused, e.g. `mean/value`."""
    points: int
    """Points possible, a positive integer."""
    title: str
    """The function's docstring: the sentence the student reads."""
    asks: str
    """Id of the question it is judged by."""
    after: tuple[str, ...]
    """Criteria that must have passed; if one did not, this one is skipped."""
    judge: Judge
    """`(asked, seen) -> Verdict`, or `(asked, seen, earlier)` with the verdicts given so far, by id."""
    sees_earlier: bool
    """Whether the function takes `earlier`: to name the one root cause instead of charging it again."""
    read: Reading | None = None
    """Where to read on."""
    show: Shown = "all"
    """What students see of it."""


@dataclass(eq=False, kw_only=True)
class Assignment:
    """A rubric under construction; complete once its module is imported. Raises DeclarationError for an id that is none."""

    id: str = field(kw_only=False)
    """A stable word."""
    title: str = field(kw_only=False)
    """For people."""
    facts: Callable[[Any, bytes], Any] = lambda _bundle, _secret: None
    """`facts(bundle, secret)` gives what its questions need to know of the bundle."""
    metrics: Callable[[Mapping[str, Question], Mapping[str, Observation]], dict[str, Any]] = lambda _questions, _seen: {}
    """`metrics(questions, observations)` gives numbers worth showing in a report."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Headings of the criteria, by what stands before the `/` in their ids; shown in this order."""
    data_files: Sequence[str] = ()
    """Files of the bundle that lie in the work folder, by their path in the bundle; found there by base name."""
    preload: Sequence[str] | None = None
    """Modules that kernels have imported before the first cell; None is torch and all that goes with it (seconds, once per run)."""
    shims: Sequence[str] = ("grader.inside.shims",)
    """Modules inside the box whose `install` is called before the first cell; they list what they adapt."""
    watch: str = ""
    """`module:function` that gives the witness of trainings inside the box; empty where none is watched."""
    needs_run: Sequence[str] = ()
    """Ids of the questions that definitions alone cannot answer, since the cells must have run."""
    checks: dict[str, Check] = field(default_factory=dict, repr=False)
    """The criteria by id, in the order of the rubric; `check` adds to them."""
    questions: dict[str, Probe] = field(default_factory=dict, repr=False)
    """The questions by id; `question` and `check` add to them."""

    def __post_init__(self) -> None:
        if not _ID.match(self.id):
            raise DeclarationError(f"assignment id {self.id!r}: use lower-case words joined by '-'")

    def question(self, id: str) -> Callable[[Probe], Probe]:  # noqa: A002
        """Declare a question that several checks share: `(draw) -> Question`."""

        def declare(probe: Probe) -> Probe:
            if id in self.questions:
                raise DeclarationError(f"{_where(probe)}: question {id!r} is declared twice; choose another id")
            self.questions[id] = probe
            return probe

        return declare

    def check(
        self,
        id: str,  # noqa: A002
        *,
        points: int,
        probe: Probe | None = None,
        asks: str | None = None,
        after: Sequence[str] = (),
        read: Reading | None = None,
    ) -> Callable[[Judge], Judge]:
        """Declare a criterion. Give either `probe` (its own question) or `asks` (a declared one), and where to `read` on."""

        def declare(judge: Judge) -> Judge:
            title = " ".join((inspect.getdoc(judge) or "").split())
            unknown = next((other for other in after if other not in self.checks), None)
            faults = {
                ": use lower-case words joined by '-', at most one '/'": not _ID.match(id),
                " is declared twice; ids are never reused": id in self.checks,
                f" has points={points!r}; declare a positive integer": type(points) is not int or points <= 0,
                " has no docstring; it is the sentence the student reads": not title,
                ": give either probe=... or asks=..., not both or neither": (probe is None) == (asks is None),
                f" asks {asks!r}, which is not declared above it": asks is not None and asks not in self.questions,
                f": a question of that id exists; use asks={id!r}": probe is not None and id in self.questions,
                f" comes after {unknown!r}, which is not declared above it": unknown is not None,
                ": where to read on is no plain address (https://...)": read is not None
                and not _ADDRESS.fullmatch(read.url),
            }
            for fault, found in faults.items():
                if found:
                    raise DeclarationError(f"{_where(judge)}: check {id!r}{fault}")
            if probe is not None:
                self.questions[id] = probe
            sees_earlier = len(inspect.signature(judge).parameters) == 3
            self.checks[id] = Check(id, points, title, asks or id, tuple(after), judge, sees_earlier, read)
            return judge

        return declare

    @property
    def possible(self) -> int:
        """Sum of all points."""
        return sum(check.points for check in self.checks.values())

    def only(self, part: str = "", *, definitions: bool = False) -> Assignment:
        """A part of the assignment: the group of criteria called `part`, or what functions and classes answer without being run.

        Raises UsageError when nothing is left.
        """
        kept = {
            check.id: check
            for check in self.checks.values()
            if part in ("", check.id.partition("/")[0]) and not (definitions and check.asks in self.needs_run)
        }
        if not kept:
            parts = dict.fromkeys(name.partition("/")[0] for name in self.checks)
            raise UsageError(f"no criteria of {part!r} can be checked like this; the parts are {', '.join(parts)}")
        return replace(
            self,
            checks={
                id_: replace(c, after=tuple(other for other in c.after if other in kept)) for id_, c in kept.items()
            },
            questions={check.asks: self.questions[check.asks] for check in kept.values()},
        )

    def draw(self, seed: str, facts: Any) -> Mapping[str, Question]:
        """All questions of this seed, by id; the same seed and facts give the same questions.

        Raises DeclarationError for an operation of the assignment's own that does not declare its answer.
        """
        drawn = {name: probe(Draw(generator(seed, name), facts)) for name, probe in self.questions.items()}
        for name, question in drawn.items():
            halves = (question, question.whole, question.then, question.whole.then)
            if any(asked and asked.op != "call" and asked.answer is ANYTHING for asked in halves):
                where = _where(self.questions[name])
                raise DeclarationError(f"{where}: question {name!r} does not declare its `answer` (docs/new-check.md)")
        return drawn


def _where(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename.rsplit('/', 1)[-1]}:{code.co_firstlineno}" if code else repr(function)
