"""Whose a file is: what students write in names moves nothing to another student, and nothing is lost."""

from __future__ import annotations

import io
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grader.intake import Intake, Roster, RosterEntry, take_in
from grader.intake.names import compact, repaired
from grader.records import Submission

from .conftest import make_notebook as nb

Make = Callable[..., Path]
ASA = RosterEntry("12345", "Svensson, Åsa")
BO = RosterEntry("12346", "Berg, Bo")
EVA = RosterEntry("12347", "Ek, Eva")
CLASS = Roster((ASA, BO, EVA))
MINE, EVIL = nb("asa = 1"), nb("evil = 2", "# more code than the other")
ASAS, EVAS = {"svenssonåsa_12345_500_lab.ipynb": MINE}, {"ekeva_12347_502_lab.ipynb": nb("eva = 3")}
MOODLE = "_assignsubmission_file_"


def graded(intake: Intake, into: Path) -> dict[str, bytes]:
    """What is graded for each student, by id."""
    found: dict[str, bytes] = {}
    for submission in intake.submissions:
        for student in submission.student_ids:
            assert student not in found, "one hand-in a student"
            found[student] = (into / submission.path).read_bytes() if submission.path else b""
    return found


def holding(intake: Intake, into: Path, content: bytes) -> Submission:
    """The submission that holds these bytes, judged or beside; exactly one does."""
    (found,) = [
        submission
        for submission in intake.submissions
        if any((into / path).read_bytes() == content for path in (submission.path, *submission.companions) if path)
    ]
    return found


def is_doubtful(submission: Submission) -> bool:
    return any(notice.kind == "ambiguous-name" for notice in submission.notices) and not submission.student_ids


# Bo's notebook never becomes Åsa's. Without a class list her id is known from her own upload.
ATTACKS = {
    "a late mark": (ASAS | EVAS | {"bergbo_12346_501_LATE_12345_999_lab.ipynb": EVIL}, Roster(())),
    "a late mark, alone": ({"bergbo_12346_501_LATE_12345_999_lab.ipynb": EVIL}, Roster(())),
    "a second id of a listed student": (
        ASAS | EVAS | {"bergbo_12346_501_x_12345_999_lab.ipynb": EVIL},
        Roster((ASA, EVA)),
    ),
    "the same where she handed in nothing": (
        EVAS | {"bergbo_12346_501_x_12345_999_lab.ipynb": EVIL},
        Roster((ASA, EVA)),
    ),
    "a whole name of Canvas": (
        ASAS | {"bergbo_12346_501_svenssonåsa_12345_999_lab.ipynb": EVIL},
        Roster((ASA, EVA)),
    ),
    "a mark of Moodle's": (ASAS | {f"bergbo_12346_501_Åsa Svensson_12345{MOODLE}lab.ipynb": EVIL}, CLASS),
    "a name of Canvas in a folder of Bo's": (
        {"Åsa Svensson/lab.ipynb": MINE, "Bo Berg/svenssonåsa_12345_999_lab.ipynb": EVIL},
        CLASS,
    ),
    "the same, alone": ({"Bo Berg/svenssonåsa_12345_999_lab.ipynb": EVIL}, CLASS),
    "a name of Canvas among plain ones": (
        {"Åsa Svensson.ipynb": MINE, "Eva Ek.ipynb": nb("3"), "svenssonåsa_12345_999_lab.ipynb": EVIL},
        CLASS,
    ),
    "a name of Canvas in a folder of Moodle's": (
        {
            f"Åsa Svensson_501{MOODLE}/lab.ipynb": MINE,
            f"Bo Berg_502{MOODLE}/svenssonåsa_12345_999_lab.ipynb": EVIL,
        },
        CLASS,
    ),
    "another participant's mark in Moodle": (
        {
            f"Åsa Svensson_501{MOODLE}lab.ipynb": MINE,
            f"Bo Berg_502{MOODLE}Åsa Svensson_501{MOODLE}lab.ipynb": EVIL,
        },
        CLASS,
    ),
    "a participant with a user's id": (
        {f"Bo Bergman_12345{MOODLE}/lab.ipynb": EVIL, f"Eva Ek_9{MOODLE}/lab.ipynb": nb("3")},
        CLASS,
    ),
    "a second name for one student": ({"Åsa Svensson.ipynb": MINE, "12345.ipynb": EVIL}, CLASS),
    "a second folder for one student": ({"Åsa Svensson/a.ipynb": MINE, "Svensson, Åsa/a.ipynb": EVIL}, CLASS),
    "zero-width letters in a name": ({"Åsa Svensson.ipynb": MINE, "Åsa\u200b Svensson.ipynb": EVIL}, CLASS),
    "a group called as another student": (
        ASAS | {"svenssonåsa_12345_501_12346_999_lab.ipynb": EVIL, "team3_12347_502_lab.ipynb": nb("3")},
        CLASS,
    ),
    "a stray notebook with her name": (ASAS | EVAS | {"Åsa Svensson.ipynb": EVIL}, CLASS),
    "a stray folder with her id": (ASAS | EVAS | {"12345/lab.ipynb": EVIL}, CLASS),
    "a notebook in a zip": (
        ASAS | {"bergbo_12346_501_x.zip": b""},  # filled in below
        CLASS,
    ),
    "two platforms": (
        ASAS | EVAS | {f"bo_501{MOODLE}x_12345_999_lab.ipynb": EVIL},
        CLASS,
    ),
    "an anonymous student's name": (
        {"anon_acJ4Q_500_lab.ipynb": MINE, "anon_bcJ4Q_501_svenssonåsa_12345_999_lab.ipynb": EVIL},
        CLASS,
    ),
}


