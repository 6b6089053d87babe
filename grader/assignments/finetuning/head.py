"""Criteria on tuning the final layers only."""

from __future__ import annotations

from grader.assignments.finetuning.accuracy import judge_accuracy, run_for
from grader.assignments.finetuning.rubric import ASSIGNMENT, ON_DISTILBERT, ON_FREEZING, ON_TRAINER
from grader.assignments.finetuning.runs import HEAD_TENSORS, MIN_KINSHIP, NOT_PRETRAINED
from grader.records import Observation, Status, Verdict
from grader.rubric.compare import NO_RUN, failed, passed, skipped
from grader.rubric.questions import Question


@ASSIGNMENT.check("head/frozen", points=10, asks="training", read=ON_FREEZING)
def head_run_left_body_alone(asked: Question, seen: Observation) -> Verdict:
    """Only the head is trainable in the second run, and the body keeps its pretrained values."""
    run = run_for("head", asked, seen)
    if run is None:
        return failed(
            f"{NO_RUN} A head-only run has the body frozen.",
            "Load a new model, freeze everything but its head, and train it.",
        )
    open_body = [t.name for t in run.tensors if t.trainable and t.name.startswith("distilbert.")]
    if open_body:
        hint = "Parameters are frozen one by one: an attribute set on a module changes none of them. Count them before you train."
        if not any(tensor.trainable for tensor in run.head):
            hint = "The head was frozen in its place: is a condition the wrong way round?"
        elif any(t.name.endswith("weight") and not t.trainable for t in run.body):
            hint = "In this step the whole body is frozen, not a part of it."
        return failed(
            f"{len(open_body)} tensors of the body were trainable when training started, e.g. `{open_body[0]}`.", hint
        )
    if run.changed:
        return failed(
            f"{len(run.changed)} tensors of the body do not have their pretrained values after the run, e.g. `{run.changed[0]}`.",
            NOT_PRETRAINED
            if run.kinship < MIN_KINSHIP
            else "Load a new model for this step: the one from full fine-tuning has a changed body.",
        )
    return passed(f"Only the head was trainable ({run.trainable} parameters), and the body kept its pretrained values.")


@ASSIGNMENT.check("head/trained", points=5, asks="training", read=ON_DISTILBERT)
def head_run_moved_head(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """Both layers of the head (`pre_classifier`, `classifier`) are trainable in the second run, and moved."""
    run = run_for("head", asked, seen)
    if run is None:
        return skipped("head/frozen", NO_RUN)
    inverted = run.kind == "full" and not any(tensor.trainable for tensor in run.head)
    if inverted and earlier["head/frozen"].status is Status.FAILED:
        return skipped("head/frozen", "The body was trained in place of the head.")
    for name in HEAD_TENSORS:
        tensor = run.head_tensors.get(name)
        if tensor is None or not tensor.trainable:
            return failed(
                f"`{name}` was not trainable when training started.",
                "Both `pre_classifier` and `classifier` are trained.",
            )
        if not run.moved(tensor):
            return failed(f"`{name}` did not change during training.", "Is it given to the optimizer?")
    return passed(f"{run.steps} steps moved both layers of the head.")


@ASSIGNMENT.check("head/accuracy", points=8, asks="training", read=ON_TRAINER)
def head_run_is_accurate(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """Tuning the head only reaches the minimum accuracy on reviews it has never seen."""
    return judge_accuracy("head", "head/frozen", asked, seen, earlier)
