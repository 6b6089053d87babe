"""A run on the same folder skips what has not changed, and nothing else; what it writes is what a run without an index writes."""

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
from grader.records import Attempt, CellRun, Evidence, Execution, Notebook, Observation, Outcome, SubmissionRun, Usage
from grader.runs import index, marks
from grader.runs.engines import Job, LocalEngine, Session
from grader.runs.index import mark_sources
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
    found.pop("index", None)
    for name in found:
        if name.endswith("done.json"):
            found[name] = re.sub(rb'"seconds": [\d.]+', b"", found[name])
    return found


def numbers(folder: Path) -> dict[str, int]:
    """File numbers: what is written again has another one."""
    return {name: (folder / name).stat().st_ino for name in files(folder)}


@pytest.fixture(params=["old", "young"])
def age(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether files are old enough for a look at the file system to suffice."""
    if request.param == "old":
        monkeypatch.setattr(marks, "_YOUNG_NS", 0)
    return str(request.param)


def test_a_second_run_touches_nothing_and_says_the_same_as_one_without_an_index(
    source: Path, tmp_path: Path, age: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    grade(source, tmp_path / "other")  # what prints the outcome is loaded after an index is written, once in a process
    assert sorted(grade(source, run)) == ["100", "101", "102", "103"]
    assert "HEJ" not in (run / "index").read_text(), "the index holds no evidence"
    first, written = files(run), numbers(run)
    capsys.readouterr()
    assert grade(source, run) == []
    output = capsys.readouterr().out
    assert files(run) == first
    assert {name for name, number in numbers(run).items() if number != written[name]} == {"run.json"}
    (run / "index").unlink()
    assert grade(source, run) == []
    assert capsys.readouterr().out == output
    assert files(run) == first
    assert (run / "intake.json").stat().st_ino != written["intake.json"]


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
    "index deleted": lambda run: (run / "index").unlink(),
    "index changed": lambda run: swap(run / "index", b'"total":3', b'"total":9'),
    "index empty": lambda run: (run / "index").write_text(""),
}


@pytest.mark.parametrize("change", RECORDS)
def test_what_is_lost_or_changed_in_the_run_comes_back(source: Path, tmp_path: Path, change: str, age: str) -> None:
    run = tmp_path / "run"
    grade(source, run)
    first = files(run)
    time.sleep(0.02)  # more than a tick of the clock: only what is marked young is read
    RECORDS[change](run)
    taken = (run / "intake.json").stat().st_ino
    assert grade(source, run) == []
    assert files(run) == first
    again = (
        "index deleted",
        "index changed",
        "index empty",
        "intake changed",
        "handed-in file changed",
        "helper deleted",
    )
    assert ((run / "intake.json").stat().st_ino != taken) is (change in again)


def test_changed_evidence_is_judged_again(source: Path, tmp_path: Path, age: str) -> None:
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
    source: Path, tmp_path: Path, change: str, age: str
) -> None:
    run, fresh = tmp_path / "run", tmp_path / "fresh"
    grade(source, run)
    written = numbers(run)
    time.sleep(0.02)
    act, expected = SOURCES[change]
    act(source)
    assert grade(source, run) == expected
    untouched = {name for name in written if name.startswith("submissions/100/")}
    assert len(untouched) == 7
    assert all(written[name] == number for name, number in numbers(run).items() if name in untouched)
    grade(source, fresh)
    left = {name for name in files(run) if "/101/" in name} if change == "gone" else set()  # nothing is thrown away
    assert {name: data for name, data in files(run).items() if name not in left} == files(fresh)


def test_other_wishes_are_heard(source: Path, tmp_path: Path, age: str) -> None:
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


def test_other_code_judges_all_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that stands for a changed check: the index was written when it was another file."""
    import sys
    import types

    module, path = types.ModuleType("of_an_index"), tmp_path / "of_an_index.py"
    path.write_text("x = 1")
    module.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "of_an_index", module)
    run = tmp_path / "run"
    grade(source, run)
    for change in (lambda: path.write_text("x = 2"), lambda: setattr(module, "__file__", str(tmp_path / "secret"))):
        grade(source, run)
        number = (run / "intake.json").stat().st_ino
        grade(source, run)
        assert (run / "intake.json").stat().st_ino == number
        change()
        grade(source, run)
        assert (run / "intake.json").stat().st_ino != number


def test_marks(tmp_path: Path, age: str) -> None:
    path = tmp_path / "file"
    assert marks.mark(path) == marks.ABSENT
    assert marks.held(path, marks.ABSENT)
    path.write_text("one")
    assert not marks.held(path, marks.ABSENT)
    before = marks.mark(path)
    assert (" " in before) is (age == "young")
    assert marks.held(path, before)
    time.sleep(0.02)
    swap(path, b"one", b"two")
    assert not marks.held(path, before)
    before = marks.mark(path)
    path.unlink()
    assert not marks.held(path, before)
    os.mkfifo(path)
    assert marks.held(path, marks.mark(path)), "a pipe is not read"


def test_a_change_within_the_same_tick_is_seen_while_the_file_is_young(tmp_path: Path) -> None:
    """The state of the file system may be the same to the last digit; then the bytes tell."""
    path = tmp_path / "file"
    path.write_text("one")
    before, _, digest = marks.mark(path).rpartition(" ")
    assert marks.held(path, f"{before} {digest}")
    assert not marks.held(path, f"{before} {digest[:-1]}x")


def test_what_has_grown_old_unchanged_need_not_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("one")
    before = marks.mark(path)
    later = time.time_ns() + 10 * marks._YOUNG_NS
    assert marks.aged(path, before) == before, "it is still young"
    assert marks.aged(path, before, now=later) == before.partition(" ")[0] != before
    assert marks.held(path, marks.aged(path, before, now=later))
    forged = f"{before[:-1]}{'0' if before[-1] != '0' else '1'}"
    assert marks.aged(path, forged, now=later) == forged, "other bytes in the same tick of the clock"
    old = marks.mark(path, now=later)
    assert marks.aged(path, old, now=later) == old
    path.write_text("two!")
    assert marks.aged(path, before, now=later) == before
    path.unlink()
    assert marks.aged(path, before, now=later) == before
    assert marks.aged(path, marks.ABSENT, now=later) == marks.ABSENT


def test_a_page_changed_while_the_others_were_written_comes_back(source: Path, tmp_path: Path, monkeypatch) -> None:
    """Between its mark and the end of the run: the index must not take it for ours."""
    run = tmp_path / "run"

    def meddle(path: Path, before: str) -> str:
        if path.name == "report.html":
            swap(path, b"shout", b"SHOUT")
        return marks.aged(path, before, now=time.time_ns() + 10 * marks._YOUNG_NS)

    monkeypatch.setattr(index, "aged", meddle)
    grade(source, run)
    pages = list(run.glob("submissions/*/report.html"))
    assert all("SHOUT" in page.read_text() for page in pages)
    monkeypatch.setattr(index, "aged", marks.aged)
    grade(source, run)
    assert all("SHOUT" not in page.read_text() for page in pages)


def test_sources_that_cannot_be_known_have_no_marks(source: Path) -> None:
    assert len(mark_sources([source], source / "run")) == 8
    single = next(source.glob("*.ipynb"))
    assert mark_sources([single], source / "run") == {}, "modules may lie beside it"
    assert mark_sources([source, single], source / "run") == {}
