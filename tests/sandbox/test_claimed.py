"""Folders of processes that were killed are removed by the next one; those of the living are left alone."""

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
from grader.bundles import load_bundle
from grader.grading.pipeline import Grader, RunContext
from grader.sandbox.claimed import LockedTempDir
from tests.toy import TOY

HOLD = """
import sys, time
from grader.bundles import load_bundle
from grader.grading.pipeline import RunContext, Grader
from tests.toy import TOY
with Grader(RunContext.create(TOY, load_bundle(None), b"secret"), sandbox="none") as place:
    print(place._home.path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    tempfile.tempdir = None


def homes(temporary: Path) -> set[Path]:
    return set(temporary.glob("grader-models-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_the_home_of_a_workplace_killed_with_all_its_helpers_is_removed_by_the_next(temporary):
    root = str(Path(grader.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment) as worker:
        left = Path(worker.stdout.readline().strip())
        assert (left / "hf").is_dir()
        with Grader(RunContext.create(TOY, load_bundle(None), b"secret"), sandbox="none") as place:
            assert homes(temporary) == {left, place._home.path}  # its process lives, so nobody touches it
        assert homes(temporary) == {left}
        helpers = psutil.Process(worker.pid).children(recursive=True)
        for process in (psutil.Process(worker.pid), *helpers):  # as a cluster ends a job: the janitor goes, too
            process.send_signal(signal.SIGKILL)
        worker.wait()
    assert homes(temporary) == {left}
    with Grader(RunContext.create(TOY, load_bundle(None), b"secret"), sandbox="none") as place:
        assert homes(temporary) == {place._home.path}
    assert homes(temporary) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_nothing_but_own_unlocked_folders_is_swept(temporary):
    target = temporary / "precious"
    target.mkdir()
    (temporary / "grader-x-link").symlink_to(target)
    (temporary / "grader-x-file").write_text("a file")
    (temporary / "other-x").mkdir()
    (temporary / "grader-x-dead").mkdir()
    folder = LockedTempDir.make("grader-x-")
    second = LockedTempDir.make("grader-x-")
    left = {path.name for path in temporary.iterdir()}
    assert left == {"precious", "grader-x-link", "grader-x-file", "other-x", folder.path.name, second.path.name}
    for each in (folder, second):
        each.remove()
        each.remove()
        assert not each.path.exists()
