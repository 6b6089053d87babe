"""What a training taught, measured by the grader on held-out reviews; printed numbers are never read.

A model passes that reaches the minimum accuracy, or whose training points the right way (`label_correlation`): a right training that is
short for the bundle's model shows in its direction long before it shows in the accuracy. A miss costs points only where the calibration
says that a right solution would not have missed: outside of the calibrated range a real run needs review; within the noise around
a minimum the notebook is run again with other seeds, and the mean counts.

What answers is a model put together from the tensors that the training left, in a box without any code of the student's. One that
cannot be put together so answers itself, and the report says so to staff.

A sample of the held-out reviews is asked about first. Where all methods are far above a minimum there, that is conclusive; else all
reviews are asked about, so that no points are lost on a sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from grader.assignments.finetuning.facts import JudgeFacts
from grader.assignments.finetuning.rubric import ASSIGNMENT
from grader.assignments.finetuning.runs import (
    DIVERGED,
    MAX_RUNS,
    TrainingRun,
    assign,
    calibration_of,
    read_runs,
    runs_by_method,
)
from grader.bundles.thresholds import Calibration
from grader.records import Notice, Observation, Status, Verdict
from grader.rubric.answers import Array, Count, Float, Many, Named, OneOf, Raised, Text
from grader.rubric.compare import NO_RUN, failed, passed, skipped
from grader.rubric.questions import Draw, Followup, Question

STRUCTURE = {"full": ("full/trained",), "head": ("head/frozen", "head/trained"), "lora": ("lora/model",)}
"""Method -> the criteria that show that the right tensors were trained; without them a miss is never reviewed."""
BUILT = ("layers/replace", "lora/identity", "lora/forward", "lora/gradients")
"""What a LoRA model is built with. Where that is wrong it may have lost its pretrained layers: a miss follows."""
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
    "Your code looks right. The training was too short for the small test model; your teacher will look at it. About three epochs with"
    " the library's learning rate (5e-5) and batch size (8) settle it without that."
)
SLOWER = (
    "Your code looks right. The learning rate is too high for the small test model; your teacher will look at it. About three epochs"
    " with the library's (5e-5) settle it without that."
)
UNSEEN_LR_SUM = 1.25e-3
"""Sum of the learning rates of all steps below which a model's direction cannot be told from its random start, where that is unknown
(docs/bundles.md has what was measured)."""
SGD_RATES = 10.0
"""How many times higher learning rates are with SGD than with optimizers that scale their steps, as Adam does: without momentum 0.1 still
teaches full models and heads."""
CLOSE = (
    "The difference is within the noise of the seed and of the held-out reviews: another seed may reach it. Run the"
    " submission again, or decide it by hand."
)
_LOST = (Status.FAILED, Status.SKIPPED)


SAMPLE = 400
"""Held-out reviews that are asked about first."""
OWN = 1000
"""Held-out reviews, drawn for the submission, that a model which cannot be rebuilt is asked about."""
PUBLIC = 16
"""Reviews of eval.csv on which such a model is compared with what its tensors would answer."""
SAMPLE_Z = 2.5
"""Standard deviations by which a sample's accuracy has to be above the minimum to be conclusive."""


_TENSORS = Many((str, Many(Count(), 64), bool, Text(32)), 2000)
_CLAIMED = {
    "order": Count(),
    "cell": OneOf(None, Count()),
    "steps": Count(),
    "rated": bool,
    **dict.fromkeys(("peak_rate", "lr_sum"), Float()),
    "seconds": float,
    "optimizer": Text(60),
    "layout": {"root": str, "wrapped": Many(str, 38)},
    "start": _TENSORS,
    "problem": Raised(),
    "half?": bool,
}
"""What the witness tells of a run."""
_LOGITS = Array("f", (None, 2))
"""They need not be finite."""
_HANDED = {
    "shapes": Many(Many(Count(), 8), 8_000),
    "runs": Many(
        {
            **_CLAIMED,
            "root?": str,
            "end?": _TENSORS,
            "stock?": bool,
            "probed?": Named(OneOf(Array("f", (None, None)), Raised()), 38),
            **dict.fromkeys(("public?", "logits?", "start_logits?"), _LOGITS),
            "own?": bool,
            "raised?": Raised(),
        },
        MAX_RUNS,
    ),
}
"""What is handed out beside a file of tensors: where these belong, and what answers of its own a model gave that cannot be rebuilt."""
_JUDGED = {
    "runs": Many(
        {
            **_CLAIMED,
            "end": _TENSORS,
            "changed?": Many(str, 200),
            "unexplained?": Many(str, 38),
            "ranks?": Named(Count(least=-1), 200),
            "kinship?": Float(),
            "own?": Text(300),
            "logits?": OneOf(None, _LOGITS),
            "start_logits?": _LOGITS,
            "raised?": Text(300),
        },
        MAX_RUNS,
    )
}
"""What came of the tensors in a clean box."""


