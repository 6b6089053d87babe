"""Whose the entries of a source are: Canvas and Moodle names, a folder per student, or plain notebooks.

Trusted code over untrusted names. What wrote the names is decided once for a source, by all of them. Then only the name of each file
or folder at the level of the class is read, and in it only the fields that the platform wrote; all else is a student's text. A name
that can be two people's belongs to nobody until a person decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from grader.intake.archive import UploadedFile, looks_like_zip
from grader.intake.kinds import file_kind
from grader.intake.names import EntryName, Owner, canvas_readings, is_notebook_name, moodle_readings, shown
from grader.intake.roster import Roster, RosterEntry
from grader.records import Notice

__all__ = ["assign_owners", "is_download", "is_one_hand_in"]

_MOST_WRAPPERS = 10
_WRITERS = {"canvas": "Canvas", "moodle": "Moodle"}


@dataclass(frozen=True, slots=True)
class _Item:
    """A file or a folder at the level of the class."""

    path: tuple[str, ...]
    """Where it lies in the source."""
    folder: bool
    """Whether it is a folder."""
    entries: list[UploadedFile]
    """The file itself, or all that lies in the folder."""

    @property
    def key(self) -> str:
        """The path; a file and a folder that stand in an archive under one name differ."""
        return "/".join(self.path) + "/" * self.folder

    @property
    def name(self) -> str:
        """The part that says whose it is."""
        return self.path[-1]

    def readings(self, platform: str, *, anonymous: bool = False) -> tuple[EntryName, ...]:
        """All ways to read the name as one that the platform wrote."""
        if platform == "canvas":
            return canvas_readings(self.name, anonymous=anonymous)
        return moodle_readings(self.name, folder=self.folder) if platform else ()

    def writer(self) -> str:
        """The platform whose fields stand first in the name, since what a student wrote follows them; else empty."""
        if self.readings("canvas", anonymous=True):
            return "canvas"
        found = {len(read[0].owner): name for name in _WRITERS if (read := self.readings(name))}
        return found[min(found)] if found else ""


def assign_owners(
    entries: Sequence[UploadedFile], source: str, roster: Roster, *, single: bool
) -> tuple[list[UploadedFile], list[Notice]]:
    """Say for each entry (noise excepted) whose it is; `single` means that a person named the first file, which the others are beside.

    Returns all of them, those of nobody with a `refusal` and no `owner`, and what had to be decided about the source as a whole.
    """
    if single:
        (first,), notices = _assigned(entries[:1], source, roster, single=True)
        return [first, *(replace(entry, owner=first.owner) for entry in entries[1:])], notices
    return _assigned(entries, source, roster)


def _assigned(
    entries: Sequence[UploadedFile], source: str, roster: Roster, *, single: bool = False
) -> tuple[list[UploadedFile], list[Notice]]:
    platform, depth = _layout(entries, roster, single=single)
    if not platform:
        return _by_names(_items(entries, _wrapper_depth(entries)), source, roster, single=single, alone=True), []
    items = _items(entries, depth)
    owners = _owners(items, source, roster, platform)
    files = []
    for item in items:
        if item.key in owners:
            owner, name = owners[item.key]
            original = name.original if name else item.name
            for entry in item.entries:
                parts = entry.parts[len(item.path) :] if item.folder else (original,)
                files.append(replace(entry, parts=parts, read_as=name, owner=owner))
    # A person has put the rest there. Whoever hands in through a platform cannot: so their names match nobody in the roster.
    files += _by_names([item for item in items if item.key not in owners], source, Roster(()))
    notices = []
    if other := {item.writer() for item in items} - {platform, ""}:
        text = (
            f"Some names in {shown(source)} begin as {_WRITERS[other.pop()]} writes them; only those that begin as "
            f"{_WRITERS[platform]} does, which are more, say whose they are. Give the downloads of two platforms as two sources."
        )
        notices.append(Notice("two-platforms", text))
    return files, notices


def is_one_hand_in(name: str, entries: Sequence[UploadedFile], roster: Roster) -> bool:
    """Whether a folder or archive that a person named is one hand-in, called as Canvas calls files: `svenssonåsa_12345_67890_lab`.

    The class list has its user, or it holds one notebook only: `dat450_2024_1101_lab` with many is the class.
    """
    readings = canvas_readings(name)
    listed = any(reading.user_id in roster.by_id for reading in readings)
    alone = sum(is_notebook_name(entry.parts[-1]) for entry in entries if not entry.noise) == 1
    return bool(readings) and (listed or (alone and not roster.entries and _is_certain(name, roster)))


def is_download(entries: Iterable[UploadedFile]) -> bool:
    """Whether what a zip of a student's holds is a class instead: notebooks that a platform has named as those of several.

    Of a name only the first reading counts: it takes long to tell which of the readings of thousands is right.
    """
    found = set()
    for entry in entries:
        if is_notebook_name(entry.file_name) and _is_certain(entry.file_name, Roster(())):
            names = canvas_readings(entry.file_name, anonymous=True) or canvas_readings(entry.file_name)
            for part in entry.parts:
                names = names or moodle_readings(part, folder=part is not entry.file_name)
            found |= {(name.user_id, name.anonymous_id) for name in names[:1]}
    return len(found) > 1


def _matched(claims: Mapping[tuple[str, ...], tuple[str, str]], roster: Roster) -> dict[tuple[str, ...], Owner]:
    """Find owners in the roster by name. `claims` maps a key to the name and to who claims it (more than one may share a name).

    A name of several students, and a student whom several claim, is in doubt.
    """
    claimed: dict[str, dict[str, None]] = {}
    for label, claimant in claims.values():
        for student in roster.named(label):
            claimed.setdefault(student.id, {})[claimant] = None
    owners = {}
    for key, (label, claimant) in claims.items():
        students = roster.named(label)
        rivals = [name for student in students for name in claimed[student.id]]
        doubt = ""
        if len(students) > 1:
            doubt = f"{shown(label)} is the name of {len(students)} in the class list: {_people(students)}."
        elif len(rivals) > 1:
            doubt = f"{' and '.join(map(shown, rivals))} all name {_people(students)}."
        if doubt:
            possible = tuple(student.id for student in students)
            owners[key] = Owner(("doubt", *key[:2], claimant), label, doubt=doubt, possible=possible)
        elif students:
            owners[key] = Owner(("user", students[0].id), label, matched=True)
        else:
            owners[key] = Owner(key, label)
    return owners


def _layout(entries: Sequence[UploadedFile], roster: Roster, *, single: bool) -> tuple[str, int]:
    """What wrote the names, and how many folders lie around what it named; empty when no platform did.

    More than half of what can be a hand-in has to bear a platform's name, or all of it where it lies in several folders.
    """
    wrapper = "", 0  # a single folder that may be a student's, or the class's (`dat450_2024_2_lab`)
    for depth in range(_MOST_WRAPPERS):
        writers: list[str] = []
        unnamed: list[_Item] = []
        for item in (items := _items(entries, depth)):
            writer = item.writer()
            if writer and not (single and not _is_certain(item.name, roster)):
                writers.append(writer)
            elif item.folder or len(item.path) > depth or _may_be_hand_in(item.entries[0], roster):
                unnamed.append(item)
        rest = [item for item in unnamed if item.folder or _may_be_hand_in(item.entries[0], roster)]
        together = len({item.path[:-1] for item in items if len(item.path) > depth}) == 1
        if writers and (len(writers) > len(rest) if together else not unnamed):
            platform = max(("canvas", "moodle"), key=writers.count)
            first = [(item.readings(platform, anonymous=True) or item.readings(platform))[:1] for item in items]
            names = [name for found in first for name in found]
            listed = any(r.user_id in roster.by_id for item in items for r in item.readings(platform))
            if platform == "canvas" and not listed and _shares_numbers(names):
                break
            if wrapper[0] and len({(name.user_id, name.anonymous_id) for name in names}) < 2:
                break
            if listed or not (len(items) == 1 and items[0].folder):
                return platform, depth
            wrapper = platform, depth
        # A folder that bears a student's name is that student's, and what is in it is the student's text.
        elif not rest or not all(item.folder for item in rest) or any(roster.named(item.name) for item in rest):
            break
    return wrapper


def _shares_numbers(names: Iterable[EntryName]) -> bool:
    """Whether files have the same numbers, as in `anna_2024_11_lab.ipynb` and `ben_2024_11_lab.ipynb`: Canvas gives each its own."""
    some: dict[str, list[EntryName]] = {}
    for name in names:
        if name.attachment_id and len(some.setdefault(name.owner, [])) < 3:  # one owner's files do not decide for all
            some[name.owner].append(name)
    counted = [(n.user_id, n.anonymous_id, n.attachment_id) for found in some.values() for n in found]
    return len(counted) > 3 - len(some) and 3 * len(set(counted)) < 2 * len(counted)


def _is_certain(name: str, roster: Roster) -> bool:
    """Tell a platform's name from a student's own (`lab_4_2_final.ipynb`) where there is no other to compare it with."""
    readings = canvas_readings(name)
    return not readings or any(
        reading.late
        or reading.user_id in roster.by_id
        or (
            len(reading.user_id or "") >= 3
            and len(reading.attachment_id or "---") >= 3
            and reading.owner == reading.owner.lower()
        )
        for reading in readings
    )


def _items(entries: Iterable[UploadedFile], depth: int) -> list[_Item]:
    """The files and folders below `depth` folders; what lies less deep comes as it is."""
    found: dict[tuple[tuple[str, ...], bool], list[UploadedFile]] = {}
    for entry in entries:
        path = entry.parts[: depth + 1]
        found.setdefault((path, entry.parts != path), []).append(entry)
    return [_Item(path, folder, inside) for (path, folder), inside in found.items()]


def _owners(
    items: Sequence[_Item], source: str, roster: Roster, platform: str
) -> dict[str, tuple[Owner, EntryName | None]]:
    """Owners of what the platform named, by path; with what the name says where that is sure."""
    items = [item for item in items if item.writer() == platform]
    readings = {item.key: item.readings(platform) for item in items}
    if platform == "canvas":
        hidden = {item.key: item.readings(platform, anonymous=True) for item in items}
        ids = [found[0].anonymous_id or "" for found in hidden.values() if found]
        # An assignment is graded anonymously or not. A group may call itself anon: then its numbers are ids of the roster.
        anonymous = all(hidden[path] for path, found in readings.items() if found)
        if anonymous and not (all(map(str.isdigit, ids)) and any(one in roster.by_id for one in ids)):
            readings = hidden
        readings = {path: found or hidden[path] for path, found in readings.items()}
    settled = _settled(readings, roster if platform == "canvas" else Roster(()))
    sure = {path: found[0] for path, found in settled.items() if len(found) == 1}
    # Participant ids are Moodle's own: they are the roster's only if somebody has the same id and name in both.
    shared = platform == "canvas" or any(roster.says(name.user_id or "", name.owner) for name in sure.values())
    claims: dict[tuple[str, ...], tuple[str, str]] = {}
    for name in sure.values():
        claims["moodle", name.user_id or ""] = (name.owner, f"{name.owner} ({name.user_id})")
    matched = {} if shared else _matched(claims, roster)
    owners: dict[str, tuple[Owner, EntryName | None]] = {}
    for item in items:
        found = settled[item.key]
        if len(found) > 1:
            owners[item.key] = (_in_doubt(item, source, found, roster), None)
            continue
        name = found[0]
        key = ("anon", name.anonymous_id) if name.anonymous_id else ("moodle", name.user_id or "")
        if name.user_id and (platform == "canvas" or (shared and name.user_id in roster.by_id)):
            key = ("user", name.user_id)
        label = f"Anonymous {name.anonymous_id}" if name.anonymous_id else name.owner or key[1]
        owners[item.key] = (matched.get(key) or Owner(key, label), name)
    return owners


def _settled(readings: Mapping[str, tuple[EntryName, ...]], roster: Roster) -> dict[str, tuple[EntryName, ...]]:
    """Strike out the readings that the other names of the source, and the roster, speak against; more than one may be left."""
    sure = [found[0] for found in readings.values() if len(found) == 1]
    listed = [name for name in sure if name.user_id in roster.by_id]
    # As whose names the roster knows those of its users: `student`, `group`, or empty for other names.
    kinds = {roster.says(name.user_id or "", name.owner) for name in listed}
    left = dict(readings)
    while True:
        known: dict[str, set[str]] = {}
        for name in (found[0] for found in left.values() if len(found) == 1):
            known.setdefault(name.user_id or "", set()).add(name.owner)
        narrowed = {
            path: _narrowed(found, known, roster, kinds, all_listed=len(listed) == len(sure))
            for path, found in left.items()
        }
        if narrowed == left:
            return left
        left = narrowed


def _narrowed(
    found: tuple[EntryName, ...], known: Mapping[str, set[str]], roster: Roster, kinds: set[str], *, all_listed: bool
) -> tuple[EntryName, ...]:
    # A platform calls a user by one name in a source. What a student writes cannot change how another is called.
    found = tuple(r for r in found if r.owner in known.get(r.user_id or "", {r.owner})) or found
    if len({reading.user_id for reading in found}) < 2:
        return found[:1]
    listed = [reading for reading in found if reading.user_id in roster.by_id]
    # The name stands before all that a student wrote: where the sure names are those of the roster, it decides.
    named = [
        r for r in listed if (kind := roster.says(r.user_id or "", r.owner)) and (kind in kinds or len(listed) == 1)
    ]
    if len(named) == 1 and "" not in kinds:
        return tuple(named)
    # `team_7_12345_67890_lab_4_2.ipynb`: 12345 is the platform's own also if 7 is the user, and only one of them is a student's.
    # 4 could be a user only in a group that has the rest as its name, and everybody else is in the roster.
    for one in listed if len(listed) == 1 else ():
        after = [r for r in found if len(r.owner) > len(one.owner)]
        if all(r.attachment_id == one.user_id for r in found if r is not one and r not in after) and (
            all_listed or not after
        ):
            return (one,)
    return found


def _in_doubt(item: _Item, source: str, found: Sequence[EntryName], roster: Roster) -> Owner:
    people = []
    for reading in found:
        entry = roster.by_id.get(reading.user_id or "")
        people.append(f"{entry.name if entry else shown(reading.owner, 40)} (user {reading.user_id})")
    doubt = (
        f"{shown(item.name)} can be read as handed in by {' or by '.join(people)}. A class list with the ids and groups of today "
        "(--roster) may tell; else leave it out, or rename it."
    )
    possible = tuple(r.user_id for r in found if r.user_id in roster.by_id)
    return Owner(("doubt", source, item.key), " or ".join(people), doubt=doubt, possible=possible)


def _people(students: Sequence[RosterEntry]) -> str:
    return " and ".join(f"{student.name} ({student.id})" for student in students)


def _by_names(
    items: Sequence[_Item], source: str, roster: Roster, *, single: bool = False, alone: bool = False
) -> list[UploadedFile]:
    """Take folders, and files that may be hand-ins, under their own names; `alone` when they are all of the source."""
    mine = [item for item in items if item.folder or single or _may_be_hand_in(item.entries[0], roster)]
    claims: dict[tuple[str, ...], tuple[str, str]] = {}
    for item in mine:
        label = item.name if item.folder else _stem(item.name)
        claims["folder" if item.folder else "file", source, item.key] = (label, label)
    files = [
        replace(entry, parts=entry.parts[len(item.path) :] or entry.parts[-1:], owner=owner)
        for item, owner in zip(mine, _matched(claims, roster).values(), strict=True)
        for entry in item.entries
    ]
    taken = {item.key for item in mine}
    others = [entry for item in items if item.key not in taken for entry in item.entries]
    if alone and len(files) == 1 and not mine[0].folder:
        # One student's folder or zip: what lies beside the notebook belongs to it.
        return [*files, *(replace(entry, parts=entry.parts[-1:], owner=files[0].owner) for entry in others)]
    reason = "its name does not say whose it is" if files or not alone else "it is not a notebook"
    return [*files, *(replace(entry, refusal=entry.refusal or reason) for entry in others)]


def _wrapper_depth(entries: Sequence[UploadedFile]) -> int:
    """Count the folders around the whole class, as made by zipping a folder; one with a single notebook is a student's."""
    for depth in range(_MOST_WRAPPERS):
        items, inside = _items(entries, depth), _items(entries, depth + 1)
        with_notebooks = [i for i in inside if any(is_notebook_name(file.parts[-1]) for file in i.entries)]
        below = len({item.name for item in with_notebooks if item.folder})
        direct = len(with_notebooks) - below
        if len(items) != 1 or not items[0].folder or (direct == 1 and below < 2) or not with_notebooks:
            return depth
    return _MOST_WRAPPERS


def _may_be_hand_in(entry: UploadedFile, roster: Roster) -> bool:
    """True for a file that is a notebook, may hold one, or bears a student's name."""
    name = entry.parts[-1]
    if is_notebook_name(name) or name.casefold().endswith(".zip") or roster.named(_stem(name)):
        return True
    if entry.staged is None or not name.casefold().endswith((".json", ".txt")):
        return False
    return looks_like_zip(entry.staged) or file_kind(entry).what == "notebook"


def _stem(name: str) -> str:
    cut = name.casefold().find(".ipynb")
    return (name[:cut] if cut > 0 else Path(name).stem) or name
