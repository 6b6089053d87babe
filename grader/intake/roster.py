"""The class list: Canvas's gradebook export in all its variants, a groups export, or a plain file with `id,name`.

Trusted code over a file that the instructor chose; the names in it are untrusted text (students choose their own).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from grader.errors import UsageError
from grader.intake.names import compact, printable
from grader.records import Notice

__all__ = [
    "COLUMN",
    "AssignmentColumn",
    "Roster",
    "RosterEntry",
    "alike",
    "csv_rows",
    "number",
    "read_roster",
    "rows_without",
    "with_groups",
]

_FIELDS = {
    "id": ("id", "canvas_user_id", "canvas user id", "user_id", "user id", "identifier"),
    "name": ("student", "name", "student name", "full name", "display name", "display_name"),
    "last": ("lastname", "last name", "last_name"),
    "first": ("firstname", "first name", "first_name"),
    "login": ("sis login id", "login_id", "login", "username"),
    "section": ("section", "sections"),
    "group": ("group_name", "group name", "group"),
}
"""How the columns of a student's fields may be called, the likeliest first."""
COLUMN = re.compile(r"(?P<title>.*\S)\s+\((?P<id>[0-9]+)\)", re.DOTALL)
"""An assignment in the head of a gradebook: its title and, in brackets, its id."""
_STUDENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@~-]*")
_MAX_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class AssignmentColumn:
    """One assignment of the gradebook."""

    header: str
    """Header as exported, e.g. `Lab 2: LoRA (98765)`."""
    title: str
    """Title without the id."""
    id: str
    """Canvas's assignment id."""
    points: float | None = None
    """Points possible, where the export says so."""


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One student of the class."""

    id: str
    """Canvas user id (or whatever id the file joins by)."""
    name: str
    """Name as the file writes it, e.g. `Svensson, Åsa`."""
    sis_login: str = ""
    """SIS login id; empty when the export has none."""
    section: str = ""
    """Section, or several joined by Canvas."""
    group: str = ""
    """Name of the student's group, where a file says so."""
    identity: tuple[str, ...] = ()
    """The identity cells as exported, in the order of `Roster.identity_header`; the id without a spreadsheet's `.0`."""
    grades: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Assignment id -> the cell as exported: points, `EX` for who is excused, `N/A` for whom it is not assigned to, or empty."""

    @property
    def is_test_student(self) -> bool:
        """True for Canvas's "Student, Test", whom nobody misses."""
        return self.name.casefold() in ("student, test", "test student")


