"""The confusion matrix: every kind of difference is told apart, and `grader verify` fails for each."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grader.cli.main import main
from grader.cli.verify import _load_corpus
from grader.errors import UsageError
from grader.records import Status, Verdict
from tests.corpus.matrix import Judged, difference, rows, summary
from tests.pipeline.conftest import notebook_bytes

OK, LOST, DOUBT = Verdict(Status.PASSED), Verdict(Status.FAILED, "no"), Verdict(Status.ERROR, "?")


def judged(loses="", **verdicts):
    return Judged("case", "part", frozenset(loses.split()), verdicts)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (judged(a=OK, b=OK), None),
        (judged("a", a=LOST, b=OK), None),
        (judged("a b", a=LOST, b=Verdict(Status.SKIPPED, because="a")), None),
        (judged(a=LOST, b=OK), "false fail"),
        (judged("a", a=OK, b=OK), "miss"),
        (judged("a", a=OK, b=LOST), "misplaced"),
        (judged("a", a=LOST, b=LOST), "misplaced"),
        (judged("a", a=OK, b=DOUBT), "review"),
        (judged("b", a=OK, b=Verdict(Status.SKIPPED, because="a")), "misplaced"),
        (judged("b", a=OK, b=Verdict(Status.SKIPPED, because="gone")), "misplaced"),
    ],
)
def test_every_difference_has_its_kind(case, kind):
    found = difference(case)
    assert (found.kind if found else None) == kind


def test_rows_count_every_verdict_once():
    cases = [judged(a=OK, b=LOST), judged("a", a=LOST, b=OK), judged("a", a=OK, b=DOUBT)]
    a, b = rows(cases)
    assert (a.criterion, a.kept, a.false_fail, a.true_fail, a.missed, a.review) == ("a", 1, 0, 1, 1, 0)
    assert (b.criterion, b.kept, b.false_fail, b.true_fail, b.missed, b.review) == ("b", 1, 1, 0, 0, 1)
    assert summary(cases) == "1 right and 2 wrong cases: 1 false fails, 0 misses, 0 misplaced, 1 to review"


CORPUS = """
from grader.records import Status, Verdict
from tests.corpus.matrix import Judged, matrix
def judged():
    print("what students print")
    yield Judged("one", "toys", frozenset({LABEL}), {"add/sum": Verdict(Status.FAILED, "seen 4")})
"""


@pytest.mark.box
@pytest.mark.parametrize(("label", "code"), [("'add/sum'", 0), ("", 1)])
def test_verify_prints_the_matrix_and_fails_on_a_difference(tmp_path, capsys, monkeypatch, label, code):
    name = f"labelled_{code}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(CORPUS.replace("LABEL", label), encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path])
    right, empty = tmp_path / "right.ipynb", tmp_path / "empty.ipynb"
    right.write_bytes(notebook_bytes("def add(a, b):\n    return a + b\ndef shout(t):\n    return t.upper()"))
    empty.write_bytes(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).encode())
    command = ["verify", "--assignment", "tests.toy:TOY", "--reference", str(right), "--template", str(empty)]
    page = tmp_path / "summary.md"
    assert main([*command, "--corpus", str(tmp_path / name), "--markdown", str(page)]) == code
    output = capsys.readouterr().out
    assert "add/sum" in output
    assert "what students print" not in output
    assert ("false fail: one" in output) == (code == 1)
    assert f"{code} false fails, 0 misses, 0 misplaced, 0 to review" in output
    assert ("| add/sum | 0 | 1 | 0 | 0 | 0 |" if code else "| add/sum | 0 | 0 | 1 | 0 | 0 |") in page.read_text("utf-8")


def test_a_folder_without_judged_is_no_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(UsageError, match=r"__init__\.py"):
        _load_corpus(tmp_path)
    (tmp_path / "nothing_judged").mkdir()
    (tmp_path / "nothing_judged" / "__init__.py").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="no function judged"):
        _load_corpus(tmp_path / "nothing_judged")


def _burn():
    while True:
        sum(range(100_000))


def _verdicts(target, *options):
    command = [sys.executable, "-m", "tests.corpus", "--every", "23", "--json", str(target), *options]
    # threads that wait for each other sleep: beside busy processes, spinning takes four times the CPU time
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    folder = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return json.loads(target.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.serial
def test_a_loaded_machine_with_other_threads_gives_the_same_verdicts(tmp_path):
    quiet = _verdicts(tmp_path / "quiet.json")
    burners = [multiprocessing.get_context("spawn").Process(target=_burn, daemon=True) for _ in range(2)]
    for burner in burners:
        burner.start()
    try:
        loaded = _verdicts(tmp_path / "loaded.json", "--threads", "2")
    finally:
        for burner in burners:
            burner.kill()
            burner.join()
    assert len(quiet) > 15
    assert loaded == quiet
