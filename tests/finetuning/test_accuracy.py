"""Minimum accuracy: what costs points, what a person has to look at, and what nobody gets away with."""

import math
from dataclasses import replace

import numpy as np
import pytest

from grader.assignments.finetuning import ASSIGNMENT
from grader.assignments.finetuning.accuracy import OWN, SAMPLE, SAMPLE_Z, judge_accuracy, outside_calibrated_range
from grader.assignments.finetuning.facts import JudgeFacts
from grader.assignments.finetuning.runs import MAX_RUNS, calibration_of, read_runs, summarise
from grader.bundles.thresholds import Calibration
from grader.grading.fingerprint import question_digest
from grader.inside import witness
from grader.records import Attempt, Observation, Status, Verdict
from grader.reports.audience import is_private
from grader.rubric.judge import score
from grader.rubric.questions import Draw, Question
from tests.corpus.training import NO_MINIMUM

REVIEWS = 2000
LABELS = tuple(int(i % 2) for i in range(REVIEWS))
CALIBRATION = Calibration(
    0.76,
    correlation=0.55,
    seed_std=0.01,
    correlation_std=0.03,
    max_lr=1e-3,
    min_steps=50,
    max_sgd_lr=2e-3,
    own_correlation=0.65,
    own_steps=250,
    unchanged=0.98,
)
FACTS = JudgeFacts(
    dim=16, digests=frozenset(), texts=(), labels=LABELS,
    calibrations=dict.fromkeys(("full", "head", "lora"), CALIBRATION),
)  # fmt: skip
STRUCTURE = {"head/frozen": Verdict(Status.PASSED, ""), "head/trained": Verdict(Status.PASSED, "")}
USUAL = {"steps": 750, "peak_rate": 5e-5, "lr_sum": 0.019, "optimizer": "AdamW"}


def logits(accuracy):
    """Logits that classify this share of the reviews rightly."""
    right = np.arange(REVIEWS) < round(accuracy * REVIEWS)
    chosen = np.where(right, LABELS, 1 - np.asarray(LABELS))
    return np.where(np.arange(2)[None] == chosen[:, None], 1.0, 0.0).astype(np.float32)


def learnt(correlation, accuracy=0.55, reviews=REVIEWS, labels=LABELS):
    """Logits before and after a training that taught this much, too little to show in the accuracy."""
    rng = np.random.default_rng(1)
    signs = 2.0 * np.asarray(labels[:reviews]) - 1
    noise = rng.normal(size=reviews)
    noise -= signs * (noise @ signs) / reviews
    added = correlation * signs + math.sqrt(1 - correlation**2) * noise / noise.std()
    start = logits(accuracy)[:reviews] * 100
    gain = np.stack([-added, added], 1)
    return {"start_logits": start, "logits": (start + gain).astype(np.float32)}


def observation(accuracy, **seen):
    """A head-only run of which this was seen."""
    entry = {
        "order": 0, "seconds": 1.0, "layout": {"root": "", "wrapped": []}, "logits": logits(accuracy),
        "start": [["distilbert.a", [2], False, "1"], ["classifier.weight", [2, 16], True, "2"]],
        "end": [["distilbert.a", [2], False, "1"], ["classifier.weight", [2, 16], True, "3"]], **USUAL, **seen,
    }  # fmt: skip
    return Observation(Attempt.VALUE, {"runs": [entry]})


def verdict(accuracy, structure=STRUCTURE, facts=FACTS, again=(), **seen):
    """What the head-only step gets for a run of which this was seen, and for further runs with other seeds."""
    question = Question("training", secret={"facts": facts})
    first = replace(observation(accuracy, **seen), again=tuple(again))
    return judge_accuracy("head", "head/frozen", question, first, structure)


def test_what_reaches_the_threshold_passes_with_any_hyperparameters():
    assert verdict(0.77).status is Status.PASSED
    assert verdict(0.77, steps=1, peak_rate=0.0, optimizer="Odd").status is Status.PASSED


