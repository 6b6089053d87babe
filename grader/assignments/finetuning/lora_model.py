"""Criteria on the model with LoRA layers."""

from __future__ import annotations

import itertools
import math

import numpy as np

from grader.assignments.finetuning.accuracy import judge_accuracy, run_for
from grader.assignments.finetuning.facts import QV_LAYERS, digest
from grader.assignments.finetuning.rubric import ASSIGNMENT, ON_LORA_MODEL, ON_TRAINER
from grader.assignments.finetuning.runs import DIVERGED, MIN_KINSHIP, NOT_PRETRAINED, Tensor, TrainingRun
from grader.records import Observation, Status, Verdict
from grader.rubric.compare import NO_RUN, failed, passed, skipped
from grader.rubric.questions import Question

_ENOUGH = 4  # steps after which both factors have moved: B moves first, a warm-up may begin with a rate of zero
_GIVEN = "Is it given to the optimizer? Make the optimizer after the LoRA layers are in place."


def _root(earlier: dict[str, Verdict], *candidates: str) -> str:
    """Name the earlier criterion, if any, whose failure explains this one."""
    return next((name for name in candidates if earlier[name].status is Status.FAILED), "")


def _lost(earlier: dict[str, Verdict], message: str, hint: str, *candidates: str) -> Verdict:
    """Fail, or skip what the failure of an earlier criterion explains."""
    root = _root(earlier, *candidates)
    return skipped(root, message) if root else failed(message, hint)


