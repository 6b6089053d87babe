"""Class lists in every form that Canvas and people make."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grader.errors import UsageError
from grader.intake import Roster, RosterEntry, read_roster, with_groups
from grader.intake.roster import number, unguarded

EXPORT = """Student,ID,SIS User ID,SIS Login ID,Section,Notes,Lab 2: LoRA (98765),Lab 3 (resit) (98766),Current Score
,,,,,,Manual Posting,,
    Points Possible,,,,,,10,"7,50",(read only)
"Svensson, Åsa",12345,chs-0017,asas,DAT450 LP2,x,8.50,,85
"李, 明",12346,chs-0018,liming,DAT450 LP2 and DIT247,,EX,N/A,
"Student, Test",999,,a1b2,DAT450 LP2,,,,
"""


def read(tmp_path: Path, content: str | bytes, groups: Path | None = None) -> Roster:
    path = tmp_path / "grades.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    roster = read_roster(path)
    return with_groups(roster, groups) if groups else roster


VARIANTS = {
    "as exported": EXPORT,
    "BOM": "\ufeff" + EXPORT,
    "CRLF": EXPORT.replace("\n", "\r\n"),
    "UTF-16": EXPORT.encode("utf-16"),
    "no manual posting": EXPORT.replace(",,,,,,Manual Posting,,\n", ""),
    "hidden": EXPORT.replace("Manual Posting", "Manual Posting (scores hidden from instructors)"),
    "semicolons": EXPORT.replace('"7,50"', "7.50")
    .replace(", ", "#")
    .replace(",", ";")
    .replace("#", ", ")
    .replace("8.50", "8,50"),
    "tabs": EXPORT.replace('"7,50"', "7.50").replace(", ", "#").replace(",", "\t").replace("#", ", "),
    "sep line": "sep=,\n" + EXPORT,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradebook_export(variant: str, tmp_path: Path) -> None:
    roster = read(tmp_path, VARIANTS[variant])
    assert [(e.id, e.name) for e in roster.entries] == [
        ("12345", "Svensson, Åsa"),
        ("12346", "李, 明"),
        ("999", "Student, Test"),
    ]
    asa = roster.by_id["12345"]
    assert (asa.sis_login, asa.section) == ("asas", "DAT450 LP2")
    assert asa.identity == ("Svensson, Åsa", "12345", "chs-0017", "asas", "DAT450 LP2")
    assert roster.identity_header == ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
    assert [(a.title, a.id, a.points) for a in roster.assignments] == [
        ("Lab 2: LoRA", "98765", 10),
        ("Lab 3 (resit)", "98766", 7.5),
    ]
    assert [e.is_test_student for e in roster.entries] == [False, False, True]
    assert roster.notices == ()


def test_names_in_two_columns(tmp_path: Path) -> None:
    roster = read(
        tmp_path, "LastName,FirstName,ID,SIS User ID,SIS Login ID,Section,Lab (1)\nSvensson,Åsa,12345,s,asas,LP2,\n"
    )
    assert roster.entries[0].name == "Svensson, Åsa"
    assert roster.identity_header == ("LastName", "FirstName", "ID", "SIS User ID", "SIS Login ID", "Section")


def test_a_teaching_assistants_export_has_no_sis_ids(tmp_path: Path) -> None:
    roster = read(tmp_path, 'Student,ID,SIS Login ID,Section,Lab (1)\n"B, A",5,ab,LP2,\n')
    assert roster.entries[0].sis_login == "ab"
    # Canvas's importer takes the two SIS columns as a pair only.
    assert roster.identity_header == ("Student", "ID", "Section")
    assert roster.entries[0].identity == ("B, A", "5", "LP2")


def test_minimal_lists_and_groups(tmp_path: Path) -> None:
    roster = read(tmp_path, "id;name\n7;Åsa Svensson\nabc.d;Bo\n")
    assert [e.id for e in roster.entries] == ["7", "abc.d"] and roster.identity_header == ()
    groups = tmp_path / "groups.csv"
    groups.write_text("name,canvas_user_id,user_id,login_id,sections,group_name\nÅsa,7,x,y,LP2,Team 7\n,,,,,Team 8\n")
    grouped = read(tmp_path, "id,name\n7,Åsa\n8,Bo\n", groups=groups)
    assert [e.group for e in grouped.entries] == ["Team 7", ""]
    assert (grouped.says("7", "team7"), grouped.says("8", "team7"), grouped.says("8", "bo")) == ("group", "", "student")
    with pytest.raises(UsageError, match="group_name"):
        read(tmp_path, "id,name\n7,Åsa\n", groups=tmp_path / "grades.csv")


@pytest.mark.parametrize("cell", ["12345.0", "12345.00", '"12345,0"', "12345", "="])
def test_an_id_that_a_spreadsheet_made_a_decimal_number(cell: str, tmp_path: Path) -> None:
    roster = read(tmp_path, f"Student,ID,Section,Lab (1)\nA,{cell.replace('=', '12345.0 ')},LP2,\n")
    assert list(roster.by_id) == ["12345"]
    assert roster.entries[0].identity[1].strip() == "12345", "what goes back to Canvas"


@pytest.mark.parametrize(
    ("separator", "points"), [(",", '"1,000"'), (";", "1 000,00"), (";", "1.000,0"), ("\t", "1000")]
)
def test_thousand_points(separator: str, points: str, tmp_path: Path) -> None:
    rows = (["Student", "ID", "Section", "Lab (1)"], ["    Points Possible", "", "", points], ["A", "5", "LP2", ""])
    roster = read(tmp_path, "".join(separator.join(row) + "\n" for row in rows))
    assert roster.assignments[0].points == 1000


def test_the_grades_that_canvas_has(tmp_path: Path) -> None:
    roster = read(tmp_path, "Student,ID,Section,Lab (1),Lab (2)\nA,5,x,EX,\nB,6,x,8, ex\nC,7,x,N/A,EXTRA\n")
    assert [e.grades for e in roster.entries] == [
        {"1": "EX", "2": ""},
        {"1": "8", "2": "ex"},
        {"1": "N/A", "2": "EXTRA"},
    ]


def test_the_formula_guard_is_read_and_kept(tmp_path: Path) -> None:
    roster = read(tmp_path, 'Student,ID,Section,Lab (1)\n"=""=cmd, x""",5,LP2,\n="=abc",6,LP2,\n')
    assert [e.name for e in roster.entries] == ["=cmd, x", "=abc"]
    assert [e.identity[0] for e in roster.entries] == ['="=cmd, x"', '="=abc"']
    assert unguarded("plain") == "plain"