@ASSIGNMENT.question("training")
def _training(draw: Draw) -> Question:
    """Ask for the tensors of all runs, then what the models made of them answer to held-out reviews, first to a sample of many.

    Models that cannot be rebuilt are asked themselves, about reviews drawn for this submission. Labels stay outside.
    """
    facts: JudgeFacts = draw.facts
    every = draw.rng.permutation(len(facts.texts))
    sample, own = np.sort(every[:SAMPLE]), np.sort(every[-OWN:])
    public = [facts.public[i] for i in draw.rng.permutation(len(facts.public))[:PUBLIC]]
    both = {"public": public, "drawn": int(draw.rng.integers(2**31)), "batch": 64}
    secret = {"facts": facts, "sample": sample, "own": own}
    judged = Question(
        "grader.inside.probes.rebuilt:rebuilt",
        {**both, "texts": list(facts.texts), "device": "cpu"},
        secret,
        cpu_seconds=900.0,
        answer=_JUDGED,
    )
    if len(facts.texts) > SAMPLE:
        first = replace(judged, params={**judged.params, "texts": [facts.texts[i] for i in sample]})
        judged = replace(first, followup=Followup(judged, lambda seen: _is_inconclusive(first, seen)))
    handed = Question(
        "grader.inside.probes.training:training", both, secret, cpu_seconds=900.0, answer=_HANDED, then=judged
    )
    asked = replace(handed, params={**both, "texts": [facts.texts[i] for i in own]})
    return replace(handed, followup=Followup(asked, _has_own))


def _has_own(seen: Observation) -> bool:
    """Whether a model says that it cannot be rebuilt; one that says so wrongly is rebuilt all the same."""
    runs = seen.value.get("runs") if isinstance(seen.value, dict) else None
    return isinstance(runs, list) and any(isinstance(run, dict) and run.get("own") is True for run in runs)


def _is_inconclusive(asked: Question, seen: Observation) -> bool:
    """Whether a method's accuracy on the sample decides nothing; evidence that cannot be read is not asked for again."""
    facts: JudgeFacts = asked.secret["facts"]
    try:
        found = assign(read_runs(asked, seen))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return False
    return not all(is_conclusive(method, run, facts) for method, run in found.items())


def is_conclusive(method: str, run: TrainingRun, facts: JudgeFacts) -> bool:
    """Whether more held-out reviews could not change a method's verdict: all were asked, or one measure is high above its minimum."""
    calibration = calibration_of(method, run, facts)
    if run.accuracy is None or calibration is None or run.own or run.reviews >= len(facts.labels):
        return True
    clearly = calibration.accuracy + SAMPLE_Z * review_noise(calibration.accuracy, run.reviews)
    if run.accuracy >= clearly:
        return True
    least = calibration.correlation
    return least is not None and points_right(run, least + SAMPLE_Z * correlation_noise(least, run.reviews))


def run_for(method: str, asked: Question, seen: Observation) -> TrainingRun | None:
    """Find the run that is judged for a method."""
    return runs_by_method(asked, seen)[1].get(method)


def judge_accuracy(
    method: str, root: str, asked: Question, seen: Observation, earlier: Mapping[str, Verdict]
) -> Verdict:
    """Judge a method's accuracy, as `_judge_accuracy` does, and tell staff where a model answered itself."""
    verdict = _judge_accuracy(method, root, asked, seen, earlier)
    run = run_for(method, asked, seen)
    if run is None or not run.own:
        return verdict
    text = (
        f"The model of the {method} run was not rebuilt from its tensors, so that its accuracy comes from code of the student's"
        f" ({run.own[:200]}). Its own class or head may be as right as any other; who wants to be sure reads it."
    )
    return replace(verdict, notices=(*verdict.notices, Notice("staff-not-rebuilt", text)))


