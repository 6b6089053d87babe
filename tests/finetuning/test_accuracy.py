"""Minimum accuracy: what costs points, what a person has to look at, and what nobody gets away with."""

import math
from dataclasses import replace

import numpy as np
import pytest

from grader.assignments.finetuning import ASSIGNMENT
from grader.assignments.finetuning.accuracy import SAMPLE, SAMPLE_Z, judge_accuracy
from grader.assignments.finetuning.facts import JudgeFacts
from grader.assignments.finetuning.runs import MAX_RUNS, read_runs
from grader.bundles import Calibration
from grader.grading.fingerprint import question_digest
from grader.inside import witness
from grader.records import Attempt, Observation, Status, Verdict
from grader.rubric.judge import score
from grader.rubric.questions import Draw, Question
from tests.corpus.training import NO_MINIMUM

REVIEWS = 2000
LABELS = tuple(int(i % 2) for i in range(REVIEWS))
CALIBRATION = Calibration(0.76, seed_std=0.01, max_lr=1e-3, min_lr_sum=0.0125)
FACTS = JudgeFacts(
    dim=16, digests=frozenset(), largest={}, texts=(), labels=LABELS,
    calibrations=dict.fromkeys(("full", "head", "lora"), CALIBRATION),
)  # fmt: skip
STRUCTURE = {"head/frozen": Verdict(Status.PASSED, ""), "head/trained": Verdict(Status.PASSED, "")}
USUAL = {"steps": 750, "peak_rate": 5e-5, "lr_sum": 0.019, "optimizer": "AdamW"}


def logits(accuracy, margin=1.0):
    """Logits that classify this share of the reviews rightly."""
    right = np.arange(REVIEWS) < round(accuracy * REVIEWS)
    chosen = np.where(right, LABELS, 1 - np.asarray(LABELS))
    return np.where(np.arange(2)[None] == chosen[:, None], margin, 0.0).astype(np.float32)


def observation(accuracy, margin=1.0, **seen):
    """A head-only run of which this was seen."""
    entry = {
        "order": 0, "seconds": 1.0, "layout": {"root": "", "at": {}}, "logits": logits(accuracy, margin),
        "start": [["distilbert.a", [2], False, "1"], ["classifier.weight", [2, 16], True, "2"]],
        "end": [["distilbert.a", [2], False, "1"], ["classifier.weight", [2, 16], True, "3"]], **USUAL, **seen,
    }  # fmt: skip
    return Observation(Attempt.VALUE, {"runs": [entry]})


def verdict(accuracy, structure=STRUCTURE, facts=FACTS, margin=1.0, again=(), **seen):
    """What the head-only step gets for a run of which this was seen, and for further runs with other seeds."""
    question = Question("training", secret={"facts": facts})
    first = replace(observation(accuracy, margin, **seen), again=tuple(again))
    return judge_accuracy("head", "head/frozen", question, first, structure)


def test_what_reaches_the_threshold_passes_with_any_hyperparameters():
    assert verdict(0.77).status is Status.PASSED
    assert verdict(0.77, steps=1, peak_rate=0.0, lr_sum=0.0, optimizer="Odd").status is Status.PASSED


def test_a_clear_miss_inside_the_range_costs_points():
    found = verdict(0.60)
    assert found.status is Status.FAILED
    assert "0.600" in found.message
    assert "0.76" in found.message
    assert found.hint


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        ({"steps": 250, "lr_sum": 0.0063}, "teach"),  # one epoch at the library's defaults
        ({"peak_rate": 1e-5, "lr_sum": 0.0038}, "teach"),
        ({"peak_rate": 5e-3, "lr_sum": 1.9}, "break"),
        ({"optimizer": "SGD", "peak_rate": 9e-3, "lr_sum": 3.0}, "SGD"),
        ({"optimizer": "Adafactor", "rated": False, "peak_rate": 0.0, "lr_sum": 0.0}, "No learning rate was seen"),
    ],
)
def test_a_miss_outside_the_range_needs_review(seen, word):
    found = verdict(0.60, **seen)
    assert found.status is Status.ERROR
    assert word in found.message
    assert "epochs" in found.hint  # what students read in its place
    assert not seen.get("rated", True) or f"{seen.get('peak_rate', 5e-5):g}" in found.message


