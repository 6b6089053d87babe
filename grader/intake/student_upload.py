"""One student's files in one source: collecting them, choosing the notebook, opening a zip.

Trusted code over untrusted files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader.errors import SubmissionError
from grader.intake.archive import IntakeLimits, Stage, UploadedFile, looks_like_zip, read_zip
from grader.intake.names import is_notebook_name, shown
from grader.intake.owners import Owner, assign_owners
from grader.intake.roster import Roster, RosterEntry
from grader.intake.selection import OFFICE, Selection, select
from grader.intake.sources import Source
from grader.records import Notice

__all__ = ["StudentUpload"]

_MOST_NOTICES = 20  # of one student, who can have two thousand made by one zip


@dataclass(slots=True)
class StudentUpload:
    """What one student handed in, in one source."""

    source: Source
    """Where it comes from."""
    owner: Owner
    """Whose it is."""
    files: list[UploadedFile] = field(default_factory=list)
    """The student's files, refused ones too; never empty."""
    notices: list[Notice] = field(default_factory=list)
    """What was odd so far."""
    selection: Selection = field(default_factory=lambda: Selection(None, ()))
    """The outcome of `choose`."""
    name: str = ""
    """Name to show; what it says and `members` are found out last."""
    members: tuple[RosterEntry, ...] = ()
    """The students of the roster that it counts for."""

    def add(self, file: UploadedFile) -> None:
        """Put one file with the student's others, and note what is odd about it."""
        self.files.append(file)
        if file.unsafe:
            text = f"The name {shown(file.name)} points outside of the archive; only its last part was used."
            self.notices.append(Notice("unsafe-name", text))
        if file.staged is None:
            self._leave_out(shown(file.name), file.refusal)

    def _leave_out(self, what: str, why: str) -> None:
        self.notices.append(Notice("refused-file", f"{what} was left out because {why}."))

    def choose(self, stage: Stage, limits: IntakeLimits, starters: Sequence[tuple[str, ...]]) -> None:
        """Choose the notebook, opening a zip one level deep when there is none beside it, and what goes beside it."""
        staged = [file for file in self.files if file.staged is not None]
        found = select(staged, starters)
        if not staged:
            refused = [(shown(file.file_name), file.refusal) for file in self.files]
            problem = " ".join(f"{name} could not be taken in: {refusal}." for name, refusal in refused)
            found = replace(found, problem=problem)
        newest_first = sorted(staged, key=lambda file: (file.attachment, file.parts), reverse=True)
        for archive in newest_first if found.judged is None else ():
            path, office = archive.staged, archive.file_name.casefold().endswith(OFFICE)
            if path is None or archive.kind != "file" or office or not looks_like_zip(path):
                continue
            try:
                inside = [replace(file, read_as=archive.read_as) for file in _unpacked(path, stage, limits)]
                selection = select([file for file in inside if file.staged is not None], starters)
                if selection.judged is None:
                    raise SubmissionError(_without_notebook(inside))
            except SubmissionError as error:
                found = replace(found, problem=f"{shown(archive.file_name)} is {error}")
                continue
            for file in inside:
                if file.refusal:
                    self._leave_out(f"{shown(file.name)} in {shown(archive.file_name)}", file.refusal)
            self.notices.append(Notice("opened-archive", f"The notebook was taken out of {shown(archive.file_name)}."))
            beside = [file for file in found.companions if file is not archive]
            found = replace(selection, companions=(*selection.companions, *beside))
            break
        self.selection = replace(found, companions=self._within(limits, found.companions))
        if (more := len(self.notices) - _MOST_NOTICES) > 0:
            self.notices[_MOST_NOTICES:] = [Notice("refused-file", f"And {more} more of this kind.")]

    def _within(self, limits: IntakeLimits, companions: Sequence[UploadedFile]) -> tuple[UploadedFile, ...]:
        """As many companions as may be: modules first, since the notebook may import them, then what is small."""
        kept: set[UploadedFile] = set()
        size = 0
        for file in sorted(companions, key=lambda file: (not file.file_name.endswith(".py"), file.size)):
            size += file.size
            if len(kept) < limits.companions and size <= limits.companions_bytes:
                kept.add(file)
        if left := [file for file in companions if file not in kept]:
            names = ", ".join(shown(file.file_name, 40) for file in left[:3]) + (", …" if len(left) > 3 else "")
            text = (
                f"{len(left)} of {len(companions)} files beside the notebook were left out because at most {limits.companions} "
                f"with {limits.companions_bytes // 1_000_000} MB together are taken along: {names}."
            )
            self.notices.append(Notice("refused-file", text))
        return tuple(file for file in companions if file in kept)


def _unpacked(archive: Path, stage: Stage, limits: IntakeLimits) -> list[UploadedFile]:
    """What a student's zip holds; SubmissionError says why it cannot be used, after "... is"."""
    try:
        inside = read_zip(archive, stage, limits, limits.inner_entries, limits.inner_total_bytes)
    except SubmissionError as error:
        raise SubmissionError(f"a zip archive that could not be opened: {error}.") from error
    found = assign_owners([file for file in inside if not file.noise], "", Roster(()), single=False)
    if found.platform and len({owner.key for owner, file in found.files if is_notebook_name(file.file_name)}) > 1:
        raise SubmissionError("a download of several students; give that zip to the grader directly.")
    return inside


def _without_notebook(entries: Sequence[UploadedFile]) -> str:
    if not entries:
        return "an empty zip archive; hand in the .ipynb file itself."
    names = ", ".join(shown(entry.name, 40) for entry in entries[:4]) + (", …" if len(entries) > 4 else "")
    deeper = any(entry.staged is not None and looks_like_zip(entry.staged) for entry in entries)
    more = " Archives inside archives are not opened." if deeper else ""
    refused = next((f" {shown(entry.name, 40)}: {entry.refusal}." for entry in entries if entry.refusal), "")
    return f"a zip archive without a notebook (it holds {names}).{more}{refused}"
