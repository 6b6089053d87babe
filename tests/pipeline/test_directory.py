from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grader.errors import StoreError, UsageError
from grader.records import Evidence, Execution, Notebook, Outcome, SubmissionRun, Usage
from grader.runs.directory import Done, Override, RunDirectory, RunInfo, write_atomically, write_derived

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
    run.save_result(
        "7", SubmissionRun(Notebook((), 0), execution, Evidence("s", {})), Done({"submission": key}, 1.0, 0.5)
    )


def test_a_result_is_complete_only_with_its_mark(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    assert run.done("7") is None
    save(run, "k")
    done = run.done("7")
    assert done is not None
    assert done.parts == {"submission": "k"}
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
    run.start(INFO)
    assert run.overrides() == {}
    run.override([Override("7", "add/sum", 1, "first")])
    run.override([Override("8", "add/sum", 2, "other")])
    run.override([Override("7", "add/sum", 3, "sökt")])
    other = {"add/sum": Override("8", "add/sum", 2, "other")}
    assert run.overrides() == {"7": {"add/sum": Override("7", "add/sum", 3, "sökt")}, "8": other}
    assert len((tmp_path / "overrides.jsonl").read_text().splitlines()) == 3
    run.override([Override("7", "add/sum", None, "")])
    assert run.overrides() == {"7": {}, "8": other}
    (tmp_path / "overrides.jsonl").write_text("{\n")
    with pytest.raises(StoreError, match="line 1"):
        run.overrides()


OVERRIDES = """
import pathlib, sys
from grader.runs.directory import Override, RunDirectory
run = RunDirectory(pathlib.Path(sys.argv[1]))
for number in range(25):
    with run.lock(wait_seconds=60):
        run.override([Override(sys.argv[2], f"criterion{number}", 1, "why")])
"""


def test_a_line_that_a_kill_cut_off_was_never_written(tmp_path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(INFO)
    first, last = Override("1", "a/b", 2, "nära"), Override("2", "a/b", 0.5, "åäö")
    run.override([first, last])
    path = tmp_path / "run" / "overrides.jsonl"
    whole = path.read_bytes()
    begins = whole.index(b"\n") + 1
    for end in range(begins, len(whole)):
        path.write_bytes(whole[:end])
        assert run.ledger(path.name, Override) == ([first] if end < len(whole) - 1 else [first, last])
    path.write_bytes(whole[: begins + 9])
    run.override([last])
    assert path.read_bytes() == whole, "the next one is not written behind it"
    path.write_bytes(whole[: begins - 5] + b"\n" + whole[begins:])
    with pytest.raises(StoreError, match=r"overrides\.jsonl .* line 1"):
        run.overrides()


def test_overrides_of_two_processes_are_all_kept(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    run.start(INFO)
    both = [subprocess.Popen([sys.executable, "-c", OVERRIDES, str(tmp_path), name]) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    assert {name: len(found) for name, found in run.overrides().items()} == {"a": 25, "b": 25}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_respect_the_umask_and_the_secret_is_ones_own(tmp_path, umask, mode) -> None:
    before = os.umask(umask)
    try:
        RunDirectory(tmp_path / "run").start(INFO)
        write_derived(tmp_path / "run" / "page.html", "x")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()}
    assert (modes["run.json"], modes["page.html"], modes["secret"]) == (mode, mode, 0o600)


def test_a_damaged_record_is_named(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    run.start(INFO)
    for text in ("{", "[]", "{}", "\xff"):
        (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(StoreError, match=r"run\.json of .* is damaged: "):
            run.info()


def test_the_run_is_no_source_of_its_own(tmp_path) -> None:
    run = RunDirectory(tmp_path / "run")
    for source in ("run", "run/submissions", "other/../run"):
        with pytest.raises(UsageError, match="lies in the folder of the run"):
            run.refuse_as_source([tmp_path / "other", tmp_path / source])
    run.refuse_as_source([tmp_path, tmp_path / "other", tmp_path / "run2"])


# ---------------------------------------------------------------- one writer at a time

HOLDER = """
import pathlib, sys, time
from grader.runs.directory import RunDirectory
with RunDirectory(pathlib.Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def holder(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_kept_out_and_a_killed_one_cleaned_up_after(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    run.start(INFO)
    (tmp_path / "submissions" / "1").mkdir(parents=True)
    left = tmp_path / "submissions" / "1" / ".report.json.x8s.part"
    left.write_text("half")
    before = (tmp_path / "run.json").read_bytes()
    with holder(tmp_path) as process:
        for write in (
            lambda: run.start(replace(INFO, title="other")),
            lambda: run.override([Override("1", "add/sum", 1, "why")]),
        ):
            with pytest.raises(UsageError, match=f"another grader writes in .*process {process.pid} on"):
                write()
        assert left.exists()
        assert (tmp_path / "run.json").read_bytes() == before
        assert not (tmp_path / "overrides.jsonl").exists()
        process.kill()
    with run.lock():
        assert not left.exists()
        with run.lock(), pytest.raises(UsageError), RunDirectory(tmp_path).lock():
            pass
        assert (tmp_path / ".writer").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "run.json", "secret", "submissions"]


def test_temporary_files_are_looked_for_after_a_kill_only(tmp_path) -> None:
    """In thousands of folders that takes a while."""
    run = RunDirectory(tmp_path)
    run.start(INFO)
    (tmp_path / ".class.html.x8s.part").write_text("half")
    with run.lock():
        assert (tmp_path / ".class.html.x8s.part").exists()


def test_a_start_that_was_killed_before_there_was_a_run_is_begun_again(tmp_path) -> None:
    for name in ("secret", ".lock", ".writer", ".run.json.x8s.part"):
        (tmp_path / name).write_text("00" * 32)
    RunDirectory(tmp_path).start(INFO)
    assert RunDirectory(tmp_path).info() == INFO
    assert not list(tmp_path.glob("*.part"))


def test_ctrl_c_in_the_middle_of_a_file_leaves_no_part_of_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _file: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", "text")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory"), RunDirectory(tmp_path / "file" / "run").lock():
        pass


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
from tests.pipeline.test_directory import save
from grader.errors import StoreError
from grader.records import Evidence, Execution, Notebook, Outcome, SubmissionRun, Usage
from grader.runs.directory import Done, RunDirectory
run = RunDirectory(Path(sys.argv[1]))
save(run, "old")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
execution = Execution(Outcome.COMPLETED, (), Usage(), "none", {}, "b" * 5000)
try:
    run.save_result("7", SubmissionRun(Notebook((), 0), execution, Evidence("s", {})), Done({}, 1.0, 0.5))
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