def test_a_clear_miss_inside_the_range_costs_points():
    found = verdict(0.60)
    assert found.status is Status.FAILED
    assert "0.600" in found.message
    assert "0.76" in found.message
    assert found.hint


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        ({"steps": 49}, "So few or so small steps"),
        ({"lr_sum": 1.2e-3}, "So few or so small steps"),
        ({"optimizer": "SGD", "lr_sum": 1.2e-2}, "So few or so small steps"),
        ({"peak_rate": 5e-3}, "0.005 can break"),
        ({"optimizer": "SGD", "peak_rate": 5e-2}, "0.05 can break"),
        ({"optimizer": "SGD", "peak_rate": 5e-3}, "0.005 can break"),
    ],
)
def test_a_miss_outside_the_range_needs_review(seen, word):
    found = verdict(0.60, **seen)
    assert found.status is Status.ERROR
    assert word in found.message
    assert "epochs" in found.hint  # what students read in its place


def test_a_miss_is_told_by_its_cause():
    swapped = learnt(0.7)
    swapped["logits"] = 2 * swapped["start_logits"] - swapped["logits"]
    assert "opposite of the labels" in verdict(0.5, **swapped).hint
    assert "agrees with the labels" in verdict(0.5, **learnt(0.2)).message
    for unreal in ({"steps": 1}, {"peak_rate": 1e-8}):
        assert "agrees with the labels" not in verdict(0.5, **learnt(0.7), **unreal).message
    assert "after 1 step;" in verdict(0.5, **learnt(0.7), steps=1).message


def test_a_head_of_ones_own_may_need_an_epoch():
    (run,) = read_runs(Question("training", secret={"facts": FACTS}), observation(0.5, steps=240))
    assert not outside_calibrated_range(run, CALIBRATION)
    assert calibration_of("head", run, FACTS) == CALIBRATION
    needed = calibration_of("head", replace(run, own="its head is another"), FACTS)
    assert "So few" in outside_calibrated_range(run, needed)
    assert not outside_calibrated_range(replace(run, steps=250), needed)


def test_a_head_of_ones_own_has_a_minimum_direction_of_its_own():
    needed = CALIBRATION.of_own_head
    assert (needed.correlation, needed.accuracy, needed.min_steps) == (0.65, 0.76, 250)
    for found, enough in ((0.58, False), (0.68, True)):
        assert verdict(0.5, **learnt(found)).status is Status.PASSED
        assert (verdict(0.5, **learnt(found), own="a head of its own").status is Status.PASSED) is enough


@pytest.mark.parametrize(
    ("kinship", "rate", "excused"), [(0.9999, 1e-3, False), (0.9, 1e-3, True), (0.9999, 2e-3, True)]
)
def test_no_rate_excuses_adapters_that_hardly_changed(kinship, rate, excused):
    (run,) = read_runs(Question("training", secret={"facts": FACTS}), observation(0.5, kinship=kinship, peak_rate=rate))
    assert bool(outside_calibrated_range(run, replace(CALIBRATION, max_lr=3e-4), head=CALIBRATION)) is excused


@pytest.mark.parametrize(
    "seen",
    [
        {"steps": 250},  # one epoch at the library's defaults
        {"peak_rate": 1e-5},
        {"optimizer": "SGD", "peak_rate": 1.9e-3},
        {"optimizer": "Adafactor", "rated": False, "peak_rate": 0.0},
        {"optimizer": "by hand", "rated": False, "peak_rate": 0.0},
    ],
)
def test_what_learns_nothing_inside_the_range_costs_points(seen):
    assert verdict(0.60, **seen).status is Status.FAILED
    short = verdict(0.60, **seen, **learnt(0.65))
    assert short.status is Status.PASSED, "a training that is as short, and right"
    assert "0.65" in short.message
    assert "short" in short.message


# ---------------------------------------------------------------- what a training taught


def test_a_short_training_passes_by_its_direction():
    assert verdict(0.55, **learnt(0.56)).status is Status.PASSED
    assert verdict(0.55, **learnt(0.30)).status is Status.FAILED
    assert verdict(0.55, **learnt(-0.9)).status is Status.FAILED
    assert verdict(0.55, lr_sum=1e-4, **learnt(0.30)).status is Status.FAILED, (
        "where the start is known, few steps are enough"
    )
    assert "with the labels to 0.30" in verdict(0.55, **learnt(0.30)).message


def test_a_short_training_is_shown_without_a_minimum_that_it_need_not_reach():
    question = Question("training", secret={"facts": FACTS})
    shown = [
        summarise(question, observation(0.55, **seen))["methods"]["head"]["threshold"]
        for seen in (learnt(0.65), learnt(0.30), {"logits": logits(0.9)})
    ]
    assert shown == [None, 0.76, 0.76]


