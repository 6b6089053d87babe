"""The wheel on students' machines: Windows, every Python from 3.10 on, Colab's versions; what it brings, and how much."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.finetuning.reference import definitions, source
from tests.student_package.conftest import PIP, Environment, run

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
COLAB = (
    "ipython==7.34.0", "ipykernel==6.17.1", "jupyter-client==6.1.12", "tornado==6.3.3", "pyzmq==24.0.1", "traitlets==5.7.1",
    "numpy==2.0.2", "pandas==2.2.2", "transformers==4.51.3", "accelerate==1.6.0", "huggingface-hub==0.30.2",
)  # fmt: skip
"""What Colab shipped in spring 2025 with Python 3.11, as far as a self-check meets it; torch is the one of these tests."""
BROUGHT = {"dat450-check", "msgspec", "numpy", "safetensors", "tomli"}
"""All that installing the wheel can bring."""
BEGIN = """
import torch
from torch import nn
from transformers import DistilBertConfig, DistilBertForSequenceClassification
from grader import check
"""
TRAIN = """
sizes = DistilBertConfig(vocab_size=60, dim=24, hidden_dim=40, n_heads=2, n_layers=6, num_labels=2)
model = DistilBertForSequenceClassification(sizes)
model.distilbert.requires_grad_(False)
optimizer = torch.optim.AdamW(parameter for parameter in model.parameters() if parameter.requires_grad)
for _ in range(3):
    tokens, labels = torch.randint(1, 60, (4, 8)), torch.tensor([0, 1, 0, 1])
    model(input_ids=tokens, labels=labels).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
RIGHT = source(definitions())
WRONG = RIGHT.replace(" if parameter.requires_grad", "").replace("alpha / rank", "alpha // rank")
STEPS = [
    (BEGIN + RIGHT + "\ncheck(count_trainable_parameters)", "3 of 3 right"),
    ("check(LoRA)", "4 of 4 right"),
    ("check(extract_qv_layers)", "1 of 1 right"),
    ("check(replace_layers)", "1 of 1 right"),
    (WRONG + "\ncheck(count_trainable_parameters)", "2 of 3 right"),
    ("check(LoRA)", "3 of 4 right"),
    ("check()", "Not there yet."),
    (TRAIN + "check('head', model)", "This counts as head only"),
]
"""Cells, and what the card after each of them says."""


def in_a_kernel(environment: Environment, folder: Path, cells: list[str]) -> list[str]:
    """What cells show in a kernel of an environment, started by the jupyter_client that is in it."""
    done = run(environment.python, HERE / "kernel.py", folder, told=json.dumps(cells), HOME=str(folder))
    return json.loads(done.stdout)


def compare(shown: list[str], html: bool = True) -> None:
    """Every card says what it should, as HTML too where there is a kernel."""
    for (cell, wanted), text in zip(STEPS, shown, strict=True):
        assert wanted in text, f"{cell}\n{text}"
        assert not html or "html True" in text, text


def test_a_new_environment_beside_the_notebook(wheel, tmp_path) -> None:
    """With the torch that is there, which stays; Jupyter and Transformers are those of these tests."""
    environment = Environment(tmp_path / ".venv")
    environment.borrow("torch")
    environment.install(wheel)
    added = environment.megabytes
    print(f"{added:.0f} MB beside torch")
    assert added < 300
    environment.borrow("ipykernel", "jupyter-client", "transformers", "accelerate")
    magics = ["%load_ext grader", "%check LoRA"]
    *shown, _, magic = in_a_kernel(environment, tmp_path, [*(cell for cell, _ in STEPS), *magics])
    compare(shown)
    assert "3 of 4 right" in magic
    installed = json.loads(run(*PIP, "--python", environment.python, "list", "--format=json").stdout)
    torch = next(each["version"] for each in installed if each["name"] == "torch")
    assert torch == __import__("torch").__version__


def test_colab(wheel, tmp_path) -> None:
    """One `pip install` changes none of the versions that are there."""
    environment = Environment(tmp_path / "colab")
    environment.borrow("torch")
    environment.install(*COLAB)
    report = tmp_path / "report.json"
    run(*PIP, "--python", environment.python, "install", "-q", "--dry-run", "--report", report, wheel)
    assert {each["metadata"]["name"] for each in json.loads(report.read_text())["install"]} == {
        "dat450-check",
        "msgspec",
    }
    environment.install(wheel)
    compare(in_a_kernel(environment, tmp_path, [cell for cell, _ in STEPS]))