@pytest.mark.attack
@pytest.mark.parametrize("name", ATTACKS)
def test_a_name_never_makes_a_file_another_students(name: str, make_zip: Make, into: Path) -> None:
    entries, roster = ATTACKS[name]
    if name == "a notebook in a zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as inner:
            inner.writestr("svenssonåsa_12345_999_lab.ipynb", EVIL)
        entries = entries | {"bergbo_12346_501_x.zip": packed.getvalue()}
    intake = take_in([make_zip(entries)], into, roster if roster.entries else None)
    found = graded(intake, into)
    assert found.get("12345") in (MINE, None)
    assert "12345" not in {s.id for s in intake.submissions} or found["12345"] == MINE
    evil = holding(intake, into, EVIL)
    assert evil.path, "graded"
    if MINE in entries.values():
        assert holding(intake, into, MINE) is not evil
    assert evil.student_ids in ((), ("12346",))


@pytest.mark.parametrize("first", [True, False])
def test_a_name_replaces_nothing_in_another_source(first: bool, make_zip: Make, make_folder: Make, into: Path) -> None:
    sources = [make_zip(ASAS), make_folder({"Åsa Svensson.ipynb": EVIL})]
    intake = take_in(sources if first else sources[::-1], into, CLASS)
    assert graded(intake, into) == {"12345": MINE}
    assert is_doubtful(holding(intake, into, EVIL))


def test_a_group_of_others_is_not_joined_by_its_name(make_zip: Make, into: Path) -> None:
    roster = Roster((RosterEntry("12345", "Svensson, Åsa", group="Team 7"), BO, EVA))
    source = make_zip({"team7_12345_500_lab.ipynb": MINE, "team7_12346_501_lab.ipynb": EVIL})
    intake = take_in([source], into, roster)
    assert graded(intake, into) == {"12345": MINE} and is_doubtful(holding(intake, into, EVIL))


