"""`grader check` while one works: what counts as a save, the course's settings beside the notebook, and the look before handing in."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from grader.cli.main import main
from grader.cli.preflight import preflight, shown
from grader.cli.watch import saves
from grader.records import Adaptation, CellError, CellRun, Execution, Notice, Outcome, Status, Usage, Verdict
from grader.rubric.shown import ASKED_ANEW
from grader.sandbox.contract import Limits
from tests.jupyterlab import jupyterlab
from tests.pipeline.conftest import notebook_bytes
from tests.reports import samples
from tests.reports.helpers import flat, printed
from tests.toy import TOY

ROOT = Path(__file__).parents[2]
ADD, SHOUT = "def add(a, b):\n    return a + b", "def shout(text):\n    return text.upper()"
QUIET = ["--assignment", "tests.toy:TOY", "--sandbox", "none"]


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "lab.ipynb"
    path.write_bytes(notebook_bytes(ADD, SHOUT))
    return path


def words(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


# ---------------------------------------------------------------- saves


def counter(notebook: Path) -> Callable[[int], int]:
    """Counts the saves that were told of; asked for a number, it waits until there are as many, and a little longer."""
    told: queue.Queue[None] = queue.Queue()
    found = 0

    def watch() -> None:
        for each in saves(notebook, every=0.02):
            told.put(each)

    threading.Thread(target=watch, daemon=True).start()

    def count(wanted: int) -> int:
        nonlocal found
        while found < wanted:
            told.get(timeout=30)
            found += 1
        time.sleep(0.3)  # for one too many
        return found + told.qsize()

    assert count(1) == 1, "the notebook as it is"
    return count


@pytest.fixture
def seen(notebook: Path) -> Callable[[int], int]:
    return counter(notebook)


def put(path: Path, data: bytes) -> None:
    """As editors do that never leave half a file: another one in its place."""
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    beside.replace(path)


def test_a_replaced_file_is_a_save(notebook, seen) -> None:
    put(notebook, notebook_bytes(ADD, SHOUT + "  # better"))
    assert seen(2) == 2
    put(notebook, notebook_bytes(ADD, SHOUT))
    assert seen(3) == 3, "back as it was is another state, too"


def test_an_autosave_that_changes_no_code_is_none(notebook, seen) -> None:
    document = json.loads(notebook.read_text(encoding="utf-8"))
    document["cells"][0] |= {
        "execution_count": 3,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "hej"}],
    }
    document["cells"].append({"cell_type": "markdown", "source": "# A thought", "metadata": {}})
    put(notebook, json.dumps(document).encode())
    assert seen(1) == 1
    put(notebook, notebook_bytes(ADD))
    assert seen(2) == 2


def test_half_a_file_and_none_are_waited_for(notebook, seen) -> None:
    whole = notebook_bytes(ADD, "def shout(text):\n    return text")
    notebook.write_bytes(whole[:80])
    assert seen(1) == 1
    notebook.unlink()
    assert seen(1) == 1
    notebook.write_bytes(b"")
    assert seen(1) == 1
    notebook.write_bytes(whole)
    assert seen(2) == 2


def test_modules_and_settings_beside_it_count(notebook, seen) -> None:
    module = notebook.with_name("helpers.py")
    module.write_text("x = 1\n", encoding="utf-8")
    assert seen(1) == 1, "nothing imports it"
    put(notebook, notebook_bytes("import helpers", ADD, SHOUT))
    assert seen(2) == 2
    module.write_text("x = 22\n", encoding="utf-8")
    assert seen(3) == 3
    notebook.with_name("grader.toml").write_text('note = "hej"\n', encoding="utf-8")
    assert seen(4) == 4


_EDIT = """async ([source, output]) => {
    const panel = jupyterapp.shell.currentWidget, cell = panel.content.widgets[0].model.sharedModel;
    if (source) cell.setSource(source);
    if (output) cell.setOutputs([{output_type: 'stream', name: 'stdout', text: output}]);
    await jupyterapp.commands.execute('docmanager:save');
}"""


@pytest.mark.slow
def test_saves_of_a_real_jupyterlab(tmp_path) -> None:
    with jupyterlab(tmp_path) as lab:
        path = lab.folder / "lab.ipynb"
        path.write_bytes(notebook_bytes(ADD, SHOUT))
        lab.open("lab.ipynb")
        count = counter(path)
        for number in (2, 3, 4):
            before = path.stat().st_mtime_ns
            lab.page.evaluate(_EDIT, ["", f"printed {number}"])
            assert path.stat().st_mtime_ns > before and count(number - 1) == number - 1, "what was printed is no code"
            lab.page.evaluate(_EDIT, [f"{ADD}  # {number}", ""])
            assert count(number) == number
        assert lab.dialogs() == []


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", ["none", pytest.param("auto", marks=pytest.mark.box)])
def test_watching_tells_what_a_save_changed_and_ends_by_ctrl_c(notebook, tmp_path, sandbox) -> None:
    log = tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "grader",
        "check",
        str(notebook),
        "--watch",
        "--fast",
        *QUIET,
        "--sandbox",
        sandbox,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def wait_for(text: str) -> None:
        until = time.monotonic() + 120
        while text not in log.read_text(encoding="utf-8"):
            assert process.poll() is None and time.monotonic() < until, log.read_text(encoding="utf-8")
            time.sleep(0.05)

    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=tmp_path)
        try:
            wait_for("9 / 9")
            wait_for("save it to check it again")
            put(notebook, notebook_bytes(ADD, "def shout(text):\n    return text"))
            wait_for("✗ No longer right: `shout(text)` returns")
            notebook.with_name("grader.toml").write_text('[show]\nshout = "some"\n', encoding="utf-8")
            wait_for("Invalid enum value 'some'")
            notebook.with_name("grader.toml").unlink()
            put(notebook, notebook_bytes(ADD, SHOUT))
            wait_for("✓ Now right: `shout(text)` returns")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert "Stopped watching." in log.read_text(encoding="utf-8")


# ---------------------------------------------------------------- settings beside it, and the words at the end


def test_settings_beside_the_notebook_hold(notebook, tmp_path, capsys) -> None:
    put(notebook, notebook_bytes(ADD, "def shout(text):\n    return text"))
    text = 'note = "Ask in the forum."\n[points]\n"add/sum" = 40\n[show]\nshout = "nothing"\nadd = "titles"\n'
    notebook.with_name("grader.toml").write_text(text, encoding="utf-8")
    files = {kind: tmp_path / f"report.{kind}" for kind in ("html", "json", "markdown", "junit")}
    outputs = [part for kind, path in files.items() for part in (f"--{kind}", str(path))]
    assert main(["check", str(notebook), "--fast", *outputs, *QUIET]) == 1
    told = {"terminal": words(capsys.readouterr().out)} | {k: words(p.read_text("utf-8")) for k, p in files.items()}
    for name, shown_there in told.items():
        assert (
            "hej" not in shown_there.casefold() and "capitals" not in shown_there and "str.upper" not in shown_there
        ), name
        assert "shout/upper" not in shown_there and "upper:" not in shown_there, name
        assert "returns the sum" in shown_there and "A further criterion" in shown_there, name
        assert "Ask in the forum." in shown_there and ASKED_ANEW in shown_there, name
    assert "40 / 40" in told["terminal"] and "42 / 45" in told["terminal"]
    other = tmp_path / "other.toml"
    other.write_text("", encoding="utf-8")
    assert main(["check", str(notebook), "--fast", "--config", str(other), *QUIET]) == 1
    assert "returns the text in capitals" in words(capsys.readouterr().out), "what is given goes before what lies there"


def test_a_part_may_be_checked_with_settings_of_another(notebook, capsys) -> None:
    notebook.with_name("grader.toml").write_text('[points]\n"add/sum" = 40\n', encoding="utf-8")
    assert main(["check", str(notebook), "--fast", "--step", "shout", *QUIET]) == 0
    assert "3 / 3" in capsys.readouterr().out


# ---------------------------------------------------------------- before handing in


def test_the_look_before_handing_in(notebook, capsys) -> None:
    assert main(["check", str(notebook), "--preflight", *QUIET]) == 0
    told = words(capsys.readouterr().out)
    for text in (
        "✓ A notebook that Canvas takes: lab.ipynb",
        hashlib.sha256(notebook.read_bytes()).hexdigest()[:12],
        "✓ It runs from top to bottom",
        "✓ add is there, in cell 1.",
        "✓ shout is there, in cell 2.",
        "of CPU time of the 15 min",
        "All 3 criteria passed.",
        "Ready to hand in.",
        ASKED_ANEW,
    ):
        assert text in told, text


def test_what_is_not_ready_is_told(notebook, capsys) -> None:
    text = notebook.with_name("lab.ipynb.txt")
    text.write_bytes(notebook_bytes("def Add(a, b):\n    return a", SHOUT, "1 / 0"))
    assert main(["check", str(text), "--preflight", *QUIET]) == 1
    told = words(capsys.readouterr().out)
    assert "✗ Its name is lab.ipynb.txt" in told and "✗ Cell 3: ZeroDivisionError: division by zero" in told
    assert "✗ There is no add" in told and "Not ready yet" in told and "Ready to hand in" not in told
    text.write_bytes(b"%PDF")
    assert main(["check", str(text.rename(notebook)), "--preflight", *QUIET]) == 1
    assert "a PDF file" in words(capsys.readouterr().out)


@pytest.mark.parametrize("option", ["--fast", "--watch", "--step=add"])
def test_preflight_is_of_the_whole(notebook, capsys, option) -> None:
    assert main(["check", str(notebook), "--preflight", option, *QUIET]) == 2
    assert "looks at the whole notebook" in capsys.readouterr().err


def lines(
    outcome: Outcome = Outcome.COMPLETED, error: CellError | None = None, **changes: object
) -> list[tuple[bool | None, str]]:
    """What is said of a report of the toy assignment."""
    cells = (
        CellRun(0, "ok", 1.0, 0.5),
        CellRun(4, "error" if error else "ok", 30.0, 20.5, error),
        CellRun(6, "ok", 9.0, 9.0),
    )
    made = samples.perfect()
    results = tuple(
        replace(
            made.score.criteria[0],
            id=check.id,
            points=check.points,
            earned=check.points,
            verdict=Verdict(Status.PASSED),
            cell=2,
        )
        for check in TOY.checks.values()
    )
    execution = Execution(outcome, cells, Usage(30.0, 41.0), "cold", {}, "b")
    changes = {"execution": execution, "score": replace(made.score, criteria=results, possible=9, total=9)} | changes
    questions = TOY.draw("5eed", None)
    found = preflight(replace(made, **changes), 48_213, TOY, questions, Limits(cpu_seconds=900))  # type: ignore[arg-type]
    assert flat(printed(shown(found), 40)).count("✗") == sum(line.ok is False for line in found)
    return [(line.ok, line.text) for line in found]


def test_slow_cells_and_adaptations_are_named() -> None:
    adapted = tuple(Adaptation(cell, "gpu", "cuda", "cpu", "There is no GPU here.") for cell in (3, 3, 5))
    found = lines(adaptations=adapted)
    assert (None, "Slowest: cell 5 (20.5 s), cell 7 (9.0 s).") in found
    assert (True, "30.0 s of CPU time of the 15 min 00 s that a submission has; 41.0 s by the clock.") in found
    assert [text for _, text in found if "no GPU" in text] == [
        "Adapted while it is graded, nothing for you to change: There is no GPU here. (cell 4, cell 6)"
    ]


def test_what_stopped_the_run_is_told() -> None:
    found = {text: ok for ok, text in lines(Outcome.TIMED_OUT, CellError("KeyError", "'x'", ""))}
    assert found["Cell 5: KeyError: 'x'"] is False
    assert any(ok is False and text.startswith(Outcome.TIMED_OUT.sentence) for text, ok in found.items())
    assert any(ok is False and "of CPU time" in text for text, ok in found.items())


def test_another_name_is_told_and_costs_nothing() -> None:
    made = lines()
    assert (True, "`shout` is there, in cell 3.") in made
    note = Notice("renamed", "`yell` was taken for `shout`, by what it does.")
    result = samples.perfect().score.criteria[0]
    renamed = replace(result, id="shout/upper", verdict=Verdict(Status.PASSED, notices=(note,)))
    missing = replace(result, id="add/sum", verdict=Verdict(Status.FAILED, "`add` is not defined."), cell=None)
    found = lines(score=replace(samples.perfect().score, criteria=(missing, renamed)))
    assert (False, "There is no `add`: it is asked for by this name.") in found
    assert any(ok is None and text.startswith("`shout` was asked for. `yell` was taken") for ok, text in found)
