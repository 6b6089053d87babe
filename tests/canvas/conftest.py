"""A course in a Canvas of our own, and a run of its submissions without kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grader.cli.main import main
from tests.canvas.fake import ASSIGNMENT, COURSE, TOKEN, Canvas, Student, Upload, serving
from tests.pipeline.conftest import notebook_bytes, told_without_a_kernel

NOTEBOOK = notebook_bytes("def shout(text):\n    return text.upper()")


@pytest.fixture
def canvas(monkeypatch: pytest.MonkeyPatch) -> Iterator[Canvas]:
    """Three students with a notebook each, one of them late, one who handed in nothing."""
    students = [
        Student(1001, "Anna Alfa", "Alfa, Anna", [Upload(5001, "lab.ipynb", NOTEBOOK)]),
        Student(1002, "Bo Bravo", "Bravo, Bo", [Upload(5002, "lab 2.ipynb", NOTEBOOK)], late=True),
        Student(1003, "=Cy Öst", "Öst, =Cy", [Upload(5003, "lab.ipynb", NOTEBOOK), Upload(5004, "x.csv", b"a,b\n")]),
        Student(1004, "Di Delta", "Delta, Di"),
    ]
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setenv("CANVAS_API_TOKEN", TOKEN)
    with serving(Canvas(students)) as made:
        monkeypatch.setenv("CANVAS_API_URL", made.url)
        yield made


@pytest.fixture(autouse=True)
def nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence of 3 of 9 points for every notebook, without a kernel."""
    told_without_a_kernel(monkeypatch, 2, lambda _job: None)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return tmp_path / "lab"


@pytest.fixture
def pulled(canvas: Canvas, lab: Path) -> Callable[..., Path]:
    """Pull and grade; returns the run."""

    def make(*more: str) -> Path:
        assert pull(lab) == 0
        roster, out = str(lab / "roster.csv"), str(lab / "run")
        main(
            [
                "grade",
                str(lab / "submissions"),
                "--roster",
                roster,
                "--out",
                out,
                "--assignment",
                "tests.toy:TOY",
                *more,
            ]
        )
        return lab / "run"

    return make


def pull(folder: Path) -> int:
    return main(["canvas", "pull", str(COURSE), str(ASSIGNMENT), "--out", str(folder)])


def push(run: Path, *more: str) -> int:
    return main(["canvas", "push", str(run), str(COURSE), str(ASSIGNMENT), *more])
