"""The training runs, as the judge reads them from the witness's evidence: which is which, what moved, how accurate.

Runs are told apart by their state, not by names: adapters = LoRA, frozen body = head only, else full. Wrong work can hide
that (a body that was never frozen), so a step without a run of its kind takes the next unclaimed run in the usual order.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from grader.assignments.finetuning.facts import METHODS, QV_LAYERS, JudgeFacts
from grader.bundles.measures import accuracy_of, label_correlation
from grader.bundles.thresholds import Calibration
from grader.records import Attempt, Observation
from grader.rubric.questions import Question

MIN_KINSHIP = 0.5
"""Cosine of the matrices of a body with the pretrained ones: 0.9 and more after a fine-tuning, 0 for random numbers."""
MAX_RUNS = 24
"""As many as the witness keeps. What claims more is not read further: sharing runs out takes the cube of their number."""
DIVERGED = "the training diverged: the trained model's logits are not finite"
HEAD_TENSORS = ("pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias")


NOT_PRETRAINED = "Fine-tuning begins from the pretrained weights: `from_pretrained`, not `from_config`."
"""What to try where a body has nothing to do with the pretrained one."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a model, named from the root of DistilBertForSequenceClassification."""

    name: str
    """Canonical name without the path to the root."""
    shape: tuple[int, ...]
    """Its shape."""
    trainable: bool
    """`requires_grad` when training started."""
    start: str
    """Digest before the first step."""
    end: str
    """Digest after the last step; empty when the tensor is gone."""


@dataclass(frozen=True)
class TrainingRun:
    """One training run."""

    order: int
    """Position among all runs, from 0."""
    kind: str
    """`full`, `head` or `lora`."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """Wall seconds from the first step to the last."""
    tensors: tuple[Tensor, ...]
    """All tensors of the model."""
    wrapped: dict[str, list[Tensor]]
    """Canonical layer name -> the tensors of a layer there that is not a plain nn.Linear."""
    adapters: frozenset[str]
    """Names of tensors in wrapped layers that are not pretrained ones, by shape and content."""
    changed: tuple[str, ...]
    """Pretrained body tensors whose values are not in their layer after the run, merged adapters apart."""
    merged: frozenset[str]
    """Wrapped layers whose weight holds its adapter after the run: a change of no more than the adapter's rank."""
    accuracy: float | None
    """Share of the answered held-out reviews that are classified rightly; None when the model gave no usable logits."""
    reviews: int
    """How many held-out reviews were answered."""
    correlation: float | None
    """Correlation of the held-out labels with what the training added to the log-odds; None without accuracy."""
    problem: str
    """Why there is no accuracy."""
    ends: frozenset[str]
    """Digests of all tensors after the run."""
    rated: bool = True
    """Whether a learning rate was seen at all: a loop without an optimizer has none, some optimizers choose their own."""
    peak_rate: float = 0.0
    """Highest learning rate that a step used; 0 where none was seen."""
    lr_sum: float = 0.0
    """Sum of the learning rates of all steps: how far Adam may have moved a weight."""
    optimizer: str = ""
    """The optimizer's class."""
    cell: int | None = None
    """Index of the cell in which it began, for display."""
    own: str = ""
    """Why the model could not be rebuilt from its tensors and answered itself; empty for one that was rebuilt."""
    kinship: float = 1.0
    """Cosine of the body's matrices with the pretrained ones."""
    unexplained: tuple[str, ...] = ()
    """Wrapped layers that compute something else than their weight, A and B do."""
    start_known: bool = False
    """Whether the model's answers before the training are known; else it counts as one without an opinion then."""
    half: bool = False
    """Whether parameters are kept in half precision, where a small step of a number near one is lost in rounding."""

    @cached_property
    def trainable(self) -> int:
        """Number of trainable parameters when training started."""
        return sum(math.prod(t.shape) for t in self.tensors if t.trainable)

    @cached_property
    def body(self) -> list[Tensor]:
        """Tensors of the pretrained body, base weights inside wrapped layers included."""
        return [t for t in self.tensors if t.name.startswith("distilbert.") and t.name not in self.adapters]

    @cached_property
    def head_tensors(self) -> dict[str, Tensor]:
        """The tensors of `pre_classifier` and `classifier` by their usual names, wherever wrappers or other layers keep these."""
        found = {}
        for name in HEAD_TENSORS:
            layer, _, kind = name.partition(".")
            own = [t for t in self.tensors if t.name.startswith(f"{layer}.") and kind in t.name.rpartition(".")[2]]
            if own:  # a wrapper may keep the frozen original beside the one that is trained
                found[name] = max(own, key=lambda t: (t.trainable, self.moved(t)))
        return found

    @property
    def head(self) -> list[Tensor]:
        """These tensors; four when all are there."""
        return list(self.head_tensors.values())

    def moved(self, tensor: Tensor) -> bool:
        """Whether a tensor changed; one that is called otherwise at the end, when its values at the start are nowhere."""
        return tensor.start != tensor.end if tensor.end else bool(self.ends) and tensor.start not in self.ends


