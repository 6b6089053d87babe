"""Imports go one way, and nothing heavy is imported to say a few words. The contracts are in pyproject.toml."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import grader

ROOT = Path(grader.__file__).parents[1]
PACKAGE = Path(grader.__file__).parent


def lint_imports(config: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    return subprocess.run([*command, "--config", str(config), "--no-cache"], cwd=cwd, capture_output=True, text=True)


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="the contracts are in the checkout")
def test_imports_keep_their_contracts() -> None:
    done = lint_imports(ROOT / "pyproject.toml", ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


BROKEN = {
    "records": "grader.cli.main",
    "inside.seeds": "grader.records",
    "assignments.finetuning.full": "grader.inside.witness",
    "reports.view": "torch",
    "bundles.calibrate": "grader.bundles.training",
}
"""Module -> what it must not import."""
CIRCLE = {"sandbox.scope": "grader.authoring.template", "authoring.template": "grader.sandbox.scope"}


def test_contracts_notice_every_wrong_import(tmp_path) -> None:
    for path in PACKAGE.rglob("*.py"):
        target = tmp_path / "grader" / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "grader" / "newroom.py").touch()
    for module, wrong in {**BROKEN, **CIRCLE}.items():
        with (tmp_path / "grader" / f"{module.replace('.', '/')}.py").open("a") as file:
            file.write(f"\nimport {wrong}\n")
    found = lint_imports(ROOT / "pyproject.toml", tmp_path).stdout
    assert re.search(r"Contracts: 0 kept, \d broken", found), found
    for module, wrong in BROKEN.items():
        assert re.search(rf"grader\.{module} -> {wrong}\b", found), f"{module} -> {wrong}: {found}"
    assert "no circle BROKEN" in found
    assert "newroom" in found


def test_imports_inside_the_package_are_absolute() -> None:
    for path in PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level], path
