"""What a run directory was made from, so that a later run on the same folder skips what has not changed. Trusted.

`RUN/index` holds marks (see `grader.runs.marks`) of the sources, of everything intake placed, of the code that judged and drew, and of
each submission's records and pages, beside the reports in brief. It decides nothing by itself: whatever cannot be shown to be
unchanged is done again from the records, with the same outcome. So a lost index costs time only, and so does one that
was edited, since it is sealed with the run's secret.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grader
from grader import serialization
from grader.errors import StoreError
from grader.intake.archive import looks_like_zip, walk
from grader.records import CriterionResult, Report, Submission
from grader.rubric.assignment import Assignment
from grader.runs.directory import RunDirectory, write_derived
from grader.runs.marks import aged, held, mark, mark_all, unchanged
from grader.runs.publish import CLASS_FILES, PAGES, Published, publish

__all__ = ["Index", "mark_sources", "publish_changed", "read_index"]

NAME = "index"
_RECORDS = ("notebook.json", "execution.json", "evidence.json", "done.json")
_INTAKE = ("intake.json",)


@dataclass(frozen=True, slots=True)
class Entry:
    """One submission as it was published."""

    report: Report
    """Its report, in brief."""
    settled: str
    """Points settled by hand, as JSON."""
    records: dict[str, str]
    """Marks of its records, by name."""
    pages: dict[str, str] = field(default_factory=dict)
    """Marks of its pages, by name."""


@dataclass(slots=True)
class Index:
    """Marks of a run, taken while it is made: what is read is marked before it is read, what is written right after."""

    run: RunDirectory
    """The run directory."""
    asked: str
    """Digest of what was asked for: sources, options, bundle, versions."""
    sources: dict[str, str] = field(default_factory=dict)
    """Marks of all that lies in the sources; empty when that cannot be known."""
    intake: dict[str, str] = field(default_factory=dict)
    """Marks of what intake wrote, by path in the run directory."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """Submissions by id, in the order of reports."""
    files: dict[str, str] = field(default_factory=dict)
    """Marks of what was written for the class, by path in the run directory."""
    messages: tuple[str, ...] = ()
    """Messages of the publishing that wrote these files."""
    finished: bool = False
    """Whether everything was run, and nothing failed for a fault of ours."""

    # ------------------------------------------------------------ what still holds

    def intake_holds(self, sources: Mapping[str, str]) -> bool:
        """Tell whether intake would find and place the same again; `sources` are the marks of today."""
        return (
            bool(sources)
            and sources.keys() == self.sources.keys()
            and unchanged(self.sources)
            and bool(self.intake)
            and _all_held(self.run.root, self.intake)
        )

    def nothing_to_do(self, intake: Mapping[str, str], submissions: Sequence[Submission]) -> bool:
        """Tell whether a run was finished then, and its submissions and their records are what they were."""
        return self.finished and intake == self.intake and len(self.kept(submissions)) == len(submissions)

    def submissions(self) -> tuple[Submission, ...]:
        """The submissions of the last run."""
        return tuple(entry.report.submission for entry in self.entries.values())

    def kept(self, submissions: Iterable[Submission]) -> dict[str, Entry]:
        """The submissions whose records, settled points and pages are as they were; they need not be judged again."""
        settled = self.run.all_overrides()
        return {
            one.id: entry
            for one in submissions
            if (entry := self.entries.get(one.id)) is not None
            and entry.report.submission == one
            and entry.settled == _settled(settled, one.id)
            and _all_held(self.run.folder(one.id), entry.records)
            and _all_held(self.run.folder(one.id), entry.pages)
        }

    def class_holds(self, kept: Mapping[str, Entry], submissions: Sequence[Submission]) -> bool:
        """Tell whether the files for the class are what they would be, `kept` being what is not judged again."""
        return (
            len(kept) == len(submissions)
            and [one.id for one in submissions] == list(self.entries)
            and bool(self.files)
            and _all_held(self.run.root, self.files)
        )

    # ------------------------------------------------------------ how it comes about

    def mark_intake(self, submissions: Sequence[Submission]) -> None:
        """Mark what intake has just written."""
        names = [*_INTAKE, *(name for one in submissions for name in (one.path, *one.companions) if name)]
        self.intake = _marks(self.run.root, names)

    def write(self) -> None:
        """Write the index, sealed. Raises StoreError when the disk refuses."""
        body = json.dumps(_plain(self), ensure_ascii=True, separators=(",", ":"))
        write_derived(self.run.root / NAME, f"{_seal(self.run, body)}\n{body}\n")


def publish_changed(
    run: RunDirectory, assignment: Assignment, submissions: Sequence[Submission], before: Index | None, now: Index
) -> Published:
    """Judge and publish what is not as it was when `before` was written; then write `now` as the index.

    Raises StoreError when the disk refuses.
    """
    kept = before.kept(submissions) if before is not None else {}
    if before is not None and before.class_holds(kept, submissions):
        now.entries, now.files, now.messages = before.entries, before.files, before.messages
        if (now.finished, now.sources, now.intake) != (before.finished, before.sources, before.intake):
            now.write()
        return Published(tuple(entry.report for entry in now.entries.values()), now.messages)
    settled = run.all_overrides()
    records = {one.id: _marks(run.folder(one.id), _RECORDS) for one in submissions if one.id not in kept}
    pages: dict[str, dict[str, str]] = {}

    def written(report: Report) -> None:
        pages[report.submission.id] = _marks(run.folder(report.submission.id), PAGES)

    published = publish(run, assignment, kept={name: entry.report for name, entry in kept.items()}, written=written)
    for report in published.reports:
        name = report.submission.id
        if name in kept:
            now.entries[name] = kept[name]
        else:  # what was written has grown old in a large class: looked at once more here, the next run need not read it
            own = {page: aged(run.folder(name) / page, before) for page, before in pages[name].items()}
            now.entries[name] = Entry(report, _settled(settled, name), records[name], own)
    now.files, now.messages = _marks(run.root, CLASS_FILES), published.messages
    now.write()
    return published


def mark_sources(sources: Sequence[Path], own: Path) -> dict[str, str]:
    """Marks of all that lies in folders and archives, the run's `own` folder excepted.

    Empty when there is a single notebook: modules lie beside it, and who is alone is quick to take in.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            found += walk(source.resolve(), own.resolve())
        elif source.is_file() and looks_like_zip(source):
            found.append(source.resolve())
        else:
            return {}
    return mark_all(found)


