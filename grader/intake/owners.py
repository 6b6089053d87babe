"""Whose the entries of a source are: Canvas and Moodle names, a folder per student, or plain notebooks.

Trusted code over untrusted names. The layout is told from the entries themselves, never from an option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.intake.archive import ArchiveEntry, looks_like_zip
from grader.intake.names import EntryName, parse_canvas_name, parse_moodle_path
from grader.intake.roster import Roster
from grader.intake.selection import look_at

__all__ = ["Claim", "Unmatched", "claim"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One entry and the student (or group) it belongs to."""

    found: ArchiveEntry
    """The entry."""
    key: tuple[str, ...]
    """Who: `("user", id)`, `("anon", id)`, or something unique to the source such as `("folder", source, name)`."""
    label: str
    """The owner's name as the source writes it."""
    parts: tuple[str, ...]
    """The file's path as the student called it."""
    name: EntryName | None = None
    """What the entry's name said; None when no system named it."""
    matched: bool = False
    """True when the owner was found in the roster by name, not by id."""


@dataclass(frozen=True, slots=True)
class Unmatched:
    """One entry that belongs to nobody."""

    found: ArchiveEntry
    """The entry."""
    reason: str
    """Why, to follow "left out because"."""


def claim(
    entries: Sequence[ArchiveEntry], source: str, roster: Roster, *, single: bool
) -> tuple[list[Claim], list[Unmatched]]:
    """Say for each entry (noise excepted) whose it is; `single` means that a person named this very file.

    Every entry given comes back exactly once, as a claim or as a stray.
    """
    names = {found.entry: _system_name(found, roster) for found in entries}
    parsed = sum(name is not None for name in names.values())
    mostly = parsed * 2 >= len(entries) and not single
    claims: list[Claim] = []
    rest: list[ArchiveEntry] = []
    for found in entries:
        name = names[found.entry]
        if name is not None and (mostly or name.system == "moodle" or _certain(name, found, roster, single)):
            claims.append(_of_system(found, name, roster))
        else:
            rest.append(found)
    depth = _wrapper_depth(entries, named=bool(claims))
    plain: list[tuple[ArchiveEntry, tuple[str, ...]]] = []
    for found in rest:
        parts = found.parts[depth:] if len(found.parts) > depth else found.parts[-1:]
        if len(parts) > 1:
            claims.append(_by_name(found, ("folder", source, parts[0]), parts[0], parts[1:], roster))
        else:
            plain.append((found, parts))
    notebooks = [(found, parts) for found, parts in plain if single or _may_be_submission(found, roster)]
    for found, parts in notebooks:
        claims.append(_by_name(found, ("file", source, found.entry), _stem(parts[0]), parts, roster))
    taken = {id(found) for found, _ in notebooks}
    others = [(found, parts) for found, parts in plain if id(found) not in taken]
    if len(notebooks) == 1 and len(claims) == 1:
        # One student's folder or zip: what lies beside the notebook belongs to it.
        return [*claims, *(Claim(found, claims[0].key, claims[0].label, parts) for found, parts in others)], []
    reason = "its name does not say whose it is" if claims else "it is not a notebook"
    return claims, [Unmatched(found, found.refusal or reason) for found, _ in others]


def _system_name(found: ArchiveEntry, roster: Roster) -> EntryName | None:
    return parse_moodle_path(found.parts) or parse_canvas_name(found.parts[-1], roster.by_id)


def _certain(name: EntryName, found: ArchiveEntry, roster: Roster, single: bool) -> bool:
    """Tell a Canvas name from a student's own name with numbers in it (`lab_4_2_final.ipynb`)."""
    if name.late or name.anonymous_id or name.user_id in roster.by_id:
        return True
    digits = min(len(name.user_id or ""), len(name.attachment_id or name.user_id or ""))
    return digits >= 3 and name.owner == name.owner.lower() and (single or len(found.parts) == 1)


def _of_system(found: ArchiveEntry, name: EntryName, roster: Roster) -> Claim:
    if name.anonymous_id:
        return Claim(found, ("anon", name.anonymous_id), f"Anonymous {name.anonymous_id}", (name.original,), name)
    key, matched = ("user", name.user_id or ""), False
    if name.system == "moodle":
        # Participant ids are Moodle's own; a roster from elsewhere can only know the name.
        key = ("moodle", name.user_id or "")
        if name.user_id in roster.by_id:
            key = ("user", name.user_id or "")
        elif entry := roster.find(name.owner):
            key, matched = ("user", entry.id), True
    return Claim(found, key, name.owner or key[1], (name.original,), name, matched)


def _by_name(found: ArchiveEntry, key: tuple[str, ...], label: str, parts: tuple[str, ...], roster: Roster) -> Claim:
    entry = roster.find(label)
    if entry is not None:
        return Claim(found, ("user", entry.id), label, parts, matched=True)
    return Claim(found, key, label, parts)


def _wrapper_depth(entries: Sequence[ArchiveEntry], *, named: bool) -> int:
    """Count the folders around the whole class, as made by zipping a folder."""
    paths = [found.parts for found in entries]
    depth = 0
    while paths and all(len(path) > depth + 1 and path[depth] == paths[0][depth] for path in paths):
        notebooks = [path[depth + 1 :] for path in paths if _named_notebook(path[-1])]
        direct = sum(len(path) == 1 for path in notebooks)
        below = {path[0] for path in notebooks if len(path) > 1}
        if not (named or direct >= 2 or (not direct and below) or len(below) >= 2):
            break
        depth += 1
    return depth


def _may_be_submission(found: ArchiveEntry, roster: Roster) -> bool:
    """True for a file at the top that is a notebook, may hold one, or bears a student's name."""
    name = found.parts[-1]
    if _named_notebook(name) or name.casefold().endswith(".zip") or roster.find(_stem(name)):
        return True
    if found.staged is None or not name.casefold().endswith((".json", ".txt")):
        return False
    return looks_like_zip(found.staged) or look_at(found.staged, name).what == "notebook"


def _named_notebook(name: str) -> bool:
    return ".ipynb" in name.casefold()


def _stem(name: str) -> str:
    cut = name.casefold().find(".ipynb")
    return (name[:cut] if cut > 0 else Path(name).stem) or name
