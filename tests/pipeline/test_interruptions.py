"""Ctrl-C once and twice, a full disk: the same command then comes to the same end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.toys import ADD, SHOUT
from tests.pipeline.chaos import Batch, assert_equal, calls_itself, hand_in, names, processes
from tests.pipeline.conftest import notebook_bytes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.serial,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]


def sleeper(number: int) -> bytes:
    return notebook_bytes(ADD, f"{calls_itself(f'student {number}')}\nimport time\ntime.sleep(4)", SHOUT)


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Batch:
    """A class of four, graded without any disturbance; three of them take a while."""
    folder = tmp_path_factory.mktemp("interruptions")
    hand_in(folder / "in", 1)
    for number in (101, 102, 103):
        (folder / "in" / f"student{number}_{number}_9{number}_lab.ipynb").write_bytes(sleeper(number))
    (folder / "secret").write_text("a secret of interruptions")
    batch = Batch(folder, 4, 1, "calm")
    assert batch.finish() == 0, batch.output()
    return batch


def wait_for(condition, batch: Batch, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, batch.output()
        assert process.poll() is None, batch.output()
        time.sleep(0.05)


@pytest.mark.parametrize("sandbox", ["warm", "cold"])
def test_ctrl_c_once_finishes_what_runs(calm, sandbox) -> None:
    """The whole foreground group gets the signal, as from a terminal; the notebook that runs does not notice."""
    batch = Batch(calm.folder, 4, 1, f"once-{sandbox}", ("--sandbox", sandbox))
    process = batch.start()
    wait_for(lambda: "student 101" in names(process.pid), batch, process)
    batch.interrupt(process)
    assert batch.end_of(process) == 130
    assert batch.done() == {"100", "101"}
    assert "run the same command again" in batch.output()
    assert "Ctrl-C again" in batch.output()
    assert batch.leftovers() == []
    if sandbox == "warm":
        assert batch.finish() == 0, batch.output()
        assert_equal(calm, batch)


def test_ctrl_c_twice_stops_now(calm) -> None:
    batch = Batch(calm.folder, 4, 1, "twice")
    process = batch.start()
    wait_for(lambda: "student 101" in names(process.pid), batch, process)
    batch.seen.update(pid for pids in processes(process.pid).values() for pid in pids)
    assert len(batch.seen) == 3  # one of each kind
    batch.interrupt(process, 2)
    assert batch.end_of(process) == 130
    assert batch.done() == {"100"}  # its neighbour was not waited for
    assert batch.leftovers() == []
    assert batch.finish() == 0, batch.output()
    assert_equal(calm, batch)


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own for a run directory, too small for it."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=128k", "small", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_nothing_half_written(calm, small_disk) -> None:
    """Full at the first file, among the records, among the reports: the command says so, and goes on when there is room."""
    (small_disk / "run").mkdir()
    (calm.folder / "full").symlink_to(small_disk / "run")
    batch = Batch(calm.folder, 4, 1, "full")
    done = []
    for size in (12, 80, 280):
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(small_disk)], check=True)
        assert batch.finish() == 4
        assert "make room" in batch.output()
        assert batch.leftovers() == []
        done.append(len(batch.done()))
    assert done[0] == 0 < done[1] < done[2] == 4
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert batch.finish() == 0, batch.output()
    assert_equal(calm, batch)
