"""Property tests over whole classes, named by Canvas's own rules: with the class list everybody is found, without it nothing is lost."""

from __future__ import annotations

import csv
import io
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grader.intake import Intake, Roster, read_roster, take_in, with_groups
from grader.intake.names import repaired
from grader.lms.gradebook import formula_safe

from .conftest import make_notebook as nb


def written(name: str) -> str:
    """A person's or group's name as Canvas puts it into file names: lower case, without what Ruby's `[[:word:]]` is not."""
    kinds = ("L", "M", "Nd", "Pc")
    return "".join(c for c in name.lower() if unicodedata.category(c).startswith(kinds))


@dataclass(frozen=True)
class Person:
    """A student of the class."""

    id: str
    name: str
    group: str = ""


@dataclass(frozen=True)
class Upload:
    """One attempt of a student or group: its files by the name that Canvas gives them."""

    user: str
    members: frozenset[str]
    files: dict[str, bytes]
    notebook: bytes


def letters(name: str) -> str:
    return "".join(sorted(written(name)))


def storable(text: str) -> bool:
    return repaired(text) == text and bool(text.strip())


characters = st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn"))
words = (
    st.text(characters, min_size=1, max_size=12).map(lambda text: unicodedata.normalize("NFC", text)).filter(storable)
)
people_names = (
    st.builds("{}, {}".format, words, words)
    | words
    | st.sampled_from(["Berg, Bo", "=Li, Bo", "O'Neil, Åsa", "李, 小龙", "अनिल, देव"])
)
group_names = (
    st.from_regex(r"\A[A-Za-z]{1,6}[_ ][1-9][0-9]{0,2}\Z") | st.from_regex(r"\A[a-z]{2,5}(_[0-9]{1,3}){2}\Z") | words
)
user_ids = st.integers(1000, 10**12).map(str)
own_names = (
    st.text(
        st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn"), exclude_characters='/\\:*?"<>|'),
        min_size=1,
        max_size=12,
    )
    .map(lambda text: unicodedata.normalize("NFC", text).strip(" ."))
    .filter(storable)
) | st.sampled_from(["lab_4_2", "final_v2_2024_11_05", "12345_67890_lab", "text", "Kopia av lab (1)", "LATE_lab"])


@st.composite
def classes(draw: st.DrawFn, attempts: int = 1) -> tuple[list[Person], list[list[Upload]]]:
    """A class list, and for each who handed in the attempts, oldest first."""
    ids = draw(st.lists(user_ids, min_size=2, max_size=6, unique=True))
    names = [draw(group_names) for _ in range(draw(st.integers(0, 2)))]
    called = [draw(people_names) for _ in ids]
    alike = {*map(letters, called)}  # a group that is called as a person cannot be told from that person
    names = [name for name in names if letters(name) not in alike]
    people = [Person(one, name, draw(st.sampled_from(["", *names]))) for one, name in zip(ids, called, strict=True)]
    given_in, number, done = [], 10**6, set()
    for person in people:
        if person.group in done or draw(st.integers(0, 5)) == 0:
            continue
        done |= {person.group} - {""}
        members = frozenset(one.id for one in people if person.group and one.group == person.group) | {person.id}
        own = []
        for attempt in range(draw(st.integers(1, attempts))):
            late = draw(st.sampled_from(["", "LATE_"]))
            start = f"{written(person.group or person.name)}_{late}{person.id}"
            notebook = nb(f"owner = {person.id!r}", f"# {attempt}")
            files = {}
            for count, name in enumerate(
                [f"{draw(own_names)}.ipynb", *draw(st.lists(own_names.map("{}.py".format), max_size=2))]
            ):
                suffix = draw(st.sampled_from(["", "", "-1", "-7"]))
                stem, _, ending = name.rpartition(".")
                number += 1
                entry = f"{start}_{number}_{stem}{suffix}.{ending}"
                files[entry] = notebook if count == 0 else f"owner = {person.id!r}  # {count}".encode()
            if all(map(storable, files)):
                own.append(Upload(person.id, members, files, notebook))
        if own:
            given_in.append(own)
    return people, given_in


