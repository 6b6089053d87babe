"""To Canvas: one score and one comment per student, whatever breaks on the way, and nothing of a person's overwritten."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import requests

from grader.cli.main import main
from tests.canvas.conftest import NOTEBOOK, pull, push
from tests.canvas.fake import TOKEN, Canvas, Student, Upload

GRADED = (1001, 1002, 1003)


def scores(canvas: Canvas) -> dict[int, float | None]:
    return {student.id: student.score for student in canvas.students}


def comments(canvas: Canvas) -> dict[int, int]:
    return {student.id: len(student.comments) for student in canvas.students}


def said(capsys) -> str:
    found = capsys.readouterr()
    return " ".join((found.out + found.err).split())


def test_nothing_is_sent_before_it_is_asked_for(canvas, pulled, capsys) -> None:
    run = pulled()
    capsys.readouterr()
    assert push(run) == 0
    told = said(capsys)
    assert "Nothing was sent. 3 would be; add --send." in told and "Alfa, Anna 3 new" in told
    assert {method for method, *_ in canvas.requests} == {"GET"}
    assert set(scores(canvas).values()) == {None}


def test_each_gets_a_score_and_a_comment_with_two_files(canvas, pulled, capsys) -> None:
    run = pulled()
    assert push(run, "--send") == 0
    assert scores(canvas) == {1001: 3.0, 1002: 3.0, 1003: 3.0, 1004: None}
    assert comments(canvas) == {1001: 1, 1002: 1, 1003: 1, 1004: 0}
    (comment,) = canvas.student(1001).comments
    assert comment["comment"].startswith("3 points.")
    (page, html), (name, notebook) = comment["files"]
    assert (page, name) == ("report.html", "annotated.ipynb") and b"<!doctype html>" in html.lower()
    assert nbformat.reads(notebook.decode(), as_version=4).cells[0].metadata.grader == "summary"
    assert "Sent 3; Canvas shows all of it." in said(capsys)


def test_a_second_push_sends_nothing(canvas, pulled, capsys) -> None:
    run = pulled()
    assert push(run, "--send") == 0
    canvas.requests.clear()
    assert push(run, "--send") == 0
    assert "Sent 0" in said(capsys)
    assert {method for method, *_ in canvas.requests} == {"GET"}


def test_a_changed_score_is_sent_again_with_its_report(canvas, pulled) -> None:
    run = pulled()
    assert push(run, "--send") == 0
    assert main(["override", str(run), "1002", "add/sum", "1.5", "--reason", "nearly"]) == 0
    assert push(run, "--send") == 0
    assert scores(canvas) == {1001: 3.0, 1002: 4.5, 1003: 3.0, 1004: None}
    assert comments(canvas) == {1001: 1, 1002: 2, 1003: 1, 1004: 0}


def test_what_a_person_set_in_canvas_stays(canvas, pulled, capsys) -> None:
    run = pulled()
    canvas.student(1001).score = 8.0
    canvas.student(1003).excused = True
    assert push(run, "--send") == 0
    assert scores(canvas) == {1001: 8.0, 1002: 3.0, 1003: None, 1004: None}
    told = said(capsys)
    assert "set by hand in Canvas" in told and "excused in Canvas" in told
    canvas.student(1002).score = 5.0
    assert push(run, "--send") == 0
    assert scores(canvas)[1002] == 5.0, "also after our own"
    assert push(run, "--send", "--overwrite") == 0
    assert scores(canvas) == {1001: 3.0, 1002: 3.0, 1003: None, 1004: None}


def test_a_late_students_score_is_posted_raw(canvas, pulled) -> None:
    run = pulled()
    canvas.student(1002).deduction = 1.0
    assert push(run, "--send") == 0
    assert canvas.student(1002).score == 3.0
    canvas.requests.clear()
    assert push(run, "--send") == 0, "what Canvas deducts is no other score"
    assert {method for method, *_ in canvas.requests} == {"GET"}


def test_an_upload_that_answers_with_a_page(canvas, pulled, capsys, monkeypatch) -> None:
    run = pulled()
    monkeypatch.setattr(type(canvas), "end_upload", lambda *_: (200, b"<html>Log in to this network"))
    assert push(run, "--send") == 4
    told = " ".join(capsys.readouterr().err.split())
    assert "Canvas did not take the file report.html; run the same command again" in told and "Traceback" not in told


def test_who_resubmitted_waits_for_the_next_grading(canvas, pulled, capsys) -> None:
    run = pulled()
    canvas.student(1001).uploads = [Upload(9001, "lab-1.ipynb", NOTEBOOK)]
    canvas.student(1002).uploads, canvas.student(1002).kind = [], "online_text_entry"
    canvas.student(1003).uploads = []  # as where another assignment's number was given
    assert push(run, "--send") == 0
    assert set(scores(canvas).values()) == {None}
    told = said(capsys)
    assert told.count("resubmitted since") == 2 and told.count("no upload there: is it this assignment?") == 1


@pytest.mark.parametrize("individually", [False, True])
def test_a_group_gets_one_grading(individually, canvas, pulled) -> None:
    canvas.groups, canvas.individually = True, individually
    shared = [Upload(7000, "team.ipynb", NOTEBOOK)]
    for user in (1001, 1002):
        canvas.student(user).group, canvas.student(user).uploads = (40, "Team 1"), shared
    run = pulled()
    assert push(run, "--send") == 0
    assert scores(canvas) == {1001: 3.0, 1002: 3.0, 1003: 3.0, 1004: None}
    assert comments(canvas) == {1001: 1, 1002: 1, 1003: 1, 1004: 0}
    puts = [path.rsplit("/", 1)[1] for method, path, _ in canvas.requests if method == "PUT"]
    assert puts == (["1001", "1002", "1003"] if individually else ["1001", "1003"])


def test_a_run_without_names_is_joined(canvas, pulled, capsys) -> None:
    run = pulled("--pseudonyms")
    capsys.readouterr()
    assert push(run, "--send") == 0
    assert not re.search("Alfa|Bravo|Anna|Öst|100[123]", told := said(capsys)) and "p-" in told
    assert scores(canvas) == {1001: 3.0, 1002: 3.0, 1003: 3.0, 1004: None}
    page, notebook = (data.decode() for _name, data in canvas.student(1001).comments[0]["files"])
    assert "Anna" not in page + notebook and "Sent 3" in told


def test_anonymous_hand_ins_get_score_and_words(canvas, pulled, capsys) -> None:
    for student in canvas.students:
        student.anonymous_id = f"aB{student.id}"
    run = pulled()
    capsys.readouterr()
    assert push(run) == 0
    assert "Anonymous aB1001 3 new" in (told := said(capsys)) and "Canvas takes no files for anonymous hand-ins" in told
    assert push(run, "--send") == 0
    assert scores(canvas) == {1001: 3.0, 1002: 3.0, 1003: 3.0, 1004: None}
    (comment,) = canvas.student(1001).comments
    assert comment["comment"].startswith("3 points. What was seen") and comment["files"] == []
    assert "`add(a, b)` returns the sum. 0 of 4. Nothing was there to judge" in comment["comment"]
    assert not any(re.search("alfa|1001_|Anna", path) for _method, path, _ in canvas.requests)
    canvas.requests.clear()
    assert push(run, "--send") == 0
    assert {method for method, *_ in canvas.requests} == {"GET"}


def test_points_are_converted_or_refused(canvas, pulled, capsys) -> None:
    canvas.points = 4.5
    run = pulled("--scale")
    assert push(run, "--send") == 0
    assert scores(canvas)[1001] == 1.5
    canvas.points = 9.0
    run = pulled("--no-scale")
    canvas.points = 18.0
    capsys.readouterr()
    assert push(run, "--send") == 2
    assert "worth 18 points in Canvas, but these scores are out of 9" in said(capsys)


def test_a_rubric_of_the_same_names_is_filled_in(canvas, pulled, capsys) -> None:
    canvas.rubric = [{"id": "_1", "description": "add/sum"}, {"id": "_2", "description": " Shout/UPPER "}]
    run = pulled()
    assert push(run, "--send") == 0
    assert canvas.student(1001).rubric == {"_1": 0.0, "_2": 3.0}
    canvas.rubric[0]["description"] = "Style"
    assert push(run) == 0
    assert "rubric is left empty" in said(capsys)


class Killed(BaseException):
    """What ends the command at a request as a kill would: nothing of ours runs afterwards."""


def broken_at(canvas: Canvas, number: int, kind: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the `number`-th request on nothing gets through: -1 drops it, -2 its answer; or the command is killed before or after it."""
    if isinstance(kind, int):
        canvas.fault = lambda _c, _m, _p, seen: kind if seen >= number else None
        return
    sent, counted = requests.Session.request, itertools.count()

    def request(session: requests.Session, *args, **kwargs) -> requests.Response:
        if (at := next(counted)) == number and kind == "before":
            raise Killed
        answer = sent(session, *args, **kwargs)
        if at == number:
            raise Killed
        return answer

    monkeypatch.setattr(requests.Session, "request", request)


