"""The sample class is what its script makes, looks like a Canvas download, and its labels fit the rubric."""

import csv
import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from grader.assignments import load_assignment

FOLDER = Path(__file__).resolve().parents[2] / "data" / "sample_class"


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("sample_class_make", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def files():
    with zipfile.ZipFile(FOLDER / "submissions.zip") as zipped:
        return {info.filename: zipped.read(info) for info in zipped.infolist()}


@pytest.fixture(scope="module")
def expected():
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def gradebook():
    return list(csv.reader(io.StringIO((FOLDER / "gradebook.csv").read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", ["submissions.zip", "gradebook.csv", "expected.json"])
def test_committed_files_are_what_the_script_makes(make, tmp_path, name, capsys):
    assert make.main(["--out", str(tmp_path)]) == 0
    assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), "run python data/sample_class/make.py"


def test_sixteen_hand_ins_and_one_further_file(files, expected):
    notebooks = {name for name in files if name.endswith(".ipynb")}
    assert len(notebooks) == 16
    assert notebooks == set(expected["files"])
    assert len(files) == 17


def test_archive_shows_the_ways_of_canvas(files):
    names = " ".join(files)
    assert "_LATE_" in names
    assert "finetuning-1.ipynb" in names
    assert any(not name.isascii() for name in files)
    assert any(name.startswith("team_7_") for name in files)
    assert files["zetterlundörjan_41016_700116_finetuning.ipynb"].startswith(b"%PDF")
    assert sum(data.startswith(b"\xef\xbb\xbf") and b"\r\n" in data for data in files.values()) == 1


def test_labels_use_the_rubric_of_the_assignment(expected):
    criteria = {check.id: check.points for check in load_assignment("finetuning").checks.values()}
    assert expected["possible"] == criteria
    for entry in expected["files"].values():
        assert list(entry["earned"]) == list(criteria)
        if entry["outcome"] == "unreadable":
            assert set(entry["earned"].values()) == {entry["total"]} == {None}, "a person decides"
            continue
        assert all(points in (0, criteria[name]) for name, points in entry["earned"].items())
        assert entry["total"] == sum(entry["earned"].values())
        assert entry["why"].endswith(".")


def test_class_has_right_and_wrong_ones_and_every_outcome(expected):
    totals = [entry["total"] for entry in expected["files"].values()]
    assert totals.count(100) == 4
    assert totals.count(0) == 1
    assert totals.count(None) == 1
    assert {entry["outcome"] for entry in expected["files"].values()} == {
        "completed",
        "raised",
        "timed_out",
        "unreadable",
    }


def test_gradebook_is_a_canvas_export_of_the_same_people(gradebook, expected):
    header, manual, possible, *students = gradebook
    assert header[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert header[5].endswith(" (98765)")
    assert manual[5] == "Manual Posting"
    assert (possible[0], possible[5]) == ("    Points Possible", "100")
    assert students[-1][0] == "Student, Test"
    ids = {int(row[1]) for row in students}
    assert len(ids) == len(students) == 18
    assert ids == {entry["user"] for entry in expected["files"].values()} | set(expected["absent"])
    assert len({row[4] for row in students}) == 2


def test_notebooks_are_valid_and_a_mistake_changes_only_its_cell(make):
    mistakes = make.handwriting("mistakes")
    clean = nbformat.reads(make.notebook_bytes(make.CLASS[0], mistakes).decode(), as_version=4)
    for hand_in in make.CLASS:
        if not hand_in.change:
            continue
        made = nbformat.reads(make.notebook_bytes(hand_in, mistakes).decode(), as_version=4)
        nbformat.validate(made)
        changed = [cell.id for cell, right in zip(made.cells, clean.cells, strict=True) if cell.source != right.source]
        assert changed == [cell for cell, _ in hand_in.change]


def test_every_mistake_says_what_is_wrong_and_is_named_after_a_cell(make):
    cells = sorted(make.handwriting("clean"), key=len, reverse=True)
    for name, fragment in make.handwriting("mistakes").items():
        assert fragment.why, name
        assert any(name.startswith(f"{cell}-") for cell in cells), name
