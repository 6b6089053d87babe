from __future__ import annotations

import os
import stat

import pytest

from grader.errors import StoreError, UsageError
from grader.records import Evidence, Execution, Notebook, Outcome, Usage
from grader.store import Done, RunDirectory, RunInfo, write_atomically

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