@pytest.mark.parametrize(
    "seen",
    [
        {"steps": 19, "lr_sum": 0.0005},
        {"steps": 19, "lr_sum": 0.0, "peak_rate": 0.0, "rated": False},
        {"peak_rate": 0.0, "lr_sum": 0.0},
        {"peak_rate": 1e-9, "lr_sum": 1e-6},
        {"peak_rate": 0.5, "lr_sum": 99.0},
        {"peak_rate": math.nan, "lr_sum": math.nan},
        {"peak_rate": math.inf, "lr_sum": math.inf},
    ],
)
def test_no_real_training_is_no_case_for_review(seen):
    assert verdict(0.60, **seen).status is Status.FAILED


def test_a_miss_is_not_reviewed_where_the_structure_is_wrong():
    broken = STRUCTURE | {"head/frozen": Verdict(Status.FAILED, "The body moved.")}
    assert verdict(0.60, broken, steps=250, lr_sum=0.0063).status is Status.FAILED


def test_what_a_structural_mistake_costs_in_accuracy_is_forgiven():
    for root in (Verdict(Status.FAILED, ""), Verdict(Status.SKIPPED, "", because="head/frozen")):
        few = STRUCTURE | {"head/trained": root}
        found = verdict(0.70, few)
        assert found.status is Status.PASSED
        assert f"`{root.because or 'head/trained'}`" in found.message
        assert verdict(0.55, few).status is Status.FAILED, "who learned nothing made another mistake"
    assert verdict(0.70).status is Status.FAILED


BAND = 2 * math.sqrt(0.76 * 0.24 / REVIEWS + 0.01**2)


def test_a_miss_within_the_noise_is_run_again():
    close = verdict(0.76 - 0.9 * BAND)
    assert close.status is Status.ERROR
    assert close.again
    assert "noise" in close.message
    assert "Run the submission again" in close.message
    clear = verdict(0.76 - 1.1 * BAND)
    assert clear.status is Status.FAILED
    assert not clear.again
    assert not verdict(0.60, steps=250, lr_sum=0.0063).again, "other seeds do not help outside of the range"


def test_the_mean_over_the_seeds_settles_a_close_miss():
    better, worse = observation(0.775), observation(0.745)
    reached = verdict(0.755, again=(better, better))
    assert reached.status is Status.PASSED
    assert "0.775" in reached.message
    assert "0.768" in reached.message
    missed = verdict(0.755, again=(better, worse))
    assert missed.status is Status.FAILED
    assert "the mean is 0.758" in missed.message
    assert verdict(0.70, again=(better, better)).status is Status.FAILED, "a clear miss is none of luck"


@pytest.mark.parametrize(
    "broken",
    [
        Observation(Attempt.RAISED, error="E"),
        Observation(Attempt.VALUE, None),
        Observation(Attempt.VALUE, {"runs": []}),
        Observation(Attempt.VALUE, {"runs": [{"steps": 5}]}),
        observation(0.99, logits=np.full((REVIEWS, 2), np.nan, np.float32)),
    ],
)
def test_a_further_run_that_cannot_be_read_settles_nothing(broken):
    assert verdict(0.755, again=(broken, broken)).status is Status.ERROR
    assert verdict(0.755, again=(broken, observation(0.80))).status is Status.PASSED


def ranged(width):
    return replace(FACTS, linear_range=width)


def test_points_fall_linearly_where_the_bundle_says_so():
    facts = ranged(0.10)
    assert verdict(0.77, facts=facts).status is Status.PASSED
    half = verdict(0.71, facts=facts)
    assert half.status is Status.FAILED
    assert half.share == pytest.approx(0.5)
    assert "0.66" in half.message
    assert verdict(0.65, facts=facts).share == 0.0
    assert verdict(0.71).share == 0.0, "a hard threshold unless the bundle says otherwise"
    close = verdict(0.755, facts=facts, again=(observation(0.745), observation(0.745)))
    assert close.share == pytest.approx(1 - (0.76 - (0.755 + 2 * 0.745) / 3) / 0.10)


