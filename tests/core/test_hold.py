"""One writer at a time; what a killed one left half-written is removed by the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grader.errors import StoreError, UsageError
from grader.runs.directory import RunDirectory, RunInfo, write_atomically
from grader.runs.hold import hold

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files cannot be locked there")

HOLDER = """
import pathlib, sys, time
from grader.runs.hold import hold
with hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(root: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_kept_out_and_a_killed_one_swept_up_after(tmp_path) -> None:
    (tmp_path / "submissions" / "1").mkdir(parents=True)
    left = tmp_path / "submissions" / "1" / ".report.json.x8s.part"
    left.write_text("half")
    with holder(tmp_path) as process:
        with pytest.raises(UsageError, match=f"another grader writes in .*process {process.pid} on"), hold(tmp_path):
            pass
        assert left.exists()
        process.kill()
    with hold(tmp_path):
        assert not left.exists()
    assert not [path for path in tmp_path.iterdir() if path.name != "submissions"]


def test_what_is_being_written_is_not_swept_after_a_proper_end(tmp_path) -> None:
    """Looking through thousands of folders is done after a kill only."""
    with hold(tmp_path):
        pass
    (tmp_path / ".class.html.x8s.part").write_text("half")
    with hold(tmp_path):
        assert (tmp_path / ".class.html.x8s.part").exists()


def test_a_folder_that_is_gone_is_said(tmp_path) -> None:
    with pytest.raises(StoreError, match="No such file"), hold(tmp_path / "nowhere"):
        pass


def test_a_start_that_was_killed_before_there_was_a_run_is_begun_again(tmp_path) -> None:
    info = RunInfo("tests.toy:TOY", "standin", "", "", "warm", "test")
    (tmp_path / "secret").write_text("00" * 32)
    (tmp_path / ".run.json.x8s.part").write_text("{")
    RunDirectory(tmp_path).start(info)
    assert RunDirectory(tmp_path).info() == info
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        RunDirectory(tmp_path / "other").start(info)


def test_ctrl_c_in_the_middle_of_a_file_leaves_no_part_of_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _file: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", "text")
    assert not list(tmp_path.iterdir())
