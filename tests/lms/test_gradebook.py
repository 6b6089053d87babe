"""The gradebook file: what Canvas's importer accepts, and nothing that it could misunderstand."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grader.errors import UsageError
from grader.intake import Roster, RosterEntry, read_roster
from grader.lms.gradebook import choose_column, formula_safe, number_cell
from tests.lms import canvas_gradebook

EXPORT = """Student,ID,SIS User ID,SIS Login ID,Section,Notes,Lab 1 (98764),Lab 2: LoRA (98765),Lab 2: LoRA resit (98766),Final Score
,,,,,,,Manual Posting,,
    Points Possible,,,,,,5,100,10,(read only)
"Svensson, Åsa",12345,chs-0017,asas,DAT450 LP2,x,,8.50,,85
="=Li, Bo",12346,,,LP2,,,,,
"Berg, Bo",12347,chs-0019,bob,LP2,,,90,,
"""


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    path = tmp_path / "grades.csv"
    path.write_text(EXPORT.replace('="=Li, Bo"', '"=""=Li, Bo"""'))
    return read_roster(path)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def canvas_accepts(text: str) -> None:
    """The importer's own rules on the header."""
    header = rows(text)[0]
    assert not text.startswith("\ufeff") and len(header) >= 4
    students = 2 if "Student" in header[0] else 3
    assert "ID" in header[students - 1]
    last = students + (2 if header[students] == "SIS User ID" and header[students + 1] == "SIS Login ID" else 0)
    assert "Section" in header[last] and len(header) == last + 2
    assert re.fullmatch(r".*\s\(\d+\)", header[-1])
    assert "Points Possible" not in text
    assert all(len(row) == len(header) and re.fullmatch(r"\d+(\.\d{1,2})?", row[-1]) for row in rows(text)[1:])


def test_only_graded_rows_and_one_column(roster: Roster) -> None:
    text = canvas_gradebook(roster, {"12345": 85, "12346": 92.25, "12347": None, "777": 3}, "98765", possible=100)
    canvas_accepts(text)
    assert text == (
        "Student,ID,SIS User ID,SIS Login ID,Section,Lab 2: LoRA (98765)\n"
        '"Svensson, Åsa",12345,chs-0017,asas,DAT450 LP2,85\n'
        '"=""=Li, Bo""",12346,,,LP2,92.25\n'
    )


def test_last_and_first_name(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("LastName,FirstName,ID,SIS Login ID,Section,Lab (1)\nSvensson,Åsa,5,asas,LP2,\n")
    text = canvas_gradebook(read_roster(path), {"5": 0})
    canvas_accepts(text)
    assert text == "LastName,FirstName,ID,Section,Lab (1)\nSvensson,Åsa,5,LP2,0\n"


@pytest.mark.parametrize("column", ["98765", "Lab 2: LoRA (98765)", " Lab 2: LoRA ", "lora (98765"])
def test_a_column_is_named_by_id_title_or_part(roster: Roster, column: str) -> None:
    assert choose_column(roster, column).id == "98765"


def test_the_plausible_column_is_found_by_the_title(roster: Roster) -> None:
    assert choose_column(roster, title="Lab 1").id == "98764"
    assert choose_column(Roster((), assignments=roster.assignments[:1]), title="anything else").id == "98764"


@pytest.mark.parametrize(
    ("column", "title"), [("LoRA", ""), ("Lab 9", ""), (None, "LoRA lab"), (None, "Fine-tuning"), (None, "")]
)
def test_a_doubtful_column_is_refused_with_the_list(roster: Roster, column: str | None, title: str) -> None:
    with pytest.raises(UsageError) as caught:
        canvas_gradebook(roster, {"12345": 1}, column, title=title)
    assert "--column" in str(caught.value)
    assert all(
        header in str(caught.value) for header in ("Lab 1 (98764)", "Lab 2: LoRA (98765)", "Lab 2: LoRA resit (98766)")
    )


def test_points_that_differ_are_refused_or_converted(roster: Roster) -> None:
    with pytest.raises(UsageError, match="worth 10 points in Canvas, but these scores are out of 100"):
        canvas_gradebook(roster, {"12345": 85}, "98766", possible=100)
    assert rows(canvas_gradebook(roster, {"12345": 85}, "98766", possible=100, scale=True))[1][-1] == "8.5"
    nothing = replace(roster, assignments=tuple(replace(one, points=0.0) for one in roster.assignments))
    with pytest.raises(UsageError, match=r"worth 0 points in Canvas, .*: set its points there first"):
        canvas_gradebook(nothing, {"12345": 85}, "98766", possible=100, scale=True)


def test_a_plain_class_list_needs_the_whole_header() -> None:
    column = "Lab 2: LoRA (98765)"
    plain = Roster((RosterEntry("20", "=cmd()"), RosterEntry("3", "Berg, Bo", section="A"), RosterEntry("1", "C")))
    text = canvas_gradebook(plain, {"20": 1, "3": 2.5, "1": None, "4": 5}, f" {column} ")
    canvas_accepts(text)
    assert text == f'Student,ID,Section,{column}\n"=""=cmd()""",20,,1\n"Berg, Bo",3,A,2.5\n'
    for wrong in (None, "Lab 2"):
        with pytest.raises(UsageError, match="new assignment"):
            canvas_gradebook(plain, {"3": 1}, wrong)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_never_goes_out(roster: Roster, score: float) -> None:
    with pytest.raises(ValueError, match="12345"):
        canvas_gradebook(roster, {"12345": score}, "98765")


@pytest.mark.parametrize(
    ("value", "text"), [(85, "85"), (100, "100"), (0, "0"), (8.5, "8.5"), (25 / 3, "8.33"), (-0.001, "0")]
)
def test_number_cell(value: float, text: str) -> None:
    assert number_cell(value) == text


@given(st.dictionaries(st.integers(1, 10**18).map(str), st.text(max_size=20), max_size=5))
def test_any_name_gives_a_file_that_canvas_accepts(names: dict[str, str]) -> None:
    plain = Roster(tuple(RosterEntry(student, name) for student, name in names.items()))
    text = canvas_gradebook(plain, dict.fromkeys(names, 1), "Lab (1)")
    canvas_accepts(text)
    assert {row[1] for row in rows(text)[1:]} == set(names)
    assert all(
        row[0][:1] not in ("+", "-", "@") and (row[0][:1] != "=" or row[0][:2] == '="') for row in rows(text)[1:]
    )
    assert all(formula_safe(name)[:1] not in ("+", "-", "@") for name in names.values())


def test_what_was_written_reads_back(tmp_path: Path, roster: Roster) -> None:
    path = tmp_path / "out.csv"
    path.write_text(canvas_gradebook(roster, {"12345": 1, "12346": 2}, "98765"))
    again = read_roster(path)
    assert [(e.id, e.name) for e in again.entries] == [("12345", "Svensson, Åsa"), ("12346", "=Li, Bo")]
    assert [a.header for a in again.assignments] == ["Lab 2: LoRA (98765)"]
