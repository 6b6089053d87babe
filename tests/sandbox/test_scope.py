"""Control groups of version 2: where they are made, and a real user manager of systemd that delegates some."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import grader
import grader.sandbox.cgroup
from grader.sandbox.cgroup import ControlGroup
from grader.sandbox.contract import Limits
from grader.sandbox.pool import KernelPool
from grader.sandbox.scope import enter_scope

SYSTEMD = Path("/lib/systemd/systemd")
USER_MANAGER = r"""
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
run=/run/user/$1; groups=/sys/fs/cgroup/grader-test-$$
mkdir -p /run/systemd/system $run $groups/manager $groups/session
chown $1 $run; chown -R $1 $groups
as="setpriv --reuid $1 --regid $1 --clear-groups env -i XDG_RUNTIME_DIR=$run PATH=/usr/bin:/bin HOME=$run"
trap 'kill $(cat $groups/manager/init.scope/cgroup.procs 2>/dev/null) 2>/dev/null; sleep 0.5
  echo $$ >/sys/fs/cgroup/cgroup.procs; for g in $(find $groups -depth -type d); do rmdir $g 2>/dev/null; done' EXIT
(echo $BASHPID >$groups/manager/cgroup.procs; exec $as /lib/systemd/systemd --user >/dev/null 2>&1) &
for try in $(seq 100); do [ -S $run/bus ] && $as systemctl --user start dbus.service 2>/dev/null && break; sleep 0.1; done
echo $$ >$groups/manager/cgroup.procs 2>/dev/null || echo $$ >$groups/manager/init.scope/cgroup.procs
$as PYTHONPATH=$2 /usr/bin/python3 -c 'from grader.sandbox.scope import enter_scope
print(repr(enter_scope()))
path = open("/proc/self/cgroup").read().rpartition("::")[2].strip()
print(path.rpartition("/")[2].startswith("grader-"))
import os
os.mkdir("/sys/fs/cgroup" + path + "/below")
open("/sys/fs/cgroup" + path + "/below/cgroup.procs", "w").write(str(os.getpid()))
print("moved")'
"""


def tree(root: Path, *names: str, given: str | None = None) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        (folder / "cgroup.procs").write_text("")
        (folder / "cgroup.subtree_control").write_text("")
    (root / "cgroup.controllers").write_text("cpu memory pids")
    if given is not None:
        (root / given / "cgroup.subtree_control").write_text("cpu memory pids\n")


def test_a_session_s_group_is_made_beside_it(tmp_path) -> None:
    """As root after a login: the own group holds processes, and may give its children nothing."""
    tree(tmp_path, "user.slice/user-0.slice/session-3.scope", given="user.slice/user-0.slice")
    own = "0::/user.slice/user-0.slice/session-3.scope\n"
    group = ControlGroup.create(Limits(), "g", tmp_path, own)
    assert group is not None
    assert group.memory == tmp_path / "user.slice" / "user-0.slice" / "g"
    assert (tmp_path / "user.slice/user-0.slice/session-3.scope/cgroup.subtree_control").read_text() == ""


@pytest.mark.parametrize("alone", [True, False])
def test_a_scope_of_our_own_is_cleared_first(tmp_path, monkeypatch, alone) -> None:
    """A group that gives its children caps may hold no process: this one moves below, unless others are in there."""
    tree(tmp_path, "user@7.service/grader.scope")
    scope = tmp_path / "user@7.service" / "grader.scope"
    (scope / "cgroup.procs").write_text(f"{os.getpid()}\n" + "1\n" * (not alone))
    real = grader.sandbox.cgroup._give

    def give(group: Path) -> None:
        if not (scope / "grader").exists():
            raise OSError(16, "Device or resource busy")
        real(group)

    monkeypatch.setattr(grader.sandbox.cgroup, "_give", give)
    group = ControlGroup.create(Limits(), "g", tmp_path, "0::/user@7.service/grader.scope\n")
    assert (group is not None) == alone
    assert (scope / "grader" / "cgroup.procs").exists() == alone
    if alone:
        assert (scope / "grader" / "cgroup.procs").read_text() == str(os.getpid())
        assert (scope / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_a_user_without_a_manager_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert enter_scope() == "this user has no systemd user manager here"


@pytest.mark.box
def test_a_pool_asks_for_a_scope_where_it_has_no_groups(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(ControlGroup, "create", lambda *_arguments: None)
    monkeypatch.setattr("grader.sandbox.pool.enter_scope", lambda: asked.append(1) or "nobody answers")
    with KernelPool("cold", preload=()) as pool:
        assert pool.no_groups == "nobody answers"
    assert asked == [1]


def test_a_real_user_manager_gives_a_scope(tmp_path) -> None:
    if (
        os.geteuid() != 0
        or not SYSTEMD.exists()
        or shutil.which("busctl") is None
        or shutil.which("dbus-daemon") is None
    ):
        pytest.skip("needs root, and systemd and D-Bus installed")
    package = Path("/tmp") / f"grader-scope-{os.getpid()}"
    try:
        shutil.copytree(Path(grader.__file__).parent / "sandbox", package / "grader" / "sandbox")
        shutil.copy(Path(grader.__file__), package / "grader")
        words = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-c",
            USER_MANAGER,
            "bash",
            "34",
            str(package),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    finally:
        shutil.rmtree(package)
    if "cgroup2" in done.stderr or "permitted" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout == "''\nTrue\nmoved\n", done.stderr
