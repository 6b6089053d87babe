"""Taking in a class: every entry of every source ends as a judged file, a companion, or a notice that says why not.

Trusted code over untrusted files. Bytes are copied unchanged; the only names written to disk are made here.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader.errors import StoreError, SubmissionError, UsageError
from grader.intake.archive import (
    IntakeLimits,
    Stage,
    UploadedFile,
    looks_like_zip,
    read_file,
    read_folder,
    read_zip,
)
from grader.intake.kinds import OFFICE, code_of, file_kind
from grader.intake.names import (
    StoragePaths,
    compact,
    identifier,
    is_notebook_name,
    printable,
    repaired,
    shown,
    some,
    without_resubmission_suffix,
)
from grader.intake.owners import assign_owners, is_one_hand_in
from grader.intake.roster import Roster, RosterEntry, alike
from grader.intake.sources import Source, digest_of, keep, kept_in
from grader.intake.student_upload import StudentUpload
from grader.notebook.helpers import imported_helpers
from grader.records import Notice, Submission

__all__ = ["Intake", "leave_out_of_copies", "take_in"]

_FOLDER = "handed-in"
_TITLED = (".ipynb", ".pdf", ".zip", ".html", ".htm", ".doc", *OFFICE)
"""Files whose names are titles: no notebook needs them by name."""


@dataclass(frozen=True, slots=True)
class Intake:
    """A class, taken in."""

    submissions: tuple[Submission, ...]
    """One per student or group, ordered by display name."""
    notices: tuple[Notice, ...]
    """What concerns no single submission."""
    missing: tuple[RosterEntry, ...]
    """Students of the roster for whom nothing was handed in."""


def take_in(
    sources: Sequence[Path],
    into: Path,
    roster: Roster | None = None,
    *,
    relative_to: Path | None = None,
    starters: Sequence[Path] = (),
    limits: IntakeLimits = IntakeLimits(),  # noqa: B008 (frozen)
    kept: Path | None = None,
    replace_kept: bool = False,
    naming: Callable[[str], str] | None = None,
) -> Intake:
    """Copy the submissions found in `sources` to `into/<id>/handed-in/` and say whose they are.

    A source is a notebook, a folder (an unpacked Canvas archive, plain notebooks, a folder per student) or a zip of one.
    Recorded paths are relative to `relative_to` (default: `into`), the run directory. `starters` are notebooks that were
    handed out: unchanged copies are never preferred. Where a student is in several sources, the newest upload that has a
    notebook counts, by Canvas's ids, else the one given last. With `kept`, a folder, sources add to those given before, of which
    copies lie there; `replace_kept` begins anew. `naming` gives submissions other ids in place of their own, and then no path tells what
    a student called notebooks and papers.
    Raises UsageError when a source cannot be read as a whole, nothing in it could be taken in, or nobody in it stands in the
    roster, StoreError when `into` cannot be written; whatever else is wrong becomes a notice or the submission's `problem`.
    """
    code = [code for code in map(_starter_code, starters) if code]
    stage = Stage(into / ".staging", limits)
    taking = _Intake(into, relative_to or into, stage, roster or Roster(()), roster is not None, code, naming)
    return taking.run(sources, kept, replace_kept=replace_kept)


def leave_out_of_copies(kept: Path, roster: Roster | None, gone: Callable[[str], bool]) -> None:
    """Take the files of those whose id is `gone` out of a run's copies of sources. Raises StoreError when one is damaged."""
    if not kept.is_dir():
        return
    with Stage(kept / ".staging") as stage:
        left = []
        for source in (old.unpacked(stage) for old in kept_in(kept)):
            found, _ = assign_owners(source.files, source.label, roster or Roster(()), single=source.single)
            theirs = {
                file.staged
                for file in found
                if (owner := file.owner) and any(map(gone, (*owner.possible, identifier(owner.key, owner.label, ()))))
            }
            files = tuple(file for file in source.files if file.staged not in theirs)
            left += [replace(source, files=files, digest=digest_of(files))] if files else []
        keep(left, kept)


