"""A model of the running kernel and its training, judged as the grading does: by its tensors, and by what was seen of the training.

A copy is judged, so that the student's model stays as it is. The pretrained body is that of the cache on this machine; the accuracy is
measured on reviews that students have.
"""

from __future__ import annotations

import contextlib
import csv
import math
import tempfile
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grader.assignments.finetuning.facts import QV_LAYERS, JudgeFacts
from grader.assignments.finetuning.runs import TrainingRun, read_runs
from grader.bundles.thresholds import Calibration
from grader.errors import UsageError
from grader.inside.agent import Context
from grader.inside.distilbert import layout
from grader.inside.hooks import torch
from grader.inside.probes.training import claims
from grader.inside.rebuild import read_checkpoint
from grader.inside.tensors import HANDED
from grader.inside.witness import Run, Witness, states
from grader.records import Attempt, Observation
from grader.rubric.assignment import Assignment
from grader.rubric.questions import Question
from grader.selfcheck.asking import ask, draw, set_up, undisturbed

__all__ = ["Trained", "describe", "glimpse", "judged", "model_in"]

_NAMES = ("distilbert-base-uncased", "distilbert/distilbert-base-uncased")
_LARGE = 10_000_000
"""Numbers of a model that takes minutes for the reviews where there is no GPU."""
_UNSEEN = "unseen"
_Reviews = tuple[tuple[str, ...], tuple[int, ...], str]
"""Reviews that a student has, 0 or 1 for each, and what they are called."""
_NO_REVIEWS: _Reviews = (("a film like any other",), (0,), "reviews")
"""Models are compared on some review, also where none has a label."""
_TEXT, _LABEL = ("review", "text", "sentence"), ("label", "labels")


@dataclass(frozen=True)
class Trained:
    """What is known of a model and its training."""

    observation: Observation
    """The answer to the question about trainings, of this one alone; no value where it could not be asked."""
    question: Question
    """What was asked."""
    run: TrainingRun
    """The same, as it is judged."""
    seen: bool
    """Whether the training itself was seen; else only what the model is now."""
    compared: bool
    """Whether the pretrained model was at hand to compare the body with."""

    @property
    def measured(self) -> bool:
        """Whether there were reviews to measure the accuracy on."""
        return bool(self.question.secret["facts"].reviews != _NO_REVIEWS[2])


def model_in(thing: Any) -> Any:
    """The model in a `Trainer`, a compiled or a parallel model; None where there is none."""
    module = torch.nn.Module
    for name in ("model", "_orig_mod", "module"):
        inner = getattr(thing, name, None)
        if isinstance(inner, module) and (name != "model" or not isinstance(thing, module)):
            return model_in(inner)
    return thing if isinstance(thing, module) else None


def _is_large(model: Any) -> bool:
    return bool(sum(p.numel() for p in torch.nn.Module.parameters(model)) > _LARGE)


def _device(model: Any) -> str:
    return next((str(p.device.type) for p in torch.nn.Module.parameters(model)), "cpu")


def _find_reviews(data: Any, trainer: Any, model: Any) -> _Reviews:
    """The reviews to measure on: those given, `eval.csv` beside the notebook, or the trainer's.

    None where none are given and the model would take minutes for them: the real one without a GPU. Raises UsageError where those
    given have no texts or no labels of 0 and 1.
    """
    if data is not None:
        return _read(data)
    places = (Path("eval.csv"), *sorted(Path().glob("*/eval.csv")))
    own = next((place for place in places if place.is_file()), getattr(trainer, "eval_dataset", None))
    if own is not None and not (_is_large(model) and _device(model) == "cpu"):
        with contextlib.suppress(UsageError):  # a trainer may have token ids alone
            return _read(own)
    return _NO_REVIEWS


def _read(data: Any) -> _Reviews:
    if isinstance(data, str | Path):
        with Path(data).open(encoding="utf-8-sig", newline="") as lines:
            return _reviews(list(csv.DictReader(lines)), Path(data).name)
    if hasattr(data, "to_dict") and hasattr(data, "iloc"):
        data = data.to_dict("records")
    if isinstance(data, Mapping):
        data = next(iter(data.values()))
    return _reviews([data[i] for i in range(len(data))], "the evaluation set")


def _reviews(rows: Sequence[Mapping[str, Any]], name: str) -> _Reviews:
    first = rows[0] if rows else {}
    text, label = (next((key for key in keys if key in first), None) for keys in (_TEXT, _LABEL))
    if text is None or label is None:
        raise UsageError(f"{name} has no columns `review` and `label`, but {', '.join(map(str, first)) or 'nothing'}.")
    try:
        labels = tuple(("0", "1").index(str(int(row[label]))) for row in rows)
    except (TypeError, ValueError):
        raise UsageError(f"{name} has labels that are neither 0 nor 1.") from None
    return tuple(str(row[text]) for row in rows), labels, f"reviews of {name}"


def checkpoint_of(model: Any) -> str | None:
    """Folder of the pretrained model in the cache of this machine, which is not asked over the network; None without."""
    from huggingface_hub import try_to_load_from_cache

    own = str(getattr(getattr(model, "config", None), "_name_or_path", ""))
    for name in (*([own] if own.rstrip("/").endswith(_NAMES[0]) else []), *_NAMES):
        file = Path(name, "model.safetensors")
        if file.is_file():
            return str(file.parent)
        with contextlib.suppress(ValueError):  # a path is no name in the cache
            if isinstance(found := try_to_load_from_cache(name, "model.safetensors"), str):
                return str(Path(found).parent)
    return None


