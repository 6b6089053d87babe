"""Hosts that lack something, or on which a box cannot be built: the grader works, or says why in one sentence."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import grader
import grader.sandbox.bubblewrap
from grader.errors import SandboxError
from grader.sandbox.pool import KernelPool

from .conftest import box_missing, run_in

pytestmark = pytest.mark.box

DEVICES = "null zero full random urandom tty"
WITHOUT_SHM = f"""
mount -t tmpfs new /mnt
for name in {DEVICES}; do touch /mnt/$name; mount --bind /dev/$name /mnt/$name; done
ln -s /proc/self/fd /mnt/fd
mount --move /mnt /dev
test ! -e /dev/shm
exec "$@"
"""
PRINT_SHM = """
import asyncio, sys
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession
async def main(pool):
    async with KernelSession(pool) as session:
        cell = await session.run_cell("import os\\nprint(os.path.exists('/dev/shm'))", 0)
        print(session.mode, cell.output, end="")
with KernelPool(sys.argv[1], preload=()) as pool:
    asyncio.run(main(pool))
"""


@pytest.mark.parametrize(("mode", "seen"), [("warm", "True"), ("cold", "True"), ("none", "False")])
def test_a_host_without_dev_shm_runs_notebooks(mode, seen):
    if (why := box_missing()) or os.geteuid() != 0:
        pytest.skip(why or "only root can hide /dev/shm from a process")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", WITHOUT_SHM, "sh", sys.executable, "-c", PRINT_SHM, mode],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(grader.__file__).parent.parent)},
    )  # fmt: skip
    assert done.stdout == f"{mode} {seen}\n", done.stderr


@pytest.mark.parametrize("control_groups", [True, False])
@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_a_box_that_cannot_be_built_says_why(mode, control_groups, monkeypatch):
    if why := box_missing():
        pytest.skip(why)
    monkeypatch.setattr(
        grader.sandbox.bubblewrap, "box_arguments", lambda _limits: ["--ro-bind", "/no/such/place", "/usr"]
    )
    with (
        KernelPool(mode, preload=(), control_groups=control_groups) as pool,
        pytest.raises(SandboxError, match="/no/such/place: No such file"),
    ):
        asyncio.run(run_in(pool, ["1"]))