def read_runs(question: Question, seen: Observation) -> list[TrainingRun]:
    """Read the evidence; raises KeyError, TypeError or ValueError for anything malformed, which is never a pass."""
    if seen.attempt is not Attempt.VALUE:
        return []
    runs = [_read(entry, question) for entry in seen.value["runs"][:MAX_RUNS] if entry["steps"] > 0]
    return [run for run in runs if run.body]  # trainings of other models are ignored


def _read(entry: Any, question: Question) -> TrainingRun:
    facts: JudgeFacts = question.secret["facts"]
    root = entry["layout"]["root"]
    prefix = f"{root}." if root else ""
    end = {name: state for name, _, _, state in entry.get("end", [])}
    tensors = tuple(
        Tensor(name.removeprefix(prefix), tuple(shape), trainable is True, start, str(end.get(name, "")))
        for name, shape, trainable, start in entry["start"]
    )
    wrapped: dict[str, list[Tensor]] = {}
    for position in entry["layout"]["wrapped"]:
        own = [t for t in tensors if t.name.startswith(position + ".")]
        if position.startswith("distilbert.") or _low_rank(position, own, facts):
            wrapped[position] = own
    adapters = _adapters(wrapped, facts)
    open_body = any(t.trainable and t.name not in adapters and t.name.startswith("distilbert.") for t in tensors)
    adapted = any(name.startswith("distilbert.") for name in wrapped) and bool(adapters)
    kind = "lora" if adapted else "full" if open_body else "head"
    accuracy, reviews, correlation, problem = _accuracy(entry, question)
    every = [t.name for t in tensors if t.name.startswith("distilbert.")]  # what was not compared is not unchanged
    changed = [str(name) for name in entry.get("changed", every)]
    merged = frozenset(
        p for p in wrapped if _merged(p, entry.get("ranks", {}), wrapped[p], adapters) and f"{p}.weight" in changed
    )
    return TrainingRun(
        int(entry["order"]),
        kind,
        int(entry["steps"]),
        float(entry["seconds"]),
        tensors,
        wrapped,
        adapters,
        tuple(name for name in changed if name.rpartition(".")[0] not in merged),
        merged,
        accuracy,
        reviews,
        correlation,
        problem,
        frozenset(str(digest) for digest in end.values()),
        entry.get("rated") is not False,
        float(entry.get("peak_rate", 0.0)),
        float(entry.get("lr_sum", 0.0)),
        str(entry.get("optimizer", "")),
        entry["cell"] if type(entry.get("cell")) is int else None,
        str(entry.get("own") or ""),
        float(entry.get("kinship", 1.0)),
        tuple(str(position) for position in entry.get("unexplained", [])),
        _knows_start(entry),
        entry.get("half") is True,
    )