@dataclass(frozen=True)
class Roster:
    """The students of a class, and what is needed to write a gradebook back."""

    entries: tuple[RosterEntry, ...]
    """The students, in the order of the file."""
    identity_header: tuple[str, ...] = ()
    """Header cells that Canvas needs to recognise a student, e.g. `Student, ID, Section`; empty for a plain list."""
    assignments: tuple[AssignmentColumn, ...] = ()
    """The gradebook's assignment columns."""
    notices: tuple[Notice, ...] = ()
    """Rows that were left out, and why."""
    data: bytes = field(default=b"", repr=False, compare=False)
    """The file as it was read, to be kept with a run: a pipe can be read only once."""
    groups_data: bytes = field(default=b"", repr=False, compare=False)
    """The same of the list of groups."""

    @cached_property
    def by_id(self) -> dict[str, RosterEntry]:
        """Students by id."""
        return {entry.id: entry for entry in self.entries}

    @cached_property
    def _by_text(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for entry in self.entries:
            last, _, first = entry.name.partition(",")
            texts = {entry.id.casefold(), entry.sis_login.casefold(), compact(entry.name), compact(first + last)}
            for text in texts - {""}:
                found[text] = (*found.get(text, ()), entry.id)
        return found

    def named(self, text: str) -> tuple[RosterEntry, ...]:
        """Return the students whose id, login or name (either order, spaces and case aside) is `text`; several may share one."""
        ids = self._by_text.get(text.strip().casefold()) or self._by_text.get(compact(text)) or ()
        return tuple(self.by_id[one] for one in ids)

    def says(self, id_: str, name: str) -> str:
        """Whether `name`, as a platform writes it, is the name of the `student` with this id, or of the student's `group`."""
        entry = self.by_id.get(id_)
        if entry is None or not compact(name):
            return ""
        return "student" if alike(name, entry.name) else "group" if compact(name) == compact(entry.group) else ""


def alike(one: str, other: str) -> bool:
    """True for two ways to write a person's name: `svenssonåsa`, `Svensson, Åsa` and `Åsa Svensson` are."""
    return sorted(compact(one)) == sorted(compact(other))


def number(cell: str) -> float | None:
    """Read a number with decimal point or comma; None when the cell holds none."""
    text = re.sub(r"[\s'’]", "", cell)  # between thousands in some languages
    if re.fullmatch(r"-?[1-9][0-9]{0,2}((,[0-9]{3})+|(\.[0-9]{3})+)", text):
        text = re.sub("[.,]", "", text)  # 1,000 or 1.000: Canvas writes two decimals at most
    elif "," in text:
        # The separator that comes last is the decimal one: 1.234,5 and 1,234.5 are the same number.
        text = text.replace(".", "").replace(",", ".") if text.rfind(",") > text.rfind(".") else text.replace(",", "")
    return float(text) if re.fullmatch(r"-?[0-9]+(\.[0-9]*)?", text) else None


def unguarded(cell: str) -> str:
    """Undo Canvas's formula guard: `="=SUM"` gives `=SUM`."""
    if cell.startswith('="') and cell.endswith('"') and len(cell) >= 3:
        return cell[2:-1].replace('""', '"')
    return cell


def read_roster(path: Path, *, need_group: bool = False) -> Roster:
    """Read a class list: Canvas's gradebook export, or any CSV with the columns `id` and `name`, and one of groups if it needs it.

    `,` `;` and tab as separators, BOM, decimal comma, the rows `Manual Posting` and `Points Possible`, the formula
    guard `="…"` and missing SIS columns are understood. The file is read once, so that it may be a pipe. Raises UsageError when it
    cannot be read or lacks the columns, naming those that it has.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the class list {path}: {reason}") from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"{path} is too large for a class list")
    first, *rows = csv_rows(path, data)
    header = [printable(cell) for cell in first]
    at = _places(header)
    if "id" not in at or not {"name", "last"} & at.keys() or (need_group and "group" not in at):
        has = f"{path} has the columns {', '.join(header[:12]) or '(none)'}"
        if need_group:
            raise UsageError(f"{has}; a list of groups needs `canvas_user_id`, `name` and `group_name`")
        raise UsageError(
            f"{has}; a class list needs `ID` and `Student` (or `id` and `name`). "
            "In Canvas: Grades → Export → Export Entire Gradebook."
        )
    identity = _identity_columns([cell.casefold() for cell in header])
    entries: dict[str, RosterEntry] = {}
    notices: list[Notice] = []
    points = next((row for row in rows if _is_points(row)), [])
    assignments = _assignments(header, points, identity)
    for row_number, row in enumerate(rows, 2):
        cells = [*row, *[""] * (len(header) - len(row))]
        text = {field: printable(unguarded(cells[place].strip())) for field, place in at.items()}
        name = text.get("name") or ", ".join(filter(None, (text.get("last"), text.get("first"))))
        id_ = cells[at["id"]] = _id_in(cells[at["id"]])
        if _is_points(row) or not (id_ or name):
            continue  # with the row of "Manual Posting", and separators only
        if re.fullmatch(r"[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+", id_):
            raise UsageError(
                f"{path}, row {row_number}: the id {id_} was shortened by a spreadsheet program; "
                "export the gradebook again and do not save it from there"
            )
        if not _STUDENT_ID.fullmatch(id_):
            problem = f"Row {row_number} of the class list ({name}) has no usable id and was left out."
            notices.append(Notice("roster-row", problem))
        elif id_ in entries:
            problem = f"Row {row_number} of the class list repeats the id {id_} ({name}); the first row counts."
            notices.append(Notice("roster-row", problem))
        else:
            entries[id_] = RosterEntry(
                id_,
                name or id_,
                text.get("login", ""),
                text.get("section", ""),
                text.get("group", ""),
                tuple(cells[place] for place in identity),
                {one.id: cells[header.index(one.header)].strip() for one in assignments},
            )
    if not entries:
        raise UsageError(f"{path} has the columns of a class list but no row with an id")
    return Roster(
        entries=tuple(entries.values()),
        identity_header=tuple(header[i] for i in identity),
        assignments=assignments,
        notices=tuple(notices),
        data=data,
    )


def with_groups(roster: Roster, groups: Path) -> Roster:
    """Add the groups that a file lists, with the columns `canvas_user_id`, `name` and `group_name`; read as by `read_roster`."""
    listed = read_roster(groups, need_group=True)
    of = {entry.id: entry.group for entry in listed.entries}
    entries = tuple(replace(e, group=of.get(e.id, e.group)) for e in roster.entries)
    return replace(roster, entries=entries, groups_data=listed.data)


def rows_without(path: Path, data: bytes, gone: Collection[str]) -> list[list[str]]:
    """The rows of the class list in `data`, with its head, but those of the ids that are `gone`. Raises UsageError as `csv_rows`."""
    header, *rows = csv_rows(path, data)
    place = _places(header)["id"]
    return [header, *(row for row in rows if _id_in("".join(row[place : place + 1])) not in gone)]


def _places(header: list[str]) -> dict[str, int]:
    """The columns of the fields that there are."""
    columns = [printable(cell).casefold() for cell in header]
    found = {field: [columns.index(name) for name in names if name in columns] for field, names in _FIELDS.items()}
    return {field: places[0] for field, places in found.items() if places}


def _id_in(cell: str) -> str:
    """The id in a cell: without Moodle's word before it, and what a spreadsheet makes of it, 1001.0."""
    text = printable(unguarded(cell.strip())).removeprefix("Participant ")
    return re.sub(r"^([0-9]+)[.,]0+$", r"\1", text)


def _is_points(row: list[str]) -> bool:
    return "points possible" in row[0].casefold()


def csv_rows(path: Path, data: bytes) -> list[list[str]]:
    """Read the rows of a CSV file that are not empty, whatever its encoding and separator; there is at least one.

    Raises UsageError, which names `path`, when it is no such file.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")  # saved again by a spreadsheet program
    if "\0" in text:
        raise UsageError(f"{path} is not a CSV file; a class list is Canvas's gradebook export (Grades → Export)")
    text = re.sub(r"\A\s*sep=.\r?\n", "", text)
    best: list[list[str]] = []
    for separator in ",;\t":
        try:
            table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            rows = [row for row in table if any(map(str.strip, row))]
        except csv.Error as error:
            raise UsageError(f"{path} is not a readable CSV file: {error}") from error
        # Titles may hold the other separators, so a known column decides, not a count.
        if rows and {cell.strip().casefold() for cell in rows[0]} & set(_FIELDS["id"]):
            return rows
        best = max(best, rows, key=lambda found: len(found[0]) if found else 0)
    if not best:
        raise UsageError(f"{path} is empty")
    return best


def _identity_columns(columns: list[str]) -> list[int]:
    """Choose the columns that Canvas's importer insists on; none when the file is no gradebook export."""
    start = 3 if columns[:3] == ["lastname", "firstname", "id"] else 2 if columns[:2] == ["student", "id"] else 0
    if not start or "section" not in columns:
        return []
    # Canvas takes the SIS columns only as this pair; without them the id alone joins.
    sis = [columns.index(name) for name in ("sis user id", "sis login id") if name in columns]
    return [*range(start), *(sis if len(sis) == 2 else []), columns.index("section")]


def _assignments(header: list[str], points: list[str], identity: list[int]) -> tuple[AssignmentColumn, ...]:
    found = []
    for i, cell in enumerate(header):
        match = COLUMN.fullmatch(cell)
        possible = points[i] if i < len(points) else ""
        if match and i > max(identity, default=0) and "read only" not in possible.casefold():
            found.append(AssignmentColumn(cell, match["title"], match["id"], number(possible)))
    return tuple(found)