def _judge_accuracy(
    method: str, root: str, asked: Question, seen: Observation, earlier: Mapping[str, Verdict]
) -> Verdict:
    """Judge a method's accuracy; without a run it follows from the criterion `root`.

    `earlier` holds the verdicts on what was trained, which decide whether a miss may be reviewed.
    """
    run = run_for(method, asked, seen)
    if run is None:
        return skipped(root, NO_RUN)
    facts: JudgeFacts = asked.secret["facts"]
    calibration = calibration_of(method, run, facts)
    if run.accuracy is None and run.problem != DIVERGED:
        return failed(
            f"No accuracy could be measured: {run.problem}.",
            "Train the model that `from_pretrained` gives, or one that is called like it.",
        )
    if calibration is None:
        what = f"Accuracy {run.accuracy:.3f}" if run.accuracy is not None else "The training diverged"
        return Verdict(Status.ERROR, f"{what}, but this bundle has no calibrated threshold to compare it with.")
    if not is_conclusive(method, run, facts):
        return Verdict(
            Status.ERROR,
            f"Accuracy {run.accuracy:.3f} on {run.reviews} of {len(facts.labels)} held-out reviews, with {calibration.accuracy:.2f} as"
            " the minimum: that is too close for so few, so the submission has to be run again.",
        )
    measured = _measured(run, calibration, facts.reviews)
    if reaches(run, calibration):
        return passed(f"{measured}.")
    reached = run.accuracy or 0.0
    ruined = [id_ for id_ in BUILT if method == "lora" and earlier[id_].status in _LOST]
    if not ruined and all(earlier[id_].status is Status.PASSED for id_ in STRUCTURE[method]) and is_real_training(run):
        head = facts.calibrations.get("head") if method == "lora" else None
        outside = outside_calibrated_range(run, calibration, head)
        if outside:
            hint = SLOWER if is_above_range(run, calibration, head) else RETRAIN
            return Verdict(Status.ERROR, f"{measured}. {outside}", hint)
        if is_close(run, calibration):
            others = other_seeds(method, asked, seen)
            if not others:
                return Verdict(Status.ERROR, f"{measured}. {CLOSE}", RETRAIN, again=True)
            mean = mean_of([run, *others])
            reached = mean.accuracy or 0.0
            measured += f". With other seeds: {', '.join(f'{other.accuracy:.3f}' for other in others)}; the mean is {reached:.3f}"
            if reaches(mean, calibration):
                return passed(f"{measured}{_direction(mean, calibration)}.")
    root = next(
        (earlier[id_].because or id_ for id_ in (*STRUCTURE[method], *ruined) if earlier[id_].status in _LOST), ""
    )
    least = calibration.correlation
    learned = reached >= GUESSING + LEARNED * (calibration.accuracy - GUESSING)
    if root and (learned or (least is not None and points_right(run, LEARNED * least))):
        return passed(
            f"{measured} where all is right; that this is less follows from `{root}`, which has cost its points."
        )
    if root:
        return skipped(root, f"{measured}.")
    hint = "Does the loss go down? Look at the learning rate, the number of epochs, and whether the labels reach the model."
    if run.problem == DIVERGED:
        hint = "A lower learning rate, such as 5e-5, keeps the loss finite."
    elif not has_usual_rate(run):
        hint = f"The learning rate went up to {run.peak_rate:g}; 5e-5 is a usual one."
    elif least is not None and (run.correlation or 0.0) <= -least:
        hint = "The model answers the opposite of the labels: are they swapped on their way to it?"
    return in_linear_range(failed(f"{measured}.", hint), reached, calibration.accuracy, facts.linear_range)


def _measured(run: TrainingRun, calibration: Calibration, reviews: str) -> str:
    """Say what was measured on such reviews, in a sentence without its full stop."""
    if run.problem == DIVERGED:
        rate = f"; the learning rate went up to {run.peak_rate:g}" if run.rated else ""
        return (
            f"The training diverged: after {run.steps} steps the model answers with numbers that are not finite{rate}"
        )
    steps = "1 step" if run.steps == 1 else f"{run.steps} steps"
    text = f"Accuracy {run.accuracy:.3f} on {run.reviews} {reviews} after {steps}"
    return f"{text}; at least {calibration.accuracy:.2f} is needed{_direction(run, calibration)}"


def _direction(run: TrainingRun, calibration: Calibration) -> str:
    """Say whether a training that ends short of the minimum accuracy points the right way, where that was measured."""
    least, found = calibration.correlation, run.correlation
    if least is None or found is None or (run.accuracy or 0.0) >= calibration.accuracy or not is_real_training(run):
        return ""
    if reaches(run, calibration):
        return (
            ". The training was short for the small model used here, but what it taught is right: it agrees with the labels to"
            f" {found:.2f}, where 0 is chance and {least:.2f} is enough"
        )
    return f". What it taught agrees with the labels to {found:.2f}: 0 is chance, and {least:.2f} is enough for a short training"


