"""File names of Canvas and Moodle, and names made safe."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grader.intake.names import (
    EntryName,
    canvas_readings,
    compact,
    is_noise,
    moodle_readings,
    printable,
    repaired,
    safe_file_name,
    shown,
    slug,
    without_resubmission_suffix,
)

LAB = "lab2.ipynb"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("svenssonåsa_12345_67890_lab2.ipynb", [EntryName("svenssonåsa", "12345", "67890", LAB)]),
        (
            "svenssonåsa_LATE_12345_67890_lab2-1.ipynb",
            [EntryName("svenssonåsa", "12345", "67890", "lab2-1.ipynb", late=True)],
        ),
        ("svenssonåsa_12345_text.html", [EntryName("svenssonåsa", "12345", None, "text.html", "text")]),
        (
            "svenssonåsa_LATE_12345_link.html",
            [EntryName("svenssonåsa", "12345", None, "link.html", "link", late=True)],
        ),
        (
            "team_7_12345_67890_lab 2 (final).ipynb",
            [
                EntryName("team", "7", "12345", "67890_lab 2 (final).ipynb"),
                EntryName("team_7", "12345", "67890", "lab 2 (final).ipynb"),
            ],
        ),
        ("team_7_LATE_12345_67890_lab2.ipynb", [EntryName("team_7", "12345", "67890", LAB, late=True)]),
        (
            "lee_1_2_LATE_3_4_a",
            [EntryName("lee", "1", "2", "LATE_3_4_a"), EntryName("lee_1_2", "3", "4", "a", late=True)],
        ),
        ("svensson_12345_67890_My lab_4_2_b.ipynb", [EntryName("svensson", "12345", "67890", "My lab_4_2_b.ipynb")]),
        ("svensson_12345_67890_lab_2024_05_b.ipynb", [EntryName("svensson", "12345", "67890", "lab_2024_05_b.ipynb")]),
        (
            "lee_1_2_text.html",
            [EntryName("lee", "1", "2", "text.html"), EntryName("lee_1", "2", None, "text.html", "text")],
        ),
        ("李明_12345_67890_实验 2.ipynb", [EntryName("李明", "12345", "67890", "实验 2.ipynb")]),
        ("_12345_67890_lab2.ipynb", [EntryName("", "12345", "67890", LAB)]),
        ("lab2.ipynb", []),
        ("12345_67890_lab2.ipynb", []),
        ("svensson_12345_67890_", []),
        ("svensson_١٢٣_٤٥٦_lab2.ipynb", []),
        ("svensson_" + "9" * 5000 + "_67890_lab2.ipynb", []),
    ],
)
def test_a_name_of_canvas_is_read_in_all_ways(name: str, expected: list[EntryName]) -> None:
    assert list(canvas_readings(name)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("anon_acJ4Q_67890_lab2.ipynb", [EntryName("", None, "67890", LAB, anonymous_id="acJ4Q")]),
        ("LATE_anon_acJ4Q_67890_lab2.ipynb", [EntryName("", None, "67890", LAB, late=True, anonymous_id="acJ4Q")]),
        ("anon_acJ4Q_text.html", [EntryName("", None, None, "text.html", "text", anonymous_id="acJ4Q")]),
        ("svensson_12345_67890_lab2.ipynb", []),
    ],
)
def test_an_anonymous_name_is_read_in_one_way(name: str, expected: list[EntryName]) -> None:
    assert list(canvas_readings(name, anonymous=True)) == expected


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_mojibake_and_decomposed_names_are_put_right(form: str) -> None:
    name = unicodedata.normalize(form, "svenssonåsa_12345_67890_övning.ipynb")
    garbled = name.encode().decode("cp437")
    for variant in (name, garbled):
        (parsed,) = canvas_readings(variant)
        assert (parsed.owner, parsed.original) == ("svenssonåsa", "övning.ipynb")
    assert repaired("Åsa é ñ ├ ±") == "Åsa é ñ ├ ±"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Svensson, Åsa", "svenssonåsa"),
        ("Lee ¼, Bo Ⅳ", "leebo"),
        ("देव, अनिल", "देवअनिल"),
        ("O'Neil-Berg, Å.", "oneilbergå"),
        ("team_7 ‿", "team_7‿"),
    ],
)
def test_names_are_written_as_canvas_writes_them(name: str, written: str) -> None:
    assert compact(name) == written


ids = st.integers(1, 10**17).map(str)
students = st.text(min_size=1, max_size=30).map(compact).map(lambda n: n.replace("_", "")).filter(bool)
originals = (
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters='\0/\\:*?"<>|'), min_size=1, max_size=30)
    .map(lambda n: unicodedata.normalize("NFC", n) + ".ipynb")
    .filter(lambda n: repaired(n) == n)
)


@given(students, st.booleans(), ids, ids, originals)
def test_round_trip_of_generated_upload_names(
    owner: str, late: bool, user: str, attachment: str, original: str
) -> None:
    owner = unicodedata.normalize("NFC", owner)
    name = f"{owner}_{'LATE_' if late else ''}{user}_{attachment}_{original}"
    if repaired(name) != name or owner == "anon":
        return
    # The first reading is right where the owner's name has no number in it.
    parsed = canvas_readings(name)[0]
    assert (parsed.owner, parsed.late, parsed.user_id, parsed.attachment_id, parsed.original) == (
        owner, late, user, attachment, original,
    )  # fmt: skip


@given(st.from_regex(r"\A[a-z]{1,8}_[1-9][0-9]?\Z"), st.booleans(), st.integers(1000, 10**9).map(str), ids)
def test_what_canvas_wrote_is_among_the_readings(group: str, late: bool, user: str, attachment: str) -> None:
    found = canvas_readings(f"{group}_{'LATE_' if late else ''}{user}_{attachment}_lab_3_4.ipynb")
    assert EntryName(group, user, attachment, "lab_3_4.ipynb", late=late) in found


@given(st.text(max_size=80))
def test_parsers_and_helpers_are_total(name: str) -> None:
    canvas_readings(f"a_1_2_{name}")
    moodle_readings("x_1_assignsubmission_file_" + name, folder=False)
    assert shown(name).isprintable() and len(shown(name)) <= 82
    assert printable(name).isprintable()
    for safe in (safe_file_name(name), slug(name)):
        assert safe not in ("", ".", "..") and not set(safe) & set('/\\\0:*?"<>|\n') and len(safe.encode()) <= 130
        assert not safe.startswith(".") and safe.rstrip(". ") == safe
    assert slug(name).isascii()


def test_surrogates_of_undecodable_names_can_be_stored() -> None:
    name = b"lab\xff.ipynb".decode("utf-8", "surrogateescape")
    assert safe_file_name(name) == "lab_.ipynb"
    assert printable(name).encode()
    assert "\ufffd" in shown(name)


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        ("Åsa Svensson_123_assignsubmission_file_", True, [EntryName("Åsa Svensson", "123", None, "")]),
        ("Åsa Svensson_123_assignsubmission_file", True, [EntryName("Åsa Svensson", "123", None, "")]),
        ("Åsa Svensson_123_assignsubmission_file_lab2.ipynb", False, [EntryName("Åsa Svensson", "123", None, LAB)]),
        ("Bo_9_assignsubmission_onlinetext_", True, [EntryName("Bo", "9", None, "", "text")]),
        (
            "Bo_9_assignsubmission_file_Eva_8_assignsubmission_file_a",
            False,
            [
                EntryName("Bo", "9", None, "Eva_8_assignsubmission_file_a"),
                EntryName("Bo_9_assignsubmission_file_Eva", "8", None, "a"),
            ],
        ),
        ("Bo_9_assignsubmission_file_", False, []),
        ("Bo", True, []),
    ],
)
def test_a_name_of_moodle_is_read_in_all_ways(name: str, folder: bool, expected: list[EntryName]) -> None:
    assert list(moodle_readings(name, folder=folder)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lab2-1.ipynb", "lab2.ipynb"),
        ("lab2-7.ipynb", "lab2.ipynb"),
        ("hw-1.v2.ipynb", "hw.v2.ipynb"),
        ("lab2-0b5a3f0e-1c2d-4e5f-8a9b-0c1d2e3f4a5b.ipynb", "lab2.ipynb"),
        ("lab2-8.ipynb", "lab2-8.ipynb"),
        ("lab-2b.ipynb", "lab-2b.ipynb"),
        ("lab2.ipynb", "lab2.ipynb"),
    ],
)
def test_resubmission_suffix(name: str, expected: str) -> None:
    assert without_resubmission_suffix(name) == expected


def test_what_systems_leave_behind_is_noise_and_work_is_not() -> None:
    for parts in (("__MACOSX", "._a.ipynb"), ("a", "._b.ipynb"), (".DS_Store",), (".ipynb_checkpoints", "a.ipynb")):
        assert is_noise(parts), parts
    for parts in (("a.ipynb",), ("macosx", "a.ipynb"), ("checkpoints", "lora.py"), (".hidden.ipynb",)):
        assert not is_noise(parts), parts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("CON.ipynb", "_CON.ipynb"),
        ("a\u202egpj.ipynb", "a_gpj.ipynb"),
        ("å" * 300 + ".ipynb", "å" * 57 + ".ipynb"),
        ("...", "_"),
        (".bashrc", "_bashrc"),
        ("förslag 2.csv", "förslag 2.csv"),
    ],
)
def test_safe_file_name(name: str, expected: str) -> None:
    assert safe_file_name(name) == expected


def test_slugs_of_names_that_lose_letters_stay_different() -> None:
    assert slug("Åsa Svensson") == "asa-svensson"
    assert len({slug("李明"), slug("李红"), slug("submission")}) == 3
