"""Temporary folders of processes that were killed are removed by the next one; those of the living are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

import grader
from grader.sandbox.pool import PREFIX, KernelPool, LockedTempDir

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")

HOLD = """
import time
from grader.sandbox.pool import KernelPool
with KernelPool("none", preload=()) as pool:
    (pool.folder / "models").mkdir()
    print(pool.folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(monkeypatch):
    with tempfile.TemporaryDirectory() as name:  # a short path, so that pools take it
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(name)
        tempfile.tempdir = None


def folders(temporary: Path) -> set[Path]:
    return set(temporary.glob(f"{PREFIX}*"))


def test_the_next_pool_removes_what_a_killed_job_left(temporary):
    environment = {**os.environ, "PYTHONPATH": str(Path(grader.__file__).parent.parent)}
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment) as worker:
        left = Path(worker.stdout.readline().strip())
        assert (left / "models").is_dir()
        with KernelPool("none", preload=()) as pool:
            assert folders(temporary) == {left, pool.folder}  # its process lives, so nobody touches it
        assert folders(temporary) == {left}
        helpers = psutil.Process(worker.pid).children(recursive=True)
        for process in (*helpers, psutil.Process(worker.pid)):  # as a cluster ends a job: the janitor goes, too
            process.send_signal(signal.SIGKILL)
        worker.wait()
    assert folders(temporary) == {left}
    with KernelPool("none", preload=()) as pool:
        assert folders(temporary) == {pool.folder}
    assert folders(temporary) == set()


def test_only_own_unlocked_folders_are_removed(temporary):
    target = temporary / "precious"
    target.mkdir()
    (temporary / "grader-x-link").symlink_to(target)
    (temporary / "grader-x-file").write_text("a file")
    (temporary / "other-x").mkdir()
    (temporary / "grader-x-dead").mkdir()
    folder, second = LockedTempDir.make("grader-x-"), LockedTempDir.make("grader-x-")
    left = {path.name for path in temporary.iterdir()}
    assert left == {"precious", "grader-x-link", "grader-x-file", "other-x", folder.path.name, second.path.name}
    for each in (folder, second):
        each.remove()
        each.remove()
        assert not each.path.exists()
