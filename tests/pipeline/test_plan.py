"""What is run again, and what is said about it: new, changed, failed, asked for."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from grader.errors import UsageError
from grader.records import Attempt, Evidence, Execution, Notebook, Observation, Outcome, SubmissionRun, Usage
from grader.runs.directory import Done, IntakeRecord, RunDirectory, RunInfo, load_context
from grader.runs.plan import Plan, RunSelection, content_parts, make_plan
from grader.runs.publish import publish
from grader.sandbox.contract import Limits
from tests.pipeline.conftest import notebook_bytes, submission_of
from tests.toy import TOY

NAMES = ("anna", "bo", "cem", "dan")


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    """Four submissions with stored evidence: all questions answered, all runs complete."""
    run = RunDirectory(tmp_path / "run")
    run.start(RunInfo("tests.toy:TOY", "standin", "", "", "none", "test"), b"a secret of a plan")
    return hand_in(run, {name: name for name in NAMES})


def hand_in(run: RunDirectory, contents: dict[str, str]) -> RunDirectory:
    submissions = []
    for name, content in contents.items():
        data = notebook_bytes(f"# {content}")
        submission = replace(submission_of(data, name), attachment_id=str(900 + len(submissions)))
        (run.root / submission.path).parent.mkdir(parents=True, exist_ok=True)
        (run.root / submission.path).write_bytes(data)
        submissions.append(submission)
    run.write("intake.json", IntakeRecord(tuple(submissions)))
    return run


LIMITS = Limits(cpu_seconds=60, memory_bytes=1 << 30)


def store(run: RunDirectory, outcome: Outcome = Outcome.COMPLETED, fault: str = "", only: str = "") -> None:
    """Bring evidence of all submissions, or of one."""
    context = load_context(run.info(), run.secret())
    for submission in run.submissions():
        if only in ("", submission.id):
            seen = {name: Observation(Attempt.VALUE, 1) for name in TOY.questions}
            execution = Execution(outcome, (), Usage(), "none", {}, "standin")
            evidence = Evidence(context.seed(submission), seen)
            parts = content_parts(context, submission, {})
            limits = {n: getattr(LIMITS, n) for n in ("cpu_seconds", "wall_seconds", "memory_bytes")}
            done = Done(parts, 1.0, 1.0, fault, outcome.value, limits)
            run.save_result(submission.id, SubmissionRun(Notebook((), 0), execution, evidence), done)
    publish(run)


def planned(run: RunDirectory, selection: RunSelection | None = None, **limits: float) -> Plan:
    context = load_context(run.info(), run.secret())
    return make_plan(run, context, replace(LIMITS, **limits), run.submissions(), selection or RunSelection())


def ids(plan: Plan) -> list[str]:
    return [job.submission.id for job in plan.jobs]


def test_a_first_run_runs_all_and_a_second_none(run) -> None:
    assert ids(planned(run)) == list(NAMES)
    assert planned(run).sentence() == "4 run for the first time"
    store(run)
    assert ids(planned(run)) == []
    assert planned(run).sentence() == "4 taken from the last run"
    assert planned(run, RunSelection(force=True)).sentence(names=True) == (
        "4 run again: asked for by --force (anna, bo, cem, dan)"
    )


def test_a_notebook_after_a_pdf_is_run_for_the_first_time(run) -> None:
    store(run)
    anna, *others = run.submissions()
    run.forget("anna")
    run.write("intake.json", IntakeRecord((replace(anna, path="", problem="It is a PDF."), *others)))
    publish(run)
    run.write("intake.json", IntakeRecord((anna, *others)))
    assert planned(run).sentence() == "3 taken from the last run; 1 run for the first time"


def test_a_changed_file_is_named(run) -> None:
    store(run)
    hand_in(run, {**{name: name for name in NAMES}, "bo": "better"})
    for selection in (RunSelection(), RunSelection(changed=True)):
        assert planned(run, selection).sentence() == "3 taken from the last run; 1 run again: file changed (bo)"


@pytest.mark.parametrize(("target", "text"), [
    ("bundle", "bundle changed"), ("code", "grader's code in the box changed"),
    ("libraries", "versions of libraries changed"), ("questions", "questions changed"),
])  # fmt: skip
def test_what_else_changed_is_named_and_left_alone_by_changed(run, target, text) -> None:
    store(run)
    done = run.done("bo")
    run.write("submissions/bo/done.json", replace(done, parts={**done.parts, target: "x", "questions": "x"}))
    assert planned(run).sentence() == f"3 taken from the last run; 1 run again: {text} (bo)"
    run.forget("cem")
    changed = planned(run, RunSelection(changed=True))
    assert ids(changed) == ["cem"]
    assert "1 left as they are: --changed" in changed.sentence()


def test_failed_takes_what_needs_review_or_did_not_complete(run) -> None:
    store(run)
    store(run, Outcome.TIMED_OUT, only="anna")
    store(run, Outcome.SANDBOX_FAILED, fault="no box today", only="bo")
    path = run.folder("cem") / "report.json"
    report = json.loads(path.read_text())
    report["score"]["total"] = None
    path.write_text(json.dumps(report))
    failed = planned(run, RunSelection(failed=True))
    assert ids(failed) == ["anna", "bo", "cem"]
    assert failed.sentence() == (
        "1 taken from the last run; 1 run again: its notebook did not run to its end (anna); "
        "1 run again: the grader or its machine failed (bo); 1 run again: it needs review (cem)"
    )
    assert ids(planned(run)) == ["bo"]
    assert ids(planned(run, RunSelection(only=("cem", "dan"), failed=True))) == ["cem"]


@pytest.mark.parametrize(
    ("outcome", "limit"),
    [(Outcome.TIMED_OUT, "cpu_seconds"), (Outcome.TIMED_OUT, "wall_seconds"), (Outcome.OUT_OF_MEMORY, "memory_bytes")],
)
def test_a_higher_limit_runs_again_who_met_it_and_nobody_else(run, outcome, limit) -> None:
    store(run)
    store(run, outcome, only="bo")
    store(run, Outcome.KERNEL_DIED, only="cem")
    other = "cpu_seconds" if limit == "memory_bytes" else "memory_bytes"
    lower, same, higher = (getattr(LIMITS, limit) * factor for factor in (0.5, 1, 2))
    assert ids(planned(run, **{limit: lower})) == ids(planned(run, **{limit: same})) == []
    assert ids(planned(run, **{other: getattr(LIMITS, other) * 2})) == []
    again = planned(run, **{limit: higher})
    assert again.sentence() == "3 taken from the last run; 1 run again: it met a limit that is higher now (bo)"
    changed = planned(run, RunSelection(changed=True), **{limit: higher})
    assert (ids(changed), len(changed.left)) == ([], 1)


def test_evidence_depends_on_the_submission_and_its_companions(run) -> None:
    context, submissions = load_context(run.info(), run.secret()), run.submissions()
    first = content_parts(context, submissions[0], {})
    assert first == content_parts(context, submissions[0], {})
    assert first != content_parts(context, submissions[1], {})
    assert first != content_parts(context, submissions[0], {"helpers.py": b"x"})


def test_an_unknown_id_is_refused(run) -> None:
    with pytest.raises(UsageError, match="no submission zoe"):
        planned(run, RunSelection(only=("anna", "zoe")))


def test_feedback_has_its_manifest_and_says_who_is_left_out(run: RunDirectory) -> None:
    store(run)
    submissions = [replace(s, attachment_id=None) if s.id == "dan" else s for s in run.submissions()]
    run.write("intake.json", IntakeRecord(tuple(submissions)))
    messages = publish(run).messages
    manifest = (run.root / "feedback-manifest.csv").read_text(encoding="utf-8")
    assert [row["submission"] for row in csv.DictReader(manifest.splitlines())] == ["anna", "bo", "cem"]
    assert len(messages) == 1
    assert messages[0].startswith("feedback.zip leaves out 1: dan: dan-graded.ipynb:")