def test_a_share_earns_whole_points_and_never_all():
    rubric = {check.id: check for check in ASSIGNMENT.checks.values()}
    points = rubric["head/accuracy"].points
    for share, earned in ((0.0, 0), (0.5, points // 2), (0.999, points - 1), (1.0, 0), (math.nan, 0), (-1.0, 0)):
        result = score(ASSIGNMENT, {"head/accuracy": Verdict(Status.FAILED, "", share=share)})
        assert {c.id: c.earned for c in result.criteria}["head/accuracy"] == earned
    skipped = score(ASSIGNMENT, {"head/accuracy": Verdict(Status.SKIPPED, "", because="head/frozen", share=0.5)})
    assert {c.id: c.earned for c in skipped.criteria}["head/accuracy"] == 0


def test_a_bundle_without_a_range_judges_by_the_threshold():
    bare = replace(FACTS, calibrations={"head": Calibration(0.76)})
    assert verdict(0.60, facts=bare, steps=250, lr_sum=0.0063).status is Status.FAILED
    assert verdict(0.77, facts=bare).status is Status.PASSED


def test_an_accuracy_without_a_minimum_needs_review():
    found = verdict(0.99, facts=replace(FACTS, calibrations={}))
    assert found.status is Status.ERROR
    assert "0.990" in found.message
    assert NO_MINIMUM in found.message


def test_without_a_run_its_root_is_named():
    question = Question("training", secret={"facts": FACTS})
    found = judge_accuracy("head", "head/frozen", question, Observation(Attempt.VALUE, {"runs": []}), {})
    assert (found.status, found.because) == (Status.SKIPPED, "head/frozen")


def test_the_loss_is_judged_where_the_bundle_has_one():
    facts = replace(FACTS, calibrations={"head": Calibration(0.76, loss=0.5, seed_std=0.01)})
    assert verdict(0.9, facts=facts, margin=3.0).status is Status.PASSED
    high = verdict(0.9, facts=facts, margin=0.01)  # a mean loss of almost ln 2
    assert high.status is Status.FAILED
    assert "0.689" in high.message


def test_logits_that_are_malformed_never_pass():
    assert verdict(0.9, logits=np.full((REVIEWS, 2), np.nan, np.float32)).status is Status.FAILED
    assert verdict(0.9, logits=[[0.0, 1.0]]).status is Status.FAILED


# ---------------------------------------------------------------- a sample first


MANY = replace(FACTS, texts=tuple(f"review {i}" for i in range(REVIEWS)))


def drawn(facts=MANY, seed=0):
    """The question as a run of this seed asks it."""
    return ASSIGNMENT.questions["training"](Draw(np.random.default_rng(seed), facts))


def answered(question, accuracy, labels=LABELS, **seen):
    """What a head-only run of this accuracy answers to a question: as many rows as it asks about."""
    rows = [int(text.removeprefix("review ")) for text in question.params["texts"]]
    right = np.arange(len(rows)) < round(accuracy * len(rows))
    truth = np.asarray(labels)[rows]
    chosen = np.where(right, truth, 1 - truth)
    return observation(accuracy, **{"logits": np.eye(2, dtype=np.float32)[chosen], **seen})


def test_a_sample_of_many_reviews_is_asked_about_first():
    question = drawn()
    texts = question.params["texts"]
    assert len(texts) == len(set(texts)) == SAMPLE
    assert set(texts) < set(MANY.texts)
    assert texts != list(MANY.texts[:SAMPLE]), "a file may be sorted by label"
    assert texts != drawn(seed=1).params["texts"]
    assert question.whole.params["texts"] == list(MANY.texts)
    assert set(question.params) == set(question.whole.params) == {"texts", "batch"}, "no label goes into the box"


def test_few_reviews_are_asked_about_at_once():
    few = drawn(replace(MANY, texts=MANY.texts[:SAMPLE], labels=LABELS[:SAMPLE]))
    assert few.followup is None
    assert few.whole is few


def judged(question, seen):
    return judge_accuracy("head", "head/frozen", question, seen, STRUCTURE)


def test_what_is_far_above_the_minimum_on_the_sample_is_settled():
    question = drawn()
    seen = answered(question, 0.86)
    assert not question.followup.wanted(seen)
    found = judged(question, seen)
    assert found.status is Status.PASSED
    assert f"0.860 on {SAMPLE} held-out reviews" in found.message


@pytest.mark.parametrize("accuracy", [0.79, 0.76, 0.70, 0.50, 0.0])
def test_nobody_loses_points_on_a_sample(accuracy):
    question = drawn()
    first = answered(question, accuracy)
    assert question.followup.wanted(first)
    unsettled = judged(question, first)
    assert unsettled.status is Status.ERROR, "as when the minimum was raised since"
    assert not unsettled.again
    assert f"{SAMPLE} of {REVIEWS}" in unsettled.message
    assert judged(question, answered(question.whole, 0.77)).status is Status.PASSED
    miss = judged(question, answered(question.whole, 0.60))
    assert miss.status is Status.FAILED
    assert f"on {REVIEWS} held-out reviews" in miss.message


def test_a_sample_settles_at_a_distance_of_its_own_noise():
    question = drawn()
    edge = 0.76 + SAMPLE_Z * math.sqrt(0.76 * 0.24 / SAMPLE)
    assert not question.followup.wanted(answered(question, math.ceil(edge * SAMPLE) / SAMPLE))
    assert question.followup.wanted(answered(question, math.floor(edge * SAMPLE - 1) / SAMPLE))


def test_a_sample_settles_no_mean_loss_and_needs_no_minimum():
    strict = drawn(replace(MANY, calibrations={"head": Calibration(0.76, loss=0.5, seed_std=0.01)}))
    assert strict.followup.wanted(answered(strict, 0.99))
    free = drawn(replace(MANY, calibrations={}))
    assert not free.followup.wanted(answered(free, 0.10))


@pytest.mark.parametrize(
    "seen",
    [
        Observation(Attempt.RAISED, error="E"),
        Observation(Attempt.VALUE, None),
        Observation(Attempt.VALUE, [1, 2]),
        Observation(Attempt.VALUE, {"runs": [{"steps": 5}]}),
        Observation(Attempt.VALUE, {"runs": {"steps": 5}}),
        Observation(Attempt.VALUE, {"runs": []}),
        observation(0.5, logits=np.full((SAMPLE, 2), np.nan, np.float32)),
        observation(0.5, raised="RuntimeError"),
        observation(0.5, logits=np.zeros((SAMPLE, 3), np.float32)),
        observation(0.5, layout=[], start="no"),
        observation(0.5, order=10**400, seconds=10**400),
    ],
)
def test_what_cannot_be_read_is_not_asked_again(seen):
    assert drawn().followup.wanted(seen) is False


@pytest.mark.parametrize("rows", [1, SAMPLE - 1, SAMPLE + 1, REVIEWS - 1, REVIEWS + SAMPLE])
def test_another_number_of_answers_never_passes(rows):
    seen = observation(0.99, logits=np.eye(2, dtype=np.float32)[np.resize(LABELS, rows)])
    assert judged(drawn(), seen).status is Status.FAILED


def test_a_sample_of_a_sorted_file_has_both_labels():
    ordered = tuple(sorted(LABELS))
    question = drawn(replace(MANY, labels=ordered))
    always = observation(0.5, logits=np.tile(np.float32([0.0, 1.0]), (SAMPLE, 1)))
    assert question.followup.wanted(always)
    assert judged(question, answered(question, 0.9, labels=ordered)).status is Status.PASSED


def test_a_digest_covers_what_is_asked_later():
    question = drawn()
    other = replace(question, followup=replace(question.followup, question=replace(question.whole, op="other")))
    assert question_digest(question) != question_digest(other) != question_digest(replace(question, followup=None))


def test_a_claim_of_thousands_of_runs_is_not_read_to_its_end():
    """A forged answer; sharing them out would take longer than the course."""
    (entry,) = observation(0.9).value["runs"]
    seen = Observation(Attempt.VALUE, {"runs": [{**entry, "order": number} for number in range(5000)]})
    question = Question("training", secret={"facts": FACTS})
    assert len(read_runs(question, seen)) == MAX_RUNS == witness._MAX_RUNS
    assert judge_accuracy("head", "head/frozen", question, seen, STRUCTURE).status is Status.PASSED
