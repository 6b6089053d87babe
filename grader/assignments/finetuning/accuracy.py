"""Minimum accuracy, measured by the grader on held-out reviews; printed numbers are never read.

A miss costs points only where the calibration says that a right solution would not have missed: not with hyperparameters
outside the calibrated range, and not within the noise around the threshold. Outside, a real run needs review; within the noise the
notebook is run again with other seeds, and the mean counts.

A sample of the held-out reviews is asked about first. Where all methods are far above their minimum there, that is conclusive;
else all reviews are asked about, so that no points are lost on a sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

import numpy as np

from grader.assignments.finetuning.facts import JudgeFacts
from grader.assignments.finetuning.rubric import ASSIGNMENT
from grader.assignments.finetuning.runs import MAX_RUNS, TrainingRun, assign, read_runs, runs_by_method
from grader.bundles import Calibration
from grader.records import Observation, Status, Verdict
from grader.rubric.answers import Array, Count, Float, Many, Named, OneOf, Raised, Text
from grader.rubric.compare import failed, passed, skipped
from grader.rubric.questions import Draw, Followup, Question

STRUCTURE = {"full": ("full/trained",), "head": ("head/frozen", "head/trained"), "lora": ("lora/model",)}
"""Method -> the criteria that show that the right tensors were trained; without them a miss is never reviewed."""
LR_RANGE = (1e-6, 1e-2)
"""Lowest and highest learning rate of a real fine-tuning."""
MIN_STEPS = 20
"""A run of fewer optimizer steps fails without review."""
NOISE_Z = 2.0
"""Width of the noise band in standard deviations."""
GUESSING = 0.5
"""Accuracy of a model that has learned nothing."""
LEARNED = 0.5
"""Part of the way from guessing to the minimum from which on a model has learned something: where the wrong tensors were trained,
that they reach less is no second mistake."""
RETRAIN = (
    "The training looks right but ends short of the minimum accuracy. About three epochs with the library's learning rate"
    " (5e-5) and batch size (8) settle it without a person."
)
CLOSE = (
    "The difference is within the noise of the seed and of the held-out reviews: another seed may reach it. Run the"
    " submission again, or decide it by hand."
)
_LOST = (Status.FAILED, Status.SKIPPED)
NO_RUN = "No training run was seen for this step."


SAMPLE = 400
"""Held-out reviews that are asked about first."""
SAMPLE_Z = 2.5
"""Standard deviations by which a sample's accuracy has to be above the minimum to be conclusive."""


_TENSORS = Many((str, Many(Count(), 64), bool, Text(32)), 2000)
_LAYER = {"plain": bool, "type": Text(80), "tensors": Many((str, Many(Count(), 64), bool), 40)}
_RUN = {
    "order": Count(),
    "cell": OneOf(None, Count()),
    "steps": Count(),
    "rated?": bool,
    **dict.fromkeys(("peak_rate", "lr_sum"), Float()),
    "seconds": float,
    "optimizer": Text(60),
    "layout": {"root": str, "at": Named(_LAYER, 38)},
    "start": _TENSORS,
    "problem": Raised(),
    "model": Text(80),
    "distances?": Named(Float(), 200),
    "ranks?": Named(Count(least=-1), 200),
    "end?": _TENSORS,
    "half?": bool,
    "logits?": Array("f", (None, 2)),
    "raised?": Raised(),
}
_ANSWER = {"runs": Many(_RUN, MAX_RUNS)}
"""What the witness tells of a run, and the logits of its model, which need not be finite."""


@ASSIGNMENT.question("training")
def _training(draw: Draw) -> Question:
    """Ask for all runs, with held-out reviews and without their labels: with a sample first, where there are many."""
    facts: JudgeFacts = draw.facts
    whole = Question(
        "grader.inside.probes.training:training",
        {"texts": list(facts.texts), "batch": 64},
        {"facts": facts},
        cpu_seconds=900.0,
        answer=_ANSWER,
    )
    if len(facts.texts) <= SAMPLE:
        return whole
    sample = np.sort(draw.rng.permutation(len(facts.texts))[:SAMPLE])
    texts = [facts.texts[i] for i in sample]
    secret = {"facts": facts, "sample": sample}
    first = replace(whole, params={**whole.params, "texts": texts}, secret=secret)
    return replace(first, followup=Followup(whole, lambda seen: _is_inconclusive(first, seen)))


def _is_inconclusive(asked: Question, seen: Observation) -> bool:
    """Whether a method's accuracy on the sample decides nothing; evidence that cannot be read is not asked for again."""
    facts: JudgeFacts = asked.secret["facts"]
    try:
        found = assign(read_runs(asked, seen))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return False
    return not all(is_conclusive(method, run, facts) for method, run in found.items())


def is_conclusive(method: str, run: TrainingRun, facts: JudgeFacts) -> bool:
    """Whether more held-out reviews could not change a method's verdict: all were asked, or its accuracy is high above the minimum."""
    calibration = facts.calibrations.get(method)
    if run.accuracy is None or calibration is None or run.reviews >= len(facts.labels):
        return True
    clearly = calibration.accuracy + SAMPLE_Z * review_noise(calibration.accuracy, run.reviews)
    return calibration.loss is None and run.accuracy >= clearly


def run_for(method: str, asked: Question, seen: Observation) -> TrainingRun | None:
    """Find the run that is judged for a method."""
    return runs_by_method(asked, seen)[1].get(method)