def _low_rank(position: str, tensors: list[Tensor], facts: JudgeFacts) -> bool:
    """Whether a layer of the head holds the weight of one and, beside it, two matrices that multiply to its shape: A and B."""
    out = 2 if position == "classifier" else facts.dim
    shapes = [t.shape for t in tensors if len(t.shape) == 2]
    base = next((shape for shape in shapes if sorted(shape) == sorted((out, facts.dim))), None)
    if base is None:
        return False
    shapes.remove(base)
    return any(
        sorted(a) == sorted((rank, facts.dim)) and sorted(b) == sorted((out, rank))
        for a, b in itertools.permutations(shapes, 2)
        for rank in {*a, *b} - {facts.dim}
    )


def _adapters(wrapped: dict[str, list[Tensor]], facts: JudgeFacts) -> frozenset[str]:
    """Tensors of wrapped layers beyond the wrapped layer's own weight and bias.

    The wrapped layer's own are those with pretrained values; failing that (a body that was trained before), those of its
    very shape, one matrix and one vector.
    """
    found: set[str] = set()
    for position, tensors in wrapped.items():
        own = [t for t in tensors if t.start in facts.digests]
        shapes = _linear_shapes(position, facts)
        for wanted in shapes:
            if not any(t.shape == wanted for t in own):
                own += [t for t in tensors if t.shape == wanted][:1]
        found |= {t.name for t in tensors} - {t.name for t in own}
    return frozenset(found)


def _linear_shapes(position: str, facts: JudgeFacts) -> list[tuple[int, ...]]:
    return [(facts.dim, facts.dim), (facts.dim,)] if ".attention." in position else []


def _merged(position: str, ranks: Any, tensors: list[Tensor], adapters: frozenset[str]) -> bool:
    """Whether the layer's weight differs from the pretrained one by no more than its adapter's rank, and did not learn itself."""
    inner = [min(t.shape) for t in tensors if t.name in adapters and t.trainable and len(t.shape) == 2]
    own = [t for t in tensors if t.name not in adapters]
    rank = ranks.get(f"{position}.weight")
    return bool(inner) and isinstance(rank, int) and 0 < rank <= min(inner) and not any(t.trainable for t in own)


def _accuracy(entry: Any, question: Question) -> tuple[float | None, int, float | None, str]:
    """Accuracy, number of reviews, label correlation, and why there is none: on all held-out reviews, or on the sample asked first.

    Where the model's logits before training are not known, it counts as one without an opinion: so a new head is drawn.
    """
    logits = entry.get("logits")
    if entry.get("raised"):
        return None, 0, None, f"the trained model could not be used on new reviews: {entry['raised']}"
    every = np.asarray(question.secret["facts"].labels)
    drawn = question.secret.get("own" if entry.get("own") else "sample")
    answers = {len(labels): labels for labels in ((every if drawn is None else every[drawn]), every)}
    shaped = isinstance(logits, np.ndarray) and logits.ndim == 2 and logits.shape[1] == 2 and logits.dtype.kind == "f"
    if not shaped or len(logits) not in answers:
        return None, 0, None, "the trained model gave no logits of shape (reviews, 2)"
    if not np.isfinite(logits).all():
        return None, 0, None, DIVERGED
    labels = answers[len(logits)]
    before = entry["start_logits"] if _knows_start(entry) else np.zeros_like(logits)
    return accuracy_of(logits, labels), len(labels), label_correlation(before, logits, labels), ""


def _knows_start(entry: Any) -> bool:
    """Whether the model's answers to the same reviews before its training are there."""
    start, logits = entry.get("start_logits"), entry.get("logits")
    both = isinstance(start, np.ndarray) and isinstance(logits, np.ndarray)
    return both and start.shape == logits.shape and start.dtype.kind == "f" and bool(np.isfinite(start).all())


_ATTEMPTS = {"full": (), "head": ("full",), "lora": ("full", "head")}
"""Which kinds a run may look like when the step was tried and went wrong: a body left open, layers never replaced."""