def test_windows(unpacked, tmp_path) -> None:
    """Nothing of POSIX is imported or used: in a process without any of it the checks say the same."""
    script = tmp_path / "steps.py"
    cells = "\n".join(f"{cell}\nprint('=====')" for cell, _ in STEPS)
    imports = (
        "import importlib, pkgutil, grader\n"
        "for module in pkgutil.walk_packages(grader.__path__, 'grader.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    script.write_text(f"{cells}\n{imports}")
    shown = run(sys.executable, HERE / "windows.py", unpacked, script).stdout.split("=====\n")
    compare(shown[: len(STEPS)], html=False)


@pytest.mark.parametrize(
    "line", ["import fcntl", "import os; os.fork", "import signal; signal.SIGKILL", "import socket; socket.AF_UNIX"]
)
def test_windows_has_nothing_of_posix(line) -> None:
    """What the test above takes away is away."""
    begin = f"import sys; sys.path.insert(0, {str(HERE)!r}); import windows; "
    assert run(sys.executable, "-c", begin + line).returncode == 0
    assert run(sys.executable, "-c", f"{begin}windows.become_windows(); {line}", check=False).returncode == 1


def interpreter(version: str) -> str:
    """An interpreter of a version on this machine."""
    places = [shutil.which(f"python{version}"), *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for place in filter(None, map(str, filter(None, places))):
        done = subprocess.run(
            [place, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
        )
        if done.stdout.strip() == version:
            return place
    pytest.skip(f"there is no Python {version} on this machine")


JUDGE = """
import importlib, pkgutil, grader
for module in pkgutil.walk_packages(grader.__path__, "grader."):
    if module.name != "grader.__main__":
        importlib.import_module(module.name)
from grader.assignments import load_assignment
from grader.records import Attempt, Evidence, Observation
from grader.rubric.judge import judge
from grader.rubric.questions import Draw, generator
assignment = load_assignment().only("count", definitions=True)
asked = assignment.draw("a seed", None)
def say(number): return {"kind": "int", "number": number}
for extra in (0, 1):
    known = asked["count"].secret
    answer = {
        "distilbert": say(66955010 + extra), "frozen": say(592130 + extra), "modules": [say(n + extra) for n in known["modules"]],
        "pairs": [[say(n + extra), say(n + extra)] for n in known["pairs"]],
    }
    found = judge(assignment, Evidence("", {"count": Observation(Attempt.VALUE, answer)}), asked)
    print(*(f"{verdict.status}" for verdict in found.values()))
from grader.grading.settings import read_settings
from pathlib import Path
Path("grader.toml").write_text('note = "Ask."')
print(read_settings(Path("grader.toml")).note)
try:
    from grader import grade
except ImportError as error:
    print(error)
from grader import check
check(len)
"""
"""What needs no torch: everything is imported, the judge judges answers, settings are read, what is not there is named."""


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13", "3.14"])
def test_other_pythons(version, wheel, tmp_path) -> None:
    """Without torch, of which the index has no small build for them."""
    environment = Environment(tmp_path / "other", interpreter(version))
    environment.install(wheel)
    script = tmp_path / "judge.py"
    script.write_text(f"import os\nos.chdir({str(tmp_path)!r})\n{JUDGE}")
    done = run(environment.python, "-W", "error", script)
    assert done.stdout.splitlines()[0] == "passed passed passed"
    assert "failed" in done.stdout.splitlines()[1]
    assert done.stdout.splitlines()[2] == "Ask."
    assert done.stdout.splitlines()[3] == "`grade` is in dat450-grader, and only dat450-check is installed here"
    assert "`%pip install torch`" in done.stdout
    (tmp_path / "my.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    command = environment.site.parents[2] / "bin" / "grader"
    told = run(command, "check", tmp_path / "my.ipynb", "--fast", check=False)
    assert (told.returncode, "pip install torch" in told.stderr) == (2, True), told.stderr


@pytest.mark.parametrize(
    ("version", "platform"),
    [
        ("3.10", "win_amd64"),
        ("3.11", "manylinux_2_28_x86_64"),
        ("3.12", "win_amd64"),
        ("3.13", "macosx_11_0_arm64"),
        ("3.14", "win_amd64"),
        ("3.14", "macosx_11_0_arm64"),
        ("3.14", "manylinux_2_28_x86_64"),
    ],
)
def test_nothing_is_compiled(platform, version, wheel, tmp_path) -> None:
    """There is a ready wheel of all that it needs, and nothing of torch, Jupyter or CUDA is among it."""
    report = tmp_path / "report.json"
    run(
        *PIP, "install", "-q", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--python-version", version,
        "--platform", platform, "--platform", platform.replace("2_28", "2_17"), "--target", tmp_path / "nowhere",
        "--report", report, wheel,
    )  # fmt: skip
    brought = {each["metadata"]["name"] for each in json.loads(report.read_text())["install"]}
    assert brought <= BROUGHT
    assert brought >= BROUGHT - {"tomli"}


def test_command_looks_at_definitions(unpacked, tmp_path) -> None:
    notebook = tmp_path / "my.ipynb"
    cells = ["%matplotlib inline\nimport torch\nfrom torch import nn", RIGHT, "raise SystemExit('is not run')"]
    written = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    notebook.write_text(json.dumps({"cells": written, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    begin = f"import sys; sys.path.insert(0, {str(unpacked)!r}); from grader.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", begin, "check"]
    done = run(*command, notebook, "--fast")
    assert (done.stdout.count("✓"), done.stdout.count("✗"), done.stderr) == (9, 0, ""), done.stdout + done.stderr
    notebook.write_text(notebook.read_text().replace("alpha / rank", "alpha // rank"))
    part = run(*command, notebook, "--fast", "--step", "lora", check=False)
    assert (part.returncode, part.stdout.count("✓"), part.stdout.count("✗")) == (1, 3, 1), part.stdout
    for wrong in ([notebook], [notebook, "--fast", "--preflight"], [tmp_path / "none.ipynb", "--fast"]):
        refused = run(*command, *wrong, check=False)
        assert (refused.returncode, "Only the whole grader" in refused.stderr) == (2, wrong[0] == notebook), (
            refused.stderr
        )
