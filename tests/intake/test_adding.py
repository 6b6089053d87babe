"""Sources that add to what a run was given before: nobody is dropped, and the newest upload counts."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grader.errors import StoreError, UsageError
from grader.intake import Intake, Roster, RosterEntry, take_in
from grader.records import Submission

from .conftest import make_notebook as nb

Make = Callable[..., Path]
CLASS = {"svenssonåsa_12345_500_lab.ipynb": nb("asa"), "bergbo_12346_501_lab.ipynb": nb("bo")}
LATE = {"bergbo_LATE_12346_900_lab-1.ipynb": nb("bo, again")}
ROSTER = Roster((RosterEntry("12345", "Svensson, Åsa"), RosterEntry("12346", "Berg, Bo")))


@pytest.fixture
def add(into: Path) -> Callable[..., Intake]:
    def run(*sources: Path, replace: bool = False, roster: Roster | None = ROSTER) -> Intake:
        return take_in(sources, into, roster, kept=into.parent / "sources", replace_kept=replace)

    return run


def graded(intake: Intake, into: Path) -> dict[str, bytes]:
    return {s.id: (into / s.path).read_bytes() for s in intake.submissions}


def kept(intake: Intake) -> list[str]:
    return [notice.text for notice in intake.notices if notice.kind == "kept"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_late_archive_adds_and_the_newest_upload_counts(order: int, add, make_zip: Make, into: Path) -> None:
    first, second = [make_zip(CLASS, "class.zip"), make_zip(LATE, "late.zip")][::order]
    add(first)
    first.unlink()
    intake = add(second)
    assert graded(intake, into) == {"12345": nb("asa"), "12346": nb("bo, again")}
    assert len(intake.submissions) == 2 and intake.missing == ()
    assert [text.rpartition(": ")[2] for text in kept(intake)] == (["Svensson, Åsa."] if order == 1 else [])
    (bo,) = [s for s in intake.submissions if s.id == "12346"]
    (told,) = [notice.text for notice in bo.notices if notice.kind == "duplicate-student"]
    assert told.endswith("class.zip”; what counts is “late.zip”, the newest by Canvas's ids."), "in either order"


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({"bo_1_500_lab.ipynb": nb("old")}, {"bo_1_500_lab.ipynb": nb("new")}, "“second.zip”, given last."),
        ({"bo_1_500_lab.ipynb": nb("old")}, {"bo_1_400_lab.ipynb": nb("older")}, "“first.zip”, the newest by Canvas's ids."),
        ({"bo_1_500_lab.pdf": b"%PDF-1"}, {"bo_1_400_lab.ipynb": nb("old")}, "“second.zip”, which has a notebook."),
    ],
)  # fmt: skip
def test_what_decided_between_two_sources_is_told(first, second, why, add, make_zip: Make) -> None:
    roster = Roster((RosterEntry("1", "Bo"),))
    intake = add(make_zip(first, "first.zip"), make_zip(second, "second.zip"), roster=roster)
    told = [notice.text for one in intake.submissions for notice in one.notices if notice.kind == "duplicate-student"]
    assert len(told) == 1 and told[0].endswith(why)


def test_a_download_under_the_same_name_adds(add, make_zip: Make, into: Path) -> None:
    add(make_zip(CLASS))
    intake = add(make_zip(LATE))
    assert set(graded(intake, into)) == {"12345", "12346"}
    assert "1 in none of today's sources" in kept(intake)[0] and "Svensson, Åsa" in kept(intake)[0]


def test_replace_begins_anew(add, make_zip: Make, into: Path) -> None:
    add(make_zip(CLASS, "class.zip"))
    intake = add(make_zip(LATE, "late.zip"), replace=True)
    assert set(graded(intake, into)) == {"12346"} and kept(intake) == []
    assert set(graded(add(make_zip(LATE, "late.zip")), into)) == {"12346"}


def test_a_folder_given_again_is_what_it_holds(add, make_folder: Make, into: Path) -> None:
    source = make_folder({"anna/lab.ipynb": nb("1"), "ben/lab.ipynb": nb("2")})
    add(source, roster=None)
    (source / "ben" / "lab.ipynb").unlink()
    (source / "ben").rmdir()
    assert set(graded(add(source, roster=None), into)) == {"anna"}


def test_only_what_counts_is_kept_once(add, make_zip: Make, make_folder: Make, into: Path) -> None:
    old, new = make_zip(CLASS, "old.zip"), make_zip({n.replace("_50", "_60"): d for n, d in CLASS.items()}, "new.zip")
    for source in (old, old, new, new, make_folder(LATE, "late")):
        add(source)
    copies = sorted((into.parent / "sources").iterdir())
    assert [path.suffix for path in copies] == [".zip", ".zip", ".json"] or len(copies) == 3
    stamps = [path.stat().st_mtime_ns for path in copies]
    add(into.parent.parent / "late")
    assert [path.stat().st_mtime_ns for path in copies] == stamps, "nothing is written again"


def test_a_single_notebook_keeps_its_modules(add, make_folder: Make, make_zip: Make, into: Path) -> None:
    folder = make_folder({"my lab.ipynb": nb("import lora"), "lora.py": b"1"})
    add(folder / "my lab.ipynb", roster=None)
    (folder / "lora.py").unlink()
    found = {s.id: s for s in add(make_zip(CLASS), roster=None).submissions}
    assert found["my-lab"].companions == ("my-lab/handed-in/lora.py",)


def test_a_later_class_list_is_used_for_all(add, make_zip: Make) -> None:
    add(make_zip({"dropped_9_100_2024_lab.ipynb": nb("?")}, "class.zip"), roster=None)
    listed = Roster((*ROSTER.entries, RosterEntry("9", "Dropped")))
    first = add(make_zip(LATE, "late.zip"), roster=listed).submissions[-1]
    assert first.student_ids == ("9",)


def test_names_that_cannot_be_stored_are_kept(add, make_folder: Make, make_zip: Make, into: Path) -> None:
    odd = b"lab\xff\\x.ipynb".decode("utf-8", "surrogateescape")
    add(make_folder({odd: nb("1"), "b.ipynb": nb("2")}), roster=None)
    assert nb("1") in graded(add(make_zip(CLASS), roster=None), into).values()


def test_a_damaged_copy_is_told(add, make_zip: Make, into: Path) -> None:
    add(make_zip(CLASS, "class.zip"))
    (copy,) = (into.parent / "sources").glob("*.zip")
    copy.write_bytes(copy.read_bytes().replace(b"asa", b"ASA"))
    with pytest.raises(StoreError, match="--replace"):
        add(make_zip(LATE, "late.zip"))
    copy.write_bytes(b"")
    with pytest.raises(StoreError, match="--replace"):
        add(make_zip(LATE, "late.zip"))
    assert len(add(make_zip(CLASS, "class.zip"), replace=True).submissions) == 2
    assert len(add(make_zip(LATE, "late.zip")).submissions) == 2


def test_an_archive_of_another_class_is_not_kept(add, make_zip: Make) -> None:
    with pytest.raises(UsageError, match="nobody who handed in"):
        add(make_zip({"x_1_2_lab.ipynb": nb("1")}, "other.zip"))
    assert len(add(make_zip(CLASS, "class.zip")).submissions) == 2


uploads = st.lists(
    st.tuples(st.sampled_from(["a_101", "b_102", "c_103"]), st.integers(1, 60), st.sampled_from(["lab.ipynb", "x.py"])),
    min_size=1, max_size=8, unique_by=lambda upload: upload[1],
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(uploads, st.data())
def test_any_order_and_split_of_archives_gives_the_same_class(
    found: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    """Each archive holds all files of its students' attempts; attempts go up in time."""
    attempts: dict[str, dict[str, bytes]] = {}
    for who, attachment, name in sorted(found, key=lambda upload: upload[1]):
        entry = f"{who}_{attachment}_{name}"
        attempts[entry] = {entry: nb(str(attachment)) if name == "lab.ipynb" else str(attachment).encode()}
    order = data.draw(st.permutations(list(attempts)))
    cuts = data.draw(st.lists(st.integers(0, len(order)), max_size=2).map(sorted))

    def taken(parts: Sequence[Sequence[str]], *, at_once: bool) -> list[Submission]:
        with tempfile.TemporaryDirectory() as place:
            root, into, paths = Path(place), Path(place) / "run" / "intake", []
            for number, part in enumerate(parts):
                paths.append(root / f"{number}.zip")
                with zipfile.ZipFile(paths[-1], "w") as archive:
                    for entry in part:
                        for name, content in attempts[entry].items():
                            archive.writestr(name, content)
            for sources in [paths] if at_once else [[path] for path in paths]:
                intake = take_in(sources, into, kept=into.parent / "sources")
            return [(s.id, s.sha256, s.attachment_id if s.path else "") for s in intake.submissions]  # type: ignore[misc]

    split = [part for part in (order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)) if part]
    whole = taken([[entry] for entry in attempts], at_once=True)
    assert taken(split, at_once=False) == taken(split, at_once=True)
    if all(sum(entry.split("_")[0] == e.split("_")[0] for e in part) == 1 for part in split for entry in part):
        assert taken(split, at_once=False) == whole


def test_each_source_is_counted(add, make_zip: Make) -> None:
    more = {"bergbo_12346_502_lora.py": b"x", "ekeva_12347_text.html": b"<p>", "odd.txt": b"?"}
    counts = [notice.text for notice in add(make_zip(CLASS | more, "class.zip")).notices if notice.kind == "source"]
    assert counts == [
        "“class.zip”: hand-ins: 3, with a notebook: 2, files: 5, beside a notebook: 1, left out: 1 (the class report says why)."
    ]
