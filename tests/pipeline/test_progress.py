"""The lines that say how far a class is: stages, time left, plain without a terminal."""

from __future__ import annotations

import io
import re

from rich.console import Console

from grader.cli.main import main
from grader.cli.progress import ClassProgress
from grader.runs.batch import Event
from tests.pipeline.conftest import notebook_bytes, submission_of

ANNA, BO, CI = (submission_of(name.encode(), name) for name in ("anna", "bo", "ci [x]"))


class Terminal(io.StringIO):
    """What was drawn last on a terminal."""

    def last(self, progress: ClassProgress) -> list[str]:
        # else the thread that refreshes by itself may draw a second time in between
        with progress._progress.live._lock:
            self.truncate(self.seek(0))
            progress._progress.refresh()
            plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue()).replace("\r", "")
        return [line.rstrip() for line in plain.split("\n")]


def terminal(now: list[float], **settings: int) -> Console:
    """A terminal whose clock is the only number in `now`."""
    plain = {"width": 80, "force_terminal": True, "color_system": None, "get_time": lambda: now[0]}
    return Console(file=Terminal(), **{**plain, **settings})


def test_stage_of_each_running_submission() -> None:
    clock = [100.0]
    console = terminal(clock)
    out = console.file
    with ClassProgress(3, console) as progress:
        progress(Event("started", ANNA))
        progress(Event("started", CI))
        assert sum("starting" in line for line in out.last(progress)) == 2
        clock[0] += 61
        progress(Event("stage", ANNA, detail="cell 4 of 17"))
        progress(Event("stage", BO, detail="of one that is not running"))
        first, anna, ci = out.last(progress)
        assert first.split() == ["0", "of", "3", "done", "0:01:01"]
        assert anna.split() == ["anna", "cell", "4", "of", "17", "0:01:01"]
        assert "ci [x]" in ci
        progress(Event("finished", ANNA, 61.0))
        clock[0] += 30
        progress(Event("finished", CI, 91.0))
        (line,) = out.last(progress)
        assert line.split() == ["2", "of", "3", "done", "0:00:46", "left", "0:01:31"]


def test_one_that_is_run_again_has_one_line() -> None:
    console = terminal([100.0])
    with ClassProgress(1, console) as progress:
        progress(Event("started", ANNA))
        progress(Event("started", ANNA))
        assert sum("anna" in line for line in console.file.last(progress)) == 1


def test_more_than_a_screen_can_hold() -> None:
    console = terminal([100.0], height=50)
    many = [submission_of(b"x", f"s{number}") for number in range(30)]
    with ClassProgress(30, console) as progress:
        for one in many:
            progress(Event("started", one))
        assert len(console.file.last(progress)) == 17
        progress(Event("finished", many[0], 1.0))
        assert any("s16 " in line for line in console.file.last(progress)), "who waited moves up"


def test_plain_lines_without_a_terminal() -> None:
    clock = [100.0]
    console = Console(file=io.StringIO(), width=60, get_time=lambda: clock[0])
    with ClassProgress(4, console) as progress:
        progress(Event("started", ANNA))
        clock[0] += 4
        progress(Event("finished", ANNA, 4.0))
        progress(Event("fault", BO, 0.0, "no [box] today"))
        clock[0] += 4
        progress(Event("finished", CI, 4.0))
    assert console.file.getvalue().splitlines() == [
        "1 of 4: anna, 4.0 s; 0:00:12 left",
        "bo: no [box] today",
        "3 of 4: ci [x], 4.0 s; 0:00:03 left",
    ]


def test_a_second_run_of_a_notebook_is_said(tmp_path, monkeypatch) -> None:
    stages: list[str] = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda *_, description, **_more: stages.append(description))
    notebook = tmp_path / "lab.ipynb"
    notebook.write_bytes(notebook_bytes("def add(a, b):\n    return a + b", "import os\nos._exit(1)"))
    main(["check", str(notebook), "--sandbox", "none", "--assignment", "tests.toy:TOY"])
    assert "checking lab.ipynb: cell 2 of 2" in stages
    assert "checking lab.ipynb: once more: cell 2 of 2" in stages
    assert stages[-1] == "checking lab.ipynb: once more: asking questions"
