"""docs/canvas.md followed to the letter: its commands, in order, against a made-up download and a Canvas of our own."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

import tests.canvas.fake as fake
from tests.canvas.fake import Canvas, Student, Upload, serving
from tests.pipeline.conftest import notebook_bytes

PAGE = (Path(__file__).parents[2] / "docs" / "canvas.md").read_text(encoding="utf-8").partition("\n---\n")[0]
NOTEBOOK = notebook_bytes(
    "def count_trainable_parameters(model):\n    return sum(p.numel() for p in model.parameters() if p.requires_grad)",
    "1 / 0",
)
LATER = notebook_bytes("def count_trainable_parameters(model):\n    return 1")
GRADEBOOK = """Student,ID,SIS User ID,SIS Login ID,Section,Lab 2: LoRA (98765),Final Score
,,,,,Manual Posting,
    Points Possible,,,,,10,(read only)
"Alfa, Anna",1001,,anna,LP2,,
"Bravo, Bo",1002,,bo,LP2,,
"Öst, Cy",1003,,cy,LP2,,
"Delta, Di",1004,,di,LP2,EX,
"Ek, Eva",1005,,eva,LP2,,
"Fors, Fia",1006,,fia,LP2,,
"""
GROUPS = """name,canvas_user_id,user_id,login_id,sections,group_name
"Eva Ek",1005,,eva,LP2,Team 7
"Fia Fors",1006,,fia,LP2,Team 7
"""
FILES = {
    "alfaanna_1001_5001_lab.ipynb": NOTEBOOK, "bravobo_1002_5002_lab.pdf": b"%PDF-1.7", "deltadi_1004_5004_lab.ipynb": NOTEBOOK,
    "team7_1006_5006_our lab.ipynb": NOTEBOOK,
}  # fmt: skip


@pytest.fixture
def canvas(monkeypatch: pytest.MonkeyPatch):
    """The same class in a Canvas of our own."""
    monkeypatch.setattr(fake, "COURSE", 1234)
    students = [
        Student(1001, "Anna Alfa", "Alfa, Anna", [Upload(5001, "lab.ipynb", NOTEBOOK)]),
        Student(1003, "Cy Öst", "Öst, Cy", [Upload(6003, "lab.ipynb", LATER)], late=True),
    ]
    with serving(Canvas(students, points=100.0)) as made:
        yield made


@pytest.fixture
def typed(tmp_path: Path, canvas: Canvas):
    """Types a line of the page into a shell; returns its exit code and what it said."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, does in {"pip": 'echo "$@" >>pip.log', "grader": f'exec {sys.executable} -P -m grader "$@"'}.items():
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    lab = tmp_path / "lab"
    lab.mkdir()
    env = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}

    def type_in(line: str) -> tuple[int, str]:
        line = line.replace("https://canvas.example.edu", canvas.url).replace("your-access-token", fake.TOKEN)
        if match := re.fullmatch(r"export (\w+)=(\S+)", line):
            env[match[1]] = match[2]
            return 0, ""
        done = subprocess.run(["bash", "-c", line], cwd=lab, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return lab, type_in


def pack(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)


def cells(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row[1]: row[-1] for row in list(csv.reader(file))[1:]}


def test_its_files_and_clicks_are_there() -> None:
    assert len(PAGE.splitlines()) < 100 and PAGE.startswith("# From Canvas and back in five minutes")
    for click in (
        "*Download Submissions*",
        "*Export Entire Gradebook*",
        "*Import*",
        "*Upload Submissions*",
        "*New Access Token*",
    ):
        assert click in PAGE


@pytest.mark.slow
@pytest.mark.box
def test_followed_to_the_letter(typed, canvas) -> None:
    lab, type_in = typed
    pack(lab / "submissions.zip", FILES)
    pack(lab / "late.zip", {"östcy_LATE_1003_6003_lab.ipynb": LATER})
    (lab / "groups.csv").write_text(GROUPS, encoding="utf-8")
    (lab / "gradebook.csv").write_text(GRADEBOOK.replace(",10,", ",100,"), encoding="utf-8")
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
    assert len(lines) >= 10
    codes, output = [], []
    for line in lines:
        if "--scale" in line:  # "... and 10 points in Canvas"
            (lab / "gradebook.csv").write_text(GRADEBOOK, encoding="utf-8")
        code, said = type_in(line)
        codes.append(code)
        assert code in (0, 3), said
        assert "Traceback" not in said
        output.append(said)
        if line.startswith("grader override"):
            assert "Bravo, Bo" not in (lab / "run" / "needs_review.csv").read_text(encoding="utf-8")
    assert "Bravo, Bo" in output[0] and "No notebook: decide." in output[0]
    assert codes[:2] == [3, 3] and set(codes[2:]) == {0}, "a PDF needs a decision, and got one"
    named = set(re.findall(r"`((?:\w+/)?\w[\w.-]*\.(?:zip|csv|html))`", PAGE))
    assert {
        "submissions.zip",
        "run/class.html",
        "run/gradebook.csv",
        "run/gradebook-preview.csv",
        "run/feedback.zip",
    } <= named
    assert not [name for name in named if not (lab / name).is_file()]
    assert cells(lab / "run" / "gradebook.csv") == {"1001": "2", "1002": "0.6", "1003": "0", "1005": "2", "1006": "2"}
    with zipfile.ZipFile(lab / "run" / "feedback.zip") as zipped:
        by_user = {name.split("_")[1]: zipped.read(name) for name in zipped.namelist()}
    assert set(by_user) == {"1001", "1002", "1003", "1004", "1006"}
    back = nbformat.reads(by_user["1006"].decode(), as_version=4)
    assert [cell.metadata.get("grader", "") for cell in back.cells] == ["summary", "", "below-0", "", "below-1"]
    assert "ZeroDivisionError" in back.cells[-1].source
    assert {student.id: student.score for student in canvas.students} == {1001: 20.0, 1003: 0.0}
    assert [len(student.comments) for student in canvas.students] == [1, 1]
    assert (lab / "pip.log").read_text() == "install dat450-grader[canvas]\n"
