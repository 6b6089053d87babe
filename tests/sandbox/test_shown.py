"""What a box can read: an allow-list, in which nothing of the grader lies but its inside, however it was installed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import site
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import grader
from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.cli.main import main
from grader.cli.resources import corpus_path, reference_path
from grader.grading.pipeline import Grader, RunContext
from grader.sandbox.contract import Limits
from grader.sandbox.shown import shown
from tests.sandbox.conftest import box_missing, run_in

pytestmark = [pytest.mark.box, pytest.mark.attack]

PACKAGE = Path(grader.__file__).parent
LIST = """
import subprocess, sys, tempfile
from grader.sandbox.bubblewrap import build
from grader.sandbox.contract import BoxSpec, Limits
from grader.sandbox.host import PrivilegeDrop
with PrivilegeDrop.open() as drop, tempfile.TemporaryFile() as log:
    box = build(BoxSpec(), Limits(), drop, log.fileno())
    find = "find . -name proc -prune -o \\\\( -name 'needle*' -o -path '*/grader/*' -o -name '*dat450*' \\\\) -print | cut -c2-; ls usr"
    sys.stdout.write(subprocess.run(["sh", "-c", find], cwd=box.inside, stdout=subprocess.PIPE, text=True).stdout)
    box.end()
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment that holds things beside its libraries."""
    if why := box_missing():
        pytest.skip(why)
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for name in (
        "needle-top",
        "share/needle-share",
        "src/course/needle-solutions",
        "bin/needle-program",
        "lib/needle-lib",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("a solution")
    return folder


def packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python*/site-packages")
    return found


def install(folder: Path, *, whole: bool = True) -> Path:
    """A copy of the grader: its code's outline, and what a wheel or a checkout holds beside it."""
    for name in ("__init__.py", "inside/__init__.py", "needle-judge.py", "_data/reference_solution/needle.ipynb"):
        path = folder / "grader" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    if whole:
        (folder / "tests" / "corpus").mkdir(parents=True)
        (folder / "tests" / "corpus" / "needle-corpus.py").write_text("")
    return folder


