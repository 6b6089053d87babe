"""A second run on the same folder does nothing when nothing has changed; else its outcome is that of a fresh run."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from grader.cli import main as cli
from grader.records import (
    Attempt,
    CellRun,
    Evidence,
    Execution,
    Notebook,
    Observation,
    Outcome,
    Report,
    SubmissionRun,
    Usage,
)
from grader.runs import publish
from grader.runs.directory import RunDirectory
from grader.runs.engines import Job, LocalEngine, Session
from grader.runs.publish import judge_run
from tests.pipeline.conftest import notebook_bytes

NAMES = ("anna", "bo", "cem", "dan")
ran: list[str] = []


def told(job: Job) -> Future[SubmissionRun]:
    """Evidence made of the notebook's first bytes, without running anything; remembers whose."""
    ran.append(job.submission.id)
    said = "HEJ" if b"right" in job.data else "hej"
    seen = {"shout/upper": Observation(Attempt.VALUE, said)}
    execution = Execution(Outcome.COMPLETED, (CellRun(0, "ok", 1.0, 1.0, output=said),), Usage(), "none", {}, "b")
    fault = "no box today" if b"fault" in job.data else ""
    future: Future[SubmissionRun] = Future()
    future.set_result(SubmissionRun(Notebook((), 1), execution, Evidence("5eed", seen), fault))
    return future


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def open_told(*_given: Any) -> Iterator[Session]:
        yield Session(told, 2)

    monkeypatch.setattr(LocalEngine, "open", open_told)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "class"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / f"{name}_{100 + number}_{900 + number}_lab.ipynb").write_bytes(notebook_bytes(f"# right {number}"))
        (folder / f"{name}_{100 + number}_{800 + number}_helper.py").write_text("x = 1")
    (tmp_path / "secret").write_text("a secret of an index")
    return folder


def grade(source: Path, out: Path, *more: str) -> list[str]:
    """Grade; returns the ids of those that were run."""
    ran.clear()
    code = cli.main([
        "grade", str(source), "--out", str(out), "--assignment", "tests.toy:TOY", "--sandbox", "none",
        "--secret-file", str(source.parent / "secret"), *more,
    ])  # fmt: skip
    assert code in (0, 3, 4)
    return list(ran)


