"""What the project says of itself is true."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import grader

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_licence_is_the_file_that_lies_there(project) -> None:
    assert project["license"] == "MIT"
    for name in project["license-files"]:
        assert (ROOT / name).read_text("utf-8").startswith(f"{project['license']} License")


def test_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.*)$", text, re.MULTILINE)[1] == grader.__version__


def test_hooks_run_tools_that_are_there() -> None:
    entries = re.findall(r"^ +entry: (\S+)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"), re.MULTILINE)
    tools = {found.name for found in entry_points(group="console_scripts")} | {"ruff"}
    assert entries
    assert {Path(entry).name for entry in entries} <= tools
    assert all(entry.startswith(".venv/bin/") for entry in entries)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_between_pages_lead_somewhere(page) -> None:
    file = next(path for path in (ROOT / page, ROOT / "docs" / page) if path.is_file())
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text("utf-8")):
        assert (file.parent / target).exists(), f"{page}: {target}"


def test_glossary_names_what_exists() -> None:
    package = ROOT / "grader"
    source = "\n".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    terms = re.findall(r"\(`(\w+)`\)", (ROOT / "docs" / "glossary.md").read_text("utf-8"))
    assert len(terms) > 15
    assert [term for term in terms if not re.search(rf"^(class|def) {term}\b", source, re.MULTILINE)] == []
