"""Hostile and broken archives: nothing escapes, nothing explodes, every entry is accounted for."""

from __future__ import annotations

import io
import stat
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from grader.errors import SubmissionError, UsageError
from grader.intake import Intake, IntakeLimits, take_in
from grader.intake.archive import Stage, UploadedFile, read_zip
from grader.sandbox.guard import GuardLimits, guarded

from .conftest import make_notebook as nb

Make = Callable[..., Path]
GOOD = {"bergbo_12346_67891_lab.ipynb": nb("1")}


def write_zip(
    path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for info, content in entries:
            archive.writestr(info, content)
    return path


def disk(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def check_accounts(intake: Intake, into: Path) -> int:
    """Check that disk and records agree; returns how many entries ended on disk or in a notice."""
    files = [path for s in intake.submissions for path in ([s.path] if s.path else []) + list(s.companions)]
    assert len(set(files)) == len(files)
    assert set(files) == {name for name in disk(into) if (into / name).is_file()}
    assert all(bool(s.path) != bool(s.problem) and bool(s.path) == bool(s.sha256) for s in intake.submissions)
    assert len({s.id.casefold() for s in intake.submissions}) == len(intake.submissions)
    notices = [*intake.notices, *(notice for s in intake.submissions for notice in s.notices)]
    ignored = sum(int(notice.text.split()[0]) for notice in notices if notice.kind == "ignored-files")
    return ignored + len(files) + sum(n.kind in ("left-out", "refused-file", "opened-archive") for n in notices)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil_12345_67890_lab.ipynb",
        "/etc/evil_12345_67890_lab.ipynb",
        "..\\..\\evil_12345_67890_lab.ipynb",
        "C:\\x\\evil_12345_67890_lab.ipynb",
        "a/../../evil_12345_67890_lab.ipynb",
    ],
)
def test_names_that_point_outside(name: str, make_zip: Make, into: Path, tmp_path: Path) -> None:
    source = make_zip({name: nb("1"), **GOOD})
    before = disk(tmp_path)
    intake = take_in([source], into)
    assert all(path.startswith("run") for path in disk(tmp_path) - before)
    submission = next(s for s in intake.submissions if s.id == "12345")
    assert submission.path == "12345/handed-in/lab.ipynb"
    assert [n.kind for n in submission.notices] == ["unsafe-name"]
    check_accounts(intake, into)


def test_originals_and_ids_cannot_climb(make_zip: Make, into: Path) -> None:
    source = make_zip({"x_12345_67890_..": nb("1"), "..../.. /lab.ipynb": nb("2"), "..ipynb/lab.ipynb": nb("3")})
    intake = take_in([source], into)
    check_accounts(intake, into)
    assert all((into / s.path).resolve().is_relative_to(into.resolve()) for s in intake.submissions)


@pytest.mark.parametrize(
    ("mode", "words"),
    [(stat.S_IFLNK | 0o777, "symbolic link"), (stat.S_IFCHR | 0o666, "device"), (stat.S_IFIFO, "device or pipe")],
)
def test_links_and_devices(mode: int, words: str, tmp_path: Path, into: Path) -> None:
    info = zipfile.ZipInfo("svensson_12345_67890_lab.ipynb")
    info.external_attr = mode << 16
    intake = take_in([write_zip(tmp_path / "a.zip", [(info, b"/etc/passwd"), *GOOD.items()])], into)
    bad = next(s for s in intake.submissions if s.id == "12345")
    assert bad.problem and words in bad.problem and [n.kind for n in bad.notices] == ["refused-file"]
    assert len(intake.submissions) == 2
    check_accounts(intake, into)


def patched(path: Path, find: bytes, offset: int, value: bytes) -> Path:
    """Change bytes at `offset` after each occurrence of a record's signature."""
    data = bytearray(path.read_bytes())
    at = data.find(find)
    while at >= 0:
        data[at + offset : at + offset + len(value)] = value
        at = data.find(find, at + 1)
    path.write_bytes(data)
    return path