def judge_accuracy(
    method: str, root: str, asked: Question, seen: Observation, earlier: Mapping[str, Verdict]
) -> Verdict:
    """Judge a method's accuracy; without a run it follows from the criterion `root`.

    `earlier` holds the verdicts on what was trained, which decide whether a miss may be reviewed.
    """
    run = run_for(method, asked, seen)
    if run is None:
        return skipped(root, NO_RUN)
    facts: JudgeFacts = asked.secret["facts"]
    calibration = facts.calibrations.get(method)
    if run.accuracy is None or run.loss is None:
        return failed(
            f"No accuracy could be measured: {run.problem}.",
            "Train the model that `from_pretrained` gives, or one that is called like it.",
        )
    if calibration is None:
        return Verdict(
            Status.ERROR,
            f"Accuracy {run.accuracy:.3f}, but this bundle has no calibrated threshold to compare it with.",
        )
    threshold = calibration.accuracy
    if not is_conclusive(method, run, facts):
        return Verdict(
            Status.ERROR,
            f"Accuracy {run.accuracy:.3f} on {run.reviews} of {len(facts.labels)} held-out reviews, with {threshold:.2f} as the"
            " minimum: that is too close for so few, so the submission has to be run again.",
        )
    measured = f"Accuracy {run.accuracy:.3f} on {run.reviews} held-out reviews after {run.steps} steps"
    measured += f"; at least {threshold:.2f} is needed"
    loss_too_high = calibration.loss is not None and not run.loss <= calibration.loss
    if loss_too_high:
        measured += f"; the mean loss is {run.loss:.3f}, at most {calibration.loss:.2f} is needed"
    if run.accuracy >= threshold and not loss_too_high:
        return passed(f"{measured}.")
    reached = run.accuracy
    if all(earlier[id_].status is Status.PASSED for id_ in STRUCTURE[method]) and is_real_training(run):
        outside = outside_calibrated_range(run, calibration)
        if outside:
            rate = f"The learning rate went up to {run.peak_rate:g}" if run.rated else "No learning rate was seen"
            return Verdict(Status.ERROR, f"{measured}. {rate}. {outside}", RETRAIN)
        if run.accuracy >= threshold - noise_band(threshold, run.reviews, calibration.seed_std) and not loss_too_high:
            others = other_seeds(method, asked, seen)
            if not others:
                return Verdict(Status.ERROR, f"{measured}. {CLOSE}", RETRAIN, again=True)
            reached = fmean((run.accuracy, *others))
            measured += (
                f". With other seeds: {', '.join(f'{value:.3f}' for value in others)}; the mean is {reached:.3f}"
            )
            if reached >= threshold:
                return passed(f"{measured}.")
    root = next((earlier[id_].because or id_ for id_ in STRUCTURE[method] if earlier[id_].status in _LOST), "")
    if root and run.accuracy >= GUESSING + LEARNED * (threshold - GUESSING):
        return passed(
            f"{measured} where all is right; that this is less follows from `{root}`, which has cost its points."
        )
    miss = failed(
        f"{measured}.",
        "Does the loss go down? Look at the learning rate, the number of epochs, and whether the labels reach the model.",
    )
    return miss if loss_too_high else in_linear_range(miss, reached, threshold, facts.linear_range)


def other_seeds(method: str, asked: Question, seen: Observation) -> list[float]:
    """Accuracies of the method's run when the notebook was run again with other seeds; what cannot be read is left out."""
    found = []
    for observation in seen.again:
        try:
            run = run_for(method, asked, observation)
        except (KeyError, TypeError, ValueError):
            continue
        if run is not None and run.accuracy is not None:
            found.append(run.accuracy)
    return found


def in_linear_range(miss: Verdict, reached: float, threshold: float, width: float) -> Verdict:
    """Give a miss its part of the points where the bundle has a linear range below the minimum accuracy."""
    share = 1.0 - (threshold - reached) / width if width > 0 else 0.0
    if not 0.0 < share < 1.0:
        return miss
    message = f"{miss.message} Points fall linearly from {threshold:.2f} to none at {threshold - width:.2f}."
    return replace(miss, message=message, share=share)


def is_real_training(run: TrainingRun) -> bool:
    """Whether a run is a real training: some steps, with a learning rate in the usual range, where one was seen.

    What was seen at the optimizer decides, not what the notebook says.
    """
    return run.steps >= MIN_STEPS and (not run.rated or LR_RANGE[0] <= run.peak_rate <= LR_RANGE[1])


def outside_calibrated_range(run: TrainingRun, calibration: Calibration) -> str:
    """Say why this bundle cannot tell whether the run is right; empty within the range, or where there is none."""
    if calibration.max_lr is None:
        return ""
    if not run.rated:
        return "A loop of one's own, or an optimizer that chooses the rate itself, was not calibrated, so a person has to look."
    if "adam" not in run.optimizer.lower():
        return f"This bundle was calibrated with AdamW only, not with {run.optimizer}, so a person has to look."
    if run.peak_rate > calibration.max_lr * 1.001:
        return (
            f"A learning rate above {calibration.max_lr:g} can break this small model where the real one learns, so a"
            " person has to look, or it is graded again with a bundle of the real model."
        )
    if run.lr_sum < calibration.min_lr_sum * 0.999:
        return (
            "So few or so small steps cannot teach this small model what the real one may learn from them, so a person has"
            " to look, or it is graded again with a bundle of the real model."
        )
    return ""


def noise_band(threshold: float, reviews: int, seed_std: float) -> float:
    """How far below the threshold noise alone may bring a result: that of the held-out reviews and that of the seeds."""
    return NOISE_Z * math.hypot(review_noise(threshold, reviews), seed_std)


def review_noise(accuracy: float, reviews: int) -> float:
    """Standard deviation of an accuracy over draws of so many reviews (binomial)."""
    return math.sqrt(accuracy * (1 - accuracy) / reviews)
