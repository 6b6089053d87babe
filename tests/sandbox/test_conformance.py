"""The conformance suite as tests: in a warm box, with the watchdog alone, cold, and as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import grader
from grader.sandbox import conformance
from grader.sandbox.contract import Limits
from grader.sandbox.host import PrivilegeDrop
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

from .conftest import box_missing

pytestmark = [pytest.mark.box, pytest.mark.attack]


def holds(pool, name):
    with conformance.canary():
        finding = asyncio.run(conformance.examine(pool, name))
    assert finding.ok, finding.why


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name == "memory-of-many" else name for name in conformance.CHECKS],
)
def test_warm_box(name, warm_pool):
    holds(warm_pool, name)


@pytest.mark.parametrize("name", ["memory-of-many", "process-number", "cpu-time", "stubborn-loop", "nothing-left"])
def test_watchdog_without_control_groups(name, watched_pool):
    holds(watched_pool, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["files", "rights", "identity", "environment", "cpu-time", "memory", "death", "nothing-left"]
)
def test_cold_box(name):
    if why := box_missing():
        pytest.skip(why)
    with KernelPool("cold", preload=()) as pool:
        holds(pool, name)


@pytest.mark.slow
def test_everything_as_an_ordinary_user():
    if why := box_missing():
        pytest.skip(why)
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user already")
    with PrivilegeDrop.open() as privileges:
        done = subprocess.run(
            [*privileges.prefix(), sys.executable, "-m", "grader", "doctor"],
            pass_fds=privileges.descriptors(), text=True, capture_output=True, check=False,
            env={"PATH": os.defpath, "PYTHONPATH": str(Path(grader.__file__).parent.parent), "HOME": "/nonexistent"},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_box_that_leaks_fails_the_suite(warm_pool, monkeypatch):
    """The checks can fail: without isolation they say what got through."""
    with KernelPool("none", preload=()) as pool, conformance.canary():
        for name in (
            "files",
            "network",
            "environment",
            "processes",
        ):  # none of those that would really change this machine
            assert not asyncio.run(conformance.examine(pool, name)).ok, name


def test_a_process_of_the_box_with_the_graders_number_is_no_breach(warm_pool, monkeypatch):
    """In a container the grader's own number is as small as those in a box."""
    monkeypatch.setattr(conformance, "_itself", lambda: (1, "0"))
    assert asyncio.run(conformance.examine(warm_pool, "processes")).ok


@pytest.mark.slow
def test_limits_that_are_not_met_are_found(warm_pool, monkeypatch):
    monkeypatch.setattr(KernelSession, "_judge", lambda self, now: None)
    monkeypatch.setattr(conformance, "LIMITS", Limits(cpu_seconds=4, wall_seconds=5, files=200))
    assert not asyncio.run(conformance.examine(warm_pool, "file-number")).ok