def visible(interpreter: Path, code: Path = PACKAGE.parent) -> list[str]:
    """Paths in a box of this interpreter: needles, all of the grader, and what lies in /usr."""
    path = os.pathsep.join([str(code), *site.getsitepackages()])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([interpreter, "-Pc", LIST], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def outside_of(inside: Path, found: list[str]) -> list[str]:
    """What is neither a name in /usr nor below the package's own inside."""
    return [
        line for line in found if "/" in line and not line.startswith((f"{inside}/inside", f"{inside}/__init__.py"))
    ]


def test_beside_the_libraries_of_an_environment(environment) -> None:
    found = visible(environment / "bin" / "python")
    assert outside_of(PACKAGE, found) == []
    system = {line for line in found if "/" not in line}
    assert "bin" in system
    assert system <= {"bin", "include", "lib", "lib32", "lib64", "libexec", "libx32", "sbin", "share"}


def test_an_environment_behind_a_link(environment, tmp_path) -> None:
    """The same packages under two names: both are covered."""
    install(packages(environment), whole=False)
    link = tmp_path / "link"
    link.symlink_to(environment)
    found = visible(link / "bin" / "python")
    assert outside_of(PACKAGE, found) == []


def test_other_copies_of_the_grader(environment, tmp_path) -> None:
    """An older version, its metadata with the place it came from, and a checkout that a .pth file points to."""
    folder = packages(environment)
    install(folder, whole=False)
    for name in ("dat450_grader-0.0.9.dist-info", "dat450_grader.egg-info"):
        (folder / name).mkdir()
        for file in ("METADATA", "direct_url.json", "needle-record"):
            (folder / name / file).write_text("{}")
    (folder / "course.pth").write_text(f"{install(folder / 'work' / 'checkout')}\n")
    (folder / "old.egg-link").write_text(f"{install(folder / 'work' / 'older')}\n.\n")
    url = {"url": (install(folder / "work" / "a third")).as_uri(), "dir_info": {"editable": True}}
    (folder / "dat450_grader-0.0.9.dist-info" / "direct_url.json").write_text(json.dumps(url))
    found = visible(environment / "bin" / "python")
    seen = [
        line
        for line in outside_of(PACKAGE, found)
        if line not in (str(folder / "course.pth"), str(folder / "old.egg-link"))
    ]
    metadata = [f"{folder}/dat450_grader-0.0.9.dist-info", f"{folder}/dat450_grader.egg-info"]
    assert sorted(seen) == metadata, "empty folders that say the version"


@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_what_was_handed_in_lies_where_boxes_look(tmp_path, capsys, monkeypatch, mode) -> None:
    if why := box_missing():
        pytest.skip(why)
    (folder,) = (path for path in shown().paths if path.name == "site-packages")
    notebook = tmp_path / "lab.ipynb"
    notebook.write_text("{}")
    for sources, out, home, what in (
        (folder / "pip", tmp_path / "run", tmp_path, "what was handed in"),
        (notebook, folder / "run", tmp_path, "the folder of the run"),
        (Path("/usr/lib/os-release"), tmp_path / "run", tmp_path, "what was handed in"),
        (notebook, tmp_path / "run", folder / "torch", "your home folder"),
    ):
        if out.is_relative_to(folder) and not os.access(folder, os.W_OK):
            continue  # an ordinary user in somebody else's environment: refused in any case
        monkeypatch.setenv("HOME", str(home))
        assert main(["grade", str(sources), "--out", str(out), "--sandbox", mode, "--assignment", "tests.toy:TOY"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert said.startswith(f"grader: {what} (")
        assert "which the code of every submission can read: move it elsewhere" in said
        assert not (folder / "run").exists()


SEARCH = """
import os, json
needles, found, read = [bytes.fromhex(text) for text in json.load(open("/box/needles"))], [], 0
for place, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if (place, name) not in (("/", "proc"), ("/", "dev"))]
    for name in files:
        path = os.path.join(place, name)
        try:
            if os.path.getsize(path) < 1 << 22 and not os.path.islink(path) and path != "/box/needles":
                data = open(path, "rb").read()
                read += 1
                found += [path for needle in needles if needle in data]
        except OSError:
            pass
print(json.dumps([read, found]))
"""


def long_lines(text: str, length: int = 50) -> list[str]:
    return [line.strip() for line in text.splitlines() if len(line.strip()) > length][:30]


@pytest.mark.slow
def test_no_solution_corpus_or_label_is_in_a_box(tmp_path) -> None:
    """What a kernel can read holds no line of the reference solution, the corpus, held-out reviews, or what they are made with."""
    if why := box_missing():
        pytest.skip(why)
    shipped = load_bundle(None)
    shutil.copytree(shipped.path, tmp_path / "bundle")
    manifest = json.loads((shipped.path / "bundle.json").read_text())
    (tmp_path / "bundle" / "bundle.json").write_text(
        json.dumps({**manifest, "heldout": {"source": "file", "path": "heldout.csv"}})
    )
    reviews = [f"a film of the year {year} that nobody else has reviewed, {year % 2}" for year in range(1900, 1990)]
    rows = "".join(f'"{review}",{number % 2}\n' for number, review in enumerate(reviews))
    (tmp_path / "bundle" / "heldout.csv").write_text(f"review,label\n{rows}")
    cells = json.loads(reference_path().read_text())["cells"]
    texts = [line for cell in cells if cell["cell_type"] == "code" for line in long_lines("".join(cell["source"]))][::3]
    corpus = corpus_path()
    assert corpus is not None
    for file in (
        *corpus.glob("*.py"),
        PACKAGE / "bundles" / "reviews.py",
        PACKAGE / "assignments" / "finetuning" / "lora_layer.py",
    ):
        texts += long_lines(file.read_text(), 70)[:1]
    needles = json.dumps([text.encode().hex() for text in (*texts, *reviews[::9])]).encode()
    context = RunContext.create(load_assignment(), load_bundle(tmp_path / "bundle"), b"a secret for a search")
    with Grader(context, sandbox="warm") as place:
        spec = place.spec({})
        spec = replace(spec, files={**spec.files, "needles": needles})
        ran = asyncio.run(run_in(place.pool, [SEARCH], Limits(cpu_seconds=500, wall_seconds=5000), spec))
    read, found = json.loads(ran.text)
    assert read > 10_000
    assert found == []