@dataclass
class _Intake:
    """One call of `take_in`: what its steps share."""

    into: Path
    base: Path
    stage: Stage
    roster: Roster
    known_class: bool
    starters: Sequence[tuple[str, ...]]
    naming: Callable[[str], str] | None
    notices: list[Notice] = field(default_factory=list)

    def run(self, sources: Sequence[Path], kept: Path | None, *, replace_kept: bool) -> Intake:
        self.notices += self.roster.notices
        given = self._distinct(sources)
        # A folder given again is what it holds now; a download adds to what there was.
        folders = {str(path) for path in given if path.is_dir()}
        earlier = [] if kept is None or replace_kept else kept_in(kept)
        labels = {old.path: old.label for old in earlier}
        earlier = [old for old in earlier if old.path not in folders]
        with self.stage:
            today = []
            for path, source in given.items():
                # Labels stand in reports, which students read: no path of this machine.
                name = printable(path.name) or "source"
                labels.setdefault(str(path), name if name not in labels.values() else f"{name} ({len(labels) + 1})")
                today.append(self._read(source, labels[str(path)]))
            digests = {source.digest for source in today}
            read = [old.unpacked(self.stage) for old in earlier if old.digest not in digests] + today
            uploads = [upload for source in read for upload in self._uploads(source)]
            present_today = {upload.owner.key for upload in uploads if upload.source.kept is None}
            chosen = _one_per_owner(uploads)
            for upload in chosen:
                upload.name, upload.members = self._who(upload)
            self._refuse_another_class(chosen)
            if kept is not None:
                if replace_kept:
                    shutil.rmtree(kept, ignore_errors=True)
                used = {id(upload.source) for upload in chosen}
                keep([source for source in read if id(source) in used], kept)
            if earlier_only := sorted(u.name for u in chosen if u.source.kept and u.owner.key not in present_today):
                text = (
                    f"{len(earlier_only)} in none of today's sources, kept from earlier ones (--replace leaves them out): "
                    f"{'; '.join(earlier_only)}."
                )
                self.notices.append(Notice("kept", text))
            submissions, present = self._finish(chosen)
        missing = tuple(e for e in self.roster.entries if e.id not in present and not e.is_test_student)
        if any(upload.owner.system == "anon" for upload in chosen):
            missing = ()  # nobody can tell
        counts = (Notice("source", _sentence(source, uploads)) for source in today) if kept is not None else ()
        return Intake(tuple(submissions), (*counts, *self.notices), missing)

    def _distinct(self, sources: Sequence[Path]) -> dict[Path, Path]:
        """The sources by what they really are. Raises UsageError for what cannot be one."""
        if not sources:
            raise UsageError("nothing to take in: give a notebook, a folder, or the zip that Canvas made")
        found: dict[Path, Path] = {}
        for source in sources:
            try:
                source.stat()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise UsageError(f"cannot read {source}: {reason}") from error
            path = source.resolve()
            if self.base.resolve() in (path, *path.parents):
                raise UsageError(f"{source} belongs to the run in {self.base}; give what the students handed in")
            if path in found:
                self.notices.append(Notice("same-source", f"{shown(str(source))} was given twice; it was read once."))
            found.setdefault(path, source)
        return found

    def _read(self, source: Path, label: str) -> Source:
        """Stage one source."""
        try:
            staged, single = self._staged(source)
            name = repaired(source.resolve().name if source.is_dir() else source.stem)
            if not single and is_one_hand_in(name, staged, self.roster):
                staged = [replace(file, parts=(name, *file.parts)) for file in staged]
        except SubmissionError as error:
            raise UsageError(
                f"cannot take in {source}: {error}. Download it again, or unpack it and give the folder."
            ) from error
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror or error}") from error
        if noise := [file for file in staged if file.noise]:
            what = f"{len(noise)} files of operating systems or editors in {shown(label)} were ignored"
            self.notices.append(Notice("ignored-files", f"{what}: {some(file.name for file in noise)}."))
        files = tuple(file for file in staged if not file.noise)
        return Source(label, str(source.resolve()), files, single, digest_of(files))

    def _uploads(self, source: Source) -> list[StudentUpload]:
        """Sort the files of a source by student."""
        found, notices = assign_owners(source.files, source.label, self.roster, single=source.single)
        if not any(file.owner and file.staged for file in found) and source.kept is None:
            reasons = [f"{shown(file.name)} was left out because {file.refusal}" for file in found[:3]]
            raise UsageError(f"{source.path} holds no submissions: {'; '.join(reasons) or 'it is empty'}")
        self.notices += notices
        by_owner: dict[tuple[str, ...], StudentUpload] = {}
        for file in found:
            if file.owner is None:
                text = f"{shown(file.name)} in {shown(source.label)} was left out because {file.refusal}."
                self.notices.append(Notice("left-out", text))
            else:
                by_owner.setdefault(file.owner.key, StudentUpload(source, file.owner)).add(file)
        for upload in by_owner.values():
            for file in upload.files[1:] if source.single else ():
                text = f"{shown(file.name)} beside the notebook was taken along because the notebook imports it."
                upload.notices.append(Notice("module-beside", text))
            upload.choose(self.stage, self.starters)
        return list(by_owner.values())

    def _staged(self, source: Path) -> tuple[list[UploadedFile], bool]:
        """Stage what a source holds; True when it is a single file. A notebook's name means one, whatever is in it."""
        if source.is_dir():
            return read_folder(source, self.stage, self.into), False
        if not source.is_file():
            raise UsageError(f"{source} is neither a file nor a folder")
        if (looks_like_zip(source) or source.suffix.casefold() == ".zip") and not is_notebook_name(source.name):
            total = self.stage.limits.total_bytes + 20 * source.stat().st_size
            return read_zip(source, self.stage, self.stage.limits.entries, total), False
        entries = [read_file(source.resolve(), (repaired(source.name),), self.stage)]
        kind = file_kind(entries[0]).what
        if kind.endswith(" archive") or source.suffix.casefold() in (".tar", ".bz2", ".xz", ".zst"):
            what = kind if kind.endswith(" archive") else f"a {source.suffix[1:]} archive"
            raise UsageError(f"{source} is {what}, and only zip is read: unpack it and give the folder")
        # The modules beside it that it imports come along, as Jupyter would find them.
        staged = entries[0].staged
        names = sorted(imported_helpers(source, staged.read_bytes())) if staged else []
        beside = (read_file((source.parent / name).resolve(), (name,), self.stage) for name in names)
        return [*entries, *beside], True

    def _refuse_another_class(self, uploads: Sequence[StudentUpload]) -> None:
        if not self.known_class or any(u.members or u.owner.possible or u.owner.system == "anon" for u in uploads):
            return
        raise UsageError(
            f"nobody who handed in stands in the class list: handed in by {some(upload.name for upload in uploads)}; in the list "
            f"{some(f'{one.name} ({one.id})' for one in self.roster.entries)}. Give the list of this course with --roster, as "
            "Canvas exports it, or leave it out"
        )

    def _finish(self, uploads: list[StudentUpload]) -> tuple[list[Submission], set[str]]:
        """Give ids, move the files to their places, make the records; also say who of the roster may have handed in."""
        # Ids of a learning platform come first: a file called 12345.ipynb must not take a student's id, present or not.
        uploads.sort(key=lambda u: (u.owner.system not in ("user", "moodle"), u.name.casefold(), u.name, u.owner.key))
        present = Counter(member.id for upload in uploads for member in upload.members)
        for student, count in present.items():
            if count > 1:
                who = f"{self.roster.by_id[student].name} ({student})"
                text = f"{count} submissions count for {who}, alone and in a group: none does until one of them is left out."
                self.notices.append(Notice("several-submissions", text))
                for upload in uploads:
                    members = tuple(member.id for member in upload.members)
                    if student in members:
                        upload.owner = replace(upload.owner, doubt=text, possible=members)
        reserved = {entry.id.casefold() for entry in self.roster.entries}
        taken: set[str] = set()
        submissions = []
        for upload in uploads:
            owner = upload.owner
            id_ = identifier(owner.key, owner.label, taken if owner.system == "user" else taken | reserved)
            taken.add(id_.casefold())
            submissions.append(self._place(self.naming(id_) if self.naming else id_, upload))
        maybe = {student for upload in uploads for student in upload.owner.possible}
        return sorted(submissions, key=lambda s: (s.display_name.casefold(), s.display_name, s.id)), {*present, *maybe}

    def _who(self, upload: StudentUpload) -> tuple[str, tuple[RosterEntry, ...]]:
        """Return the name to show and the students of the roster it counts for."""
        owner = upload.owner
        label, system, user = printable(owner.label) or "(no name)", owner.system, owner.key[-1]
        if owner.doubt:
            return label, ()
        entry = self.roster.by_id.get(user) if system == "user" else None
        if entry is None:
            if self.known_class and system != "anon":
                text = "Not in the class list: graded, but left out of the gradebook file."
                upload.notices.append(Notice("not-in-roster", text))
            return label, ()
        if owner.matched:
            text = f"{shown(owner.label)} was matched to {entry.name} in the class list by name."
            upload.notices.append(Notice("matched-by-name", text))
            return entry.name, (entry,)
        # Canvas writes no name where nothing of it can stand in a file's: of a group "🔥", say.
        nameless_group = entry.group and not compact(entry.group)
        if (owner.label in ("", user) and not nameless_group) or alike(owner.label, entry.name):
            return entry.name, (entry,)
        groups = {compact(e.group): e.group for e in self.roster.entries if e.group}
        other = groups.get(compact(owner.label), entry.group)
        if other != entry.group:
            text = f"Handed in for the group {shown(other)}, of which {entry.name} ({user}) is no member in the class list."
            upload.owner = replace(owner, doubt=text, possible=(user,))
            return label, ()
        members = tuple(e for e in self.roster.entries if e.group and e.group == entry.group)
        if members:
            names = ", ".join(member.name for member in members)
            upload.notices.append(Notice("group", f"Handed in by the group {shown(entry.group)}: {names}."))
            # The representative first: to Canvas, the upload is that student's.
            return entry.group, tuple(sorted(members, key=lambda member: member.id != user))
        text = (
            f"Handed in under the name {shown(owner.label)}, not {entry.name}: probably a group. The score counts for "
            f"{entry.name}; a list of groups adds the other members."
        )
        upload.notices.append(Notice("group", text))
        return f"{label} ({entry.name})", (entry,)

    def _place(self, id_: str, upload: StudentUpload) -> Submission:
        """Move one upload's files under its id and make the record."""
        members = upload.members
        judged, companions = upload.judged, upload.companions
        notices = list(upload.notices)
        folder = self.into / id_ / _FOLDER
        paths = StoragePaths()
        moves: dict[Path, UploadedFile] = {}
        home: tuple[str, ...] = ()
        if judged is not None:
            home = judged.parts[:-1]
            name_there = f"hand-in{Path(judged.file_name).suffix}" if self.naming else judged.file_name
            moves[folder.joinpath(*paths.give((name_there,)))] = judged
        modules = {file.file_name.casefold() for file in companions}
        for file in companions:
            parts = file.parts[len(home) :] if file.parts[: len(home)] == home != file.parts else file.parts
            plain = without_resubmission_suffix(file.file_name)
            # `import lora` cannot find lora-1.py, which is what Canvas makes of a second upload of lora.py.
            if plain != file.file_name and plain.endswith(".py") and plain.casefold() not in modules:
                parts = (*parts[:-1], plain)
                text = f"{shown(file.file_name)} was put back to the name {shown(plain)}; Canvas had renamed it."
                notices.append(Notice("module-renamed", text))
            if self.naming and (judged is None or plain.casefold().endswith(_TITLED)):
                parts = (f"file{Path(plain).suffix}",)
            moves[folder.joinpath(*paths.give(parts))] = file
        _move(folder, moves)
        placed = {file: target.relative_to(self.base).as_posix() for target, file in moves.items()}
        late = any(file.read_as is not None and file.read_as.late for file in upload.files)
        if late:
            notices.insert(0, Notice("late", "Handed in late, says Canvas (not how late)."))
        newest = judged or max(upload.files, key=lambda file: file.attachment)
        system, user = upload.owner.system, upload.owner.key[-1]
        if upload.owner.doubt:
            notices.insert(0, Notice("ambiguous-name", upload.owner.doubt))
        sections = dict.fromkeys(member.section for member in members if member.section)
        # Moodle's participant ids may be anybody's in a list from elsewhere.
        alone = (user,) if system == "user" or (system == "moodle" and not self.known_class) else ()
        counts_for = tuple(member.id for member in members) or alone
        return Submission(
            id=id_,
            student_ids=() if upload.owner.doubt else counts_for,
            display_name=upload.name,
            file_name=printable(newest.file_name),
            path=placed[judged] if judged else "",
            sha256=judged.sha256 if judged else "",
            late=late,
            anonymous_id=user if system == "anon" else None,
            attachment_id=newest.read_as.attachment_id if newest.read_as else None,
            section=", ".join(sections) or None,
            companions=tuple(placed[file] for file in companions),
            notices=tuple(notices),
            problem=upload.problem,
        )


