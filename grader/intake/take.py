"""Taking in a class: every entry of every source ends as a judged file, a companion, or a line that says why not.

Trusted code over untrusted files. Bytes are copied unchanged; the only names written to disk are made here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.errors import StoreError, UsageError
from grader.intake.archive import IntakeLimits, Stage, looks_like_zip, read_file, read_folder, read_zip
from grader.intake.names import compact, printable, shown, without_resubmission_suffix
from grader.intake.owners import Claim, claim
from grader.intake.roster import Roster, RosterEntry
from grader.intake.selection import UploadedFile, code_of, look_at
from grader.intake.storage import StoragePaths, identifier
from grader.intake.student_upload import Ledger, LedgerLine, StudentUpload
from grader.records import Notice, Submission

__all__ = ["Intake", "LedgerLine", "take_in"]

_FOLDER = "handed-in"
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)|import[ \t]+([A-Za-z_][\w., \t]*))", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Intake:
    """A class, taken in."""

    submissions: tuple[Submission, ...]
    """One per student or group, ordered by display name."""
    notices: tuple[Notice, ...]
    """What concerns no single submission."""
    missing: tuple[RosterEntry, ...]
    """Students of the roster for whom nothing was handed in."""
    ledger: tuple[LedgerLine, ...] = ()
    """Every entry of every source, in order, and what became of it."""


def take_in(
    sources: Sequence[Path],
    into: Path,
    roster: Roster | None = None,
    *,
    relative_to: Path | None = None,
    starters: Sequence[Path] = (),
    limits: IntakeLimits = IntakeLimits(),  # noqa: B008 (frozen)
) -> Intake:
    """Copy the submissions found in `sources` to `into/<id>/handed-in/` and say whose they are.

    A source is a notebook, a folder (an unpacked Canvas archive, plain notebooks, a folder per student) or a zip of one.
    Recorded paths are relative to `relative_to` (default: `into`), the run directory. `starters` are notebooks that were
    handed out: unchanged copies are never preferred. Where a student is in several sources, the last one that has a
    notebook counts.
    Raises UsageError when a source cannot be read as a whole or holds nothing, StoreError when `into` cannot be written;
    whatever is wrong with single entries becomes a notice or the submission's `problem`.
    """
    return _Intake(into, roster, relative_to or into, starters, limits).run(sources)


class _Intake:
    """One call of `take_in`: what its steps share."""

    def __init__(
        self, into: Path, roster: Roster | None, base: Path, starters: Sequence[Path], limits: IntakeLimits
    ) -> None:
        self.into, self.base, self.limits = into, base, limits
        self.roster = roster or Roster(())
        self.known_class = roster is not None
        self.starters = [code for code in map(_starter_code, starters) if code]
        self.notices: list[Notice] = list(self.roster.notices)
        self.ledger = Ledger()

    def run(self, sources: Sequence[Path]) -> Intake:
        uploads: list[StudentUpload] = []
        with Stage(self.into / ".staging") as stage:
            labels: set[str] = set()
            for source in self._distinct(sources):
                # Labels stand in reports, which students read: no path of this machine.
                name = printable(source.resolve().name) or "source"
                label = name if name not in labels else f"{name} ({len(labels) + 1})"
                labels.add(label)
                uploads += self._read(source, label, stage)
            chosen = self._merge(uploads)
            submissions = self._finish(chosen)
        present = {student for submission in submissions for student in submission.student_ids}
        missing = tuple(e for e in self.roster.entries if e.id not in present and not e.is_test_student)
        return Intake(tuple(submissions), tuple(self.notices), missing, tuple(self.ledger.lines))

    def _distinct(self, sources: Sequence[Path]) -> list[Path]:
        if not sources:
            raise UsageError("nothing to take in: give a notebook, a folder, or the zip that Canvas made")
        found: dict[Path, Path] = {}
        for source in sources:
            try:
                source.stat()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise UsageError(f"cannot read {source}: {reason}") from error
            if source.resolve() in found:
                self.notices.append(Notice("same-source", f"{shown(str(source))} was given twice; it was read once."))
            found.setdefault(source.resolve(), source)
        return list(found.values())

    def _read(self, source: Path, label: str, stage: Stage) -> list[StudentUpload]:
        """Stage one source and sort its entries by student."""
        single = False
        if source.is_dir():
            entries = read_folder(source, stage, self.limits, self.into)
        elif not source.is_file():
            raise UsageError(f"{source} is neither a file nor a folder")
        elif _is_archive(source):
            entries = read_zip(source, stage, self.limits)
        else:
            entries, single = [read_file(source, stage, self.limits)], True
        noise = [found for found in entries if found.noise]
        for found in noise:
            self.ledger.add(label, found.entry, "made by the operating system or an editor")
        if noise:
            names = ", ".join(shown(found.entry, 40) for found in noise[:3]) + (", …" if len(noise) > 3 else "")
            text = f"{len(noise)} files of operating systems or editors in {shown(label)} were ignored: {names}."
            self.notices.append(Notice("ignored-files", text))
        entries = [found for found in entries if not found.noise]
        if not entries:
            raise UsageError(f"{source} holds no submissions: it is empty")
        claims, strays = claim(entries, label, self.roster, single=single)
        for stray in strays:
            self.ledger.add(label, stray.found.entry, stray.reason)
            text = f"{shown(stray.found.entry)} in {shown(label)} was left out because {stray.reason}."
            self.notices.append(Notice("left-out", text))
        by_key: dict[tuple[str, ...], StudentUpload] = {}
        for item in claims:
            by_key.setdefault(item.key, StudentUpload(item.key, label)).add(item, self.ledger)
        for upload in by_key.values():
            if single:
                self._add_imported(upload, source, stage)
            upload.choose(self.ledger, stage, self.limits, self.starters)
        return list(by_key.values())

    def _add_imported(self, upload: StudentUpload, source: Path, stage: Stage) -> None:
        """Take along the modules beside a single notebook that it imports, as Jupyter would find them."""
        code = "\n".join(part for file in upload.files for part in look_at(file.staged, file.name).code)
        modules = {
            module.strip().split(" ")[0].split(".")[0]
            for one, several in _IMPORT.findall(code)
            for module in [one, *several.split(",")]
        }
        for module in sorted(modules - {""}):
            path = source.parent / f"{module}.py"
            if path.is_file() and path != source:
                found = read_file(path, stage, self.limits)
                upload.add(Claim(found, upload.key, upload.claims[0].label, (path.name,)), self.ledger)
                text = f"{shown(path.name)} beside the notebook was taken along because the notebook imports it."
                upload.notices.append(Notice("module-beside", text))

    def _merge(self, uploads: Iterable[StudentUpload]) -> list[StudentUpload]:
        """Keep one hand-in per student: the last that has a notebook, else the last."""
        by_key: dict[tuple[str, ...], list[StudentUpload]] = {}
        for upload in uploads:
            by_key.setdefault(upload.key, []).append(upload)
        chosen = []
        for group in by_key.values():
            best = next((h for h in reversed(group) if h.pick.judged is not None), group[-1])
            for other in group:
                if other is best:
                    continue
                same = best.pick.judged and other.pick.judged and best.pick.judged.sha256 == other.pick.judged.sha256
                text = (
                    f"This student is also in {shown(other.source)}"
                    f"{', with the same notebook' if same else ''}; what counts is {shown(best.source)}, "
                    f"{'given last' if best is group[-1] else 'the last one that has a notebook'}."
                )
                best.notices.append(Notice("duplicate-student", text))
                for line in other.lines:
                    self.ledger.set(line, fate="left out", reason=f"the same student's hand-in in {best.source} counts")
                best.lines += other.lines
            chosen.append(best)
        return chosen

    def _finish(self, uploads: list[StudentUpload]) -> list[Submission]:
        """Give ids, move the files to their places, make the records."""
        drafts = [(*self._who(upload), upload) for upload in uploads]
        # Ids of a learning platform come first: a file called 12345.ipynb must not take a student's id.
        drafts.sort(key=lambda d: (d[2].key[0] not in ("user", "moodle"), d[0].casefold(), d[0], d[2].key))
        taken: set[str] = set()
        submissions = []
        for name, members, upload in drafts:
            name_on_disk = identifier(upload.key, upload.claims[0].label, taken)
            taken.add(name_on_disk.casefold())
            submissions.append(self._place(name_on_disk, name, members, upload))
        for student, count in Counter(i for s in submissions for i in s.student_ids).items():
            if count > 1:
                text = (
                    f"{count} submissions count for student {student} (alone and in a group?); decide which one does."
                )
                self.notices.append(Notice("several-submissions", text))
        return sorted(submissions, key=lambda s: (s.display_name.casefold(), s.display_name, s.id))

    def _who(self, upload: StudentUpload) -> tuple[str, tuple[RosterEntry, ...]]:
        """Return the name to show and the students of the roster it counts for."""
        first = upload.claims[0]
        label = printable(first.label) or "(no name)"
        if upload.key[0] != "user":
            if self.known_class and upload.key[0] != "anon":
                self._unknown(upload)
            return label, ()
        entry = self.roster.by_id.get(upload.key[1])
        members = self.roster.group_of(first.label, upload.key[1])
        # The representative first: to Canvas, the upload is that student's.
        members = tuple(sorted(members, key=lambda member: member.id != upload.key[1]))
        if members:
            names = ", ".join(member.name for member in members)
            upload.notices.append(Notice("group", f"Handed in by the group {shown(members[0].group)}: {names}."))
            return members[0].group, members
        if entry is None:
            if self.known_class:
                self._unknown(upload)
            return label, ()
        if first.matched:
            text = f"{shown(first.label)} was matched to {entry.name} in the class list by name."
            upload.notices.append(Notice("matched-by-name", text))
        elif first.name and sorted(compact(first.label)) != sorted(compact(entry.name)):
            text = (
                f"Handed in under the name {shown(first.label)}, not {entry.name}: probably a group. The score counts for "
                f"{entry.name}; a list of groups adds the other members."
            )
            upload.notices.append(Notice("group", text))
            return f"{label} ({entry.name})", (entry,)
        return entry.name, (entry,)

    def _unknown(self, upload: StudentUpload) -> None:
        text = "Not in the class list: graded, but left out of the gradebook file."
        upload.notices.append(Notice("not-in-roster", text))

    def _place(self, identifier: str, name: str, members: tuple[RosterEntry, ...], upload: StudentUpload) -> Submission:
        """Move one hand-in's files under its id and make the record."""
        picked, notices = upload.pick, list(upload.notices)
        folder = self.into / identifier / _FOLDER
        places, moves = StoragePaths(), dict[Path, UploadedFile]()
        path = ""
        home: tuple[str, ...] = ()
        if picked.judged is not None:
            home = picked.judged.parts[:-1]
            target = folder.joinpath(*places.give((picked.judged.name,)))
            path = self._give(moves, picked.judged, target, identifier, "judged")
        modules = {file.name.casefold() for file in picked.companions}
        companions = []
        for file in picked.companions:
            parts = file.parts[len(home) :] if file.parts[: len(home)] == home != file.parts else file.parts
            plain = without_resubmission_suffix(file.name)
            # `import lora` cannot find lora-1.py, which is what Canvas makes of a second upload of lora.py.
            if plain != file.name and plain.endswith(".py") and plain.casefold() not in modules:
                parts = (*parts[:-1], plain)
                text = f"{shown(file.name)} was put back to the name {shown(plain)}; Canvas had renamed it."
                notices.append(Notice("module-renamed", text))
            target = folder.joinpath(*places.give(parts))
            companions.append(self._give(moves, file, target, identifier, "companion"))
        _move(folder, moves)
        for line in upload.lines:
            self.ledger.set(line, submission=identifier)
        names = [item.name for item in upload.claims if item.name is not None]
        late = any(entry.late for entry in names)
        if late:
            notices.insert(0, Notice("late", "Handed in late, says Canvas (not how late)."))
        uploads = sorted((int(entry.attachment_id), entry.attachment_id) for entry in names if entry.attachment_id)
        judged = picked.judged
        attachment = judged.attachment_id if judged else uploads[-1][1] if uploads else None
        shown_file = judged or max(upload.files, key=lambda f: int(f.attachment_id or 0), default=None)
        sections = dict.fromkeys(member.section for member in members if member.section)
        return Submission(
            id=identifier,
            student_ids=tuple(m.id for m in members)
            or ((upload.key[1],) if upload.key[0] in ("user", "moodle") else ()),
            display_name=name,
            file_name=printable(shown_file.name if shown_file else upload.claims[0].parts[-1]),
            path=path,
            sha256=judged.sha256 if judged else "",
            late=late,
            anonymous_id=upload.key[1] if upload.key[0] == "anon" else None,
            attachment_id=attachment,
            section=", ".join(sections) or None,
            companions=tuple(companions),
            notices=(*notices, *picked.notices),
            problem=picked.problem if judged is None else None,
        )

    def _give(
        self, moves: dict[Path, UploadedFile], file: UploadedFile, target: Path, identifier: str, fate: str
    ) -> str:
        """Note where a file goes; returns its path as it is recorded."""
        moves[target] = file
        self.ledger.set(file.line, fate=fate, submission=identifier)
        try:
            return target.relative_to(self.base).as_posix()
        except ValueError:
            raise UsageError(f"{self.into} is not inside the run directory {self.base}") from None


def _move(folder: Path, moves: Mapping[Path, UploadedFile]) -> None:
    """Make `folder` hold the files of `moves` and nothing else; what holds just these already is left as it is."""
    there = {Path(root, name) for root, _, names in os.walk(folder) for name in names}
    if there == set(moves) and all(_same(file, target) for target, file in moves.items()):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for target, file in moves.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file.staged.replace(target)
        except OSError as error:
            raise StoreError(f"cannot write {target}: {error.strerror}") from error


def _same(file: UploadedFile, target: Path) -> bool:
    try:
        if target.is_symlink() or target.stat().st_size != file.size:
            return False
        with target.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _is_archive(path: Path) -> bool:
    """True for a zip by its bytes, or what calls itself one; a notebook's name means one submission, whatever is in it."""
    if ".ipynb" in path.name.casefold():
        return False
    try:
        return looks_like_zip(path) or path.suffix.casefold() == ".zip"
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _starter_code(path: Path) -> tuple[str, ...]:
    try:
        return code_of(path.read_bytes()) or ()
    except OSError as error:
        raise UsageError(f"cannot read the notebook handed out, {path}: {error.strerror}") from error