def test_handed_in_alone_counts_for_no_group(make_zip: Make, into: Path) -> None:
    members = tuple(RosterEntry(e.id, e.name, group="Team 7") for e in (ASA, BO))
    intake = take_in([make_zip({"bergbo_12346_501_lab.ipynb": EVIL})], into, Roster(members))
    assert graded(intake, into) == {"12346": EVIL} and [e.id for e in intake.missing] == ["12345"]


# What is clear stays clear.


@pytest.mark.parametrize(
    "original",
    [
        "2024_lab.ipynb",
        "lab_4_2_final.ipynb",
        "x_12345_9_lab.ipynb",
        "LATE_12345_9_lab.ipynb",
        "7_text.html",
        "1_2_3_4",
    ],
)
@pytest.mark.parametrize("handed_in", [True, False])
def test_numbers_in_a_file_name_are_text(original: str, handed_in: bool, make_zip: Make, into: Path) -> None:
    entries = {f"bergbo_12346_501_{original}": EVIL, "ekeva_12347_7_a.ipynb": nb("3"), **(ASAS if handed_in else {})}
    intake = take_in([make_zip(entries)], into, CLASS)
    assert holding(intake, into, EVIL).student_ids == ("12346",)
    assert holding(intake, into, EVIL).late is False and len(intake.submissions) == 2 + handed_in


@pytest.mark.parametrize("group", ["alpha", "team_7"])
@pytest.mark.parametrize("original", ["lab.ipynb", "2024_lab.ipynb", "lab_4_2_final.ipynb"])
def test_a_group_without_a_list_of_groups(group: str, original: str, make_zip: Make, into: Path) -> None:
    source = make_zip({f"{group}_12346_501_{original}": EVIL, "beta_12347_502_a.ipynb": nb("3")})
    assert graded(take_in([source], into, CLASS), into)["12346"] == EVIL


def test_a_list_of_groups_settles_their_names(make_zip: Make, into: Path) -> None:
    groups = {"12345": "Team_7", "12346": "12347_1", "12347": ""}
    roster = Roster(tuple(RosterEntry(e.id, e.name, group=groups[e.id]) for e in (ASA, BO, EVA)))
    source = make_zip({
        "team_7_12345_500_2024_lab.ipynb": MINE, "12347_1_12346_501_lab.ipynb": EVIL, "ekeva_12347_502_lab.ipynb": nb("3")
    })  # fmt: skip
    found = graded(take_in([source], into, roster), into)
    assert found["12345"] == MINE and found["12346"] == EVIL


def test_one_student_has_one_name_in_a_source(make_zip: Make, into: Path) -> None:
    source = make_zip({"svensson_12345_500_lab.ipynb": MINE, "bergbo_12346_501_x_12345_999_y.ipynb": EVIL})
    intake = take_in([source], into)
    assert {s.id for s in intake.submissions} == {"12345", "12346"}


def test_two_students_of_one_name_are_asked_about(make_folder: Make, into: Path) -> None:
    twins = (RosterEntry("1", "Li, Bo"), RosterEntry("2", "Li, Bo"), ASA)
    source = make_folder({"Bo Li.ipynb": EVIL, "Åsa Svensson.ipynb": MINE})
    intake = take_in([source], into, Roster(twins))
    doubtful = holding(intake, into, EVIL)
    assert is_doubtful(doubtful) and "Li, Bo (1) and Li, Bo (2)" in doubtful.notices[0].text
    assert intake.missing == (), "either may have handed in"
    canvas = take_in([make_folder({"libo_1_9_a.ipynb": MINE, "libo_2_8_a.ipynb": EVIL}, "c")], into, Roster(twins))
    assert graded(canvas, into) == {"1": MINE, "2": EVIL}


def test_two_participants_of_one_name_are_asked_about(make_folder: Make, into: Path) -> None:
    source = make_folder({f"Bo Berg_501{MOODLE}/a.ipynb": MINE, f"Bo Berg_502{MOODLE}/a.ipynb": EVIL})
    intake = take_in([source], into, CLASS)
    assert all(map(is_doubtful, intake.submissions)) and len(intake.submissions) == 2