def listed(people: Iterable[Person], folder: Path) -> Roster:
    """The class list by way of Canvas's own files: the gradebook's export and the list of groups."""
    out, groups = io.StringIO(), io.StringIO()
    table, members = csv.writer(out), csv.writer(groups)
    table.writerow(["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Lab (98765)"])
    members.writerow(["name", "canvas_user_id", "group_name"])
    for person in people:
        table.writerow([formula_safe(person.name), person.id, "", "", "LP2", ""])
        members.writerow([person.name, person.id, person.group])
    (folder / "export.csv").write_text(out.getvalue(), encoding="utf-8")
    (folder / "groups.csv").write_text(groups.getvalue(), encoding="utf-8")
    return with_groups(read_roster(folder / "export.csv"), folder / "groups.csv")


def pack(path: Path, uploads: Iterable[Upload]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for upload in uploads:
            for name, data in upload.files.items():
                archive.writestr(name, data)
    return path


def graded(intake: Intake, into: Path) -> dict[frozenset[str], bytes]:
    """Who has a score by which file; whatever is in doubt counts for nobody."""
    return {
        frozenset(s.student_ids): (into / s.path).read_bytes() for s in intake.submissions if s.student_ids and s.path
    }


often = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_group_of_whose_name_nothing_is_left_is_found_by_its_member(tmp_path: Path) -> None:
    people = [Person("1000", "Berg, Bo", "🔥"), Person("1001", "Dahl, Eva", "🔥"), Person("1002", "Ek, My", "")]
    upload = Upload("1000", frozenset({"1000", "1001"}), {"_1000_1_lab.ipynb": nb("1")}, nb("1"))
    intake = take_in([pack(tmp_path / "class.zip", [upload])], tmp_path / "run", listed(people, tmp_path))
    assert graded(intake, tmp_path / "run") == {upload.members: upload.notebook}


@often
@given(classes())
def test_with_the_class_list_everybody_is_found(drawn: tuple[list[Person], list[list[Upload]]]) -> None:
    people, given_in = drawn
    uploads = [one for own in given_in for one in own]
    if not uploads:
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        roster = listed(people, root)
        intake = take_in([pack(root / "class.zip", uploads)], root / "run", roster)
        assert graded(intake, root / "run") == {one.members: one.notebook for one in uploads}
        here = set().union(*(one.members for one in uploads))
        assert {entry.id for entry in intake.missing} == {person.id for person in people} - here
        late = {one.user for one in uploads if f"_LATE_{one.user}_" in next(iter(one.files))}
        assert {s.id for s in intake.submissions if s.late} == late


@often
@given(classes())
def test_without_a_class_list_nothing_is_lost(drawn: tuple[list[Person], list[list[Upload]]]) -> None:
    uploads = [one for own in drawn[1] for one in own]
    if not uploads:
        return
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        intake = take_in([pack(root / "class.zip", uploads)], root / "run")
        paths = [path for s in intake.submissions for path in (s.path, *s.companions) if path]
        left = sum(notice.kind == "left-out" for notice in intake.notices)
        assert len(paths) + left == sum(len(one.files) for one in uploads)
        for submission in intake.submissions:
            owners = {
                (root / "run" / path).read_bytes().split(b"'")[1]
                for path in (submission.path, *submission.companions)
                if path
            }
            assert len(owners) <= 1, "no file moves to another student"


@often
@given(classes(attempts=3), st.booleans(), st.data())
def test_any_order_and_split_of_downloads_gives_one_class(
    drawn: tuple[list[Person], list[list[Upload]]], with_list: bool, data: st.DataObject
) -> None:
    """Each download has of each student the attempt that was the current one."""
    people, given_in = drawn
    if not given_in:
        return
    downloads: list[list[Upload]] = [[], [], []]
    for own in given_in:
        for upload, at in zip(own, data.draw(st.permutations(range(3))), strict=False):
            downloads[at].append(upload)
    downloads = [one for one in downloads if one]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        roster = listed(people, root) if with_list else None
        paths = [pack(root / f"{number}.zip", uploads) for number, uploads in enumerate(downloads)]

        def taken(name: str, rounds: Sequence[Sequence[Path]]) -> dict[frozenset[str], bytes]:
            into = root / name / "intake"
            for sources in rounds:
                intake = take_in(sources, into, roster, kept=root / name / "sources")
            return graded(intake, into)

        one_by_one = taken("one", [[path] for path in data.draw(st.permutations(paths))])
        assert one_by_one == taken("all", [data.draw(st.permutations(paths))])
        if with_list:
            assert one_by_one == {own[-1].members: own[-1].notebook for own in given_in}
