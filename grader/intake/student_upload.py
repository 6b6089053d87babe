"""One student's files in one source: collecting them, choosing the notebook, opening a zip; and the ledger of all entries.

Trusted code over untrusted files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from grader.errors import SubmissionError
from grader.intake.archive import IntakeLimits, Stage, looks_like_zip, unpack
from grader.intake.names import shown
from grader.intake.owners import Claim, claim
from grader.intake.roster import Roster
from grader.intake.selection import OFFICE, Selection, UploadedFile, pick
from grader.records import Notice

__all__ = ["Ledger", "LedgerLine", "StudentUpload"]


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """What became of one entry of a source."""

    source: str
    """The source as it was given."""
    entry: str
    """Name of the entry; `outer.zip/inner` for what a student's own zip held."""
    fate: str
    """`judged`, `companion`, `opened` (a student's zip) or `left out`."""
    submission: str = ""
    """Id of the submission it belongs to; empty when it belongs to none."""
    reason: str = ""
    """Why it was left out."""


class Ledger:
    """The growing list of what became of every entry; a line is left out until somebody says otherwise."""

    def __init__(self) -> None:
        self.lines: list[LedgerLine] = []

    def add(self, source: str, entry: str, reason: str = "") -> int:
        """Add an entry and return the number of its line."""
        self.lines.append(LedgerLine(source, entry, "left out", reason=reason))
        return len(self.lines) - 1

    def set(self, line: int, **changes: str) -> None:
        """Change fields of a line."""
        self.lines[line] = replace(self.lines[line], **changes)


@dataclass(slots=True)
class StudentUpload:
    """What one student handed in, in one source, while it is being sorted out."""

    key: tuple[str, ...]
    """Whose it is, as in `Claim.key`."""
    source: str
    """The source as it was given."""
    claims: list[Claim] = field(default_factory=list)
    """Its entries, refused ones too."""
    files: list[UploadedFile] = field(default_factory=list)
    """Its staged files."""
    notices: list[Notice] = field(default_factory=list)
    """What was odd so far."""
    refused: list[str] = field(default_factory=list)
    """A sentence for each entry that was refused."""
    lines: list[int] = field(default_factory=list)
    """Its lines in the ledger."""
    pick: Selection = field(default_factory=lambda: Selection(None, ()))
    """The outcome of `choose`."""

    def add(self, item: Claim, ledger: Ledger) -> None:
        """Put one entry with its student's others, and note what is odd about it."""
        found, name = item.found, item.name
        line = ledger.add(self.source, found.entry, found.refusal)
        self.claims.append(item)
        self.lines.append(line)
        if found.unsafe:
            text = f"The name {shown(found.entry)} points outside of the archive; only its last part was used."
            self.notices.append(Notice("unsafe-name", text))
        if name is not None and name.others:
            text = (
                f"{shown(found.entry)} can be read in two ways: user {name.user_id} or {' or '.join(name.others)}; "
                f"{name.user_id} was taken. A roster (--roster) decides it."
            )
            self.notices.append(Notice("ambiguous-name", text))
        if found.staged is None:
            self.refused.append(f"{shown(item.parts[-1])} could not be taken in: {found.refusal}.")
            self.notices.append(Notice("refused-file", f"{shown(found.entry)} was left out because {found.refusal}."))
            return
        self.files.append(
            UploadedFile(
                parts=item.parts,
                staged=found.staged,
                size=found.size,
                sha256=found.sha256,
                attachment_id=name.attachment_id if name else None,
                kind=name.kind if name else "file",
                line=line,
            )
        )

    def choose(self, ledger: Ledger, stage: Stage, limits: IntakeLimits, starters: Sequence[tuple[str, ...]]) -> None:
        """Choose the notebook, opening a zip one level deep when there is none beside it."""
        self.pick = pick(self.files, starters)
        if self.pick.judged is not None:
            return
        problem = " ".join(self.refused) if self.refused and not self.files else self.pick.problem
        archives = [f for f in self.files if f.kind == "file" and looks_like_zip(f.staged)]
        archives = [f for f in archives if not f.name.casefold().endswith(OFFICE)]
        for archive in sorted(archives, key=lambda f: (int(f.attachment_id or 0), f.parts), reverse=True):
            try:
                problem = self._open(archive, ledger, stage, limits, starters)
            except SubmissionError as error:
                problem = f"{shown(archive.name)} is a zip archive that could not be opened: {error}."
            if problem is None:
                return
        self.pick = replace(self.pick, problem=problem)

    def _open(
        self,
        archive: UploadedFile,
        ledger: Ledger,
        stage: Stage,
        limits: IntakeLimits,
        starters: Sequence[tuple[str, ...]],
    ) -> str | None:
        """Use what a student's zip holds; returns why not, when it cannot be used."""
        inside = unpack(archive.staged, stage, limits)
        users = {item.key for item in claim([f for f in inside if not f.noise], "", Roster(()), single=False)[0]}
        if sum(key[0] == "user" for key in users) > 1:
            return f"{shown(archive.name)} is a download of several students; give that zip to the grader directly."
        files = [
            UploadedFile(found.parts, found.staged, found.size, found.sha256, archive.attachment_id)
            for found in inside
            if found.staged is not None and not found.noise
        ]
        picked = pick(files, starters)
        if picked.judged is None:
            if not inside:
                return f"{shown(archive.name)} is an empty zip archive; hand in the .ipynb file itself."
            names = ", ".join(shown(found.entry, 40) for found in inside[:4]) + (", …" if len(inside) > 4 else "")
            deeper = any(looks_like_zip(file.staged) for file in files)
            more = " Archives inside archives are not opened." if deeper else ""
            refused = next((f" {shown(f.entry, 40)}: {f.refusal}." for f in inside if f.refusal), "")
            return f"{shown(archive.name)} is a zip archive without a notebook (it holds {names}).{more}{refused}"
        handed = {}
        for found in inside:
            why = found.refusal or ("made by the operating system or an editor" if found.noise else "")
            line = ledger.add(self.source, f"{'/'.join(archive.parts)}/{found.entry}", why)
            self.lines.append(line)
            handed[found.staged] = line
            if found.refusal:
                text = f"{shown(found.entry)} in {shown(archive.name)} was left out because {found.refusal}."
                self.notices.append(Notice("refused-file", text))
        ledger.set(archive.line, fate="opened")
        lined = {file: replace(file, line=handed[file.staged]) for file in files}
        beside = tuple(file for file in self.files if file is not archive)
        self.notices.append(Notice("opened-archive", f"The notebook was taken out of {shown(archive.name)}."))
        self.pick = Selection(
            lined[picked.judged], (*(lined[file] for file in picked.companions), *beside), picked.notices
        )
        return None