@ASSIGNMENT.check("lora/model", points=8, asks="training", read=ON_LORA_MODEL)
def lora_model_is_right(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """The 12 query and value layers are replaced, nothing else; adapters and head are trained, the rest is frozen and unchanged."""
    run = run_for("lora", asked, seen)
    if run is None:
        root = _root(earlier, "layers/replace", "layers/extract", "lora/identity", "lora/forward")
        return (
            skipped(root, NO_RUN)
            if root
            else failed(
                f"{NO_RUN} A LoRA run has adapters in the model.", "Wrap the layers, put them in place, then train."
            )
        )
    wrapped = set(run.wrapped)
    missing, extra = sorted(set(QV_LAYERS) - wrapped), sorted(wrapped - set(QV_LAYERS))
    if missing or extra:
        message = f"{len(QV_LAYERS) - len(missing)} of the 12 query and value layers carry adapters, and {len(extra)} other layers do."
        hint, roots = "Only `q_lin` and `v_lin` of every block are replaced.", ["layers/extract", "layers/replace"]
        if not wrapped:  # a class that is not there or fails leaves all as it was
            hint = "Make the LoRA layers, put them in place with `replace_layers`, and train then."
            roots += ["lora/identity", "lora/forward"]
        return _lost(earlier, message, hint, *roots)
    shared = [name for name in QV_LAYERS if not run.wrapped[name]]
    if shared:
        message = f"The LoRA layer in `{shared[0]}` stands in another place, too."
        hint = "Make a LoRA layer of its own around each layer."
        return _lost(earlier, message, hint, "layers/replace", "layers/extract")
    dead = [name for name in QV_LAYERS if not any(t.trainable and t.name in run.adapters for t in run.wrapped[name])]
    if dead:
        message = f"{len(dead)} layers have no trainable adapter, e.g. `{dead[0]}`."
        hint = "Freeze first and wrap then, or freeze only what is not A or B."
        return _lost(earlier, message, hint, "lora/gradients")
    dim = asked.secret["facts"].dim
    twice = _wrapped_twice(run, dim)
    if twice:
        return failed(f"`{twice}` was wrapped twice: its LoRA layer holds another LoRA layer.", "Wrap each layer once.")
    beyond = _beyond(run, dim)
    if beyond:
        hint = "A and B are all that a LoRA layer trains; the scaling is a plain number."
        return _lost(earlier, beyond, hint, "lora/identity", "lora/forward", "lora/rank-scaling")
    # where that has failed it holds another layer than the pretrained one, trained or not
    lost = earlier["lora/identity"].status is Status.FAILED
    opened = [t.name for t in run.body if t.trainable and not (lost and _in_wrapped(t.name))]
    if opened:
        return failed(
            f"{len(opened)} tensors of the body were trainable when training started, e.g. `{opened[0]}`.",
            "Of the body only the adapters are trained. Parameters are frozen one by one: an attribute set on a module changes none.",
        )
    closed = [t.name for t in run.head if not t.trainable]
    if closed or len(run.head) < 4:
        return failed(
            f"The head was frozen: `{closed[0] if closed else 'classifier'}`.",
            "Adapters and head are trained together.",
        )
    still = [t.name for t in run.head if not run.moved(t)]
    if still:
        return failed(f"The head did not change during training: `{still[0]}`.", _GIVEN)
    moved = {name: sum(run.moved(t) for t in run.wrapped[name] if t.name in run.adapters) for name in QV_LAYERS}
    idle = [name for name in QV_LAYERS if moved[name] == 0]
    if run.steps >= _ENOUGH and not run.merged and (idle or max(moved.values()) < 2):
        message = (
            f"In {len(idle)} layers neither A nor B changed during training, e.g. in `{idle[0]}`."
            if idle
            else "In every layer one of A and B did not change during training."
        )
        return _lost(earlier, message, _GIVEN, "lora/gradients", "lora/forward")
    changed = [name for name in run.changed if not (lost and _in_wrapped(name))]
    if changed:
        message = f"{len(changed)} tensors of the body do not have their pretrained values after the run, e.g. `{changed[0]}`."
        hint = "Load a new model for this step, and wrap its layers only once."
        hint = NOT_PRETRAINED if run.kinship < MIN_KINSHIP else hint
        adds_to_its_base = all(map(_in_wrapped, changed))
        return _lost(earlier, message, hint, *(["lora/forward"] if adds_to_its_base else []))
    wrong_class = _root(earlier, "lora/identity", "lora/forward", "lora/rank-scaling", "lora/gradients")
    unexplained = [position for position in run.unexplained if position in wrapped]  # a head of one's own may be any
    if unexplained and run.problem != DIVERGED and not wrong_class:
        return failed(
            f"{len(unexplained)} layers of the trained model do not compute `W x + b + c * B(A x)` with the tensors they hold,"
            f" e.g. `{unexplained[0]}`.",
            "What a wrapped layer learns is A and B, and nothing beside them.",
        )
    return passed(f"12 layers adapted; {run.trainable} trainable parameters; the rest frozen and unchanged.")


def _factors(run: TrainingRun, name: str, dim: int) -> tuple[Tensor, ...]:
    """The trained A and B of a wrapped layer, those of the outermost LoRA layer first; empty where no two fit each other."""
    trained = [t for t in run.wrapped[name] if t.trainable and t.name in run.adapters and dim in _matrix(t)]
    pairs = [(a, b) for a, b in itertools.combinations(trained, 2) if sorted(_matrix(a)) == sorted(_matrix(b))]
    return min(pairs, key=lambda pair: sum(len(t.name) for t in pair), default=())


def _wrapped_twice(run: TrainingRun, dim: int) -> str:
    """The first layer whose LoRA layer holds another one: the names of its A and B are there once more, further inside."""
    for name in QV_LAYERS:
        names = [t.name for t in run.wrapped[name]]
        ends = [t.name.removeprefix(name) for t in _factors(run, name, dim)]
        if ends and all(any(other != name + end and other.endswith(end) for other in names) for end in ends):
            return name
    return ""


def _beyond(run: TrainingRun, dim: int) -> str:
    """Say what a wrapped layer trains beside A, B and their biases; empty where there is nothing."""
    for name in QV_LAYERS:
        pair = _factors(run, name, dim)
        sizes = {size for t in pair for size in t.shape}
        for t in run.wrapped[name]:
            if pair and t.trainable and t.name in run.adapters and t not in pair and not _is_fresh_bias(t, sizes):
                what = f"of shape {t.shape}" if t.shape else "a single number"
                return f"In `{name}` more than A and B is trained: `{t.name.removeprefix(name + '.')}`, {what}."
    return ""


def _matrix(tensor: Tensor) -> tuple[int, ...]:
    """Shape of a factor, without the dimensions of size one that a convolution or a batch adds."""
    shape = list(tensor.shape)
    while len(shape) > 2 and 1 in shape:
        shape.remove(1)
    return tuple(shape)


def _is_fresh_bias(tensor: Tensor, sizes: set[int]) -> bool:
    """Whether a tensor is a bias of A or B that starts at zero: one of their sizes long."""
    length = math.prod(tensor.shape)
    return length in sizes and length == max(tensor.shape) and tensor.start == digest(np.zeros(tensor.shape))


def _in_wrapped(tensor: str) -> bool:
    return any(tensor.startswith(f"{name}.") for name in QV_LAYERS)


@ASSIGNMENT.check("lora/accuracy", points=6, asks="training", read=ON_TRAINER)
def lora_run_is_accurate(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """LoRA reaches the minimum accuracy on reviews it has never seen."""
    root = earlier["lora/model"].because or "lora/model"
    run = run_for("lora", asked, seen)
    if run is not None and run.kind != "lora":
        return skipped(
            root, "The run that stands in the place of LoRA has no adapters, so its accuracy says nothing of LoRA."
        )
    return judge_accuracy("lora", root, asked, seen, earlier)