def files(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found.pop("stamp", None)
    for name in found:
        if name.endswith("done.json"):
            found[name] = re.sub(rb'"seconds": [\d.]+', b"", found[name])
    return found


def numbers(folder: Path) -> dict[str, int]:
    """File numbers: what is written again has another one."""
    return {name: (folder / name).stat().st_ino for name in files(folder)}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[RunDirectory]:
    """The runs that are published, one entry each time."""
    found: list[RunDirectory] = []

    def remember(run: RunDirectory, *given: Any) -> Iterator[Report]:
        found.append(run)
        return judge_run(run, *given)

    monkeypatch.setattr(publish, "judge_run", remember)
    return found


def test_a_second_run_touches_nothing_and_says_the_same_as_one_without_a_stamp(
    source: Path, tmp_path: Path, judged: list[RunDirectory], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert sorted(grade(source, run)) == ["100", "101", "102", "103"]
    first, written = files(run), numbers(run)
    assert len(judged) == 1
    capsys.readouterr()
    assert grade(source, run) == []
    output = capsys.readouterr().out
    assert (files(run), numbers(run), len(judged)) == (first, written, 1)
    (run / "stamp").unlink()
    assert grade(source, run) == []
    assert capsys.readouterr().out == output
    assert files(run) == first
    assert len(judged) == 2


def swap(path: Path, old: bytes, new: bytes) -> None:
    """Exchange bytes so that neither size nor date tell of it."""
    before, data = path.stat(), path.read_bytes()
    assert old in data
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


RECORDS: dict[str, Callable[[Path], object]] = {
    "page deleted": lambda run: (run / "submissions/101/report.html").unlink(),
    "page changed": lambda run: swap(run / "submissions/101/instructor.html", b"shout", b"SHOUT"),
    "report changed": lambda run: swap(run / "submissions/101/report.json", b'"total": 3', b'"total": 9'),
    "report is a folder": lambda run: (
        (run / "submissions/101/report.json").unlink(),
        (run / "submissions/101/report.json").symlink_to("/dev/null"),
    ),
    "table changed": lambda run: swap(run / "scores.csv", b'"3"', b'"9"'),
    "class page deleted": lambda run: (run / "class.html").unlink(),
    "archive deleted": lambda run: (run / "feedback.zip").unlink(),
    "intake changed": lambda run: swap(run / "intake.json", b"lab.ipynb", b"LAB.ipynb"),
    "handed-in file changed": lambda run: swap(run / "intake/101/handed-in/lab.ipynb", b"right", b"wrong"),
    "helper deleted": lambda run: (run / "intake/101/handed-in/helper.py").unlink(),
    "stamp deleted": lambda run: (run / "stamp").unlink(),
    "stamp empty": lambda run: (run / "stamp").write_text(""),
}


@pytest.mark.parametrize("change", RECORDS)
def test_what_is_lost_or_changed_in_the_run_comes_back(source: Path, tmp_path: Path, change: str) -> None:
    run = tmp_path / "run"
    grade(source, run)
    first = files(run)
    time.sleep(0.02)  # more than a tick of the clock
    RECORDS[change](run)
    assert grade(source, run) == []
    assert files(run) == first


def test_changed_evidence_is_judged_again(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    grade(source, run)
    time.sleep(0.02)
    swap(run / "submissions/101/evidence.json", b"HEJ", b"hej")
    assert grade(source, run) == []
    assert '"total": 0' in (run / "submissions/101/report.json").read_text()
    assert '"total": 3' in (run / "submissions/102/report.json").read_text()
    assert (run / "scores.csv").read_text().count('"yes"') == 0
    assert '"0","9"' in (run / "scores.csv").read_text()


SOURCES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "bytes": (lambda s: swap(s / "bo_101_901_lab.ipynb", b"right", b"wrong"), ["101"]),
    "helper": (lambda s: swap(s / "bo_101_801_helper.py", b"x = 1", b"x = 2"), ["101"]),
    "new": (lambda s: (s / "eva_104_904_lab.ipynb").write_bytes(notebook_bytes("# right")), ["104"]),
    "gone": (lambda s: [path.unlink() for path in s.glob("bo_*")], []),
    "renamed": (lambda s: (s / "bo_101_901_lab.ipynb").rename(s / "bo_101_999_lab.ipynb"), []),
    "exchanged": (
        lambda s: (
            (s / "bo_101_901_lab.ipynb").rename(s / "x"),
            (s / "cem_102_902_lab.ipynb").rename(s / "bo_101_901_lab.ipynb"),
            (s / "x").rename(s / "cem_102_902_lab.ipynb"),
        ),
        ["101", "102"],
    ),
}


@pytest.mark.parametrize("change", SOURCES)
def test_what_changed_is_graded_alone_and_the_outcome_is_that_of_a_fresh_run(
    source: Path, tmp_path: Path, change: str
) -> None:
    run, fresh = tmp_path / "run", tmp_path / "fresh"
    grade(source, run)
    written = numbers(run)
    time.sleep(0.02)
    act, expected = SOURCES[change]
    act(source)
    assert grade(source, run) == expected
    untouched = {name for name in written if name.startswith("submissions/100/")}
    assert len(untouched) == 8
    assert all(written[name] == number for name, number in numbers(run).items() if name in untouched)
    grade(source, fresh)
    left = {name for name in files(run) if "/101/" in name} if change == "gone" else set()  # nothing is thrown away
    assert {name: data for name, data in files(run).items() if name not in left} == files(fresh)


def test_other_wishes_are_heard(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    grade(source, run)
    assert sorted(grade(source, run, "--force")) == ["100", "101", "102", "103"]
    assert grade(source, run, "--only", "102", "--force") == ["102"]
    assert grade(source, run) == []
    assert grade(source, run, "--title", "Another title") == []
    assert "Another title" in (run / "class.html").read_text(encoding="utf-8")
    assert cli.main(["override", str(run), "101", "add/sum", "2", "--reason", "by word of mouth"]) == 0
    assert grade(source, run) == []
    assert "by word of mouth" in (run / "submissions/101/report.html").read_text(encoding="utf-8")
    (run / "overrides.jsonl").unlink()
    assert grade(source, run) == []
    assert "by word of mouth" not in (run / "submissions/101/report.html").read_text(encoding="utf-8")
    (run / "submissions/101/done.json").unlink()
    assert grade(source, run) == ["101"]


def test_a_fault_is_tried_again_every_time(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (source / "bo_101_901_lab.ipynb").write_bytes(notebook_bytes("# fault"))
    grade(source, run)
    for _ in range(2):
        assert grade(source, run) == ["101"]


def test_a_run_of_a_part_leaves_no_stamp(source: Path, tmp_path: Path, judged: list[RunDirectory]) -> None:
    run = tmp_path / "run"
    grade(source, run)
    (source / "bo_101_901_lab.ipynb").write_bytes(notebook_bytes("# wrong"))
    for only, expected in ((["--only", "100"], []), ([], ["101"])):
        assert grade(source, run, *only) == expected
    assert grade(source, run, "--cpu-seconds", "100") == []
    assert len(judged) == 4
    assert grade(source, run, "--cpu-seconds", "100") == []
    assert len(judged) == 4


def test_an_assignment_that_was_edited_judges_all_again(
    source: Path, tmp_path: Path, judged: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "code" / "own_assignment.py"
    module.parent.mkdir()
    module.write_text("from tests.toy import TOY as OWN\n")
    monkeypatch.syspath_prepend(str(module.parent))
    for text, count in (("", 1), ("", 1), ("# edited\n", 2), ("", 2)):
        with module.open("a") as file:
            file.write(text)
        grade(source, tmp_path / "run", "--assignment", "own_assignment:OWN")
        assert len(judged) == count


def test_a_single_notebook_is_looked_at_every_time(source: Path, tmp_path: Path, judged: list[RunDirectory]) -> None:
    """Modules may lie beside it."""
    single = next(source.glob("bo*.ipynb"))
    (source / "secret").write_text("a secret of an index")
    for count in (1, 2):
        grade(single, tmp_path / "run")
        assert len(judged) == count
