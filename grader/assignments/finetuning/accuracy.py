"""Minimum accuracy, measured by the grader on held-out reviews; printed numbers are never read."""

from __future__ import annotations

from grader.assignments.finetuning.base import ASSIGNMENT, Facts
from grader.assignments.finetuning.runs import Run, assign, read_runs, training_question
from grader.compare import failed, passed, skipped
from grader.probes import Draw, Question
from grader.records import Observation, Status, Verdict

NO_RUN = "No training run was seen for this step."


@ASSIGNMENT.question("training")
def _training(draw: Draw) -> Question:
    return training_question(draw)


def run_for(method: str, asked: Question, seen: Observation) -> Run | None:
    """Find the run that is judged for a method."""
    return assign(read_runs(asked, seen)).get(method)


def judge_accuracy(method: str, root: str, asked: Question, seen: Observation) -> Verdict:
    """Judge a method's accuracy; without a run it follows from the criterion `root`."""
    run = run_for(method, asked, seen)
    if run is None:
        return skipped(root, NO_RUN)
    facts: Facts = asked.secret["facts"]
    threshold = facts.thresholds.get(method)
    if run.accuracy is None:
        return failed(
            f"No accuracy could be measured: {run.problem}.",
            "Train the model that `from_pretrained` gives, or one that is called like it.",
        )
    if threshold is None:
        return Verdict(
            Status.ERROR,
            f"Accuracy {run.accuracy:.3f}, but this bundle has no calibrated threshold to compare it with.",
        )
    said = f"Accuracy {run.accuracy:.3f} on {len(facts.labels)} held-out reviews after {run.steps} steps"
    if run.accuracy >= threshold:
        return passed(f"{said}; at least {threshold:.2f} is needed.")
    return failed(
        f"{said}; at least {threshold:.2f} is needed.",
        "Does the loss go down? Look at the learning rate, the number of epochs, and whether the labels reach the model.",
    )
