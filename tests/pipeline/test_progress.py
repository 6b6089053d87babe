"""The lines that say how far a class is: stages, time left, plain without a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from grader.cli.progress import ClassProgress, seconds_left, words_for
from grader.runs.batch import Event
from tests.pipeline.conftest import submission_of

ANNA, BO = submission_of(b"a", "anna"), submission_of(b"b", "bo")


def shown(progress: ClassProgress) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(progress.render())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_time_left_follows_what_was_measured() -> None:
    assert seconds_left([], [3.0], 4, 2) is None
    assert seconds_left([10.0, 20.0], [], 4, 2) == 30.0
    assert seconds_left([10.0], [4.0, 30.0], 2, 2) == 13.0
    assert [words_for(s) for s in (None, 0.2, 300, 7200)] == [
        "not known yet when it will be done", "about 1 s left", "about 5 min left", "about 2.0 h left",
    ]  # fmt: skip


def test_each_running_submission_has_a_line_with_its_stage() -> None:
    progress = ClassProgress(3, 2, Console(file=io.StringIO()))
    progress(Event("started", ANNA))
    progress(Event("started", BO))
    assert shown(progress).count("starting") == 2
    progress(Event("stage", ANNA, detail="cell 4 of 17"))
    lines = shown(progress).splitlines()
    assert lines[0].startswith("0 of 3 done, not known yet")
    assert "anna" in lines[1]
    assert "cell 4 of 17" in lines[1]
    progress(Event("finished", ANNA, 10.0))
    assert "anna" not in shown(progress)
    assert "1 of 3 done, about 10 s left" in shown(progress)


def test_without_a_terminal_each_finished_submission_is_one_plain_line() -> None:
    out = io.StringIO()
    with ClassProgress(2, 1, Console(file=out, width=60)) as progress:
        for event in (Event("started", ANNA), Event("finished", ANNA, 4.0), Event("fault", BO, 0.0, "no [box] today")):
            progress(event)
    assert out.getvalue().splitlines() == ["1 of 2: anna, 4.0 s; about 4 s left", "bo: no [box] today"]
