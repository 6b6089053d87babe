"""Whose the entries of a source are: Canvas and Moodle names, a folder per student, or plain notebooks.

Trusted code over untrusted names. The layout is recognised from the entries themselves, never from an option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grader.intake.archive import ArchiveEntry, looks_like_zip
from grader.intake.names import EntryName, is_notebook_name, parse_canvas_name, parse_moodle_path
from grader.intake.roster import Roster
from grader.intake.selection import UploadedFile, file_kind

__all__ = ["assign_owners"]

_MOST_WRAPPERS = 10


def assign_owners(
    entries: Sequence[ArchiveEntry], source: str, roster: Roster, *, single: bool
) -> tuple[list[UploadedFile], list[ArchiveEntry]]:
    """Say for each entry (noise excepted) whose it is; `single` means that a person named this very file.

    Every entry given comes back exactly once: as a student's file, or, with the reason as its refusal, among those that
    belong to nobody.
    """
    names = {entry.name: _system_name(entry, roster) for entry in entries}
    mostly = sum(name is not None for name in names.values()) * 2 >= len(entries) and not single
    files: list[UploadedFile] = []
    rest: list[ArchiveEntry] = []
    for entry in entries:
        name = names[entry.name]
        if name is not None and (mostly or name.system == "moodle" or _certain(name, entry, roster, single)):
            files.append(_of_system(entry, name, roster))
        else:
            rest.append(entry)
    depth = _wrapper_depth(entries, named=bool(files))
    others: list[UploadedFile] = []
    notebooks = 0
    for entry in rest:
        parts = entry.parts[depth:] if len(entry.parts) > depth else entry.parts[-1:]
        if len(parts) > 1:
            files.append(_by_name(entry, ("folder", source, parts[0]), parts[0], parts[1:], roster))
        elif single or _may_be_submission(entry, roster):
            files.append(_by_name(entry, ("file", source, entry.name), _stem(parts[0]), parts, roster))
            notebooks += 1
        else:
            others.append(UploadedFile(entry, (), "", parts))
    if notebooks == 1 and len(files) == 1:
        # One student's folder or zip: what lies beside the notebook belongs to it.
        owner = files[0]
        return [owner, *(replace(file, owner=owner.owner, label=owner.label) for file in others)], []
    reason = "its name does not say whose it is" if files else "it is not a notebook"
    return files, [replace(file.entry, refusal=file.entry.refusal or reason) for file in others]


def _system_name(entry: ArchiveEntry, roster: Roster) -> EntryName | None:
    return parse_moodle_path(entry.parts) or parse_canvas_name(entry.parts[-1], roster.by_id)


def _certain(name: EntryName, entry: ArchiveEntry, roster: Roster, single: bool) -> bool:
    """Tell a Canvas name from a student's own name with numbers in it (`lab_4_2_final.ipynb`)."""
    if name.late or name.anonymous_id or name.user_id in roster.by_id:
        return True
    digits = min(len(name.user_id or ""), len(name.attachment_id or name.user_id or ""))
    return digits >= 3 and name.owner == name.owner.lower() and (single or len(entry.parts) == 1)


def _of_system(entry: ArchiveEntry, name: EntryName, roster: Roster) -> UploadedFile:
    parts, user = (name.original,), name.user_id or ""
    if name.anonymous_id:
        return UploadedFile(entry, ("anon", name.anonymous_id), f"Anonymous {name.anonymous_id}", parts, name)
    if name.system == "moodle" and user not in roster.by_id:
        # Participant ids are Moodle's own; a roster from elsewhere can only know the name.
        return replace(_by_name(entry, ("moodle", user), name.owner, parts, roster), name=name)
    return UploadedFile(entry, ("user", user), name.owner or user, parts, name)


def _by_name(
    entry: ArchiveEntry, owner: tuple[str, ...], label: str, parts: tuple[str, ...], roster: Roster
) -> UploadedFile:
    student = roster.find(label)
    if student is not None:
        return UploadedFile(entry, ("user", student.id), label, parts, matched=True)
    return UploadedFile(entry, owner, label, parts)


def _wrapper_depth(entries: Sequence[ArchiveEntry], *, named: bool) -> int:
    """Count the folders around the whole class, as made by zipping a folder."""
    paths = [entry.parts for entry in entries]
    depth = 0
    while (
        paths
        and depth < _MOST_WRAPPERS
        and all(len(path) > depth + 1 and path[depth] == paths[0][depth] for path in paths)
    ):
        notebooks = [path[depth + 1 :] for path in paths if is_notebook_name(path[-1])]
        direct = sum(len(path) == 1 for path in notebooks)
        below = {path[0] for path in notebooks if len(path) > 1}
        if not (named or direct >= 2 or (not direct and below) or len(below) >= 2):
            break
        depth += 1
    return depth


def _may_be_submission(entry: ArchiveEntry, roster: Roster) -> bool:
    """True for a file at the top that is a notebook, may hold one, or bears a student's name."""
    name = entry.parts[-1]
    if is_notebook_name(name) or name.casefold().endswith(".zip") or roster.find(_stem(name)):
        return True
    if entry.staged is None or not name.casefold().endswith((".json", ".txt")):
        return False
    return looks_like_zip(entry.staged) or file_kind(entry.staged, name).what == "notebook"


def _stem(name: str) -> str:
    cut = name.casefold().find(".ipynb")
    return (name[:cut] if cut > 0 else Path(name).stem) or name
