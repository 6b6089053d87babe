"""`check` and `%check`: which criteria are meant, what they are judged by, and the card that says how it went."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from grader.assignments import load_assignment
from grader.assignments.finetuning.facts import METHODS, JudgeFacts
from grader.bundles.thresholds import Calibration, read_thresholds, shipped
from grader.errors import GraderError, UsageError
from grader.grading.settings import settings_for
from grader.inside.witness import Run
from grader.records import Attempt, Observation, Status, Verdict
from grader.rubric.judge import score
from grader.rubric.shown import ASKED_ANEW, redacted, with_numbers
from grader.selfcheck.asking import Alone, ask_all, draw, set_up, shell, verdicts
from grader.selfcheck.card import Card, Row
from grader.selfcheck.trained import Trained, describe, glimpse, judged, model_in

__all__ = ["check", "load_ipython_extension"]

_ASSIGNMENT = load_assignment()
_KINDS = {"full": "full fine-tuning", "head": "head only", "lora": "LoRA"}
"""Step -> what a training is that counts as it."""
_NOT_SEEN = (
    "No training of this model was seen: it has not been trained, or it was before `from grader import check`. What can be said of"
    " it as it is now is said here."
)
_NOT_COMPARED = "The pretrained model is not in the cache of this machine, so its body could not be compared with it; the grading will."
_OURS = "This is a fault of the check, not of your work, and says nothing of the grading: tell your course, with these words."
_NOT_MEASURED = (
    "Not measured: there is no `eval.csv` beside the notebook, or the model is large and on no GPU, where it takes minutes."
    ' `check(..., data="eval.csv")` measures all the same.'
)
_remembered: dict[str, Trained] = {}
"""Step -> the training that was checked last as that."""


def check(*what: Any, data: Any = None, settings: Any = None) -> Card:
    """Check what the notebook has so far, as the grading will, and show a card.

    - `check(count_trainable_parameters)`, `check(LoRA)`: a function or the class.
    - `check("head", trainer)`, `check("full", model)`: a training, by its `Trainer` or its model.
    - `check("layers")`: a part of the assignment. `check()`: all that is there.

    `data`: reviews to measure on, a CSV file, a data set or a table (default: `eval.csv` beside the notebook, else the trainer's).
    `settings`: the course's settings file (default: `grader.toml` beside the notebook, where there is one).
    """
    try:
        return _check(what, data, settings).show()
    except (GraderError, OSError) as error:
        return Card("This could not be checked", (), (str(error),)).show()
    except ModuleNotFoundError as error:  # the package for students brings neither PyTorch nor Transformers
        needed = f"{error}. The check needs it, as the assignment does: `%pip install {error.name}`."
        return Card("This could not be checked", (), (needed,)).show()
    except Exception as error:
        return Card("The self-check failed", (), (f"{type(error).__name__}: {error}"[:500],), (_OURS,)).show()


def _check(what: tuple[Any, ...], data: Any, settings: Any) -> Card:
    set_up()
    course = _Course(settings)
    parts, names = _ASSIGNMENT.groups, shell().user_ns
    if not what:
        return _everything(course)
    first, *others = what
    if len(others) > 1 or (others and not isinstance(first, str)):
        raise UsageError('One thing at a time: `check(LoRA)`, `check("head", trainer)`.')
    if isinstance(first, str) and first not in parts:
        if first not in names:
            raise UsageError(
                f"`{first}` is no part of the assignment and no name in this notebook; the parts are {', '.join(parts)}."
            )
        first = names[first]
    if not isinstance(first, str):
        return _definition(first, course) if model_in(first) is None else _training("", first, data, course)
    if not others:
        return _everything(course, first)
    if first not in METHODS:
        raise UsageError(f"`{first}` is no training; the trainings are {', '.join(METHODS)}.")
    return _training(first, others[0], data, course)


class _Course:
    """What the course asks and shows."""

    def __init__(self, given: Any) -> None:
        """`given`: a settings file, or None for the one beside the notebook. Raises UsageError where it cannot be read."""
        settings = settings_for(Path("notebook"), None if given is None else Path(given))
        facts = JudgeFacts(0, frozenset(), (), (), read_thresholds(shipped()))
        self.assignment, self.facts = settings.apply(_ASSIGNMENT, facts)
        self.questions = draw(self.assignment.only(definitions=True))
        """What functions and classes answer."""

    @functools.cached_property
    def seen(self) -> Mapping[str, Observation]:
        """What the notebook answers to the questions."""
        return ask_all(self.questions)

    def rows(self, found: Mapping[str, Verdict]) -> dict[str, Row]:
        """Criterion -> its row, as students of this course may see it."""
        results = redacted(score(self.assignment, found).criteria)
        shown = zip(self.assignment.checks, results, strict=True)
        return {name: Row.of(result, found[name]) for name, result in shown if name in found}

    def numbers(self, step: str) -> bool:
        """Whether what was measured of a training may be shown."""
        return step in with_numbers(score(self.assignment, {}).criteria)


def _open(message: str) -> Verdict:
    """On a criterion of which there is nothing to judge yet; the grading always names why it skips one."""
    return Verdict(Status.SKIPPED, message)


def _notices(rows: Iterable[Row]) -> list[str]:
    """What is noted of criteria that students see, each once."""
    return list(dict.fromkeys(notice.text for row in rows for notice in row.result.verdict.notices))


def _definition(thing: Any, course: _Course) -> Card:
    """A card on a function or a class: on what it is called after, else on what it does."""
    name = str(getattr(thing, "__name__", type(thing).__name__))
    named = {asks: question for asks, question in course.questions.items() if name in question.names}
    seen = ask_all(named or course.questions, Alone({name: thing}))
    seen = {asks: found for asks, found in seen.items() if found.attempt is not Attempt.MISSING}
    if not seen:
        asked = ", ".join(f"`{question.names[0]}`" for question in course.questions.values())
        raise UsageError(f"`{name}` is none of {asked}, nor does it do what one of them does.")
    rows = list(course.rows(verdicts(course.assignment, course.questions, seen)).values())
    return Card(f"`{name}`", rows, _notices(rows))


def _training(step: str, thing: Any, data: Any, course: _Course) -> Card:
    """A card on a training: what it was, what is right about it, and how far its accuracy is from what is asked."""
    model = model_in(thing)
    if model is None:
        raise UsageError(f'A {type(thing).__name__} is no model and no Trainer: `check("{step}", trainer)`.')
    trainer = thing if thing is not model else None
    trained = judged(course.assignment, course.facts, model, trainer, data)
    step = step or trained.run.kind
    _remembered[step] = trained
    rows = list(_rows_of_training(step, trained, course).values())
    counts = "This counts" if trained.seen else "This would count"
    details = f": {describe(trained.run)}" if course.numbers(step) else ""
    facts = [f"{counts} as {_KINDS[trained.run.kind]}{details}."]
    facts += [f"A{text[1:]}" for text in _accuracy(trained, step, course)] or _logged(trainer, step, course)
    notes = [*([] if trained.seen else [_NOT_SEEN]), *([] if trained.compared else [_NOT_COMPARED]), ASKED_ANEW]
    return Card(course.assignment.groups[step], rows, facts, notes)


def _rows_of_training(step: str, trained: Trained, course: _Course) -> dict[str, Row]:
    """The criteria on a training, which may follow from those on functions and the class."""
    question = replace(trained.question, secret={**trained.question.secret, "step": step})
    questions, seen = {**course.questions, "training": question}, {**course.seen, "training": trained.observation}
    found = verdicts(course.assignment, questions, seen)
    own = [name for name, check in course.assignment.only(step).checks.items() if check.asks == "training"]
    return course.rows({name: _as_far_as_seen(name, found[name], trained) for name in own})


def _as_far_as_seen(name: str, verdict: Verdict, trained: Trained) -> Verdict:
    """The verdict on a training; what has not been seen has not passed."""
    accuracy, passed = name.endswith("/accuracy"), verdict.status is Status.PASSED
    if accuracy and not trained.measured:
        return _open(_NOT_MEASURED if trained.seen else "")
    if not trained.compared:
        return _open("")
    if verdict.status is Status.ERROR:
        message = "Too close to tell here: the grading repeats such a training with other seeds, or a person looks."
        return replace(verdict, message=message)
    if passed and not trained.seen and not accuracy:
        return _open("Right as far as can be seen without the training.")
    return replace(verdict, message="") if accuracy and passed else verdict  # it stands above all rows


def _accuracy(trained: Trained, step: str, course: _Course) -> list[str]:
    """How far the accuracy is from what is asked."""
    run, asked = trained.run, course.facts.calibrations[step]
    if run.accuracy is None or not trained.measured or not course.numbers(step):
        return []
    return [
        f"accuracy {run.accuracy:.3f} on {run.reviews} {trained.question.secret['facts'].reviews}{_gap(run.accuracy, asked)}"
    ]


def _logged(trainer: Any, step: str, course: _Course) -> list[str]:
    """The accuracy that the trainer has noted last, where none was measured here."""
    log = getattr(getattr(trainer, "state", None), "log_history", ())
    noted = [entry["eval_accuracy"] for entry in log if "eval_accuracy" in entry]
    if not noted or not course.numbers(step):
        return []
    return [f"Your Trainer noted the accuracy {noted[-1]:.3f}{_gap(noted[-1], course.facts.calibrations[step])}"]


def _gap(accuracy: float, asked: Calibration) -> str:
    gap = accuracy - asked.accuracy
    return f"; {asked.accuracy:.2f} is asked, which is {abs(gap):.3f} {'less' if gap >= 0 else 'more'}."


def _everything(course: _Course, part: str = "") -> Card:
    """A card on all that is there, or on one part of it; what is not there yet costs nothing yet."""
    there = {asks: seen for asks, seen in course.seen.items() if seen.attempt is not Attempt.MISSING}
    found = verdicts(course.assignment, course.questions, course.seen)
    if part in ("", *METHODS):
        _look_at_trainings(course)
    wanted = {name: check.asks in there for name, check in course.assignment.only(part).checks.items()}
    rows = course.rows({name: found[name] if seen else _open("Not there yet.") for name, seen in wanted.items()})
    facts = _notices(rows.values())
    for step, trained in sorted(_remembered.items(), key=lambda item: METHODS.index(item[0])):
        if part in ("", step):
            rows.update(_rows_of_training(step, trained, course))
            facts += [f"{course.assignment.groups[step]}: {fact}" for fact in _accuracy(trained, step, course)]
    shown = [_brief(row) if row.mark == "passed" else row for row in rows.values()]
    return Card(course.assignment.groups.get(part, course.assignment.title), shown, facts, [ASKED_ANEW])


def _brief(row: Row) -> Row:
    """A criterion without what was seen of it."""
    return replace(row, result=replace(row.result, verdict=replace(row.result.verdict, message="")))


def _look_at_trainings(course: _Course) -> None:
    """Judge the trainings that were seen and not checked since, where the notebook still has their models."""
    known = {(trained.run.order, trained.run.steps) for trained in _remembered.values() if trained.seen}
    for run in set_up().runs:
        if run.model is not None and run.steps and (run.order, run.steps) not in known:
            try:
                trained = judged(course.assignment, course.facts, run.model)
            except UsageError:  # some other model
                continue
            _remembered[trained.run.kind] = trained


def load_ipython_extension(ipython: Any) -> None:
    """Add `%check`, and say after each training what it was; `%load_ext grader` calls this."""
    set_up().on_end = _announce
    ipython.register_magic_function(_magic, "line", "check")


def _announce(run: Run) -> None:
    found = glimpse(run)
    if found is not None:
        try:
            facts = [f"{describe(found)}."] if _Course(None).numbers(found.kind) else []
        except GraderError:  # of the settings, which `check` tells; a training goes on
            facts = []
        Card(f"Seen: {_KINDS[found.kind]}, {found.steps:,} steps", (), facts).show()


def _magic(line: str) -> Card:
    """Check what is named: `%check LoRA`, `%check head trainer`, `%check layers`, `%check`."""
    first, *others = [*line.split(), ""][:2]
    names = shell().user_ns
    if unknown := [name for name in others if name and name not in names]:
        return Card("This could not be checked", (), [f"There is no `{unknown[0]}` in this notebook yet."]).show()
    return check(*([first] if first else []), *(names[name] for name in others if name))