def reaches(run: TrainingRun, calibration: Calibration) -> bool:
    """Whether a run reaches the minimum accuracy, or points the right way clearly enough."""
    least = calibration.correlation
    enough = run.accuracy is not None and run.accuracy >= calibration.accuracy
    return enough or (least is not None and points_right(run, least))


def points_right(run: TrainingRun, least: float) -> bool:
    """Whether a real training taught what the labels say: a direction without a training behind it is luck."""
    return run.correlation is not None and run.correlation >= least and is_real_training(run)


def is_close(run: TrainingRun, calibration: Calibration) -> bool:
    """Whether noise alone may have kept a run below one of the minimums: that of the held-out reviews and that of the seeds."""
    if run.accuracy is None or run.correlation is None:
        return False
    least, pointed = calibration.accuracy, calibration.correlation
    if run.accuracy >= least - NOISE_Z * math.hypot(review_noise(least, run.reviews), calibration.seed_std):
        return True
    if pointed is None:
        return False
    return run.correlation >= pointed - NOISE_Z * math.hypot(
        correlation_noise(pointed, run.reviews), calibration.correlation_std
    )


def mean_of(runs: Sequence[TrainingRun]) -> TrainingRun:
    """The first run with the mean accuracy and correlation of all."""
    accuracy = fmean(run.accuracy for run in runs if run.accuracy is not None)
    return replace(
        runs[0], accuracy=accuracy, correlation=fmean(run.correlation for run in runs if run.correlation is not None)
    )


def other_seeds(method: str, asked: Question, seen: Observation) -> list[TrainingRun]:
    """The method's run when the notebook was run again with other seeds; what cannot be read is left out."""
    found = []
    for observation in seen.again:
        try:
            run = run_for(method, asked, observation)
        except (KeyError, TypeError, ValueError):
            continue
        if run is not None and run.accuracy is not None:
            found.append(run)
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
    return run.steps >= MIN_STEPS and has_usual_rate(run)


def has_usual_rate(run: TrainingRun) -> bool:
    """Whether a run's highest learning rate is one of fine-tuning, where one was seen."""
    return not run.rated or (LR_RANGE[0] <= run.peak_rate and _scaled(run, run.peak_rate) <= LR_RANGE[1])


def _scaled(run: TrainingRun, rate: float) -> float:
    """A learning rate of the run's optimizer as one of an optimizer that scales its steps."""
    return rate / (SGD_RATES if _is_sgd(run) else 1.0)


def _is_sgd(run: TrainingRun) -> bool:
    return "sgd" in run.optimizer.lower()


def is_above_range(run: TrainingRun, calibration: Calibration, head: Calibration | None = None) -> bool:
    """Whether a learning rate was seen at which a right solution may miss.

    `head`: that of the head alone, for a LoRA run: where its adapters have hardly changed the body, what the head bears it bears.
    """
    most = _highest_rate(run, calibration)
    if head is not None and calibration.unchanged is not None and run.kinship >= calibration.unchanged:
        most = max(most, _highest_rate(run, head))
    return run.rated and run.peak_rate > most * 1.001


def _highest_rate(run: TrainingRun, calibration: Calibration) -> float:
    return (_is_sgd(run) and calibration.max_sgd_lr) or calibration.max_lr or math.inf


def outside_calibrated_range(run: TrainingRun, calibration: Calibration, head: Calibration | None = None) -> str:
    """Say why this bundle cannot tell whether the run is right; empty within the range, or where there is none."""
    if calibration.max_lr is None:
        return ""
    if is_above_range(run, calibration, head):
        return (
            f"A learning rate of {run.peak_rate:g} can break this small model where the real one learns, so a person has to look, or"
            " it is graded again with a bundle of the real model."
        )
    if run.steps < calibration.min_steps or (
        not run.start_known and run.rated and _scaled(run, run.lr_sum) < UNSEEN_LR_SUM
    ):
        return (
            "So few or so small steps cannot teach this small model what the real one may learn from them, so a person has to look, or it"
            " is graded again with a bundle of the real model."
        )
    return ""


def correlation_noise(correlation: float, reviews: int) -> float:
    """Standard deviation of a correlation over draws of so many reviews."""
    return (1 - correlation**2) / math.sqrt(reviews)


def review_noise(accuracy: float, reviews: int) -> float:
    """Standard deviation of an accuracy over draws of so many reviews (binomial)."""
    return math.sqrt(accuracy * (1 - accuracy) / reviews)
