"""Hosts that lack something, or on which a box cannot be built: the grader works, or says why in one sentence."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import grader
import grader.sandbox.bubblewrap
from grader.errors import SandboxError
from grader.sandbox.host import recipe
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
from grader.sandbox.host import recipe
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession
async def main(pool):
    async with KernelSession(pool) as session:
        cell = await session.run_cell("import os\\nprint(os.path.exists('/dev/shm'))", 0)
        print(session.kernel.mode, cell.output, end="")
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


AS_BACKUP = "setpriv --reuid 34 --regid 34 --clear-groups"
PROBE = "bwrap --unshare-user --unshare-pid --unshare-net --disable-userns --ro-bind / / --proc /proc /bin/true"


@pytest.mark.parametrize(
    ("script", "files", "said"),
    [
        ("mount -t proc proc /proc; mount -t tmpfs none /proc/fs; {user} {probe}", {}, "--security-opt systempaths=unconfined"),
        ("mount -t proc proc /proc; mount --bind /dev/null /proc/timer_list; {user} {probe}", {}, "(docs/sandbox.md, Where no box"),
        ("{user} unshare -U -r sh -c 'echo 0 >/proc/sys/user/max_user_namespaces; {probe}'", {}, "built: Switched off)"),
        ("{user} {python} -Pc '{filtered}' {probe}", {".dockerenv": ""}, "--security-opt seccomp=unconfined"),
        ("{user} {python} -Pc '{filtered}' {probe}", {"run/.containerenv": ""}, "built: Containers)"),
        ("{user} {python} -Pc '{filtered}' {probe}", {"proc/version": "Linux version 4.4.0-Microsoft"}, "built: WSL)"),
        (
            "{user} {python} -Pc '{filtered}' {probe}", {"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
            "built: Ubuntu 24.04 and later)",
        ),
        ("{user} {python} -Pc '{filtered}' {probe}", {"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, "built: Switched off)"),
        ("{user} {python} -Pc '{filtered}' {probe}", {}, "docs/sandbox.md, Where no box can be built has recipes"),
    ],
)  # fmt: skip
def test_bubblewrap_s_own_words_lead_to_a_recipe(script, files, said, tmp_path):
    """What it says is real: /proc is masked, namespaces are used up, or a filter like a container's forbids them."""
    if (why := box_missing()) or os.geteuid() != 0:
        pytest.skip(why or "only root can take namespaces away")
    filtered = "import os, sys; sys.path.append(sys.argv[1]); from grader.inside import confine"
    filtered += "; confine.drop_privileges(); os.execvp(sys.argv[2], sys.argv[2:])"
    with tempfile.TemporaryDirectory() as name:  # where every user may read it
        Path(name).chmod(0o755)
        for part in (
            "__init__.py",
            "inside/__init__.py",
            "inside/confine.py",
            "sandbox/__init__.py",
            "inside/seccomp.py",
        ):
            target = Path(name, "grader", part)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(grader.__file__).parent / part, target)
        command = script.format(user=AS_BACKUP, python="/usr/bin/python3", filtered=f"{filtered}", probe=PROBE)
        command = command.replace(f"{filtered}' ", f"{filtered}' {name} ")
        words = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", f"cd /; {command}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "bwrap: " in done.stderr
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert said in recipe(done.stderr, tmp_path)


def test_every_recipe_is_in_the_manual(tmp_path):
    manual = (Path(grader.__file__).parents[1] / "docs" / "sandbox.md").read_text()
    assert "## Where no box can be built" in manual
    for section in ("Ubuntu 24.04 and later", "Containers", "WSL", "Switched off"):
        assert f"### {section}\n" in manual
