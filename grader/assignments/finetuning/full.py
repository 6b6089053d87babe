"""Criteria on full fine-tuning."""

from __future__ import annotations

from grader.assignments.finetuning.accuracy import judge_accuracy, reaches, run_for
from grader.assignments.finetuning.facts import BLOCKS, JudgeFacts
from grader.assignments.finetuning.rubric import ASSIGNMENT, ON_FINE_TUNING, ON_TRAINER
from grader.assignments.finetuning.runs import DIVERGED, MIN_KINSHIP, NOT_PRETRAINED, TrainingRun, calibration_of
from grader.records import Observation, Verdict
from grader.rubric.compare import NO_RUN, failed, passed
from grader.rubric.questions import Question

_GIVEN = "Is every parameter given to the optimizer, and are gradients still there when it steps?"


@ASSIGNMENT.check("full/trained", points=5, asks="training", read=ON_FINE_TUNING)
def full_run_moved_everything(asked: Question, seen: Observation) -> Verdict:
    """A full fine-tuning run trained all parameters: body and head moved."""
    run = run_for("full", asked, seen)
    if run is None:
        return failed(
            f"{NO_RUN} A full run has body and head trainable.",
            "Train a freshly loaded model without freezing anything.",
        )
    frozen = [t.name for t in [*run.body, *run.head] if not t.trainable and not _never_trained(t.name)]
    if frozen:
        return failed(
            f"{len(frozen)} tensors were frozen when training started, e.g. `{frozen[0]}`.",
            "In this step nothing is frozen.",
        )
    if not run.kinship >= MIN_KINSHIP and not _wrecked(run, asked.secret["facts"]):
        return failed(
            f"The trained body has nothing to do with the pretrained one (cosine {run.kinship:.2f}).",
            NOT_PRETRAINED,
        )
    body = [t for t in run.body if t.trainable and (len(t.shape) > 1 or not run.half)]
    moved = [t.name for t in body if run.moved(t)]
    if not body or len(moved) < 0.9 * len(body):
        return failed(
            f"{len(moved)} of {len(body)} {'matrices' if run.half else 'tensors'} of the body changed during training.",
            _GIVEN,
        )
    parts = ("distilbert.embeddings.", *(f"distilbert.transformer.layer.{i}." for i in range(BLOCKS)))
    left = next((part for part in parts if not any(name.startswith(part) for name in moved)), "")
    if left:
        return failed(f"Nothing in `{left[:-1]}` changed during training.", _GIVEN)
    still = [t.name for t in run.head if not run.moved(t)]
    if still or len(run.head) < 4:
        return failed(
            f"The head did not change during training{': `' + still[0] + '`' if still else ''}.",
            _GIVEN,
        )
    return passed(f"{run.steps} steps moved body and head ({run.trainable} trainable parameters).")


def _wrecked(run: TrainingRun, facts: JudgeFacts) -> bool:
    """Whether a training that began from the pretrained body has destroyed it: that is judged by its accuracy, which it has lost."""
    began = all(t.start in facts.digests for t in run.body if not _never_trained(t.name))
    calibration = calibration_of("full", run, facts)
    missed = run.accuracy is not None and calibration is not None and not reaches(run, calibration)
    return began and (missed or run.problem == DIVERGED)


def _never_trained(name: str) -> bool:
    return name.endswith(("position_ids", "token_type_ids"))  # buffers of older versions


@ASSIGNMENT.check("full/accuracy", points=10, asks="training", read=ON_TRAINER)
def full_run_is_accurate(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """Full fine-tuning reaches the minimum accuracy on reviews it has never seen."""
    return judge_accuracy("full", "full/trained", asked, seen, earlier)