@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize(
    "kind", ["after", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("before", -1, -2, 500))]
)
def test_broken_off_at_any_request_and_gone_on(kind, anonymous, canvas, pulled, capsys, monkeypatch) -> None:
    for student in canvas.students if anonymous else ():
        student.anonymous_id = f"a{student.id}x"
    run = pulled()
    for number in itertools.count():
        for student in canvas.students:
            student.score, student.comments = None, []
        (run / "canvas.jsonl").unlink(missing_ok=True)
        canvas.requests.clear()
        with monkeypatch.context() as patch:
            broken_at(canvas, number, kind, patch)
            try:
                ended = push(run, "--send")
            except Killed:
                ended = -1
        told, canvas.fault = said(capsys), None
        assert TOKEN not in told and "Traceback" not in told
        if ended == 0 and number >= len(canvas.requests):
            break
        assert push(run, "--send") == 0
        assert {user: scores(canvas)[user] for user in GRADED} == dict.fromkeys(GRADED, 3.0), number
        assert {user: comments(canvas)[user] for user in GRADED} == dict.fromkeys(GRADED, 1), number
        ledger = [json.loads(line) for line in (run / "canvas.jsonl").read_text().splitlines()]
        assert {line["student"] for line in ledger} == {a.anonymous_id or a.id for a in canvas.students[:3]}
        assert TOKEN not in (run / "canvas.jsonl").read_text()
    assert number == len(canvas.requests) == (2 + 2 + 3 + 2 if anonymous else 2 + 2 + 3 * 5 + 2)


