from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from grader.errors import StoreError, UsageError
from grader.records import Evidence, Execution, Notebook, Outcome, Usage
from grader.runs.directory import Done, RunDirectory, RunInfo, write_atomically, write_derived

INFO = RunInfo("toy", "standin", "d1", "", "none", "0")


def test_a_run_starts_once_and_continues(tmp_path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(INFO, b"secret")
    assert run.info() == INFO
    assert run.secret() == b"secret"
    assert stat.S_IMODE((tmp_path / "run" / "secret").stat().st_mode) == 0o600
    RunDirectory(tmp_path / "run").start(INFO)
    assert run.secret() == b"secret"


def test_secrets_differ_between_runs(tmp_path) -> None:
    runs = [RunDirectory(tmp_path / name) for name in "ab"]
    for run in runs:
        run.start(INFO)
    assert runs[0].secret() != runs[1].secret()


def test_other_folders_and_other_runs_are_refused(tmp_path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        RunDirectory(tmp_path / "x").start(INFO)
    RunDirectory(tmp_path / "run").start(INFO, b"1")
    with pytest.raises(UsageError, match="another secret"):
        RunDirectory(tmp_path / "run").start(INFO, b"2")
    with pytest.raises(UsageError, match="Choose another folder"):
        RunDirectory(tmp_path / "run").start(RunInfo("toy", "other", "d2", "", "none", "0"))
    with pytest.raises(UsageError, match="holds no run"):
        RunDirectory(tmp_path).info()


def save(run: RunDirectory, key: str) -> None:
    execution = Execution(Outcome.COMPLETED, (), Usage(), "none", {}, "b")
    run.save_result("7", Notebook((), 0), execution, Evidence("s", {}), Done(key, 1.0, 0.5))


def test_a_result_is_complete_only_with_its_mark(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    assert run.done("7") is None
    save(run, "k")
    done = run.done("7")
    assert done is not None
    assert done.key == "k"
    (run.folder("7") / "done.json").write_text('{"key"')
    assert run.done("7") is None
    save(run, "k2")
    run.forget("7")
    assert run.done("7") is None


def test_a_failed_write_leaves_the_old_file_and_no_scraps(tmp_path, monkeypatch) -> None:
    target = tmp_path / "f.json"
    write_atomically(target, "old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_overrides_only_grow_and_the_last_wins(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    assert run.overrides("7") == {}
    run.override("7", "add/sum", 1, "first")
    run.override("8", "add/sum", 2, "other")
    run.override("7", "add/sum", 3, "sökt")
    assert run.overrides("7") == {"add/sum": (3, "sökt")}
    assert len((tmp_path / "overrides.jsonl").read_text().splitlines()) == 3
    (tmp_path / "overrides.jsonl").write_text("{")
    with pytest.raises(StoreError, match="line 1"):
        run.overrides("7")


def test_derived_files_are_only_written_when_they_differ(tmp_path) -> None:
    page = tmp_path / "page.html"
    for text, same in (("one", False), ("one", True), ("two", False)):
        before = page.stat().st_ino if page.exists() else None
        write_derived(page, text)
        assert page.read_text() == text
        assert (page.stat().st_ino == before) is same
    assert list(tmp_path.iterdir()) == [page]


def test_what_the_disk_refuses_leaves_nothing_half_written(tmp_path) -> None:
    """A limit on the size of files stands for a full disk; it is set in a process of its own."""
    code = """
import resource, sys
from pathlib import Path
from tests.core.test_store import save
from grader.errors import StoreError
from grader.records import Evidence, Execution, Notebook, Outcome, Usage
from grader.runs.directory import Done, RunDirectory
run = RunDirectory(Path(sys.argv[1]))
save(run, "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
execution = Execution(Outcome.COMPLETED, (), Usage(), "none", {}, "b" * 5000)
try:
    run.save_result("7", Notebook((), 0), execution, Evidence("s", {}), Done("new", 1.0, 0.5))
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert "execution.json" in done
    assert "make room" in done
    run = RunDirectory(tmp_path)
    assert run.done("7") is None  # so that it is run again
    assert run.read("submissions/7/execution.json", Execution).bundle == "b"  # the old one, whole
    assert not list(tmp_path.rglob("*.part"))