def _sentence(source: Source, uploads: Sequence[StudentUpload]) -> str:
    mine = [upload for upload in uploads if upload.source is source]
    judged = sum(upload.judged is not None for upload in mine)
    beside = sum(len(upload.companions) for upload in mine if upload.judged)
    nobodys = len(source.files) - sum(len(upload.files) for upload in mine)
    left_out = f", left out: {nobodys} (the class report says why)" if nobodys > 0 else ""
    counts = (
        f"hand-ins: {len(mine)}, with a notebook: {judged}, files: {len(source.files)}, beside a notebook: {beside}"
    )
    return f"{shown(source.label)}: {counts}{left_out}."


def _one_per_owner(uploads: Iterable[StudentUpload]) -> list[StudentUpload]:
    """Keep one upload per student: the last that has a notebook, else the last.

    What a platform names is never replaced by a file that only bears the student's name; nor is one such name by another.
    """
    by_owner: dict[tuple[str, ...], list[StudentUpload]] = {}
    for upload in uploads:
        by_owner.setdefault(upload.owner.key, []).append(upload)
    chosen = []
    for group in by_owner.values():
        named = [upload for upload in group if upload.owner.matched]
        sure = [upload for upload in group if not upload.owner.matched]
        if named and (sure or len({upload.owner.label for upload in named}) > 1):
            user = group[0].owner.key[-1]
            names = " and ".join(f"{shown(upload.owner.label)} in {shown(upload.source.label)}" for upload in group)
            text = f"{names} are all of user {user}; a name alone replaces nothing. Leave out what does not count."
            for upload in named:
                key = ("doubt", upload.source.label, upload.owner.label)
                upload.owner = replace(upload.owner, key=key, doubt=text, possible=(user,))
            chosen += named
            group = sure
        if group:
            chosen.append(_newest(group))
    return chosen


