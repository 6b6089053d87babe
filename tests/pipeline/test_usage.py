"""Wrong usage, odd paths and a bad standard output: one clear sentence, the right exit code, never a traceback."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from grader.cli.common import limits_of
from grader.cli.main import COMMANDS, commands, main
from grader.cli.streams import Output, claim_streams
from grader.errors import SandboxError, UsageError
from grader.grading.settings import Settings
from tests.pipeline.conftest import notebook_bytes

ROOT = Path(__file__).parents[2]
TOY = ["--assignment", "tests.toy:TOY"]
RIGHT = ("def add(a, b):\n    return a + b", "def shout(text):\n    return text.upper()")


@pytest.fixture
def notebook(tmp_path) -> Path:
    path = tmp_path / "lab.ipynb"
    path.write_bytes(notebook_bytes(*RIGHT))
    return path


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("class")
    (folder / "öbergpär_1_2_lab.ipynb").write_bytes(notebook_bytes(*RIGHT))
    assert main(["grade", str(folder), "--out", str(folder / "run"), *TOY]) == 0
    return folder / "run"


@pytest.fixture
def uncalled(monkeypatch) -> None:
    """No work may begin."""

    def grade(*_arguments, **_options):
        raise AssertionError("the notebook was run")

    monkeypatch.setattr("grader.cli.check.Grader.report", grade)


def refused(capsys, arguments: list[str], message: str) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1, "one sentence"
    assert message in shown.err


def test_the_wall_net_can_be_set() -> None:
    assert limits_of(Settings().limited(cpu_seconds=100)).wall_seconds == 1400
    assert limits_of(Settings().limited(cpu_seconds=100, wall_seconds=250)).wall_seconds == 250
    with pytest.raises(UsageError, match=r"net above --cpu-seconds .*: give both"):
        limits_of(Settings().limited(cpu_seconds=100, wall_seconds=99))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1", "1e999", "1e-9", "many", ""])
@pytest.mark.parametrize("option", ["--cpu-seconds", "--wall-seconds", "--memory-gib", "--workers"])
def test_amounts_that_are_none(tmp_path, notebook, capsys, option, value) -> None:
    refused(capsys, ["grade", str(notebook), "--out", str(tmp_path / "run"), option, value], option)
    assert not (tmp_path / "run").exists()
    if option != "--workers":
        refused(capsys, ["check", str(notebook), option, value], "is not a number from")


@pytest.mark.parametrize(
    "command",
    [
        ["check", "PATH"],
        ["check", "NOTEBOOK", "--html", "PATH"],
        ["check", "NOTEBOOK", "--bundle", "PATH"],
        ["grade", "PATH", "--out", "NEW"],
        ["grade", "NOTEBOOK", "--out", "PATH"],
        ["grade", "NOTEBOOK", "--out", "NEW", "--roster", "PATH"],
        ["grade", "NOTEBOOK", "--out", "NEW", "--secret-file", "PATH"],
        ["override", "PATH", "1", "add/sum", "1", "--reason", "x"],
        ["report", "PATH"],
        ["rejudge", "PATH"],
        ["template", "PATH"],
        ["verify", "--reference", "PATH"],
        ["bundle", "verify", "PATH"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("path", ["", "x" * 5000, "a" * 300, "FILE/below", "with\0zero"], ids=lambda path: path[:9])
def test_paths_that_cannot_be(tmp_path, notebook, capsys, uncalled, command, path) -> None:
    places = {"PATH": path.replace("FILE", str(notebook)), "NOTEBOOK": str(notebook), "NEW": str(tmp_path / "new")}
    refused(capsys, [places.get(word, word) for word in command], "Invalid value")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [["report"], ["rejudge"], ["override", "1", "add/sum", "1", "--reason", "x"]])
def test_a_run_that_is_a_file(notebook, capsys, command) -> None:
    refused(capsys, [command[0], str(notebook), *command[1:]], "is a file")


def test_a_run_to_make_that_is_a_file(notebook, capsys) -> None:
    refused(capsys, ["grade", str(notebook), "--out", str(notebook)], "is a file")


def test_a_folder_that_may_not_be_read(tmp_path, capsys, monkeypatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) and not mode & os.R_OK)
    refused(capsys, ["grade", str(tmp_path), "--out", str(tmp_path / "run")], "is not readable")


def test_an_output_file_where_none_can_be_written(tmp_path, notebook, capsys, monkeypatch, uncalled) -> None:
    refused(capsys, ["check", str(notebook), "--json", str(tmp_path)], "is a directory")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: real(path, mode) and not mode & os.W_OK)
    refused(capsys, ["check", str(notebook), "--html", str(tmp_path / "deep" / "r.html")], "that you may write in")
    refused(capsys, ["grade", str(notebook), "--out", str(tmp_path / "run")], "that you may write in")


def test_a_run_as_its_own_source(graded, capsys) -> None:
    for source in (graded, graded / "intake"):
        assert main(["grade", str(source), "--out", str(graded), *TOY]) == 2
        assert "give what students handed in" in capsys.readouterr().err


def test_names_that_look_like_markup(tmp_path, capsys) -> None:
    folder = tmp_path / ":x:[" / "bold]"
    folder.mkdir(parents=True)
    (folder / "[red]lab.ipynb").write_bytes(notebook_bytes(*RIGHT))
    assert main(["check", str(folder / "[red]lab.ipynb"), *TOY]) == 0
    assert main(["grade", str(folder / "[red]lab.ipynb"), "--out", str(folder / "run"), *TOY]) == 0
    shown = capsys.readouterr().out
    assert "[red]lab.ipynb" in shown
    assert f"Class report: {folder}/run/class.html" in shown


# ---------------------------------------------------------------- check


def test_check_takes_the_modules_that_are_imported(tmp_path, capsys, monkeypatch) -> None:
    notebook = tmp_path / "lab.ipynb"
    notebook.write_bytes(notebook_bytes("from first import add", "other = 1\n" + RIGHT[1]))
    (tmp_path / "first.py").write_text("from second import plus as add\n", encoding="utf-8")
    (tmp_path / "second.py").write_text("def plus(a, b):\n    return a + b\n", encoding="utf-8")
    (tmp_path / "dead.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "other.py").write_text("raise SystemExit\n", encoding="utf-8")
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read") if path.name == "other.py" else read(path))
    assert main(["check", str(notebook), *TOY]) == 0
    assert "9 / 9" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dead", "pipe"])
def test_check_ends_well_where_a_module_is_no_file(tmp_path, capsys, name) -> None:
    notebook = tmp_path / "lab.ipynb"
    notebook.write_bytes(notebook_bytes(f"from {name} import add", RIGHT[1]))
    (tmp_path / "dead.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    assert main(["check", str(notebook), *TOY]) == 3
    assert f"No module named '{name}'" in capsys.readouterr().out


def test_check_says_why_the_box_failed(notebook, capsys, monkeypatch) -> None:
    async def run_notebook(*_arguments, **_options):
        raise SandboxError("bwrap: no user namespaces here")

    monkeypatch.setattr("grader.grading.pipeline.run_notebook", run_notebook)
    assert main(["check", str(notebook), *TOY]) == 4
    assert "bwrap: no user namespaces here" in capsys.readouterr().out


def test_a_fault_of_the_grader_is_not_a_score(notebook, capsys, monkeypatch) -> None:
    def report(*_arguments, **_options):
        raise ZeroDivisionError

    monkeypatch.setattr("grader.cli.check.Grader.report", report)
    assert main(["check", str(notebook), *TOY]) == 4, "1 would say: below full marks"
    assert "a fault of the grader itself (ZeroDivisionError)" in capsys.readouterr().err


def test_check_shows_the_result_before_it_writes_files(tmp_path, notebook, capsys, monkeypatch) -> None:
    def write_atomically(*_arguments):
        raise OSError(28, "No space left on device", str(tmp_path / "r.html"))

    monkeypatch.setattr("grader.cli.check.write_atomically", write_atomically)
    assert main(["check", str(notebook), "--html", str(tmp_path / "r.html"), *TOY]) == 4
    shown = capsys.readouterr()
    assert "9 / 9" in shown.out
    assert "No space left on device" in shown.err


# ---------------------------------------------------------------- standard output


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = f"{sys.executable} -m grader {command}"
    settings = {**os.environ, "COLUMNS": "100", **environment}
    return subprocess.run(
        ["bash", "-c", line],
        cwd=ROOT,
        env=settings,
        capture_output=True,
        text=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
    )


@pytest.mark.parametrize(
    ("redirected", "code", "message"),
    [
        (">/dev/full", 4, "standard output cannot be written: No space left on device"),
        (">&-", 2, "standard output is closed"),
    ],
)
def test_bad_standard_output_is_known_before_work(tmp_path, notebook, redirected, code, message) -> None:
    done = run(f"grade {notebook} --out {tmp_path / 'run'} {' '.join(TOY)} {redirected}")
    assert done.returncode == code
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_closed_standard_error_and_input(graded) -> None:
    done = run(f"rejudge {graded} <&- 2>&-")
    assert done.returncode == 0
    assert "Class report" in done.stdout


def test_standard_error_that_is_full(tmp_path, notebook) -> None:
    done = run(f"grade {notebook} --out {tmp_path / 'run'} {' '.join(TOY)} 2>/dev/full")
    assert done.returncode == 0
    assert "Class report" in done.stdout
    assert run(f"grade {notebook} --out {notebook} 2>/dev/full").returncode == 2


def test_output_that_is_lost_ends_no_work(capsys) -> None:
    with Path("/dev/full").open("w") as full:
        output = Output(full)
        output.write("x" * 100_000)
        output.write("and another line")
        assert output.exit_code(0) == 4
    assert capsys.readouterr().err.count("No space left on device") == 1
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        output = Output(gone)
        output.write("x" * 100_000)
        assert output.exit_code(3) == 3, "who closes a pipe has read enough"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "obergpar        9  ++ +"),
        ("latin-1", "öbergpär        9  ++ +"),
        ("utf-8", "öbergpär        9  ✓✓ ✓"),
    ],
)
def test_terminals_that_show_few_letters(graded, encoding, shown) -> None:
    done = run(f"rejudge {graded}", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert shown in done.stdout


def test_signs_that_a_terminal_does_not_have() -> None:
    claim_streams()
    text = "╭─ Åsa ✓ – … ─╮│ \udcff €"
    assert text.encode("ascii", "grader-plain") == b"+- Asa + - ... -+| ? ?"
    assert text.encode("utf-8", "grader-plain").decode() == text.replace("\udcff", "?")


def test_file_names_that_are_not_utf8(tmp_path, notebook) -> None:
    place = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = run(f"grade {notebook} --out {tmp_path / 'run'} {' '.join(TOY)}", **place)
    assert done.returncode == 2
    assert "set PYTHONUTF8=1" in done.stderr
    assert not (tmp_path / "run").exists()
    assert run("--help", **place).returncode == 0


# ---------------------------------------------------------------- help


def every_command() -> dict[str, click.Command]:
    found = {name: commands.get_command(None, name) for name in COMMANDS}
    groups = {name: command for name, command in found.items() if isinstance(command, click.Group)}
    for name, group in groups.items():
        found |= {f"{name} {action}": command for action, command in group.commands.items()}
    return found


OF_OTHER_PROGRAMS = {
    "runs/engines/certificates.py": "--tls-ca-file --tls-cert --tls-key --protocol --no-dashboard --nthreads --nworkers",
    "runs/engines/slurm.py": "--me",
    "sandbox/host.py": "--bind --security-opt --set-version",
}
"""Options of dask, squeue, mount, docker and wsl that a sentence names: file -> options."""


def test_options_that_messages_name_exist() -> None:
    known = {"--help"} | {
        option for command in every_command().values() for parameter in command.params for option in parameter.opts
    }
    unknown: dict[str, set[str]] = {}
    for path in sorted((ROOT / "grader").rglob("*.py")):
        place = str(path.relative_to(ROOT / "grader"))
        for text in texts(path):
            named = {word for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text) if " " in text.strip()}
            if extra := named - known - set(OF_OTHER_PROGRAMS.get(place, "").split()):
                unknown.setdefault(place, set()).update(extra)
    assert unknown == {}


def texts(path: Path) -> Iterator[str]:
    """The texts in a module's code, those with values in them whole; docstrings are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)


def test_help_of_every_command() -> None:
    for name, command in every_command().items():
        text = command.get_help(click.Context(command, info_name=name))
        assert "\\b" not in text, "click's mark for a paragraph that is not wrapped has to be the character itself"
        assert all(option.help for option in command.params if isinstance(option, click.Option)), name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(capsys, shell) -> None:
    assert main(["completion", shell]) == 0
    assert "_GRADER_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["rejudge"], ["report"], ["regrade", "1"], ["forget", "1", "--yes"], ["override", "1", "a/b", "1"]]
)
def test_a_folder_without_a_run_is_wrong_usage_and_stays_as_it_is(command, tmp_path, capsys) -> None:
    (tmp_path / "thesis.txt").touch()
    assert main([command[0], str(tmp_path), *command[1:]]) == 2
    assert "holds no run; it is made by" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