def assign(runs: list[TrainingRun]) -> dict[str, TrainingRun]:
    """Decide which run is judged for which method.

    A method takes the best run of its kind. Without one, a further run in its usual place (after the methods before it,
    before those after it) is taken for a wrong attempt at it, so that one mistake costs one criterion.
    Of all ways to share the runs out the one that serves most methods is taken.
    """
    options: list[list[TrainingRun | None]] = []
    for method in METHODS:
        own: list[TrainingRun | None] = [run for run in runs if run.kind == method]
        others: list[TrainingRun | None] = [run for run in runs if run.kind in _ATTEMPTS[method]]
        options.append(own or [*others, None])
    sound = {id(run): _sound(run) for run in runs}
    best: dict[str, TrainingRun] = {}
    best_key: tuple[float, ...] = ()
    for choice in itertools.product(*options):
        taken = {method: run for method, run in zip(METHODS, choice, strict=True) if run is not None}
        orders = [run.order for run in taken.values()]
        misplaced = [method for method, run in taken.items() if run.kind != method]
        if len(set(orders)) < len(orders) or (misplaced and orders != sorted(orders)):
            continue
        accuracy = sum(run.accuracy or 0.0 for run in taken.values())
        key = (len(taken), sum(sound[id(run)] for run in taken.values()), round(accuracy, 6), -sum(orders))
        if not best_key or key > best_key:
            best, best_key = taken, key
    return best


def _sound(run: TrainingRun) -> int:
    """How much of what is judged structurally holds: body unchanged and exactly 12 adapted layers, or a moved body."""
    head = all(t.trainable and run.moved(t) for t in run.head)
    if run.kind == "full":
        return int(head) + int(all(t.trainable for t in run.body)) + int(any(run.moved(t) for t in run.body))
    exact = run.kind == "head" or set(run.wrapped) == set(QV_LAYERS)
    return int(head) + int(not run.changed) + int(exact)


_latest: list[tuple[Question, Observation, list[TrainingRun], dict[str, TrainingRun]]] = []


def runs_by_method(asked: Question, seen: Observation) -> tuple[list[TrainingRun], dict[str, TrainingRun]]:
    """All runs, and the run that is judged for each method that has one.

    Nine criteria and the report ask this of one submission after the other, and reading takes milliseconds: the latest answer
    is remembered.
    """
    for question, observation, runs, found in _latest:
        if question is asked and observation is seen:
            return runs, found
    runs = read_runs(asked, seen)
    step = asked.secret.get("step")  # in a self-check the student says which step a training is
    found = {step: runs[-1]} if step and runs else assign(runs)
    _latest[:] = [(asked, seen, runs, found)]
    return runs, found


def calibration_of(method: str, run: TrainingRun, facts: JudgeFacts) -> Calibration | None:
    """What a method's run must reach; None where nobody has calibrated that."""
    found = facts.calibrations.get(method)
    return found.of_own_head if found is not None and run.own else found


def summarise(question: Question, seen: Observation) -> dict[str, Any]:
    """Give accuracy, threshold, trainable parameters, steps and seconds per method, for reports."""
    facts: JudgeFacts = question.secret["facts"]
    runs, found = runs_by_method(question, seen)
    methods = {
        method: {
            "accuracy": run.accuracy,
            "reviews": run.reviews,
            "threshold": _shown_minimum(run, calibration_of(method, run, facts)),
            "trainable": run.trainable,
            "steps": run.steps,
            "seconds": round(run.seconds, 1),
            "cell": run.cell,
        }
        for method, run in found.items()
    }
    return {"methods": methods, "runs_seen": len(runs)}


def _shown_minimum(run: TrainingRun, calibration: Calibration | None) -> float | None:
    """The minimum accuracy to show beside a run's; None where there is none, or where the run points right and need not reach it."""
    if calibration is None:
        return None
    least, found = calibration.correlation, run.correlation
    reached = run.accuracy is not None and run.accuracy >= calibration.accuracy
    short = not reached and least is not None and found is not None and found >= least
    return None if short else calibration.accuracy