def _newest(group: Sequence[StudentUpload]) -> StudentUpload:
    """The upload that counts: one with a notebook; of several the newest by Canvas's ids, else the one given last."""

    def rank(upload: StudentUpload) -> tuple[bool, int]:
        judged = upload.judged
        return judged is not None, judged.attachment if judged else 0

    best = max(reversed(group), key=rank)
    for other in group:
        mine, theirs = best.judged, other.judged
        same = mine is not None and theirs is not None and mine.sha256 == theirs.sha256
        if other is best or (same and other.source.path == best.source.path):
            continue
        why = "given last"
        if rank(best) != rank(other):
            why = "the newest by Canvas's ids" if theirs else "which has a notebook"
        text = (
            f"This student is also in {'an earlier ' if other.source.kept else ''}{shown(other.source.label)}"
            f"{', with the same notebook' if same else ''}; what counts is {shown(best.source.label)}, {why}."
        )
        best.notices.append(Notice("duplicate-student", text))
    return best


def _move(folder: Path, moves: Mapping[Path, UploadedFile]) -> None:
    """Make `folder` hold the files of `moves` and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    for target, file in moves.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.staged is not None:
                file.staged.replace(target)
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error.strerror}") from error


def _starter_code(path: Path) -> tuple[str, ...]:
    try:
        return code_of(path.read_bytes()) or ()
    except OSError as error:
        raise UsageError(f"cannot read the notebook handed out, {path}: {error.strerror}") from error
