"""Nothing of ours is left in the temporary folder of the host: after a run, after a kill, whatever libraries do on import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import grader
from tests.sandbox.conftest import box_missing

pytestmark = pytest.mark.box

CHECKOUT = Path(grader.__file__).parents[1]
ALONE = r"""
mkdir -p /mnt; mount -t tmpfs stage /mnt; mkdir /mnt/kept; mount --bind "$1" /mnt/kept
mount -t tmpfs -o mode=1777 own /tmp; mkdir -p "$1"; mount --bind /mnt/kept "$1"; umount -l /mnt
before=$(ls -A /tmp)
cd /; status=0; "$2" -Pc "$3" || status=$?; echo "ended $status"
for try in $(seq 100); do [ "$(ls -A /tmp)" = "$before" ] && break; sleep 0.1; done
echo "left: $(ls -A /tmp | { grep -vxF "$before" || true; } | tr '\n' ' ')"
"""
RUN = """
import asyncio, os, signal, sys
sys.path.append({checkout!r})
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession
async def main(pool):
    async with KernelSession(pool) as session:
        cell = await session.run_cell("import matplotlib, tempfile; open('/tmp/of-a-student', 'w'); print(tempfile.mkdtemp()[:5])", 0)
        print(session.kernel.mode, cell.output, end="", flush=True)
        {end}
with KernelPool("warm", preload=("matplotlib.font_manager", "datasets.config")) as pool:
    asyncio.run(main(pool))
"""
ENDS = {"well": "pass", "killed": "os.kill(os.getpid(), signal.SIGKILL)", "raises": "raise SystemExit(3)"}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_in_the_temporary_folder(end) -> None:
    if (why := box_missing()) or os.geteuid() != 0:
        pytest.skip(why or "only root can have a temporary folder of its own under the same name")
    if Path(sys.prefix).is_relative_to("/tmp") and not Path(sys.prefix).is_relative_to(CHECKOUT):
        pytest.skip("the interpreter lies in /tmp")
    code = RUN.format(checkout=str(CHECKOUT), end=ENDS[end])
    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "bash",
        "-euc",
        ALONE,
        "bash",
        str(CHECKOUT),
        sys.executable,
        code,
    ]
    environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False, timeout=200)
    ended = {"well": 0, "killed": 137, "raises": 3}[end]
    assert done.stdout == f"warm /tmp/\nended {ended}\nleft: \n", done.stderr
