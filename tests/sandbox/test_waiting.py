"""How long a box waits for the machine: not for itself, and never longer than the clock on the wall."""

from __future__ import annotations

from pathlib import Path

import pytest

from grader.sandbox.waiting import WaitMeter


def processes(folder: Path, waits: dict[str, list[float]]) -> list[Path]:
    """Folders as in /proc: process -> the seconds that each of its threads was ready and had no processor."""
    for process, threads in waits.items():
        for thread, seconds in enumerate(threads):
            task = folder / process / "task" / str(thread)
            task.mkdir(parents=True, exist_ok=True)
            (task / "schedstat").write_text(f"1000 {int(seconds * 1e9)} 7\n")
    return [folder / process for process in waits]


def test_one_thread_that_waits_counts_whole(tmp_path):
    meter = WaitMeter(tmp_path)
    meter.add(processes(tmp_path, {"1": [1.0, 0.0]}))
    assert meter.add(processes(tmp_path, {"1": [1.5, 0.0]})) == pytest.approx(1.5)
    assert meter.add(processes(tmp_path, {"1": [1.5, 0.4], "2": [0.1]})) == pytest.approx(1.9)


@pytest.mark.attack
def test_threads_that_wake_at_once_do_not_hold_themselves_up(tmp_path):
    meter = WaitMeter(tmp_path)
    meter.add(processes(tmp_path, {name: [0.0] * 50 for name in "1234"}))
    assert meter.add(processes(tmp_path, {name: [0.01] * 50 for name in "1234"})) == pytest.approx(0.01)
