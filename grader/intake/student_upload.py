"""One student's files in one source: collecting them, choosing the notebook, opening a zip.

Trusted code over untrusted files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader.errors import SubmissionError
from grader.intake.archive import IntakeLimits, Stage, UploadedFile, looks_like_zip, read_zip
from grader.intake.kinds import OFFICE, file_kind
from grader.intake.names import Owner, is_notebook_name, shown, some, without_resubmission_suffix
from grader.intake.owners import is_download
from grader.intake.roster import RosterEntry
from grader.intake.sources import Source
from grader.records import Notice

__all__ = ["StudentUpload"]

_MOST_NOTICES = 20  # of one student, who can have two thousand made by one zip
_MOST_LOOKED_AT = 50  # of one student's files, and of them zips: each may be made so that reading it takes a second
_MOST_OPENED = 5
_UPLOADED_LAST = "it was uploaded last"
# Why the best file goes before the second, by the place in the ranking where they differ.
_REASONS = (
    "the rest cannot be read as notebooks",
    "the rest is empty or as it was handed out",
    "it has the extension of a notebook",
    _UPLOADED_LAST,
    "it holds most code",
    "it comes last by name",
)


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
    judged: UploadedFile | None = None
    """The notebook to judge, found by `choose`; None when there is none."""
    companions: tuple[UploadedFile, ...] = ()
    """The files that go beside it."""
    problem: str | None = None
    """Why there is nothing to judge."""
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

    def choose(self, stage: Stage, starters: Sequence[tuple[str, ...]]) -> None:
        """Choose the notebook, opening a zip one level deep when there is none beside it, and what goes beside it.

        `starters` are the code of notebooks that were handed out.
        """
        files = [file for file in self.files if file.staged is not None]
        self.judged, why = _best(files, starters)
        problem = ""
        newest = sorted(files, key=lambda file: (file.attachment, file.parts), reverse=True)
        for archive in [file for file in newest if _may_be_opened(file)][:_MOST_OPENED]:
            if self.judged or archive.staged is None:
                break
            try:
                inside = [replace(file, read_as=archive.read_as) for file in _unpacked(archive.staged, stage)]
                unpacked = [file for file in inside if file.staged is not None]
                self.judged, why = _best(unpacked, starters)
                if self.judged is None:
                    raise SubmissionError(_without_notebook(inside))
            except SubmissionError as error:
                problem = f"{shown(archive.file_name)} is {error}"
                continue
            for file in inside:
                if file.refusal:
                    self._leave_out(f"{shown(file.name)} in {shown(archive.file_name)}", file.refusal)
            self.notices.append(Notice("opened-archive", f"The notebook was taken out of {shown(archive.file_name)}."))
            files = [*unpacked, *(file for file in files if file is not archive)]
        if self.judged is None:
            self.problem = problem or _problem(self.files)
        self.companions = self._within(stage.limits, [file for file in files if file is not self.judged])
        if (more := len(self.notices) - _MOST_NOTICES) > 0:
            self.notices[_MOST_NOTICES:] = [Notice("refused-file", f"And {more} more of this kind.")]
        self.notices += why

    def _within(self, limits: IntakeLimits, companions: Sequence[UploadedFile]) -> tuple[UploadedFile, ...]:
        """As many companions as may be: modules first, since the notebook may import them, then what is small."""
        kept: set[UploadedFile] = set()
        size = 0
        for file in sorted(companions, key=lambda file: (not file.file_name.endswith(".py"), file.size)):
            size += file.size
            if len(kept) < limits.companions and size <= limits.companions_bytes:
                kept.add(file)
        if left := [file for file in companions if file not in kept]:
            text = (
                f"{len(left)} of {len(companions)} files beside the notebook were left out because at most {limits.companions} "
                f"with {limits.companions_bytes // 1_000_000} MB together are taken along: {some(f.file_name for f in left)}."
            )
            self.notices.append(Notice("refused-file", text))
        return tuple(file for file in companions if file in kept)


def _may_be_opened(file: UploadedFile) -> bool:
    office = file.file_name.casefold().endswith(OFFICE)
    return file.staged is not None and file.kind == "file" and not office and looks_like_zip(file.staged)


def _best(
    files: Sequence[UploadedFile], starters: Sequence[tuple[str, ...]]
) -> tuple[UploadedFile | None, list[Notice]]:
    """The notebook to judge among one student's staged files, and what is to be said of the choice.

    A readable notebook goes before a broken one, work before an untouched or empty notebook, a proper `.ipynb` before
    another extension, then the newest attachment, then the one with most code.
    """
    likely = sorted(files, key=lambda file: (not is_notebook_name(file.file_name), -file.attachment))[:_MOST_LOOKED_AT]
    kinds = {file: file_kind(file) for file in likely if file.kind == "file"}
    untouched = {file: _untouched(kind.code, starters) for file, kind in kinds.items()}

    def rank(file: UploadedFile) -> tuple[bool, bool, bool, int, int, tuple[str, ...]]:
        kind = kinds[file]
        return (
            kind.what == "notebook",
            bool(kind.code) and not untouched[file],
            file.file_name.casefold().endswith(".ipynb"),
            file.attachment,
            sum(map(len, kind.code)),
            file.parts,
        )

    candidates = sorted((f for f, kind in kinds.items() if kind.what in ("notebook", "unreadable")), key=rank)
    if not candidates:
        return None, []
    *others, judged = candidates
    name, notices = shown(judged.file_name), list[Notice]()
    if others:
        ranks = zip(_REASONS, rank(judged), rank(others[-1]), strict=True)
        reason = next((reason for reason, best, second in ranks if best != second), _REASONS[-1])
        notices.append(Notice("several-files", _why(judged, others, reason)))
    if not judged.file_name.casefold().endswith(".ipynb"):
        notices.append(Notice("odd-extension", f"{name} holds a notebook under another extension."))
    if kinds[judged].what == "notebook" and not kinds[judged].code:
        notices.append(Notice("empty-notebook", f"{name} has no code in it."))
    if untouched[judged]:
        notices.append(Notice("untouched-starter", f"{name} has the same code as the notebook handed out."))
    return judged, notices


def _untouched(code: tuple[str, ...], starters: Sequence[tuple[str, ...]]) -> bool:
    """Whether nothing was written that had to be; the other cells of a starter hold a course's own addresses."""
    for starter in starters:
        asked = [number for number, cell in enumerate(starter) if "YOUR CODE HERE" in cell] or range(len(starter))
        if len(code) == len(starter) and all(code[number] == starter[number] for number in asked):
            return True
    return False


