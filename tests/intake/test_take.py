"""Taking in classes: layouts, choices, and every kind of bad input, each with its line and without loss."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from grader.errors import StoreError, UsageError
from grader.intake import Intake, IntakeLimits, Roster, RosterEntry, read_roster, take_in
from grader.records import Submission

from .conftest import make_notebook as nb

Make = Callable[..., Path]
ASA = RosterEntry("12345", "Svensson, Åsa", section="LP2")
BO = RosterEntry("12346", "Berg, Bo", section="LP2")


def by_id(intake: Intake) -> dict[str, Submission]:
    found = {submission.id: submission for submission in intake.submissions}
    assert len(found) == len(intake.submissions), "ids are unique"
    return found


def kinds(submission: Submission) -> list[str]:
    return [notice.kind for notice in submission.notices]


def zipped(entries: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


# Layouts


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_source_named_as_canvas_names_files(packed, listed, make_zip: Make, make_folder: Make, into: Path) -> None:
    files = {"lab.ipynb": nb("import lora"), "lora.py": b"x = 1", "deep/plot.png": b"\x89PNG"}
    name = "svenssonåsa_LATE_12345_67890_lab"
    source = make_zip(files, f"{name}.zip") if packed else make_folder(files, name)
    intake = take_in([source], into, Roster((ASA, BO)) if listed else None)
    (asa,) = intake.submissions
    assert (asa.id, asa.student_ids, asa.late) == ("12345", ("12345",), True)
    assert (asa.file_name, len(asa.companions)) == ("lab.ipynb", 2)


@pytest.mark.parametrize("name", ["dat450_2024_2_lab", "lab_2024_1101_late"])
def test_a_class_in_a_folder_that_looks_like_one(name, make_folder: Make, into: Path) -> None:
    source = make_folder({"Anna.ipynb": nb("1"), "Bo.ipynb": nb("2")}, name)
    assert set(by_id(take_in([source], into))) == {"anna", "bo"}
    assert set(by_id(take_in([source], into, Roster((RosterEntry("1", "Anna"), RosterEntry("2", "Bo")))))) == {"1", "2"}


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("class.rar", b"Rar!\x1a\x07", "a RAR archive"),
        ("class.7z", b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        ("class.tar.gz", b"\x1f\x8b\x08", "a gzip archive"),
        ("class.tar", b"lab.ipynb" + bytes(600), "a tar archive"),
    ],
)
def test_an_archive_of_another_kind_is_refused(name, data, what, tmp_path: Path, into: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=f"{what}, and only zip is read: unpack it"):
        take_in([tmp_path / name], into, Roster((ASA,)))


def test_canvas_zip(make_zip: Make, into: Path) -> None:
    book = nb("x = 1")
    source = make_zip(
        {
            "svenssonåsa_LATE_12345_67890_lab2-1.ipynb": book,
            "bergbo_12346_67891_lab2.ipynb": nb("y = 2"),
            "textentry_12347_text.html": b"<p>here is my link</p>",
            "url_12348_link.html": b"<a href='https://x'>",
            "pdfonly_12349_67892_lab2.pdf": b"%PDF-1.7",
            "__MACOSX/._svenssonåsa_12345_67890_lab2.ipynb": b"junk",
        }
    )
    roster = Roster((ASA, BO, RosterEntry("1", "Missing, Mia"), RosterEntry("2", "Student, Test")))
    intake = take_in([source], into, roster, relative_to=into.parent)
    found = by_id(intake)
    assert set(found) == {"12345", "12346", "12347", "12348", "12349"}
    asa = found["12345"]
    assert asa.path == "files/12345/handed-in/lab2-1.ipynb"
    assert (into.parent / asa.path).read_bytes() == book
    assert asa.sha256 == hashlib.sha256(book).hexdigest()
    assert (asa.student_ids, asa.display_name, asa.section) == (("12345",), "Svensson, Åsa", "LP2")
    assert (asa.file_name, asa.attachment_id, asa.late) == ("lab2-1.ipynb", "67890", True)
    assert kinds(asa) == ["late"] and not found["12346"].late and asa.problem is None
    for student, word in (("12347", "typed"), ("12348", "link"), ("12349", "PDF")):
        submission = found[student]
        assert submission.problem and word in submission.problem
        assert (submission.path, submission.sha256) == ("", "")
        assert kinds(submission) == ["not-in-roster"]
        assert len(submission.companions) == 1, "what was handed in can still be looked at"
    assert found["12349"].attachment_id == "67892"
    assert [entry.name for entry in intake.missing] == ["Missing, Mia"]
    assert [notice.kind for notice in intake.notices] == ["ignored-files"]
    assert not (into / ".staging").exists()


def test_order_is_by_name_and_the_same_every_time(make_folder: Make, tmp_path: Path) -> None:
    names = [
        "öberg_105_1000_a.ipynb",
        "ÅSA_101_1001_a.ipynb",
        "bo_103_1002_a.ipynb",
        "anna_104_1003_a.ipynb",
        "anna_102_1004_a.ipynb",
    ]
    source = make_folder({name: nb("1") for name in names})
    first = take_in([source], tmp_path / "a")
    second = take_in([source], tmp_path / "b")
    assert first == second
    assert [s.id for s in first.submissions] == ["102", "104", "103", "101", "105"]


def test_extracted_folder_with_wrapper_and_decomposed_names(make_folder: Make, into: Path) -> None:
    source = make_folder(
        {"subs/svenssona\u030asa_12345_67890_o\u0308vning.ipynb": nb("1"), "subs/bergbo_12346_67891_a.ipynb": nb("2")}
    )
    found = by_id(take_in([source], into, Roster((ASA, BO))))
    assert found["12345"].display_name == "Svensson, Åsa"
    assert found["12345"].file_name == "övning.ipynb"


@pytest.mark.parametrize("style", ["zip", "folder"])
def test_plain_notebooks_and_numbers_in_their_names(style: str, make_zip: Make, make_folder: Make, into: Path) -> None:
    entries = {
        "clean.ipynb": nb("1"),
        "lab_4_2_final.ipynb": nb("2"),
        "12345.ipynb": nb("3"),
        "李明.ipynb": nb("4"),
        "readme.md": b"hi",
    }
    source = (make_zip if style == "zip" else make_folder)(entries)
    intake = take_in([source], into, None)
    assert {s.display_name for s in intake.submissions} == {"clean", "lab_4_2_final", "12345", "李明"}
    assert all(s.student_ids == () and s.path for s in intake.submissions)
    assert [n.kind for n in intake.notices] == ["left-out"] and "readme.md" in intake.notices[0].text


def test_plain_names_are_matched_to_the_roster(make_folder: Make, into: Path) -> None:
    source = make_folder({"Åsa Svensson.ipynb": nb("1"), "12346/lab.ipynb": nb("2"), "Who/lab.ipynb": nb("3")})
    found = by_id(take_in([source], into, Roster((ASA, BO))))
    assert kinds(found["12345"]) == kinds(found["12346"]) == ["matched-by-name"]
    assert found["who"].student_ids == () and kinds(found["who"]) == ["not-in-roster"]


def test_what_lies_beside_one_notebook_belongs_to_it(make_folder: Make, into: Path) -> None:
    source = make_folder({"lab.ipynb": nb("1"), "lora.py": b"r = 1", "data.csv": b"a"})
    intake = take_in([source], into)
    assert [s.companions for s in intake.submissions] == [("lab/handed-in/data.csv", "lab/handed-in/lora.py")]
    assert intake.notices == ()


def test_folder_per_student(make_folder: Make, into: Path) -> None:
    source = make_folder(
        {
            "anna/lab.ipynb": nb("import lora"),
            "anna/lora.py": b"r = 1",
            "anna/img/a.png": b"\x89PNG",
            "ben/lab.ipynb": nb("2"),
            "cy/notes.txt": b"x",
        }
    )
    (source / "dana").mkdir()
    intake = take_in([source], into)
    found = by_id(intake)
    assert found["anna"].companions == ("anna/handed-in/img/a.png", "anna/handed-in/lora.py")
    assert found["cy"].problem and "notes.txt" in found["cy"].problem
    assert any("dana" in notice.text for notice in intake.notices)
    assert len(found) == 3


def test_moodle(make_folder: Make, into: Path) -> None:
    source = make_folder({
        "Åsa Svensson_501_assignsubmission_file_/lab.ipynb": nb("1"),
        "Bo Berg_502_assignsubmission_onlinetext_/onlinetext.html": b"<p>hi</p>",
        "Cy_503_assignsubmission_file_lab.ipynb": nb("2"),
    })  # fmt: skip
    found = by_id(take_in([source], into))
    assert {i: s.student_ids for i, s in found.items()} == {"501": ("501",), "502": ("502",), "503": ("503",)}
    assert found["501"].display_name == "Åsa Svensson" and found["502"].problem
    named = by_id(take_in([source], into, Roster((ASA, BO))))
    assert set(named) == {"12345", "12346", "503"}, "a roster from elsewhere is joined by name"


def test_single_notebook_takes_the_modules_it_imports(make_folder: Make, into: Path) -> None:
    folder = make_folder(
        {
            "my lab.ipynb": nb("import os, lora as l\nfrom helper import f"),
            "lora.py": b"1",
            "helper.py": b"2",
            "other.py": b"3",
        }
    )
    (submission,) = take_in([folder / "my lab.ipynb"], into).submissions
    assert (submission.id, submission.display_name, submission.file_name) == ("my-lab", "my lab", "my lab.ipynb")
    assert submission.companions == ("my-lab/handed-in/helper.py", "my-lab/handed-in/lora.py")
    assert kinds(submission) == ["module-beside", "module-beside"]


def test_anonymous(make_zip: Make, into: Path) -> None:
    source = make_zip(
        {"anon_acJ4Q_67890_lab2.ipynb": nb("1"), "LATE_anon_ACj4q_67891_lab2.ipynb": nb("2"), "anon_b_text.html": b"x"}
    )
    intake = take_in([source], into, Roster((ASA,)))
    submissions = intake.submissions
    assert intake.missing == (), "nobody can tell"
    assert len({s.id.casefold() for s in submissions}) == 3
    first = next(s for s in submissions if s.anonymous_id == "acJ4Q")
    assert (first.student_ids, first.attachment_id, first.display_name) == ((), "67890", "Anonymous acJ4Q")
    assert [s.late for s in submissions if s.anonymous_id == "ACj4q"] == [True]


def test_groups(make_zip: Make, into: Path) -> None:
    source = make_zip({"team_7_12346_67890_lab.ipynb": nb("1"), "solo_12347_67891_lab.ipynb": nb("2")})
    (unknown,) = [s for s in take_in([source], into, Roster((ASA, BO))).submissions if s.id == "12346"]
    assert unknown.student_ids == ("12346",) and kinds(unknown) == ["group"]
    members = tuple(RosterEntry(e.id, e.name, section=e.section, group="Team_7") for e in (ASA, BO))
    intake = take_in([source], into, Roster(members))
    known = by_id(intake)["12346"]
    assert known.student_ids == ("12346", "12345"), "the representative first"
    assert known.display_name == "Team_7" and "Svensson, Åsa" in known.notices[0].text
    assert intake.missing == ()


def test_alone_and_in_a_group_is_told(make_zip: Make, into: Path) -> None:
    source = make_zip({"team7_12346_67890_lab.ipynb": nb("1"), "svenssonåsa_12345_67891_lab.ipynb": nb("2")})
    roster = Roster(
        (ASA, RosterEntry("12346", "Berg, Bo", group="team7"), RosterEntry("12347", "Ek, Eva", group="team7"))
    )
    assert not [n for n in take_in([source], into, roster).notices if n.kind == "several-submissions"]
    both = make_zip({"team7_12346_1_lab.ipynb": nb("1"), "ekeva_12347_2_lab.ipynb": nb("2")}, "b.zip")
    intake = take_in([both], into, roster)
    (notice,) = intake.notices
    assert notice.kind == "several-submissions" and "Ek, Eva (12347)" in notice.text
    assert all(s.student_ids == () and kinds(s)[0] == "ambiguous-name" for s in intake.submissions), "none counts"
    assert [entry.id for entry in intake.missing] == ["12345"]


# Choosing


def one(entries: dict[str, bytes], make_zip: Make, into: Path, **options: object) -> Submission:
    (submission,) = take_in(
        [make_zip({f"bo_12346_{name}": data for name, data in entries.items()})], into, **options
    ).submissions  # type: ignore[arg-type]
    return submission


@pytest.mark.parametrize("name", ["lab.ipynb", "lab.ipynb.txt", "lab.ipynb.json", "lab.json", "lab", "lab.IPYNB"])
def test_a_notebook_under_any_extension(name: str, make_zip: Make, into: Path) -> None:
    submission = one({f"67890_{name}": nb("1")}, make_zip, into)
    assert submission.path.endswith(name) and submission.problem is None
    assert ("odd-extension" in kinds(submission)) == (not name.lower().endswith(".ipynb"))


def test_the_latest_upload_is_taken_and_the_others_named(make_zip: Make, into: Path) -> None:
    entries = {"900_draft.ipynb": nb("long code " * 50), "1000_lab.ipynb": nb("1"), "899_a.ipynb": nb("2")}
    submission = one(entries, make_zip, into)
    assert submission.file_name == "lab.ipynb" and submission.attachment_id == "1000"
    (notice,) = submission.notices
    assert notice.kind == "several-files"
    assert all(text in notice.text for text in ("lab.ipynb", "uploaded last", "draft.ipynb", "a.ipynb"))
    assert len(submission.companions) == 2


def test_the_untouched_starter_and_empty_notebooks_are_not_preferred(
    make_zip: Make, into: Path, tmp_path: Path
) -> None:
    starter = tmp_path / "template.ipynb"
    starter.write_bytes(nb("def f(): ...", "", "g()"))
    mine = {
        "1_mine.ipynb": nb("def f(): return 1", "g()"),
        "2_template.ipynb": nb("def f(): ...\n", "g()"),
        "3_empty.ipynb": nb("", " "),
    }
    submission = one(mine, make_zip, into, starters=[starter])
    assert submission.file_name == "mine.ipynb" and "handed out" in submission.notices[0].text
    only = one({"2_template.ipynb": nb("def f(): ...", "g()")}, make_zip, into, starters=[starter])
    assert kinds(only) == ["untouched-starter"] and only.path
    starter.write_bytes(nb("import os", "# YOUR CODE HERE", "x = 1"))
    for cells, untouched in (
        (("import sys", "# YOUR CODE HERE", "x = 1"), True),
        (("import os", "f()", "x = 1"), False),
        (("import os", "# YOUR CODE HERE", "f()", "x = 1"), False),
    ):
        only = one({"2_template.ipynb": nb(*cells)}, make_zip, into, starters=[starter])
        assert ("untouched-starter" in kinds(only)) == untouched, (
            "a course's own addresses are no work, what is asked for is"
        )
    assert kinds(one({"3_empty.ipynb": nb("")}, make_zip, into)) == ["empty-notebook"]


def test_a_readable_notebook_goes_before_a_broken_one(make_zip: Make, into: Path) -> None:
    submission = one({"1_lab.ipynb": nb("1"), "2_lab2.ipynb": nb("1")[:-5]}, make_zip, into)
    assert submission.file_name == "lab.ipynb" and "cannot be read" in submission.notices[0].text
    mended = one({"1_lab.ipynb": nb("1"), "2_lab2.ipynb": nb("1") + b"<<< end"}, make_zip, into)
    assert mended.file_name == "lab2.ipynb", "readable is what the grading can read"
    broken = one({"2_lab2.ipynb": nb("1")[:-5]}, make_zip, into)
    assert broken.path and broken.problem is None, "preparation may repair it, and says so where it cannot"


def test_numbers_in_the_names_of_a_zip_are_no_class(make_zip: Make, into: Path) -> None:
    inner = zipped({"lab_1_2_draft.ipynb": nb("1"), "lab_3_4_final.ipynb": nb("long = 2")})
    submission = one({"1_all.zip": inner}, make_zip, into)
    assert submission.problem is None and submission.file_name == "lab_3_4_final.ipynb"


@pytest.mark.attack
def test_thousands_of_slow_files_are_not_all_looked_at(make_zip: Make, into: Path, monkeypatch) -> None:
    forks = []
    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: forks.append(1) or fork())
    slow = {f"{1000 + number}_lab.ipynb": b" " + nb("1") for number in range(150)}
    packed = {f"{9000 + number}_all.zip": zipped({f"{one}.json": b" {}" for one in range(60)}) for number in range(8)}
    assert one(slow | packed, make_zip, into).file_name == "lab.ipynb"
    assert len(forks) <= 60
    forks.clear()
    assert "without a notebook" in (one(packed, make_zip, into.with_name("other")).problem or "")
    assert len(forks) <= 260


@pytest.mark.parametrize("limits", [IntakeLimits(companions=3), IntakeLimits(companions_bytes=3_000_000)])
def test_what_is_too_much_beside_a_notebook_is_told(limits: IntakeLimits, make_zip: Make, into: Path) -> None:
    files = {
        "2_b.csv": b"b",
        "3_c.csv": b"c" * 2_999_990,
        "4_lora.py": b"x = 1",
        "5_a.csv": b"a",
        "6_d.csv": b"d" * 2_999_991,
    }
    packed = zipped({"lab.ipynb": nb("1"), **{name[2:]: data for name, data in files.items()}})
    for entries in ({"1_lab.ipynb": nb("1"), **files}, {"1_all.zip": packed}):
        submission = one(entries, make_zip, into, limits=limits)
        kept = {Path(name).name for name in submission.companions}
        assert {"lora.py", "a.csv", "b.csv"} <= kept and len(kept) < 5 and submission.problem is None
        (notice,) = [notice for notice in submission.notices if notice.kind == "refused-file"]
        assert "d.csv" in notice.text and ("at most 3 with" in notice.text or "3 MB together" in notice.text)


def test_a_zip_cannot_fill_the_report_with_notices(make_zip: Make, into: Path) -> None:
    inner = zipped({"lab.ipynb": nb("1"), **{f"{n}.bin": b"\0" * 2_000_001 for n in range(99)}})
    submission = one({"1_all.zip": inner}, make_zip, into, limits=IntakeLimits(file_bytes=2_000_000))
    assert submission.path and len(submission.notices) < 25
    assert submission.notices[-1].text == "And 80 more of this kind."


def test_helper_modules_keep_their_importable_name(make_zip: Make, into: Path) -> None:
    submission = one({"1_lab-1.ipynb": nb("import lora"), "2_lora-1.py": b"x"}, make_zip, into)
    assert submission.companions == ("12346/handed-in/lora.py",) and kinds(submission) == ["module-renamed"]
    both = one({"1_lab.ipynb": nb("import lora"), "2_lora-1.py": b"x", "3_lora.py": b"y"}, make_zip, into)
    assert both.companions == ("12346/handed-in/lora-1.py", "12346/handed-in/lora.py")


def test_companions_never_share_a_path(make_zip: Make, into: Path) -> None:
    submission = one(
        {"1_lab.ipynb": nb("1"), "2_LAB.ipynb": b"", "3_a.py": b"1", "4_A.py": b"2", "5_a.py": b"3"}, make_zip, into
    )
    paths = [submission.path, *submission.companions]
    assert len({path.casefold() for path in paths}) == 5
    assert sorted((into / path).read_bytes() for path in submission.companions) == [b"", b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("lab.ipynb", b"", "empty file"),
        ("lab.ipynb", b" \n\0\0", "empty file"),
        ("lab.ipynb", b"\xef\xbb\xbf", "empty file"),
        ("lab.ipynb", b"%PDF-1.7 ...", "a PDF file"),
        ("lab.ipynb", b"\n<!DOCTYPE html><html>", "a web page"),
        ("lab.rar", b"Rar!\x1a", "a RAR archive"),
        ("lora.py", b"x = 1", "a Python script"),
        ("lab.docx", zipped({"word/document.xml": b"<x/>"}), "an Office document"),
        ("results.json", b'{"cells": 3}', "a JSON file"),
    ],
)
def test_nothing_to_judge(name: str, content: bytes, words: str, make_zip: Make, into: Path) -> None:
    submission = one({f"67890_{name}": content}, make_zip, into)
    assert submission.problem and words in submission.problem and name in submission.problem
    assert submission.path == "" and len(submission.companions) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + nb("1"),
        nb("1").replace(b", ", b",\r\n"),
        nb("1").decode().encode("utf-16"),
        json.dumps({"worksheets": [{"cells": [{"cell_type": "code", "input": ["1"]}]}], "nbformat": 3}).encode(),
        json.dumps({"cells": [{"cell_type": "code", "source": "1"}]}).encode(),
        b"not json at all",
        b'{"cells": ' + b"[" * 100_000,
        b"[1, 2]",
    ],
)
def test_odd_notebooks_are_taken_in_unchanged(content: bytes, make_zip: Make, into: Path) -> None:
    submission = one({"67890_lab.ipynb": content}, make_zip, into)
    assert submission.problem is None
    assert (into / submission.path).read_bytes() == content


# A student's own zip


def test_a_zip_with_one_notebook_is_opened(make_zip: Make, into: Path) -> None:
    inner = zipped(
        {
            "hw/lab.ipynb": nb("1"),
            "hw/lora.py": b"x",
            "hw/.ipynb_checkpoints/lab-checkpoint.ipynb": nb("0"),
            "data/a.csv": b"y",
            "__MACOSX/._lab.ipynb": b"z",
        }
    )
    submission = one({"67890_all.zip": inner}, make_zip, into)
    assert submission.path == "12346/handed-in/lab.ipynb" and submission.attachment_id == "67890"
    assert submission.companions == ("12346/handed-in/lora.py", "12346/handed-in/data/a.csv")
    assert kinds(submission) == ["opened-archive"]


def test_numbers_in_a_zip_do_not_make_it_a_download(make_zip: Make, into: Path) -> None:
    inner = zipped(
        {"lab.ipynb": nb("1"), "loss_100_2000_a.png": b"x", "loss_101_3000_a.png": b"y", "loss_102_1_b.png": b"z"}
    )
    submission = one({"67890_all.zip": inner}, make_zip, into)
    assert submission.problem is None and len(submission.companions) == 3


def test_a_zip_beside_a_notebook_stays_closed(make_zip: Make, into: Path) -> None:
    submission = one({"1_lab.ipynb": nb("1"), "2_lora.zip": zipped({"lab.ipynb": nb("2")})}, make_zip, into)
    assert submission.companions == ("12346/handed-in/lora.zip",) and submission.notices == ()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"inner.zip": zipped({"lab.ipynb": nb("1")})}, "archives are not opened"),
        ({"readme.txt": b"x"}, "without a notebook"),
        ({}, "empty zip archive"),
        ({"a_111_1111_l.ipynb": nb("1"), "b_222_2222_l.ipynb": nb("2")}, "several students"),
        ({"lab.ipynb": b"\0" * 3_000_000}, "more than the 2 MB"),
    ],
)
def test_zips_that_are_no_submission(entries: dict[str, bytes], words: str, make_zip: Make, into: Path) -> None:
    submission = one({"67890_all.zip": zipped(entries)}, make_zip, into, limits=IntakeLimits(file_bytes=2_000_000))
    assert submission.problem and words in submission.problem.replace("Archives inside archives", "archives"), (
        submission.problem
    )
    assert submission.path == "" and len(submission.companions) == 1


def test_a_damaged_zip_of_a_student(make_zip: Make, into: Path) -> None:
    submission = one({"67890_all.zip": zipped({"lab.ipynb": nb("1")})[:-30]}, make_zip, into)
    assert submission.problem and "could not be opened" in submission.problem


# Several sources


def test_of_two_archives_the_later_one_counts(make_zip: Make, into: Path) -> None:
    early = make_zip({"bo_12346_100_lab.ipynb": nb("old"), "cy_12347_101_lab.ipynb": nb("cy")}, "early.zip")
    late = make_zip({"bo_12346_200_lab-1.ipynb": nb("new"), "cy_12347_text.html": b"sorry"}, "late.zip")
    intake = take_in([early, late], into)
    found = by_id(intake)
    assert (into / found["12346"].path).read_bytes() == nb("new")
    assert (into / found["12347"].path).read_bytes() == nb("cy"), "a text does not replace a notebook"
    for submission in found.values():
        assert "duplicate-student" in kinds(submission)
        assert str(into.parent) not in submission.notices[0].text, "reports show no path of this machine"


def test_the_same_source_twice_is_read_once(make_zip: Make, into: Path) -> None:
    source = make_zip({"bo_12346_100_lab.ipynb": nb("1")})
    intake = take_in([source, source], into)
    assert len(intake.submissions) == 1 and [n.kind for n in intake.notices] == ["same-source"]


def test_equal_names_from_two_folders_are_two_submissions(make_folder: Make, into: Path) -> None:
    a, b = make_folder({"lab2.ipynb": nb("1")}, "a"), make_folder({"Lab2.ipynb": nb("2")}, "b")
    ids = [s.id for s in take_in([a, b], into).submissions]
    assert len({i.casefold() for i in ids}) == 2


def test_taking_in_again_replaces_what_was_there(make_zip: Make, into: Path) -> None:
    one({"1_lab.ipynb": nb("1"), "2_old.py": b"x"}, make_zip, into)
    submission = one({"1_lab.ipynb": nb("2")}, make_zip, into)
    assert [p.name for p in (into / "12346" / "handed-in").iterdir()] == ["lab.ipynb"]
    assert (into / submission.path).read_bytes() == nb("2")


@pytest.mark.parametrize("spoil", ["nothing", "bytes", "more", "less", "link"])
def test_taking_in_again_mends_what_was_changed(make_zip: Make, into: Path, tmp_path: Path, spoil: str) -> None:
    files = {"1_lab.ipynb": nb("1"), "2_mine.py": b"x = 1"}
    submission = one(files, make_zip, into)
    folder = into / "12346" / "handed-in"
    mine = folder / "mine.py"
    if spoil == "bytes":
        mine.write_bytes(b"x = 2")
    elif spoil == "more":
        (folder / "other.py").write_bytes(b"")
    elif spoil == "less":
        (folder / "lab.ipynb").unlink()
    elif spoil == "link":
        mine.rename(tmp_path / "mine.py")
        mine.symlink_to(tmp_path / "mine.py")
    assert one(files, make_zip, into) == submission
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"lab.ipynb": nb("1"), "mine.py": b"x = 1"}
    assert not mine.is_symlink()


def test_the_run_folder_inside_the_source_is_not_taken_in(make_folder: Make) -> None:
    source = make_folder({"a.ipynb": nb("1"), "b.ipynb": nb("2")})
    for _ in range(2):
        assert len(take_in([source], source / "run" / "files").submissions) == 2


# Sources that cannot be used


def test_usage_errors_say_what_is_wrong(make_zip: Make, make_folder: Make, tmp_path: Path, into: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "named.zip").write_bytes(b"hello")
    cases = [
        ([], "nothing to take in"),
        ([tmp_path / "absent"], "cannot read"),
        ([tmp_path / ("x" * 5000)], "cannot read"),
        ([tmp_path / "broken.zip"], "Download it again"),
        ([tmp_path / "named.zip"], "Download it again"),
        ([make_zip({}, "empty.zip")], "empty"),
        ([make_folder({}, "empty")], "empty"),
        ([make_folder({"notes.md": b"x"}, "notes")], "holds no submissions: “notes.md” was left out because it is not"),
    ]
    os.mkfifo(tmp_path / "pipe")
    cases.append(([tmp_path / "pipe"], "neither a file nor a folder"))
    for sources, words in cases:
        with pytest.raises(UsageError, match=words):
            take_in(sources, into)


def test_an_unwritable_run_folder_is_ours(make_zip: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError):
        take_in([make_zip({"a.ipynb": nb("1")})], tmp_path / "file" / "x")


def test_links_and_pipes_in_a_folder_are_not_followed(make_folder: Make, tmp_path: Path, into: Path) -> None:
    (tmp_path / "secret.ipynb").write_bytes(nb("secret"))
    source = make_folder({"a.ipynb": nb("1")})
    (source / "link.ipynb").symlink_to(tmp_path / "secret.ipynb")
    (source / "loop").symlink_to(source)
    os.mkfifo(source / "pipe.ipynb")
    found = by_id(take_in([source], into))
    assert found["link"].problem and "symbolic link" in found["link"].problem
    assert found["pipe"].problem and "device or pipe" in found["pipe"].problem
    assert "loop" not in found and found["a"].path


def test_ambiguous_and_unknown_names_are_told(make_zip: Make, into: Path) -> None:
    entries = {
        "team_7_12345_67890_lab.ipynb": nb("1"),
        "bo_12346_67891_a.ipynb": nb("2"),
        "odd name.ipynb": nb("3"),
        "odd.txt": b"x",
    }
    intake = take_in([make_zip(entries)], into)
    found = by_id(intake)
    (doubtful,) = [s for s in intake.submissions if kinds(s) == ["ambiguous-name"]]
    assert doubtful.student_ids == () and doubtful.path, "graded, for nobody"
    assert "(user 7)" in doubtful.notices[0].text and "(user 12345)" in doubtful.notices[0].text
    assert found["odd-name"].path, "graded all the same"
    assert [n.kind for n in intake.notices] == ["left-out"]
    roster = Roster((ASA,))
    assert "12345" in by_id(take_in([make_zip(entries)], into, roster))


@pytest.mark.attack
def test_brackets_do_not_fill_the_memory(make_zip: Make, into: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    submission = one(
        {"1_lab.ipynb": b'{"cells": [' + b"{}," * 15_000_000 + b"{}]}", "2_b.ipynb": nb("1")}, make_zip, into
    )
    assert submission.file_name == "b.ipynb" and "cannot be read" in submission.notices[0].text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "kB"


def test_fifty_megabytes_of_outputs(make_zip: Make, into: Path) -> None:
    cell = {
        "cell_type": "code",
        "source": "1",
        "outputs": [{"output_type": "stream", "text": "loss 0.693\n" * 4_600_000}],
    }
    content = json.dumps({"cells": [cell], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}).encode()
    assert len(content) > 50_000_000
    submission = one({"67890_lab.ipynb": content}, make_zip, into)
    assert submission.sha256 == hashlib.sha256(content).hexdigest()
    assert (into / submission.path).stat().st_size == len(content) and submission.problem is None


def test_with_the_gradebook_export(tmp_path: Path, make_zip: Make, into: Path) -> None:
    path = tmp_path / "grades.csv"
    path.write_text(
        'Student,ID,SIS Login ID,Section,Lab 2 (98)\n"Svensson, Åsa",12345,asas,LP2,\n"Berg, Bo",12346,bo,LP2,\n'
    )
    intake = take_in([make_zip({"svenssonåsa_12345_67890_lab.ipynb": nb("1")})], into, read_roster(path))
    assert intake.submissions[0].display_name == "Svensson, Åsa" and [m.id for m in intake.missing] == ["12346"]