def test_without_the_start_a_head_counts_as_one_without_opinion():
    after = learnt(0.65)
    for start in (None, [[0.0, 1.0]], np.zeros((3, 2), np.float32), np.full((REVIEWS, 2), np.nan, np.float32)):
        assert verdict(0.55, logits=after["logits"] - after["start_logits"], start_logits=start).status is Status.PASSED
        assert verdict(0.55, logits=after["logits"], start_logits=start).status is Status.FAILED


@pytest.mark.parametrize("seen", [{"steps": 19}, {"peak_rate": 1e-8}, {"peak_rate": 0.0}, {"peak_rate": 0.5}])
def test_a_direction_without_a_training_is_luck(seen):
    assert verdict(0.55, **learnt(0.9), **seen).status is Status.FAILED


def test_a_direction_within_the_noise_is_run_again():
    band = 2 * math.hypot((1 - 0.55**2) / math.sqrt(REVIEWS), 0.03)
    close = verdict(0.55, **learnt(0.55 - 0.9 * band))
    assert close.again
    assert not verdict(0.55, **learnt(0.55 - 1.1 * band)).again
    further = [observation(0.55, **learnt(0.62)), observation(0.55, **learnt(0.60))]
    settled = verdict(0.55, **learnt(0.53), again=further)
    assert settled.status is Status.PASSED
    assert "0.58" in settled.message
    assert verdict(0.55, **learnt(0.53), again=[observation(0.55, **learnt(0.2))] * 2).status is Status.FAILED


def test_a_short_training_passes_whatever_else_went_wrong():
    broken = STRUCTURE | {"head/frozen": Verdict(Status.FAILED, "The body moved.")}
    assert verdict(0.55, broken, **learnt(0.65)).status is Status.PASSED, "one root cause, one criterion"


def test_a_divergence_is_a_miss_that_names_the_rate():
    nan = np.full((REVIEWS, 2), np.nan, np.float32)
    found = verdict(0.9, logits=nan, peak_rate=9e-4)
    assert found.status is Status.FAILED
    assert "diverged" in found.message
    assert "0.0009" in found.message
    assert "lower learning rate" in found.hint
    assert verdict(0.9, logits=nan, peak_rate=5e-3).status is Status.ERROR, (
        "above the range it may be the small model's fault"
    )
    by_hand = verdict(0.9, logits=nan, rated=False, peak_rate=0.0)
    assert "learning rate went" not in by_hand.message


@pytest.mark.parametrize(
    "seen",
    [
        {"steps": 19},
        {"steps": 19, "peak_rate": 0.0, "rated": False},
        {"peak_rate": 0.0},
        {"peak_rate": 1e-9},
        {"peak_rate": 0.5},
        {"peak_rate": math.nan},
        {"peak_rate": math.inf},
    ],
)
def test_no_real_training_is_no_case_for_review(seen):
    assert verdict(0.60, **seen).status is Status.FAILED


def test_a_miss_is_not_reviewed_where_the_structure_is_wrong():
    broken = STRUCTURE | {"head/frozen": Verdict(Status.FAILED, "The body moved.")}
    found = verdict(0.60, broken, steps=49)
    assert (found.status, found.because) == (Status.SKIPPED, "head/frozen")


def test_what_a_structural_mistake_costs_in_accuracy_is_forgiven():
    for root in (Verdict(Status.FAILED, ""), Verdict(Status.SKIPPED, "", because="head/frozen")):
        few = STRUCTURE | {"head/trained": root}
        found = verdict(0.70, few)
        assert found.status is Status.PASSED
        assert f"`{root.because or 'head/trained'}`" in found.message
        lost = verdict(0.55, few)
        assert (lost.status, lost.because) == (Status.SKIPPED, root.because or "head/trained"), (
            "nothing learned, told once"
        )
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
    assert not verdict(0.60, steps=49).again, "other seeds do not help outside of the range"


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
    assert verdict(0.60, facts=bare, steps=49).status is Status.FAILED
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


def test_logits_that_are_malformed_never_pass():
    assert verdict(0.9, logits=np.full((REVIEWS, 2), np.nan, np.float32)).status is Status.FAILED
    assert verdict(0.9, logits=[[0.0, 1.0]]).status is Status.FAILED