def test_moodles_ids_count_where_the_list_is_moodles(make_folder: Make, into: Path) -> None:
    source = make_folder({f"Bo Berg_12346{MOODLE}/a.ipynb": MINE, f"Grupp 1_12345{MOODLE}/a.ipynb": EVIL})
    assert graded(take_in([source], into, CLASS), into) == {"12346": MINE, "12345": EVIL}


def test_a_folder_named_as_canvas_names_files(make_folder: Make, into: Path) -> None:
    source = make_folder({
        "svenssonåsa_LATE_12345_500_lab/lab.ipynb": MINE, "svenssonåsa_LATE_12345_500_lab/src/lora.py": b"x",
        "bergbo_12346_501_lab.ipynb": EVIL,
    })  # fmt: skip
    intake = take_in([source], into, CLASS)
    asa = holding(intake, into, MINE)
    assert (asa.id, asa.late, asa.attachment_id) == ("12345", True, "500")
    assert asa.companions == ("12345/handed-in/src/lora.py",)


def test_two_downloads_side_by_side(make_folder: Make, into: Path) -> None:
    source = make_folder({"early/svenssonåsa_12345_500_lab.ipynb": MINE, "late/bergbo_LATE_12346_501_lab.ipynb": EVIL})
    assert graded(take_in([source], into, CLASS), into) == {"12345": MINE, "12346": EVIL}


@pytest.mark.parametrize(
    ("canvas", "moodle"), [(3, 1), (1, 3), (2, 2)], ids=["mostly Canvas", "mostly Moodle", "half and half"]
)
def test_names_of_two_platforms_are_told(canvas: int, moodle: int, make_zip: Make, into: Path) -> None:
    entries = {f"a{n}_{n}_900_lab.ipynb": nb(f"c{n}") for n in range(101, 101 + canvas)}
    entries |= {f"B B{n}_{n}{MOODLE}/lab.ipynb": nb(f"m{n}") for n in range(201, 201 + moodle)}
    intake = take_in([make_zip(entries)], into)
    (notice,) = intake.notices
    assert notice.kind == "two-platforms" and "as two sources" in notice.text
    counted = [s.id for s in intake.submissions if s.student_ids]
    assert len(counted) == max(canvas, moodle) and len(intake.submissions) == canvas + moodle
    assert len({i[0] for i in counted}) == 1


def test_a_group_called_anon_is_not_anonymous(make_zip: Make, into: Path) -> None:
    source = make_zip({"anon_12345_500_lab.ipynb": MINE, "anon_12346_501_lab.ipynb": EVIL})
    assert graded(take_in([source], into, CLASS), into) == {"12345": MINE, "12346": EVIL}
    assert {s.anonymous_id for s in take_in([source], into).submissions} == {"12345", "12346"}
    mixed = make_zip({"anon_12345_500_lab.ipynb": MINE, "bergbo_12346_501_lab.ipynb": EVIL}, "mixed.zip")
    assert {s.id for s in take_in([mixed], into).submissions} == {"12345", "12346"}


@pytest.mark.parametrize("sign", ["_lab.ipynb", "/lab.ipynb", "_26_x/lab.ipynb", "_26_lab.ipynb"])
def test_dates_in_plain_names_make_nobody_one_user(sign: str, make_folder: Make, into: Path) -> None:
    source = make_folder({f"{name}_2024_11{sign}": nb(name) for name in ("anna", "ben", "cy")})
    intake = take_in([source], into)
    assert len(intake.submissions) == 3 and all(s.student_ids == () for s in intake.submissions)


