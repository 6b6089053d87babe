"""What the README promises, executed: the sample class graded as labelled, the reference at 100, the template at 0."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from grader.cli.main import COMMANDS, commands, main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.timeout(2400)
def test_the_first_command_grades_the_sample_class_as_labelled(sample_class) -> None:
    assert "bash scripts/sample-class.sh" in README
    assert "All 16 submissions of the sample class are graded as labelled." in sample_class.output, (
        sample_class.output[-6000:] + sample_class.errors[-2000:]
    )
    assert sample_class.code == 0
    page = Path(re.search(r"Class report: (\S+)", sample_class.output).group(1))
    assert "Sample class" in page.read_text(encoding="utf-8")
    before = {p: p.read_bytes() for p in sample_class.run.rglob("*") if p.is_file()}
    assert main(["rejudge", str(sample_class.run)]) == 3, "the PDF needs a decision"
    assert {p: p.read_bytes() for p in sample_class.run.rglob("*") if p.is_file()} == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_verify_reports_the_reference_at_100_and_the_template_at_0(tmp_path, capsys) -> None:
    assert main(["verify", "--no-corpus", "--markdown", str(tmp_path / "summary.md")]) == 0
    output = capsys.readouterr().out
    assert "reference: 100 of 100" in output
    assert "template: 0 of 100" in output
    assert "100 / 100" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_the_template_is_in_step(capsys) -> None:
    assert main(["template", "--check"]) == 0


def test_every_file_and_command_the_readme_names_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    for script in re.findall(r"bash (scripts/\S+)", README):
        assert (ROOT / script).is_file(), script
    for command in re.findall(r"grader ([a-z]+)\b", "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S))):
        assert command in COMMANDS, command
    for name in ("docs/ci/github-actions.yml", "docs/ci/gitlab-ci.yml"):
        assert name in README
        assert "grader verify" in (ROOT / name).read_text(encoding="utf-8")


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docs" / "ci").glob("*.yml"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_options_of_commands_on_pages_exist(page) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, rest in re.findall(r"\bgrader ([a-z]+)\b([^`\n#|]*)", text):
        if "--" not in rest and name not in COMMANDS:
            continue  # prose
        command = commands.get_command(None, name)
        assert command is not None, name
        words = rest.split()
        if isinstance(command, click.Group):
            command = command.commands[words[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known, f"grader {name}{rest}"


def test_options_that_the_readme_names_alone_exist() -> None:
    known = {
        option
        for name in COMMANDS
        for parameter in commands.get_command(None, name).params
        for option in (*parameter.opts, "--help")
    }
    assert set(re.findall(r"`(--[a-z-]+)", README)) <= known


def test_help_teaches(capsys) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "Exit codes" in shown
    assert "needs_review.csv" in shown
    assert main(["nonsense"]) == 2
