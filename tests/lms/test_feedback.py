"""The feedback zip: Canvas must find each student again, by the rules of its own upload."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grader.intake import take_in
from grader.lms.feedback import canvas_feedback_zip
from grader.records import Submission


def submission(name: str = "Svensson, Åsa", **changes: object) -> Submission:
    values: dict[str, object] = {
        "id": "12345", "student_ids": ("12345",), "display_name": name, "file_name": "lab.ipynb",
        "path": "x", "sha256": "y", "attachment_id": "67890",
    }  # fmt: skip
    return Submission(**{**values, **changes})  # type: ignore[arg-type]


def canvas_reads(entry: str) -> tuple[str, str] | None:
    """Return user and attachment as Canvas's "Upload Submissions" finds them in a name; None when it ignores the file."""
    base = entry.rsplit("/", 1)[-1]
    if base.startswith(("._", "link")):
        return None
    tokens = [token for token in base.split("_") if token != "LATE"]
    if tokens[0] == "anon":
        return tokens[1], tokens[2]
    user, attachment = [token for token in tokens if token.isdigit()][:2]
    return user, attachment


def entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_round_trip_with_the_manifest() -> None:
    items = [
        (submission(), "report.html", b"<p>a"),
        (
            submission("Anonymous", id="anon-q", student_ids=(), anonymous_id="acJ4Q", attachment_id="5"),
            "report.html",
            b"b",
        ),
    ]
    packed = canvas_feedback_zip(items)
    found = entries(packed.data)
    assert sorted(filter(None, map(canvas_reads, found))) == [("12345", "67890"), ("acJ4Q", "5")]
    assert found["svenssonasa_12345_67890_report.html"] == b"<p>a"
    manifest = list(csv.DictReader(io.StringIO(packed.manifest)))
    assert {line["entry"]: line["sha256"] for line in manifest} == {
        n: hashlib.sha256(c).hexdigest() for n, c in found.items()
    }
    assert packed.left_out == ()
    assert canvas_feedback_zip(reversed(items)) == packed, "same input, same bytes"


@given(st.text(max_size=30), st.integers(1, 10**15), st.integers(1, 10**15), st.text(max_size=20))
def test_any_name_is_found_again(name: str, user: int, attachment: int, file_name: str) -> None:
    item = (submission(name, student_ids=(str(user),), attachment_id=str(attachment)), file_name, b"")
    (entry,) = entries(canvas_feedback_zip([item]).data)
    assert canvas_reads(entry) == (str(user), str(attachment))
    assert "/" not in entry


@pytest.mark.parametrize("name", ["link, bo", "Linkvist, Åsa", "anon", "7 of 9", "team_7", "李明", ""])
def test_names_that_canvas_would_misread(name: str) -> None:
    (entry,) = entries(canvas_feedback_zip([(submission(name), "report.html", b"")]).data)
    assert canvas_reads(entry) == ("12345", "67890")


def test_who_cannot_get_a_file_is_told() -> None:
    items = [
        (submission("No Upload", id="1", attachment_id=None), "r.html", b""),
        (submission("No Id", id="2", student_ids=()), "r.html", b""),
        (submission("Login", id="3", student_ids=("abc",)), "r.html", b""),
        (submission("Twice", id="4"), "a.html", b"1"),
        (submission("Twice", id="4"), "b.html", b"2"),
    ]
    packed = canvas_feedback_zip(items)
    assert list(entries(packed.data).values()) == [b"1"]
    texts = packed.left_out
    assert len(texts) == 4
    for text, words in zip(
        texts, ["nothing was uploaded", "no Canvas id", "not a Canvas user id", "same upload"], strict=True
    ):
        assert words in text


def test_what_came_in_goes_back_to_the_same_upload(tmp_path: Path) -> None:
    source = tmp_path / "class.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("svenssonåsa_LATE_12345_67890_lab2-1.ipynb", b'{"cells": [], "nbformat": 4}')
        archive.writestr("bergbo_12346_67891_lab2.pdf", b"%PDF")
        archive.writestr("ekeva_12347_text.html", b"hi")
    submissions = take_in([source], tmp_path / "run").submissions
    packed = canvas_feedback_zip((s, "report.html", b"r") for s in submissions)
    assert sorted(filter(None, map(canvas_reads, entries(packed.data)))) == [("12345", "67890"), ("12346", "67891")]
    assert [text.split(":")[0] for text in packed.left_out] == ["ekeva"]
