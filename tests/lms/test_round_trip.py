"""Export, grade, import: what Canvas has afterwards differs in the graded cells, and in nothing else, whatever the export looked like."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from grader.intake import read_roster
from grader.intake.roster import number, unguarded
from tests.lms import canvas_gradebook

Cells = dict[tuple[str, str], str]
"""Student id and assignment's id -> the cell."""


@dataclass(frozen=True)
class Export:
    """A gradebook as Canvas exports it, perhaps after a spreadsheet program had it."""

    data: bytes
    cells: Cells
    points: float
    column: str
    """Id of the assignment that is graded."""


names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=15).filter(
    lambda name: name.strip() and ":" not in name
)
people = names | st.sampled_from(
    ['=HYPERLINK("x")', "+1", "-Berg, Bo", "@x", 'O"Neil, Åsa', "Li; Bo", "Student, Test", "Points, Paul", "李, 明"]
)
grades = st.sampled_from(["", "", "8.5", "8,50", "0", "EX", "ex", "N/A", "100", "1,000"])


def guarded(name: str) -> str:
    return '="' + name.replace('"', '""') + '"' if name.startswith("=") else name


@st.composite
def exports(draw: st.DrawFn) -> Export:
    ids = draw(st.lists(st.integers(1, 10**15).map(str), min_size=1, max_size=6, unique=True))
    sis, split, posting, spreadsheet = (draw(st.booleans()) for _ in range(4))
    columns = draw(
        st.lists(st.integers(1, 10**6).map(str), min_size=1, max_size=draw(st.sampled_from([1, 3, 40])), unique=True)
    )
    titles = [
        draw(st.sampled_from(["Lab", "Lab 2: LoRA (resit)", "Lab, 3", "Läb; 4", "ID", "Section"])) for _ in columns
    ]
    chosen = draw(st.sampled_from(columns))
    points = draw(st.sampled_from([10.0, 100.0, 4.5, 1000.0]))
    identity = (
        (["LastName", "FirstName", "ID"] if split else ["Student", "ID"])
        + (["SIS User ID", "SIS Login ID"] if sis else [])
        + ["Section"]
    )
    heads = [f"{title} ({one})" for title, one in zip(titles, columns, strict=True)]
    rows = [[*identity, *heads, "Final Score"]]
    if posting:
        rows.append([*[""] * len(identity), *["Manual Posting"] * len(columns), ""])
    worth = [f"{points:g}" if one == chosen else draw(st.sampled_from(["5", "", "2,50"])) for one in columns]
    rows.append(["    Points Possible", *[""] * (len(identity) - 1), *worth, "(read only)"])
    cells: Cells = {}
    for one in ids:
        name = draw(people)
        known = [*([guarded(name), "Bo"] if split else [guarded(name)]), f"{one}.0" if spreadsheet else one]
        row = [draw(grades) for _ in columns]
        cells |= {(one, column): cell for column, cell in zip(columns, row, strict=True)}
        rows.append(
            [
                *known,
                *([f"s{one}", f"u{one}"] if sis else []),
                draw(st.sampled_from(["LP2", "A and B", "A, B", ""])),
                *row,
                "85",
            ]
        )
    out = io.StringIO()
    csv.writer(out, delimiter=draw(st.sampled_from(",;\t"))).writerows(rows)
    text, encoding = out.getvalue(), draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return Export(text.encode(encoding), cells, points, chosen)


def imported(cells: Cells, text: str) -> Cells:
    """Canvas's importer: students by id, columns by the id in brackets; an empty cell clears, and what it does not know it would make."""
    header, *rows = csv.reader(io.StringIO(text))
    at = header.index("ID")
    columns = {n: match[1] for n, head in enumerate(header) if (match := re.fullmatch(r".*\s\((\d+)\)", head))}
    assert (
        header[:at] in (["Student"], ["LastName", "FirstName"]) and header[len(header) - len(columns) - 1] == "Section"
    )
    after = dict(cells)
    for row in rows:
        assert len(row) == len(header) and "Points Possible" not in row[0]
        assert unguarded(row[0])[:1] != "=" or row[0] != unguarded(row[0]), "a spreadsheet would run it"
        for n, column in columns.items():
            assert (row[at], column) in cells, "a student or an assignment that Canvas does not have"
            after[row[at], column] = row[n].strip()
    return after


@settings(max_examples=150, deadline=None)
@given(exports(), st.data())
def test_an_import_changes_the_graded_cells_only(export: Export, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "export.csv"
        path.write_bytes(export.data)
        roster = read_roster(path)
        ids = sorted({student for student, _ in export.cells})
        assert [entry.id for entry in roster.entries] == list(dict.fromkeys(student for student, _ in export.cells))
        scores = {one: data.draw(st.sampled_from([None, 0, 17, 42.5, 100])) for one in ids if data.draw(st.booleans())}
        text = canvas_gradebook(roster, {**scores, "999": 50}, export.column, possible=100, scale=True)
        after = imported(export.cells, text)
        path.write_text(text, encoding="utf-8")
        again = read_roster(path).entries if text.count("\n") > 1 else ()
    graded = {
        one: score * export.points / 100
        for one, score in scores.items()
        if score is not None and export.cells[one, export.column].upper() not in ("EX", "N/A")
    }
    assert {key for key in after if after[key] != export.cells[key]} <= {(one, export.column) for one in graded}
    assert {one: number(after[one, export.column]) for one in graded} == {
        one: round(points, 2) for one, points in graded.items()
    }
    assert {entry.id: entry.grades[export.column] for entry in again} == {
        one: after[one, export.column] for one in graded
    }