class _OfOne(Context):
    """What a question about trainings sees: one run, and a copy of its model."""

    checkpoint = home = handed = ""

    def __init__(self, run: Run, copied: Any, checkpoint: str, folder: str) -> None:
        super().__init__(None, types.SimpleNamespace(runs=[run], snapshot_models=int, model_of=lambda _: copied))  # type: ignore[arg-type]
        self.checkpoint, self.home, self.handed = checkpoint, folder, str(Path(folder, HANDED))


def judged(assignment: Assignment, course: JudgeFacts, model: Any, trainer: Any = None, data: Any = None) -> Trained:
    """Look at a model as the grading looks at a trained one.

    `course`: what it asks, without a model or reviews. `trainer`: may have counted steps that were not seen, and have reviews.
    `data`: reviews to measure on. Raises UsageError for a model that is no DistilBERT or cannot be copied, and for reviews that are none.
    """
    reviews = _find_reviews(data, trainer, model)
    steps = int(getattr(getattr(trainer, "state", None), "global_step", 0) or 0)
    run = set_up().run_of(model)
    seen = run is not None and run.steps > 0
    with undisturbed():
        if not seen:
            run = Run(0, model, "", states(model), layout(model), None, steps=max(1, steps))
        folder = checkpoint_of(model)
        texts, labels, name = reviews if seen or steps else _NO_REVIEWS
        calibrations = course.calibrations
        if _is_large(model):  # what a short training may be short of was measured with the small model
            calibrations = {method: Calibration(known.accuracy) for method, known in calibrations.items()}
        facts = replace(
            course,
            dim=int(getattr(getattr(model, "config", None), "dim", 768)),
            digests=frozenset(read_checkpoint(folder).by_digest) if folder else frozenset[str](),
            texts=texts,
            labels=labels,
            calibrations=calibrations,
            public=texts[:16],
            reviews=name,
        )
        question = draw(assignment, facts)["training"].whole
        answer = _answer(question, run, model, folder)
    if not seen:  # what is trainable and not as it was pretrained may have been trained, for all that can be seen
        answer["start"] = [[n, shape, t, _UNSEEN if t else digest] for n, shape, t, digest in answer["start"]]
    observation = Observation(Attempt.VALUE, {"runs": [answer]})
    runs = read_runs(question, observation)
    if not runs:
        raise UsageError(
            "It has no DistilBERT body (`distilbert`), so it is none of the three models of this assignment."
        )
    return Trained(observation, question, runs[-1], seen, folder is not None)


def _answer(question: Question, run: Run, model: Any, folder: str | None) -> dict[str, Any]:
    """The evidence of a run, as both halves of the question give it; what is there to be seen where there is no pretrained model."""
    if folder is None:
        return {**claims(replace(run, model=model)), "end": states(model)}
    copied = _copy(model)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        seen = ask(question, _OfOne(run, copied, folder, home), device=_device(model))
    if seen.attempt is not Attempt.VALUE:
        raise UsageError(f"It could not be looked at: {seen.error}.")
    answer: dict[str, Any] = seen.value["runs"][0]
    if question.secret["facts"].reviews == _NO_REVIEWS[2]:
        answer["raised"] = "there are none"
    return answer


def _copy(model: Any) -> Any:
    """A copy on the CPU, where layers are tried. Raises UsageError where there can be none."""
    run = Run(0, model, "", [], {}, None)
    Witness.copy(run)
    if run.snapshot is None:
        raise UsageError("It cannot be copied, and so not be looked at without being changed.")
    return torch.nn.Module.cpu(run.snapshot)


def glimpse(run: Run) -> TrainingRun | None:
    """A training by what was seen of it, without a look at its model; None for one of another model."""
    answer = {**claims(run), "end": [], "raised": "not asked"}
    dim = int(getattr(getattr(run.model, "config", None), "dim", 768))
    question = Question("", secret={"facts": JudgeFacts(dim, frozenset(), (), (), {})})
    return next(iter(read_runs(question, Observation(Attempt.VALUE, {"runs": [answer]}))), None)


def describe(run: TrainingRun) -> str:
    """What is frozen and what is not, in words and numbers."""
    adapted = len(set(run.wrapped) & set(QV_LAYERS))
    others = len(set(run.wrapped) - set(QV_LAYERS))
    layers = f"{adapted} LoRA layers of {len(QV_LAYERS)}" if run.wrapped else "no LoRA layers"
    more = f" and {others} in other places" if others else ""
    open_head = {t.name.partition(".")[0] for t in run.head if t.trainable}
    shut_head = {t.name.partition(".")[0] for t in run.head if not t.trainable}
    if open_head and shut_head:
        head = f"of the head only {', '.join(f'`{n}`' for n in sorted(open_head))} is trainable"
    else:
        head = "the head is trainable" if open_head else "the head is frozen"
    learnt = [t for t in run.body if not t.name.endswith("position_ids")]  # a table of older versions of the library
    body, opened = _numbers(learnt), _numbers(t for t in learnt if t.trainable)
    return f"{layers}{more}, {head}, {opened:,} of {body:,} numbers of the body are trainable; {run.trainable:,} in all"


def _numbers(tensors: Iterable[Any]) -> int:
    return sum(math.prod(t.shape) for t in tensors)