def test_rows_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    roster = read(tmp_path, "Student,ID,Section,Lab (1)\nA,1,,\nB,,,\nC,1,,\nD,two words,,\n,,,\n")
    assert [e.name for e in roster.entries] == ["A"]
    assert [n.text.split(" of ")[0] for n in roster.notices] == ["Row 3", "Row 4", "Row 5"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("a,b,c\n1,2,3\n", "has the columns a, b, c; a class list needs `ID` and `Student`"),
        ("Student,Section\nA,B\n", "has the columns Student, Section"),
        ("Student,ID,Section\n", "no row with an id"),
        ("Student,ID,Section\nA,1.23E+17,x\n", "shortened by a spreadsheet"),
        ('Student,ID,Section\nA,"1,23E+17",x\n', "shortened by a spreadsheet"),
        (b"PK\x03\x04\0\0\0\0xlsx", "not a CSV file"),
        ("Student,ID\n" + "x" * 200_000 + ",1\n", "not a readable CSV"),
    ],
)
def test_what_is_no_class_list(content: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, content)
    assert words in str(caught.value)
    assert "grades.csv" in str(caught.value)


def test_an_absent_class_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the class list"):
        read_roster(tmp_path / "absent.csv")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_roster_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    for data in (content, b"Student,ID,Section,Lab (1)\n" + content):
        path.write_bytes(data)
        with contextlib.suppress(UsageError):
            assert read_roster(path).entries


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("10", 10),
        ("8,50", 8.5),
        ("1.234,5", 1234.5),
        ("1,234.5", 1234.5),
        ("1,000", 1000),
        ("1,000,000", 1_000_000),
        ("1.000", 1000),
        ("100.00", 100),
        ("1\u202f000,5", 1000.5),
        ("1’000", 1000),
        ("0,125", 0.125),
        ("10,00", 10),
        ("EX", None),
        ("", None),
        ("(read only)", None),
        ("nan", None),
    ],
)
def test_number(cell: str, value: float | None) -> None:
    assert number(cell) == value


def test_students_are_found_by_id_login_or_name() -> None:
    roster = Roster(
        (RosterEntry("1", "Svensson, Åsa", sis_login="asas"), RosterEntry("2", "Li, Bo"), RosterEntry("3", "Li, Bo"))
    )
    for text in ("1", "ASAS", "svensson, åsa", "Åsa Svensson", "svenssonåsa"):
        assert [entry.id for entry in roster.named(text)] == ["1"], text
    assert [entry.id for entry in roster.named("Bo Li")] == ["2", "3"]
    assert roster.named("Svensson") == roster.named("") == ()
