"""The class's page while the class is graded: there from the start, growing, and quiet when grading was stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from grader.errors import EngineError
from grader.records import Report
from grader.runs.directory import RunDirectory
from grader.runs.engines import Job
from grader.runs.publish import Judge, _write_class_page
from tests.pipeline.conftest import told_without_a_kernel
from tests.pipeline.test_gradebook import NOTEBOOK, archive, export, grade, run

__all__ = ["archive", "export", "run"]

FILES = {f"{who}_5001_lab.ipynb": NOTEBOOK for who in ("alfaanna_1001", "bravobo_1002", "cici_1003")}
Seen = list[str]


@pytest.fixture
def pages(run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Seen]:
    """One submission at a time; gives the pages that were there when each began. The engine breaks before submission `breaks`."""

    def make(breaks: int = 99) -> Seen:
        seen: Seen = []

        def look(_job: Job) -> None:
            page = run / "class.html"
            seen.append(page.read_text(encoding="utf-8") if page.is_file() else "")
            if len(seen) > breaks:
                raise EngineError("the workers are gone")

        told_without_a_kernel(monkeypatch, 1, look)
        monkeypatch.setattr("grader.runs.publish._SECONDS", 0.0)
        return seen

    return make


def test_the_page_is_there_from_the_start_and_grows(pages, archive, export, run) -> None:
    seen = pages()
    assert grade(archive(FILES), export(), run) == 0
    assert [f"{n} of 3 have been graded." in page for n, page in enumerate(seen)] == [True] * 3
    assert all('http-equiv="refresh"' in page for page in seen)
    assert ["Alfa, Anna" in page for page in seen] == [False, True, True]
    last = (run / "class.html").read_text(encoding="utf-8")
    assert "have been graded" not in last and "refresh" not in last and "Bravo, Bo" in last


def test_what_is_no_notebook_is_on_the_page_from_the_start(pages, archive, export, run) -> None:
    seen = pages()
    assert grade(archive({**FILES, "dida_1004_5004_lab.pdf": b"%PDF"}), export(), run) == 3
    assert "1 of 4 have been graded." in seen[0] and "No notebook: decide." in seen[0]


def test_a_page_of_what_ended_can_be_opened_at_once(pages, archive, export, run) -> None:
    seen = pages(breaks=1)
    assert grade(archive(FILES), export(), run) == 4
    assert "submissions/1001/instructor.html" in seen[1]
    assert (run / "submissions/1001/instructor.html").is_file()


def test_who_ended_is_judged_once(pages, archive, export, run, monkeypatch, tmp_path) -> None:
    count, judged = tmp_path / "judged", Judge._judged
    monkeypatch.setattr(Judge, "_judged", lambda judge, one: (_note(count, one.id), judged(judge, one))[1])
    pages()
    assert grade(archive(FILES), export(), run) == 0
    assert sorted(count.read_text(encoding="ascii").split()) == ["1001", "1002", "1003"]


def _note(path: Path, word: str) -> None:
    with path.open("a", encoding="ascii") as file:  # in a process of its own
        file.write(f"{word}\n")


def test_where_grading_was_stopped_the_page_says_so(pages, archive, export, run) -> None:
    seen = pages(breaks=2)
    assert grade(archive(FILES), export(), run) == 4
    left = (run / "class.html").read_text(encoding="utf-8")
    assert "2 of 3 have been graded when grading was stopped." in left and "refresh" not in left
    pages()
    assert grade(archive(FILES), export(), run) == 0
    assert len(seen) == 3
    assert "have been graded" not in (run / "class.html").read_text(encoding="utf-8")


def test_who_was_graded_before_is_on_the_page(pages, archive, export, run) -> None:
    pages()
    assert grade(archive(dict(list(FILES.items())[:2])), export(), run) == 0
    seen = pages()
    assert grade(archive(FILES), export(), run) == 0
    assert len(seen) == 1 and "2 of 3 have been graded." in seen[0] and "Bravo, Bo" in seen[0]


def test_a_page_that_cannot_be_written_stops_nobody(pages, archive, export, run, monkeypatch) -> None:
    seen = pages()
    monkeypatch.setattr("grader.runs.publish._write_class_page", _refuse)
    assert grade(archive(FILES), export(), run) == 0
    assert seen == ["", "", ""] and (run / "class.html").is_file()


def _refuse(run: RunDirectory, reports: Sequence[Report], progress: str = "", **more: bool) -> None:
    if progress:
        raise OSError("no room")
    _write_class_page(run, reports, progress, **more)