def test_a_folder_around_a_class_is_no_student(make_folder: Make, into: Path) -> None:
    source = make_folder({f"dat450_2024_2_lab/{name}": data for name, data in (ASAS | EVAS).items()})
    for roster in (CLASS, None):
        assert set(graded(take_in([source], into, roster), into)) == {"12345", "12347"}
    inside = {f"dat450_2024_2_lab/anon_acJ{n}Q_{n}_lab.ipynb": nb(str(n)) for n in range(3)}
    assert len(take_in([make_folder(inside, "hidden")], into).submissions) == 3
    inside = {f"dat450_2024_2_lab/Bo B{n}_{n}{MOODLE}/lab.ipynb": nb(str(n)) for n in range(3)}
    assert {s.id for s in take_in([make_folder(inside, "moodle")], into).submissions} == {"0", "1", "2"}
    mine = make_folder(
        {"svenssonåsa_12345_500_all/x_9_900_a.ipynb": MINE, "svenssonåsa_12345_500_all/b.py": b""}, "mine"
    )
    for roster in (CLASS, None):
        assert graded(take_in([mine], into, roster), into) == {"12345": MINE}


def test_a_plain_notebook_with_numbers_is_plain(make_folder: Make, into: Path) -> None:
    source = make_folder({"lab_4_2_final.ipynb": MINE, "svenssonåsa_12345_9876_lab.ipynb": EVIL})
    (plain,) = take_in([source / "lab_4_2_final.ipynb"], into).submissions
    (named,) = take_in([source / "svenssonåsa_12345_9876_lab.ipynb"], into, CLASS).submissions
    assert (plain.student_ids, named.student_ids) == ((), ("12345",))


# Property: whatever students write, by the platforms' rules.

PEOPLE = {
    "12345": "Svensson, Åsa", "12346": "Berg, Bo", "7": "Li, Bo", "8": "Li, Bo", "67890": "李, 明", "500": "Ek, Eva",
}  # fmt: skip
NAMES = [compact(name) for name in PEOPLE.values()]
pieces = st.sampled_from([
    *PEOPLE, *NAMES, "LATE", "late", "anon", "acJ4Q", "_", "_", "_", "-1", ".", "..", " ", "text.html", "link.html", "2024", "0",
    "4_2", "12345_12346", "LATE_12345_999", "svenssonåsa_12345_999", MOODLE, f"Åsa Svensson_12345{MOODLE}", "lab.ipynb", ".zip",
    "\u200b", "\u202e", "\u0665", "\uff11", "а", "o\u0308", "ö", "A", "#", "handed-in",
])  # fmt: skip
originals = st.lists(pieces, min_size=1, max_size=7).map("".join).map(lambda text: text.strip(" .") or "x")
groups = st.lists(st.sampled_from([*PEOPLE, *NAMES, "_", "_", "team", "a", "late"]), min_size=1, max_size=5).map(
    "".join
)
attachments = st.integers(1, 10**9).map(str)


@st.composite
def classes(draw: st.DrawFn, owners: st.SearchStrategy[str] | None) -> tuple[list[tuple[str, str, str]], Roster | None]:
    """Names as Canvas makes them with the id of the user and what is in the name; and a class list, or none."""
    users = draw(st.lists(st.sampled_from(list(PEOPLE)), min_size=1, max_size=5, unique=True))
    listed = (
        list(PEOPLE) if owners is not None else draw(st.lists(st.sampled_from(list(PEOPLE)), unique=True, min_size=1))
    )
    called = {user: draw(owners) if owners is not None else compact(PEOPLE[user]) for user in users}
    files = []
    for n, user in enumerate(draw(st.lists(st.sampled_from(users), min_size=len(users), max_size=8))):
        late, original = draw(st.sampled_from(["", "LATE_"])), draw(originals)
        rest = draw(st.sampled_from([f"{draw(attachments)}{n}_{original}"] * 5 + ["text.html"]))
        files.append((f"{called[user]}_{late}{user}_{rest}", user, original))
    roster = Roster(tuple(RosterEntry(user, PEOPLE[user]) for user in listed))
    return files, draw(st.sampled_from([roster, roster, None]))


