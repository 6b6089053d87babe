"""One student's files in one source: collecting them, choosing the notebook, opening a zip.

Trusted code over untrusted files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader.errors import SubmissionError
from grader.intake.archive import ArchiveEntry, IntakeLimits, Stage, looks_like_zip, read_zip
from grader.intake.names import is_notebook_name, shown
from grader.intake.owners import assign_owners
from grader.intake.roster import Roster
from grader.intake.selection import OFFICE, Owner, Selection, UploadedFile, select
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

    def add(self, file: UploadedFile) -> None:
        """Put one file with the student's others, and note what is odd about it."""
        entry = file.entry
        self.files.append(file)
        if entry.unsafe:
            text = f"The name {shown(entry.name)} points outside of the archive; only its last part was used."
            self.notices.append(Notice("unsafe-name", text))
        if entry.staged is None:
            text = f"{shown(entry.name)} was left out because {entry.refusal}."
            self.notices.append(Notice("refused-file", text))

    def choose(self, stage: Stage, limits: IntakeLimits, starters: Sequence[tuple[str, ...]]) -> None:
        """Choose the notebook, opening a zip one level deep when there is none beside it, and what goes beside it."""
        self._choose(stage, limits, starters)
        kept: set[ArchiveEntry] = set()
        size = 0
        # modules first, since the notebook may import them, then what is small
        for file in sorted(self.selection.companions, key=lambda f: (not f.file_name.endswith(".py"), f.entry.size)):
            size += file.entry.size
            if len(kept) < limits.companions and size <= limits.companions_bytes:
                kept.add(file.entry)
        companions = tuple(file for file in self.selection.companions if file.entry in kept)
        if left := [file for file in self.selection.companions if file.entry not in kept]:
            names = ", ".join(shown(file.file_name, 40) for file in left[:3]) + (", …" if len(left) > 3 else "")
            text = (
                f"{len(left)} of {len(left) + len(kept)} files beside the notebook were left out because at most {limits.companions} "
                f"with {limits.companions_bytes // 1_000_000} MB together are taken along: {names}."
            )
            self.notices.append(Notice("refused-file", text))
        self.selection = replace(self.selection, companions=companions)
        if (more := len(self.notices) - _MOST_NOTICES) > 0:
            self.notices[_MOST_NOTICES:] = [Notice("refused-file", f"And {more} more of this kind.")]

    def _choose(self, stage: Stage, limits: IntakeLimits, starters: Sequence[tuple[str, ...]]) -> None:
        staged = [file for file in self.files if file.entry.staged is not None]
        self.selection = select(staged, starters)
        if self.selection.judged is not None:
            return
        problem = self.selection.problem
        if not staged:
            refused = [(shown(file.file_name), file.entry.refusal) for file in self.files]
            problem = " ".join(f"{name} could not be taken in: {refusal}." for name, refusal in refused)
        for file in sorted(staged, key=lambda file: (file.attachment, file.parts), reverse=True):
            path = file.entry.staged
            if path is None or file.kind != "file" or file.file_name.casefold().endswith(OFFICE):
                continue
            if looks_like_zip(path):
                try:
                    self._open(file, path, stage, limits, starters)
                    return
                except SubmissionError as error:
                    problem = f"{shown(file.file_name)} is {error}"
        self.selection = replace(self.selection, problem=problem)

    def _open(
        self,
        archive: UploadedFile,
        path: Path,
        stage: Stage,
        limits: IntakeLimits,
        starters: Sequence[tuple[str, ...]],
    ) -> None:
        """Use what a student's zip holds; SubmissionError says why it cannot be used, after "... is"."""
        try:
            entries = read_zip(path, stage, limits, limits.inner_entries, limits.inner_total_bytes)
        except SubmissionError as error:
            raise SubmissionError(f"a zip archive that could not be opened: {error}.") from error
        inside = [entry for entry in entries if not entry.noise]
        found = assign_owners(inside, "", Roster(()), single=False)
        if found.platform and len({f.owner.key for f in found.files if is_notebook_name(f.file_name)}) > 1:
            raise SubmissionError("a download of several students; give that zip to the grader directly.")
        staged = [replace(archive, entry=entry, parts=entry.parts) for entry in inside if entry.staged is not None]
        selection = select(staged, starters)
        if selection.judged is None:
            raise SubmissionError(_without_notebook(entries))
        for entry in inside:
            if entry.refusal:
                text = f"{shown(entry.name)} in {shown(archive.file_name)} was left out because {entry.refusal}."
                self.notices.append(Notice("refused-file", text))
        beside = [file for file in self.selection.companions if file is not archive]
        self.notices.append(Notice("opened-archive", f"The notebook was taken out of {shown(archive.file_name)}."))
        self.selection = replace(selection, companions=(*selection.companions, *beside))


def _without_notebook(entries: Sequence[ArchiveEntry]) -> str:
    if not entries:
        return "an empty zip archive; hand in the .ipynb file itself."
    names = ", ".join(shown(entry.name, 40) for entry in entries[:4]) + (", …" if len(entries) > 4 else "")
    deeper = any(entry.staged is not None and looks_like_zip(entry.staged) for entry in entries)
    more = " Archives inside archives are not opened." if deeper else ""
    refused = next((f" {shown(entry.name, 40)}: {entry.refusal}." for entry in entries if entry.refusal), "")
    return f"a zip archive without a notebook (it holds {names}).{more}{refused}"