def _why(judged: UploadedFile, others: Sequence[UploadedFile], reason: str) -> str:
    if all(other.sha256 == judged.sha256 for other in others):
        reason = "all have the same content"
    elif reason == _UPLOADED_LAST:
        one, second = (without_resubmission_suffix(file.file_name) for file in (judged, others[-1]))
        reason += " under the same name" if one == second else ""
    return (
        f"{len(others) + 1} notebooks were handed in; {shown(judged.file_name)} was graded because {reason}; "
        f"not graded: {some(other.file_name for other in others)}."
    )


def _problem(files: Sequence[UploadedFile]) -> str:
    """Say what was handed in instead of a notebook."""
    staged = [file for file in files if file.staged is not None]
    if not staged:
        return " ".join(f"{shown(file.file_name)} could not be taken in: {file.refusal}." for file in files)
    uploaded = {file.kind for file in staged}
    if uploaded == {"text"}:
        return "Text was typed into the submission form instead of handing in a file; there is no notebook to grade."
    if uploaded == {"link"}:
        return "A link was handed in instead of a file; there is no notebook to grade."
    words = {"text": "a typed text", "link": "a link"}
    seen = [words.get(f.kind) or f"{shown(f.file_name, 60)} is {file_kind(f).what}" for f in staged[:4]]
    more = f", and {len(staged) - 4} more files" if len(staged) > 4 else ""
    return f"No notebook was handed in: {', '.join(seen)}{more}. Hand in the .ipynb file itself."


def _unpacked(archive: Path, stage: Stage) -> list[UploadedFile]:
    """What a student's zip holds; SubmissionError says why it cannot be used, after "... is"."""
    try:
        inside = read_zip(archive, stage, stage.limits.inner_entries, stage.limits.inner_total_bytes)
    except SubmissionError as error:
        raise SubmissionError(f"a zip archive that could not be opened: {error}.") from error
    if is_download(inside):
        raise SubmissionError("a download of several students; give that zip to the grader directly.")
    return inside


def _without_notebook(entries: Sequence[UploadedFile]) -> str:
    if not entries:
        return "an empty zip archive; hand in the .ipynb file itself."
    deeper = any(entry.staged is not None and looks_like_zip(entry.staged) for entry in entries)
    more = " Archives inside archives are not opened." if deeper else ""
    refused = next((f" {shown(entry.name, 40)}: {entry.refusal}." for entry in entries if entry.refusal), "")
    return f"a zip archive without a notebook (it holds {some(entry.name for entry in entries)}).{more}{refused}"
