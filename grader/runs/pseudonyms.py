"""A run without names: submissions under pseudonyms, and one file apart, `names.json`, that says whose they are. Trusted.

A pseudonym is a keyed digest of the id (HMAC-SHA256 under the run's secret), so it is the same whenever the class is graded again. Pages,
tables, evidence, progress and messages are made from the pseudonymous record of intake; what goes to a learning platform gets its
ids back from `names.json`. What students wrote themselves, in notebooks and in names of helper files, stays as it is.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader import serialization
from grader.intake import Intake, Roster
from grader.records import Notice, Report, Submission
from grader.runs.directory import RunDirectory, write_atomically

__all__ = ["NAMES", "forget_names", "hidden", "people", "pseudonym", "with_ids"]

NAMES = "names.json"
_QUOTED = re.compile("“([^”]*)”")
_SHORTEST = 3


@dataclass(frozen=True, slots=True)
class _Names:
    """What `names.json` holds."""

    submissions: dict[str, Submission] = field(default_factory=dict)
    """Pseudonym -> the submission as intake found it."""
    missing: dict[str, str] = field(default_factory=dict)
    """Pseudonym -> the name of who handed in nothing."""


def pseudonym(run: RunDirectory, identity: str) -> str:
    """The pseudonym of an id in this run."""
    digest = hmac.new(run.secret(), b"pseudonym/" + identity.encode(), hashlib.sha256).digest()
    return f"p-{base64.b32encode(digest[:5]).decode().lower()}"


def hidden(run: RunDirectory, intake: Intake, students: Roster | None, sources: Iterable[Path]) -> Intake:
    """What was taken in under pseudonyms, as records without names; keeps whose they are. Raises StoreError when the disk refuses."""
    entries = students.entries if students is not None else ()
    ours = {entry.id: pseudonym(run, entry.id) for entry in entries}
    missing = {ours[entry.id]: entry.name for entry in intake.missing}
    names = _Names({one.id: replace(one, notices=()) for one in intake.submissions}, missing)  # these may name others
    write_atomically(run.root / NAMES, serialization.dumps(names), 0o600)
    words = {
        word: ours[e.id] for e in entries for word in (e.id, e.sis_login, e.name, " ".join(e.name.split(", ")[::-1]))
    }
    for one in intake.submissions:
        words |= dict.fromkeys((*one.student_ids, one.display_name, one.attachment_id or ""), one.id)
        words[one.file_name] = _file_name(one)
    silent = _silencer(words, {source.name for source in sources if source.suffix.casefold() == ".zip"})
    kept = tuple(
        replace(
            one,
            student_ids=(),
            display_name=one.id,
            file_name=_file_name(one),
            anonymous_id=None,
            attachment_id=None,
            notices=silent(one.notices),
            problem=None if one.problem is None else silent([Notice("", one.problem)])[0].text,
        )
        for one in intake.submissions
    )
    gone = tuple(replace(entry, name=ours[entry.id]) for entry in intake.missing)
    return Intake(tuple(sorted(kept, key=lambda one: one.id)), silent(intake.notices), gone)


def _file_name(submission: Submission) -> str:
    return f"hand-in{Path(submission.file_name).suffix}"


def _silencer(words: Mapping[str, str], labels: set[str]) -> Callable[[Iterable[Notice]], tuple[Notice, ...]]:
    """Puts pseudonyms in place of these words, and leaves out of all else that is quoted, names of files mostly, but its extension."""
    known = sorted((word for word in words if len(word) >= _SHORTEST), key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, known))})(?!\w)") if known else re.compile("(?!)")
    ours = set(words.values())

    def unquoted(match: re.Match[str]) -> str:
        return match[0] if match[1] in labels | ours else f"“…{Path(match[1]).suffix}”"

    def silent(notices: Iterable[Notice]) -> tuple[Notice, ...]:
        rows = (re.sub(r" \([^)]*\)", "", one.text) if one.kind == "roster-row" else one.text for one in notices)
        texts = (_QUOTED.sub(unquoted, pattern.sub(lambda m: words[m[0]], text)) for text in rows)
        return tuple(replace(one, text=text) for one, text in zip(notices, texts, strict=True))

    return lambda notices: silent(tuple(notices))


def _names(run: RunDirectory) -> _Names:
    return run.read(NAMES, _Names) if run.info().pseudonyms else _Names()


def people(run: RunDirectory) -> tuple[Submission, ...]:
    """The submissions of a run with names and ids of people, whether its pages show them or not."""
    names = _names(run).submissions
    return tuple(names.get(one.id, one) for one in run.submissions())


def with_ids(run: RunDirectory, reports: Iterable[Report]) -> list[Report]:
    """Reports with the ids by which a learning platform knows whose they are; names stay as the run has them."""
    names = _names(run).submissions

    def joined(shown: Submission) -> Submission:
        real = names.get(shown.id, shown)
        ids = {name: getattr(real, name) for name in ("student_ids", "anonymous_id", "attachment_id")}
        return replace(shown, **ids)

    return [replace(report, submission=joined(report.submission)) for report in reports]


def forget_names(run: RunDirectory, gone: Callable[[str], bool]) -> None:
    """Take those whose id or pseudonym is `gone`, and submissions that the run no longer has, out of `names.json`."""
    if not run.info().pseudonyms:
        return
    names = _names(run)
    left = {one.id for one in run.submissions()}
    kept = {
        name: replace(one, student_ids=tuple(student for student in one.student_ids if not gone(student)))
        for name, one in names.submissions.items()
        if name in left
    }
    missing = {name: who for name, who in names.missing.items() if not gone(name)}
    write_atomically(run.root / NAMES, serialization.dumps(_Names(kept, missing)), 0o600)