def check_class(entries: Mapping[str, str], roster: Roster | None, owner_of: Callable[[Submission], set[str]]) -> None:
    """Each submission that counts for somebody holds that user's files and no others; every file is somewhere."""
    with tempfile.TemporaryDirectory() as place:
        root, into = Path(place), Path(place) / "run"
        with zipfile.ZipFile(root / "class.zip", "w") as archive:
            for number, (name, user) in enumerate(entries.items()):
                archive.writestr(name, nb(f"owner = '{user}'", f"# {number}"))
        try:
            intake = take_in([root / "class.zip"], into, roster)
        except Exception as error:
            assert "nobody who handed in stands in the class list" in str(error)
            return
        left_out = sum(notice.kind == "left-out" for notice in intake.notices)
        seen = 0
        for submission in intake.submissions:
            for path in (submission.path, *submission.companions):
                content = (into / path).read_bytes() if path else b""
                seen += bool(content)
                for user in owner_of(submission):
                    assert not content or f"owner = '{user}'".encode() in content, (path, submission)
        assert seen + left_out == len(entries), "nothing is lost"


def counted(submission: Submission) -> set[str]:
    return set(submission.student_ids) | ({submission.id} & set(PEOPLE))


@pytest.mark.attack
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(classes(None), st.sampled_from(["", "subs/"]))
def test_no_file_of_canvas_moves_to_another_student(
    drawn: tuple[list[tuple[str, str, str]], Roster | None], folder: str
) -> None:
    files, roster = drawn
    check_class({folder + unicodedata.normalize("NFC", name): user for name, user, _ in files}, roster, counted)


@pytest.mark.attack
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(classes(groups))
def test_no_file_of_a_group_moves_to_another_student(
    drawn: tuple[list[tuple[str, str, str]], Roster | None],
) -> None:
    files, roster = drawn
    check_class({name: user for name, user, _ in files}, roster, counted)


@pytest.mark.attack
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(classes(None), st.sampled_from(["/", ""]))
def test_no_file_of_moodle_moves_to_another_student(
    drawn: tuple[list[tuple[str, str, str]], Roster | None], sign: str
) -> None:
    files, roster = drawn
    full = {user: " ".join(reversed(name.split(", "))) for user, name in PEOPLE.items()}
    entries = {f"{full[user]}_{900 + int(user)}{MOODLE}{sign}{original}": user for _, user, original in files}
    twins = {"7", "8"}  # of one name: a list with Canvas's ids cannot tell them apart

    def owner(submission: Submission) -> set[str]:
        ids = {user if user in PEOPLE and roster else str(int(user) - 900) for user in submission.student_ids}
        return ids if not ids & twins or roster is None else set()

    check_class(entries, roster, owner)


@pytest.mark.attack
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(classes(None))
def test_no_anonymous_file_moves_to_another_student(
    drawn: tuple[list[tuple[str, str, str]], Roster | None],
) -> None:
    files, roster = drawn
    anonymous = {user: f"acJ{n}Q" for n, user in enumerate(PEOPLE)}
    entries = {f"anon_{anonymous[user]}_{n + 1}_{original}": user for n, (_, user, original) in enumerate(files)}

    def owner(submission: Submission) -> set[str]:
        assert submission.student_ids == ()
        return {user for user, one in anonymous.items() if one == submission.anonymous_id}

    check_class(entries, roster, owner)


@pytest.mark.attack
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(classes(None))
def test_no_file_in_a_students_folder_moves(drawn: tuple[list[tuple[str, str, str]], Roster | None]) -> None:
    files, roster = drawn
    entries = {f"{user}/{original}": user for _, user, original in files} | {"12345/own.py": "12345", "8/own.py": "8"}

    def owner(submission: Submission) -> set[str]:
        return set(submission.student_ids)

    check_class(entries, roster, owner)


def test_names_here_are_as_platforms_store_them() -> None:
    for name in NAMES:
        assert repaired(name) == name == name.lower()