@pytest.mark.parametrize("left", [0.3, 0.97])
def test_a_ledger_cut_by_a_kill_stops_nothing(left, canvas, pulled) -> None:
    run = pulled()
    assert push(run, "--send") == 0
    path = run / "canvas.jsonl"
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + last[: int(len(last) * left)])
    assert main(["override", str(run), "1002", "add/sum", "1", "--reason", "nearly"]) == 0
    assert push(run, "--send") == 0
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["student"] for line in lines[-3:]] == [1003, 1002, 1002]
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["forget", str(run), "1002", "--yes"]) == 0
    assert "1002" not in path.read_text(encoding="utf-8") and "1001" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("status", [429, 403])
def test_a_storm_of_limits_is_waited_for(status, canvas, pulled) -> None:
    run = pulled()
    canvas.fault = lambda _c, _m, _p, number: status if number % 4 else None
    assert push(run, "--send") == 0
    assert comments(canvas) == {1001: 1, 1002: 1, 1003: 1, 1004: 0}


def test_a_dropped_answer_is_asked_after_and_not_sent_again(canvas, pulled) -> None:
    run = pulled()
    dropped = []

    def fault(_canvas: Canvas, method: str, path: str, _number: int) -> int | None:
        if method == "PUT" and path not in dropped:
            dropped.append(path)
            return -2
        return None

    canvas.fault = fault
    assert push(run, "--send") == 0
    assert comments(canvas) == {1001: 1, 1002: 1, 1003: 1, 1004: 0}
    assert sum(method == "PUT" for method, *_ in canvas.requests) == 3


def test_a_token_that_expires_in_the_middle(canvas, pulled, capsys) -> None:
    run = pulled()

    def fault(made: Canvas, method: str, _path: str, _number: int) -> int | None:
        if method == "PUT":
            made.token = "another"
        return None

    canvas.fault = fault
    assert push(run, "--send") == 4
    told = said(capsys)
    assert "does not take the access token" in told and TOKEN not in told
    canvas.token, canvas.fault = TOKEN, None
    assert push(run, "--send") == 0
    assert comments(canvas) == {1001: 1, 1002: 1, 1003: 1, 1004: 0}


def test_what_canvas_does_not_keep_is_named(canvas, pulled, capsys) -> None:
    run = pulled()
    canvas.fault = lambda made, method, path, _n: _lose(made) if method == "PUT" and path.endswith("/1003") else None
    assert push(run, "--send") == 4
    assert "Alfa, Anna: 3 was sent, Canvas has 1.0" in said(capsys)


def _lose(canvas: Canvas) -> None:
    """Somebody changes another score meanwhile."""
    canvas.student(1001).score = 1.0


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_class_takes_a_bounded_number_of_requests(count, canvas, pulled) -> None:
    canvas.page = count // 3
    canvas.students = [
        Student(2000 + n, f"S {n}", f"S, {n}", [Upload(8000 + n, "lab.ipynb", NOTEBOOK)]) for n in range(count)
    ]
    run = pulled()
    canvas.requests.clear()
    assert push(run, "--send") == 0
    assert set(scores(canvas).values()) == {3.0} and set(comments(canvas).values()) == {1}
    kinds = Counter(method for method, *_ in canvas.requests)
    assert kinds == {"PUT": count, "POST": count * 4, "GET": 2 + 3 + 3}, "two files of two requests each"


def test_without_the_extra_it_says_what_to_install(monkeypatch, lab, capsys) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith(("canvasapi", "grader.lms.canvas_api"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "canvasapi", None)
    monkeypatch.delattr("grader.lms.canvas_api", raising=False)
    assert pull(lab) == 2
    assert "pip install 'dat450-grader[canvas]'" in capsys.readouterr().err


def test_a_run_that_is_none(canvas, tmp_path: Path, capsys) -> None:
    assert push(tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err