def test_encrypted_entries_and_odd_compression(tmp_path: Path, into: Path) -> None:
    path = write_zip(tmp_path / "a.zip", list(GOOD.items()))
    patched(patched(path, b"PK\x01\x02", 8, b"\x01\x00"), b"PK\x03\x04", 6, b"\x01\x00")
    with pytest.raises(
        UsageError, match=r"no submissions: “bergbo_12346_67891_lab\.ipynb” was left out because it is enc"
    ):
        take_in([path], into)
    path = write_zip(tmp_path / "c.zip", [("sample.txt", b"nobody's")])
    patched(patched(path, b"PK\x01\x02", 8, b"\x01\x00"), b"PK\x03\x04", 6, b"\x01\x00")
    with pytest.raises(UsageError, match=r"no submissions: “sample\.txt” was left out because it is encrypted"):
        take_in([path], into)
    path = write_zip(tmp_path / "b.zip", list(GOOD.items()))
    patched(patched(path, b"PK\x01\x02", 10, b"\x5d\x00"), b"PK\x03\x04", 8, b"\x5d\x00")
    with pytest.raises(UsageError, match="a way that is not supported"):
        take_in([path], into)


PACKED = [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.mark.parametrize("method", PACKED)
def test_bzip2_and_lzma_are_read(method: int, tmp_path: Path, into: Path) -> None:
    source = write_zip(tmp_path / "a.zip", [*GOOD.items(), ("a_111_1000_l.ipynb", nb("2" * 5000))], method)
    submissions = take_in([source], into).submissions
    assert {(into / s.path).read_bytes() for s in submissions} == {*GOOD.values(), nb("2" * 5000)}


@pytest.mark.parametrize("method", PACKED)
@pytest.mark.parametrize("where", range(0, 60, 7))
def test_damage_in_bzip2_and_lzma_is_noticed(method: int, where: int, tmp_path: Path, into: Path) -> None:
    damaged = ("a_111_1000_l.ipynb", nb("import random"))
    path = write_zip(tmp_path / "a.zip", [damaged], method)
    with zipfile.ZipFile(path, "a", method) as archive:
        begins = archive.getinfo(damaged[0]).header_offset + 30 + len(damaged[0]) + where
        archive.writestr(*next(iter(GOOD.items())))
    data = bytearray(path.read_bytes())
    data[begins] ^= 0x55
    path.write_bytes(data)
    found = {s.id: s for s in take_in([path], into).submissions}
    assert found["12346"].path
    # Not every bit of a stream matters; what comes out is right or nothing.
    if found["111"].path:
        assert (into / found["111"].path).read_bytes() == damaged[1]
    else:
        assert "damaged" in (found["111"].problem or "")


@pytest.mark.parametrize("method", PACKED)
def test_bzip2_and_lzma_are_unpacked_a_piece_at_a_time(method: int, tmp_path: Path, into: Path) -> None:
    size = 30_000_000
    path = write_zip(tmp_path / "a.zip", [("a_111_1000_l.ipynb", b" " * size), *GOOD.items()], method)
    tracemalloc.start()
    try:
        with Stage(into) as stage:
            first, *_ = read_zip(path, stage, 9, 10**9)
            assert first.size == size
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
        with Stage(into, IntakeLimits(file_bytes=size - 1)) as stage:
            first, second = read_zip(path, stage, 9, 10**9)
        assert "more than the" in first.refusal and second.size
        patched(path, b"PK\x01\x02", 24, struct.pack("<L", 1000))
        with Stage(into) as stage:
            first, _ = read_zip(path, stage, 9, 10**9)
        assert "damaged" in first.refusal
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_damaged_entry_costs_nobody_else(tmp_path: Path, into: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("a_111_1000_l.ipynb", b"A" * 99), *GOOD.items()], zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"A" * 99, b"A" * 98 + b"B"))
    intake = take_in([path], into)
    bad = next(s for s in intake.submissions if s.id == "111")
    assert bad.problem and "damaged" in bad.problem
    assert [bool(s.path) for s in intake.submissions] == [False, True]
    check_accounts(intake, into)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """300 MB of zeros, deflated to 300 kB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("lab.ipynb", "w") as entry:
        for _ in range(300):
            entry.write(b"\0" * 1_000_000)
    return out.getvalue()


@pytest.fixture
def largest_write(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    sizes = [0]
    add = Stage.add

    def counting(self: Stage, *args: Any, **options: Any) -> UploadedFile:
        entry = add(self, *args, **options)
        sizes.append(entry.size)
        return entry

    monkeypatch.setattr(Stage, "add", counting)
    yield sizes


def test_a_bomb_is_refused_without_writing_it(
    bomb: bytes, tmp_path: Path, into: Path, largest_write: list[int]
) -> None:
    # As a class's archive, and inside one as a student's zip.
    outer = tmp_path / "outer.zip"
    outer.write_bytes(bomb)
    with pytest.raises(UsageError, match="left out because it unpacks to 300 MB"):
        take_in([outer], into)
    nested = write_zip(tmp_path / "class.zip", [("x_12345_67890_all.zip", bomb), *GOOD.items()])
    intake = take_in([nested], into / "b")
    bad = next(s for s in intake.submissions if s.id == "12345")
    assert bad.problem and "300 MB" in bad.problem
    assert max(largest_write) < 1_000_000
    check_accounts(intake, into / "b")


def test_growth_is_bounded_from_a_size_on(tmp_path: Path, into: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("a_111_1000_l.ipynb", b"0" * 3_000_000), *GOOD.items()])
    intake = take_in([path], into, limits=IntakeLimits(ratio_from=2_000_000))
    assert "zip bombs" in (intake.submissions[0].problem or "")
    assert take_in([path], into).submissions[0].problem is None, "a printing loop compresses as well"


def test_a_bomb_that_lies_about_its_size(bomb: bytes, tmp_path: Path, into: Path, largest_write: list[int]) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(bomb)
    patched(path, b"PK\x01\x02", 24, struct.pack("<L", 1000))
    with pytest.raises(UsageError, match="damaged"):
        take_in([path], into)
    assert max(largest_write) <= 1000


def test_the_archive_as_a_whole_is_bounded(tmp_path: Path, into: Path, largest_write: list[int]) -> None:
    path = write_zip(tmp_path / "a.zip", [(f"s_{n}_1000_l.ipynb", b"0" * 1_000_000) for n in range(111, 131)])
    intake = take_in([path], into, limits=IntakeLimits(total_bytes=5_000_000))
    taken = [s for s in intake.submissions if s.path]
    assert 4 <= len(taken) <= 6 and sum(largest_write) <= 6_000_000
    assert len(intake.submissions) == 20, "the rest is told, student by student"
    assert all("as a whole" in (s.problem or "") for s in intake.submissions if not s.path)
    check_accounts(intake, into)


def test_absurd_numbers_of_entries(tmp_path: Path, into: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [(f"{n}.ipynb", b"") for n in range(30)])
    with pytest.raises(UsageError, match="30 entries"):
        take_in([path], into, limits=IntakeLimits(entries=29))
    with Stage(into) as stage, pytest.raises(SubmissionError, match="30 entries"):
        read_zip(path, stage, 29, 1000)
    # A directory far too long for its number of entries is refused before it is read.
    with Stage(into) as stage, pytest.raises(SubmissionError, match="lists more than"):
        read_zip(path, stage, 2, 1000)


def test_folder_entries_may_hold_nothing(tmp_path: Path, into: Path) -> None:
    path = write_zip(
        tmp_path / "a.zip", [("sub/", b""), ("evil/", b"bytes"), *[("sub/" + n, c) for n, c in GOOD.items()]]
    )
    intake = take_in([path], into)
    (notice,) = intake.notices
    assert notice.kind == "left-out" and "evil/" in notice.text
    assert check_accounts(intake, into) == 2


def test_entries_of_one_name_are_all_kept(tmp_path: Path, into: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write_zip(
            tmp_path / "a.zip", [("x_12345_67890_lab.ipynb", nb("1")), ("x_12345_67890_lab.ipynb", nb("22"))]
        )
    (submission,) = take_in([path], into).submissions
    assert {(into / p).read_bytes() for p in (submission.path, *submission.companions)} == {nb("1"), nb("22")}


# Arbitrary archives

part = st.one_of(
    st.sampled_from(
        ["..", ".", "", "a", "A", "__MACOSX", "._x", "con", "lora.py", "lab.ipynb", "x_12345_67890_lab.ipynb"]
    ),
    st.sampled_from(
        ["anon_a_1_l.ipynb", "Bo_5_assignsubmission_file_", "x_12345_text.html", "x_LATE_7_8_9_lab.ipynb", "in.zip"]
    ),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
)
names = st.lists(part, min_size=1, max_size=4).map("/".join)
contents = st.one_of(
    st.sampled_from([nb("1"), nb(""), b"", b"%PDF", b"{}", b'{"cells": []}']),
    st.dictionaries(names, st.sampled_from([nb("2"), b"", b"x"]), max_size=3),
    st.binary(max_size=40),
)


def packed(entries: dict[str, object]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)  # which ends at a NUL
            if info.filename not in archive.NameToInfo:
                archive.writestr(info, packed(content) if isinstance(content, dict) else content)  # type: ignore[arg-type]
    return out.getvalue()


def take_in_safely(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "class.zip").write_bytes(data)
        into = root / "run"
        try:
            intake = take_in([root / "class.zip"], into)
        except UsageError:
            assert disk(root) <= {"class.zip", "run"}
            return
        assert {name.split("/")[0] for name in disk(root)} <= {"class.zip", "run"}
        accounted = check_accounts(intake, into)
        try:
            with zipfile.ZipFile(root / "class.zip") as archive:
                entries = sum(not info.filename.endswith("/") or info.file_size > 0 for info in archive.infolist())
        except zipfile.BadZipFile:
            return
        assert accounted >= entries, "an entry was dropped silently"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, contents, max_size=6))
@example({"a": b"1", "a/b.ipynb": nb("1")})
@example({"": nb("1"), "..": b"x"})
@example({"in": b"", "in.zip": {"in/a": nb("1")}})
@example({"x_1_2_a.zip": {"lab.ipynb": nb("1"), "a": b"", "a/b": b"", "__MACOSX/x": b""}})
def test_arbitrary_archives(entries: dict[str, object]) -> None:
    take_in_safely(packed(entries))


BASE = packed({"x_12345_67890_a.zip": {"lab.ipynb": nb("1"), "lora.py": b"x"}, **GOOD, "y_12347_1_b.pdf": b"%PDF"})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(BASE) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(BASE)))
def test_corrupted_archives(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(BASE)
    for at, value in changes:
        data[at] = value
    take_in_safely(bytes(data))
    take_in_safely(bytes(data[:cut]))


@pytest.mark.attack
def test_a_name_longer_than_any_is_not_put_in_order(tmp_path: Path) -> None:
    """Accents are sorted in the square of their number: a zip of twelve such names took half a minute."""
    tower = "b" + "\u0301\u0316" * 15_000
    path = write_zip(tmp_path / "own.zip", [("nb.ipynb", nb("1")), *[(f"{tower}{i}", b"x") for i in range(12)]])

    def read() -> str:
        with Stage(tmp_path / "stage") as stage:
            return " ".join(entry.refusal for entry in read_zip(path, stage, 2_000, 10_000) if entry.refusal)

    assert guarded(read, str, GuardLimits(cpu_seconds=5)).count("longer than that of any file") == 12
