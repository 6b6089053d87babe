"""Reading a notebook has limits of time and memory: a hostile file costs its own reader, and its sentence says why."""

from __future__ import annotations

import json
import os
import signal

import pytest

from grader.errors import InfrastructureError, SubmissionError
from grader.notebook import reader
from grader.notebook.helpers import imported_helpers
from grader.notebook.limited import read_notebook


def pack(*cells: object) -> bytes:
    return json.dumps({"cells": cells}).encode()


def code(source: str) -> dict[str, object]:
    return {"cell_type": "code", "source": source}


def test_it_reads_what_the_reader_reads():
    data = pack(code("a = 'åß漢😀'"), {"cell_type": "markdown", "source": "b"}, code("c\r\nd\ud83d"), 7)
    assert read_notebook(data) == reader.read_notebook(data)
    with pytest.raises(SubmissionError, match="is a PDF file"):
        read_notebook(b"%PDF-1.7")


@pytest.mark.attack
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b'{"cells":[' + b"{}," * 13_000_000 + b"{}]}", "million single values"),
        (b'{"cells":[' + b'"ab",' * 4_000_000 + b"0]}", "million single values"),
        (b'{"cells":[' + b"0," * 200_000 + b"0]}", "100,000 cells"),
        (b"[" * 3_000_000, "too deeply"),
        (b"a" + b".a" * 90_000, "not a notebook"),
        (b"x" + b"~" * 200_000, "not a notebook"),
        (b"<<<<<<<\n=======\n" * 500_000, "merge conflict"),
    ],
    ids=["objects", "texts", "cells", "depth", "attributes", "operators", "conflicts"],
)
def test_what_swells_is_refused_with_a_sentence(data, sentence):
    with pytest.raises(SubmissionError, match=sentence):
        read_notebook(data)


@pytest.mark.attack
def test_memory_is_bounded_whatever_the_reader_makes_of_a_file(monkeypatch):
    """Where no count of values catches a file, the process itself is what holds."""
    monkeypatch.setattr(reader, "VALUE_LIMIT", 10**9)
    with pytest.raises(SubmissionError, match=r"took more than .* of memory"):
        read_notebook(b'{"cells":[' + b"[[]]," * 13_000_000 + b"{}]}")


@pytest.mark.attack
def test_remarks_and_cells_are_capped_with_a_sentence():
    """A report of thirty thousand remarks took minutes to write."""
    notebook = read_notebook(b'{"cells":[' + b"768," * 30_000 + b"0]}")
    assert len(notebook.notices) == 21
    assert "more things like these" in notebook.notices[-1].text
    notebook = read_notebook(pack(*(code(f"x = {n}") for n in range(1500))))
    assert (len(notebook.cells), notebook.cell_count) == (reader.CELL_LIMIT, 1500)
    assert notebook.notices[0].text == "The notebook has 1500 code cells; only the first 1000 were run."


@pytest.mark.parametrize(
    ("number", "error", "sentence"),
    [
        (signal.SIGXCPU, SubmissionError, "took more than 20 s of CPU time"),
        (signal.SIGSEGV, SubmissionError, "ended by SIGSEGV"),
        (signal.SIGKILL, InfrastructureError, "was killed, perhaps for want of memory"),
    ],
)
def test_what_ends_the_reader_is_told_apart(monkeypatch, number, error, sentence):
    monkeypatch.setattr(reader, "read_notebook", lambda _data: os.kill(os.getpid(), number))
    with pytest.raises(error, match=sentence):
        read_notebook(pack(code("a")))
    monkeypatch.undo()
    assert read_notebook(pack(code("a"))).cells


def test_limits_grow_with_the_file():
    """An honest notebook of many megabytes of pictures is read as before."""
    picture = {"data": {"image/png": "iVBORw0KGgo" * 1_000_000, "text/plain": "é😀"}, "output_type": "display_data"}
    notebook = read_notebook(pack({**code("plot()"), "outputs": [picture] * 3}, code("x")))
    assert [cell.source for cell in notebook.cells] == ["plot()", "x"]


@pytest.mark.attack
def test_only_modules_that_are_there_are_looked_for(tmp_path, monkeypatch):
    """A line of a million words asked the disk a million times."""
    (tmp_path / "own.py").write_text("from other import x")
    (tmp_path / "other.py").write_text("x = 1")
    (tmp_path / "unused.py").write_text("y = 1")
    asked = []
    monkeypatch.setattr("grader.notebook.helpers._content", lambda path: asked.append(path.name) or path.read_bytes())
    words = " ".join(f"w{n}" for n in range(300_000))
    found = imported_helpers(tmp_path / "a.ipynb", pack(code(f"import own, {words}")))
    assert sorted(found) == sorted(asked) == ["other.py", "own.py"]
