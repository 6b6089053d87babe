"""The reference notebook, unchanged, on other bundles: the real model's size, and the course's own files when at hand."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grader.assignments import load_assignment
from grader.bundles.bundle import Bundle, load_bundle
from grader.cli.resources import reference_path
from grader.grading.pipeline import Grader, RunContext, SubmissionRun, report_for, single_submission
from grader.records import Outcome, Report, Status
from grader.sandbox.contract import Limits

STRUCTURE = {
    "count/distilbert", "count/frozen", "count/any-module", "full/trained", "head/frozen", "head/trained", "layers/extract",
    "layers/replace", "lora/identity", "lora/forward", "lora/rank-scaling", "lora/gradients", "lora/model",
}  # fmt: skip
COURSE_FILES = Path(__file__).parents[3] / "shared" / "data" / "reviews"

MAKE_MODEL = """
import sys, torch
from transformers import DistilBertConfig, DistilBertForMaskedLM
torch.manual_seed(0)
DistilBertForMaskedLM(DistilBertConfig()).save_pretrained(sys.argv[1])
"""


def write_rows(path: Path, rows: list[tuple[str, int]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "review", "label"])
        writer.writerows([i, text, label] for i, (text, label) in enumerate(rows))


def run_reference(bundle: Bundle, limits: Limits) -> tuple[SubmissionRun, Report]:
    context = RunContext.create(load_assignment(), bundle, b"a secret for tests")
    with Grader(context, limits=limits) as place:
        submission, data = single_submission(reference_path())
        result = asyncio.run(place.run(submission, data))
    return result, report_for(context, submission, result)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_real_size_takes_the_same_path(tmp_path) -> None:
    """A randomly initialised DistilBERT of the real size under the real name; no literal is adapted there."""
    shipped = load_bundle(None)
    folder = tmp_path / "real"
    (folder / "model").mkdir(parents=True)
    for file in shipped.model_dir.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            shutil.copy(file, folder / "model" / file.name)
    subprocess.run([sys.executable, "-c", MAKE_MODEL, str(folder / "model")], check=True, capture_output=True)
    heldout = shipped.heldout(b"some texts")
    rows = list(zip(heldout.texts, heldout.labels, strict=True))
    write_rows(folder / "train.csv", rows[:16])
    write_rows(folder / "eval.csv", rows[16:24])
    write_rows(folder / "heldout.csv", rows[24:44])
    (folder / "bundle.json").write_text(json.dumps({"format": 1, "name": "real-size"}))

    result, report = run_reference(load_bundle(folder), Limits(cpu_seconds=600, wall_seconds=6000))

    assert result.fault == ""
    assert result.execution.outcome is Outcome.COMPLETED
    assert [cell.error for cell in result.execution.cells if cell.error] == []
    assert not [a for a in result.notebook.adaptations if a.rule == "size"]
    found = {c.id: c.verdict.status for c in report.score.criteria}
    assert {name for name, status in found.items() if status is Status.PASSED} == STRUCTURE
    # without calibrated thresholds accuracy is for a person to judge, never a guess
    assert {name for name, status in found.items() if status is Status.ERROR} == {
        "full/accuracy",
        "head/accuracy",
        "lora/accuracy",
    }
    assert report.score.total is None
    trainable = {m: f["trainable"] for m, f in report.metrics["methods"].items()}
    assert trainable["full"] == 66_955_010
    assert trainable["head"] == 592_130
    assert 592_130 < trainable["lora"] < 66_955_010


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_courses_own_files_run_unchanged(tmp_path) -> None:
    """The small model on the course's real reviews: what it learns there is told, not judged."""
    if not (COURSE_FILES / "train.csv").is_file():
        pytest.skip("the course's own CSV files are not at hand (they are not ours to redistribute)")
    if "GRADER_COURSE_FILES" not in os.environ:
        pytest.skip("takes seven minutes: set GRADER_COURSE_FILES=1 to run the reference on the course's own CSV files")
    folder = tmp_path / "course"
    shutil.copytree(load_bundle(None).model_dir, folder / "model")
    for source, target in (("train.csv", "train.csv"), ("eval.csv", "eval.csv"), ("hidden.csv", "heldout.csv")):
        shutil.copy(COURSE_FILES / source, folder / target)
    manifest = {"format": 1, "name": "course-files", "sizes": {str(k): v for k, v in load_bundle(None).sizes.items()}}
    (folder / "bundle.json").write_text(json.dumps(manifest))

    result, report = run_reference(load_bundle(folder), Limits(cpu_seconds=3000, wall_seconds=20000))

    assert result.fault == ""
    assert [cell.error for cell in result.execution.cells if cell.error] == []
    accuracies = {m: f["accuracy"] for m, f in report.metrics["methods"].items()}
    print(f"accuracy on the course's own reviews: {accuracies}")
    assert set(accuracies) == {"full", "head", "lora"}
    assert all(0.3 < a <= 1 for a in accuracies.values())
    found = {c.id for c in report.score.criteria if c.verdict.status is Status.PASSED}
    assert found == STRUCTURE