# ---------------------------------------------------------------- a sample first


MANY = replace(FACTS, texts=tuple(f"review {i}" for i in range(REVIEWS)))


def first_half(facts=MANY, seed=0):
    """The question as a run of this seed asks it of the student's kernel."""
    return ASSIGNMENT.questions["training"](Draw(np.random.default_rng(seed), facts))


def drawn(facts=MANY, seed=0):
    """Its second half, which a clean box is asked."""
    return first_half(facts, seed).then


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
    names = {"texts", "public", "drawn", "batch", "device"}
    assert set(question.params) == set(question.whole.params) == names, "no label goes into the box"


def test_held_out_reviews_go_to_who_cannot_be_rebuilt_only():
    question, public = first_half(), ("known", "reviews")
    assert "texts" not in question.params
    assert set(first_half(replace(MANY, public=public)).params["public"]) == set(public)
    rebuilt, own = ({"runs": [{"own": own}]} for own in (False, True))
    assert not question.followup.wanted(Observation(Attempt.VALUE, rebuilt))
    assert question.followup.wanted(Observation(Attempt.VALUE, own))
    texts = question.followup.question.params["texts"]
    assert len(set(texts)) == OWN
    assert texts != first_half(seed=1).followup.question.params["texts"]
    assert question.followup.question.then == question.then


def test_reruns_ask_the_second_half_about_all_reviews():
    question = first_half()
    assert question.whole.then == question.then.whole
    assert question.whole.then.params["texts"] == list(MANY.texts)
    assert question.whole.followup is question.followup


def own_logits(accuracy, rows=OWN):
    """A model that was not rebuilt: its answers to the reviews that were drawn for it."""
    question = first_half()
    truth = np.asarray(LABELS)[question.secret["own"]][:rows]
    chosen = np.where(np.arange(rows) < round(accuracy * rows), truth, 1 - truth)
    return observation(accuracy, logits=np.eye(2, dtype=np.float32)[chosen], own="a head of its own")


def test_a_model_that_was_not_rebuilt_is_told_to_staff():
    good, bad = (judged(first_half(), own_logits(accuracy)) for accuracy in (0.80, 0.60))
    assert (good.status, bad.status) == (Status.PASSED, Status.FAILED)
    assert f"0.800 on {OWN} held-out reviews" in good.message
    assert not drawn().followup.wanted(own_logits(0.60)), "more reviews are not shown to it"
    for verdict_ in (good, bad):
        (notice,) = verdict_.notices
        assert is_private(notice)
        assert "a head of its own" in notice.text
    assert judged(first_half(), own_logits(0.9, rows=SAMPLE)).status is Status.FAILED, (
        "only those count that it was asked about"
    )
    assert judged(drawn(), answered(drawn(), 0.86)).notices == ()


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


def test_a_sample_settles_a_direction_at_a_distance_of_its_noise():
    question = drawn()
    rows = [int(text.removeprefix("review ")) for text in question.params["texts"]]
    edge = 0.55 + SAMPLE_Z * (1 - 0.55**2) / math.sqrt(SAMPLE)
    labels = tuple(np.asarray(LABELS)[rows])
    clear, close = (observation(0.5, **learnt(edge + more, reviews=SAMPLE, labels=labels)) for more in (0.01, -0.01))
    assert not question.followup.wanted(clear)
    assert judged(question, clear).status is Status.PASSED
    assert question.followup.wanted(close)


def test_a_sample_needs_no_minimum():
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
    whole = first_half()
    seconds = [question, other, replace(question, params={}), None]
    assert len({question_digest(replace(whole, then=then)) for then in seconds}) == len(seconds)


def test_a_claim_of_thousands_of_runs_is_not_read_to_its_end():
    """A forged answer; sharing them out would take longer than the course."""
    (entry,) = observation(0.9).value["runs"]
    seen = Observation(Attempt.VALUE, {"runs": [{**entry, "order": number} for number in range(5000)]})
    question = Question("training", secret={"facts": FACTS})
    assert len(read_runs(question, seen)) == MAX_RUNS == witness._MAX_RUNS
    assert judge_accuracy("head", "head/frozen", question, seen, STRUCTURE).status is Status.PASSED
