"""Minimum accuracy, measured by the grader on held-out reviews; printed numbers are never read.

A miss costs points only where the calibration says that a right solution would not have missed: not with hyperparameters
outside its window, and not within the noise around the threshold. Such a miss needs review, if the run was a real one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from grader.assignments.finetuning.base import ASSIGNMENT, Facts, Standard
from grader.assignments.finetuning.runs import Run, assign, read_runs, training_question
from grader.compare import failed, passed, skipped
from grader.probes import Draw, Question
from grader.records import Observation, Status, Verdict

STRUCTURE = {"full": ("full/trained",), "head": ("head/frozen", "head/trained"), "lora": ("lora/model",)}
"""Method -> the criteria that show that the right tensors were trained; without them a miss is never reviewed."""
SENSIBLE = (1e-6, 1e-2)
"""Learning rates, from the least to the highest, with which somebody fine-tunes a model in earnest."""
LEAST_STEPS = 20
"""Fewer optimizer steps are no training that a person has to look at."""
SPREAD = 2.0
"""Width of the noise band in standard deviations."""
SETTLES = (
    "The training looks right but ends short of the minimum accuracy. About three epochs with the library's learning rate"
    " (5e-5) and batch size (8) settle it without a person."
)
NO_RUN = "No training run was seen for this step."


@ASSIGNMENT.question("training")
def _training(draw: Draw) -> Question:
    return training_question(draw)


def run_for(method: str, asked: Question, seen: Observation) -> Run | None:
    """Find the run that is judged for a method."""
    return assign(read_runs(asked, seen)).get(method)


def judge_accuracy(
    method: str, root: str, asked: Question, seen: Observation, earlier: Mapping[str, Verdict]
) -> Verdict:
    """Judge a method's accuracy; without a run it follows from the criterion `root`.

    `earlier` holds the verdicts on what was trained, which decide whether a miss may be reviewed.
    """
    run = run_for(method, asked, seen)
    if run is None:
        return skipped(root, NO_RUN)
    facts: Facts = asked.secret["facts"]
    threshold = facts.thresholds.get(method)
    if run.accuracy is None or run.loss is None:
        return failed(
            f"No accuracy could be measured: {run.problem}.",
            "Train the model that `from_pretrained` gives, or one that is called like it.",
        )
    if threshold is None:
        return Verdict(
            Status.ERROR,
            f"Accuracy {run.accuracy:.3f}, but this bundle has no calibrated threshold to compare it with.",
        )
    standard = facts.standards.get(method, Standard())
    said = f"Accuracy {run.accuracy:.3f} on {len(facts.labels)} held-out reviews after {run.steps} steps"
    said += f"; at least {threshold:.2f} is needed"
    dull = standard.loss is not None and not run.loss <= standard.loss
    if dull:
        said += f"; the mean loss is {run.loss:.3f}, at most {standard.loss:.2f} is needed"
    if run.accuracy >= threshold and not dull:
        return passed(f"{said}.")
    if all(earlier[id_].status is Status.PASSED for id_ in STRUCTURE[method]) and in_earnest(run):
        outside = outside_window(run, standard)
        if outside:
            return Verdict(Status.ERROR, f"{said}. The learning rate went up to {run.peak_rate:g}. {outside}", SETTLES)
        if run.accuracy >= threshold - noise_band(threshold, len(facts.labels), standard.noise) and not dull:
            return Verdict(
                Status.ERROR,
                f"{said}. The difference is within the noise of the seed and of the held-out reviews: another seed may"
                " reach it. Run the submission again, or settle it by hand.",
                SETTLES,
            )
    return failed(
        f"{said}.",
        "Does the loss go down? Look at the learning rate, the number of epochs, and whether the labels reach the model.",
    )


def in_earnest(run: Run) -> bool:
    """Whether a run is a real training: some steps, with a learning rate that somebody would choose.

    What was seen at the optimizer decides, not what the notebook says.
    """
    return run.steps >= LEAST_STEPS and SENSIBLE[0] <= run.peak_rate <= SENSIBLE[1]


def outside_window(run: Run, standard: Standard) -> str:
    """Say why this bundle cannot tell whether the run is right; empty within the window, or where there is none."""
    if standard.highest_rate is None:
        return ""
    if "adam" not in run.optimizer.lower():
        return f"This bundle was calibrated with AdamW only, not with {run.optimizer}, so a person has to look."
    if run.peak_rate > standard.highest_rate * 1.001:
        return (
            f"A learning rate above {standard.highest_rate:g} can break this small model where the real one learns, so a"
            " person has to look, or it is graded again with a bundle of the real model."
        )
    if run.path < standard.least_path * 0.999:
        return (
            "So few or so small steps cannot teach this small model what the real one may learn from them, so a person has"
            " to look, or it is graded again with a bundle of the real model."
        )
    return ""


def noise_band(threshold: float, reviews: int, seed_noise: float) -> float:
    """How far below the threshold noise alone may bring a result: that of the held-out reviews and that of the seeds."""
    return SPREAD * math.sqrt(threshold * (1 - threshold) / reviews + seed_noise**2)