def read_index(run: RunDirectory, asked: str) -> Index | None:
    """Read the index of a run; None when there is none for what is asked and for this code, or when it is damaged."""
    try:
        text = (run.root / NAME).read_text(encoding="ascii")
        seal, _, body = text.partition("\n")
        body = body.removesuffix("\n")
        if not hmac.compare_digest(seal, _seal(run, body)):
            return None
        plain = json.loads(body)
        code = plain["code"]
        if plain["asked"] != asked or not _loaded().issubset(code) or not unchanged(code):
            return None
        return _index(run, plain)
    except (OSError, ValueError, KeyError, TypeError, IndexError, StoreError):
        return None


def _code_marks() -> dict[str, str]:
    """Marks of all code that this process has loaded, libraries too, and of every file of the grader's package."""
    package = Path(grader.__file__).parent
    own = (str(path) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return mark_all({*_loaded(), *own})


def _loaded() -> set[str]:
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {file for file in files if file and not file.endswith(".pyc")}


def _marks(folder: Path, names: Iterable[str]) -> dict[str, str]:
    base = f"{folder}/"
    return {name: mark(base + name) for name in names}


def _all_held(folder: Path, marks: Mapping[str, str]) -> bool:
    base = f"{folder}/"
    return all(held(base + name, before) for name, before in marks.items())


def _settled(overrides: Mapping[str, Mapping[str, tuple[int, str]]], submission_id: str) -> str:
    own = overrides.get(submission_id)
    return json.dumps(own, sort_keys=True) if own else ""


def _seal(run: RunDirectory, body: str) -> str:
    return hmac.new(run.secret(), body.encode("ascii"), hashlib.sha256).hexdigest()


def _plain(index: Index) -> dict[str, Any]:
    results: dict[CriterionResult, int] = {}
    entries = []
    for entry in index.entries.values():
        numbers = [results.setdefault(result, len(results)) for result in entry.report.score.criteria]
        short = replace(entry.report, score=replace(entry.report.score, criteria=()))
        entries.append([serialization.to_plain(short), numbers, entry.settled, entry.records, entry.pages])
    return {
        "asked": index.asked,
        "code": _code_marks(),
        "sources": index.sources,
        "intake": index.intake,
        "files": index.files,
        "messages": list(index.messages),
        "finished": index.finished,
        "results": [serialization.to_plain(result) for result in results],
        "entries": entries,
    }


def _index(run: RunDirectory, plain: Mapping[str, Any]) -> Index:
    results = [serialization.from_plain(result, CriterionResult) for result in plain["results"]]
    entries: dict[str, Entry] = {}
    for short, numbers, settled, records, pages in plain["entries"]:
        report = serialization.from_plain(short, Report)
        score = replace(report.score, criteria=tuple(results[number] for number in numbers))
        entries[report.submission.id] = Entry(replace(report, score=score), settled, records, pages)
    return Index(
        run,
        plain["asked"],
        plain["sources"],
        plain["intake"],
        entries,
        plain["files"],
        tuple(plain["messages"]),
        plain["finished"] is True,
    )
