"""The wheel for students, and virtual environments to install it into."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


@pytest.fixture(scope="session")
def registry(tmp_path_factory) -> None:
    """Skip where no package can be fetched; CI has to have them."""
    folder = tmp_path_factory.mktemp("registry")
    done = run(*PIP, "download", "-q", "--no-deps", "-d", folder, "hatchling", check=bool(os.environ.get("CI")))
    if done.returncode:
        pytest.skip("no package can be fetched here, and hatchling, which builds the wheel, is one")


@pytest.fixture(scope="session")
def wheel(registry, tmp_path_factory) -> Path:
    """The wheel, as the script for courses builds it."""
    done = run("bash", ROOT / "scripts" / "student-package.sh", tmp_path_factory.mktemp("wheel"), PYTHON=sys.executable)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def unpacked(wheel, tmp_path_factory) -> Path:
    """The wheel's files."""
    folder = tmp_path_factory.mktemp("site") / "site-packages"
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(*words: str | Path, check: bool = True, told: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command outside of the checkout and without its import path."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [str(word) for word in words], cwd="/", env={**clean, **environment}, input=told, capture_output=True, text=True, check=False
    )  # fmt: skip
    if check and done.returncode:
        pytest.fail(f"{' '.join(map(str, words))[:300]}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}", pytrace=False)
    return done


class Environment:
    """A virtual environment, without pip: that of these tests installs into it."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        run(python, "-m", "venv", "--without-pip", folder)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")

    def install(self, *what: str | Path) -> None:
        """Install packages, of which nothing may have to be compiled."""
        run(
            *PIP[:3],
            "--python",
            self.python,
            "install",
            "-q",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            *what,
        )

    def borrow(self, *names: str) -> None:
        """Let packages of this environment, and what they need, be there already."""
        place = self.site.parent / f"borrowed-{names[0]}"
        place.mkdir()
        for name in needed(*names):
            found = importlib.metadata.distribution(name)
            tops = {file.parts[0] for file in found.files or () if file.parts[0] != ".."}
            for top in tops - {"__pycache__"}:
                if not (place / top).exists():
                    (place / top).symlink_to(found.locate_file(top))
        (self.site / f"{place.name}.pth").write_text(f"{place}\n")

    @property
    def megabytes(self) -> float:
        """Size of what was installed."""
        files = (path for path in self.site.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files) / 1e6


def needed(*names: str) -> Iterator[str]:
    """The distributions of these names and all that they need."""
    todo, known = list(names), set()
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name not in known:
            known.add(name)
            yield name
            wanted = map(Requirement, importlib.metadata.requires(name) or ())
            todo += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
