"""From Canvas: every current file under Canvas's own name, once, and a class list that the grader reads."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.canvas.fake as fake
from grader.cli.main import main
from grader.intake import read_roster, take_in
from tests.canvas.conftest import NOTEBOOK, pull
from tests.canvas.fake import TOKEN, Student, Upload


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "submissions").iterdir()}


def downloads(canvas) -> list[str]:
    return [path for _method, path, _token in canvas.requests if path.startswith("/files/")]


def test_files_are_named_as_canvas_names_them(canvas, lab, capsys) -> None:
    assert pull(lab) == 0
    assert names(lab) == {
        "alfaanna_1001_5001_lab.ipynb", "bravobo_LATE_1002_5002_lab 2.ipynb", "östcy_1003_5003_lab.ipynb", "östcy_1003_5004_x.csv"
    }  # fmt: skip
    told = " ".join(capsys.readouterr().out.split())
    assert "3 handed in; 4 files fetched, 0 there already" in told and "Now: grader grade" in told


def test_intake_finds_everybody(canvas, lab, tmp_path) -> None:
    assert pull(lab) == 0
    roster = read_roster(lab / "roster.csv")
    intake = take_in([lab / "submissions"], tmp_path / "run" / "in", roster, relative_to=tmp_path / "run")
    assert {s.id: (s.display_name, s.late, s.attachment_id) for s in intake.submissions} == {
        "1001": ("Alfa, Anna", False, "5001"), "1002": ("Bravo, Bo", True, "5002"), "1003": ("Öst, =Cy", False, "5003")
    }  # fmt: skip
    assert [entry.name for entry in intake.missing] == ["Delta, Di"]
    assert roster.entries[0].section == "GU" and roster.entries[1].section == "LP2"
    assert [(a.id, a.points) for a in roster.assignments] == [("98765", 9.0)]


def test_only_what_is_new_is_fetched(canvas, lab) -> None:
    assert pull(lab) == 0
    canvas.requests.clear()
    assert pull(lab) == 0 and downloads(canvas) == []
    canvas.student(1001).uploads = [Upload(6001, "lab-1.ipynb", NOTEBOOK)]
    assert pull(lab) == 0 and downloads(canvas) == ["/files/6001/download"]
    assert "alfaanna_1001_6001_lab-1.ipynb" in names(lab) and "alfaanna_1001_5001_lab.ipynb" not in names(lab)


def test_a_pull_that_broke_off_goes_on(canvas, lab, capsys) -> None:
    canvas.fault = lambda _c, _m, path, _n: -1 if path == "/files/5003/download" else None
    assert pull(lab) == 4
    told = capsys.readouterr().err
    assert "Canvas could not be reached for a file" in told and TOKEN not in told
    assert len(names(lab)) == 2
    canvas.fault = None
    canvas.requests.clear()
    assert pull(lab) == 0
    assert downloads(canvas) == ["/files/5003/download", "/files/5004/download"]


@pytest.mark.parametrize("status", [429, 403, 503, -1])
def test_a_storm_is_waited_for(status, canvas, lab) -> None:
    canvas.fault = lambda _c, _m, _p, number: status if number % 3 else None
    assert pull(lab) == 0
    assert len(names(lab)) == 4


def test_groups_hand_in_once_and_all_are_in_the_list(canvas, lab) -> None:
    canvas.groups = True
    shared = [Upload(7000, "team.ipynb", NOTEBOOK)]
    for user in (1001, 1002):
        canvas.student(user).group, canvas.student(user).uploads = (40, "Team 1"), shared
    assert pull(lab) == 0
    assert {name for name in names(lab) if "7000" in name} == {"team1_1001_7000_team.ipynb"}
    roster = read_roster(lab / "roster.csv")
    assert [entry.group for entry in roster.entries] == ["Team 1", "Team 1", "", ""]


def test_a_group_may_have_a_long_name(canvas, lab) -> None:
    canvas.groups = True
    canvas.student(1001).group = (40, "组" * 200)
    assert pull(lab) == 0 and pull(lab) == 0
    assert len(names(lab)) == 4
    intake = take_in([lab / "submissions"], lab / "run", read_roster(lab / "roster.csv"))
    assert "组" * 200 in [one.display_name for one in intake.submissions]


def test_a_file_that_is_gone_costs_nobody_else(canvas, lab, capsys) -> None:
    canvas.fault = lambda _c, _m, path, _n: 404 if path == "/files/5003/download" else None
    assert pull(lab) == 0
    assert len(names(lab)) == 3 and (lab / "roster.csv").exists()
    assert "östcy_1003_5003_lab.ipynb: Canvas does not find it any more" in " ".join(capsys.readouterr().out.split())


def test_a_text_that_was_typed_anew(canvas, lab) -> None:
    canvas.student(1004).kind, canvas.student(1004).body = "online_text_entry", "first"
    assert pull(lab) == 0
    canvas.student(1004).body = "second"
    assert pull(lab) == 0
    assert (lab / "submissions" / "deltadi_1004_text.html").read_text() == "second"


def test_what_another_assignment_or_a_run_holds_stays(canvas, lab, capsys, monkeypatch) -> None:
    assert pull(lab) == 0
    before = names(lab)
    monkeypatch.setattr(fake, "ASSIGNMENT", 98766)
    canvas.student(1001).uploads = [Upload(8001, "other.ipynb", NOTEBOOK)]
    assert main(["canvas", "pull", "12", "98766", "--out", str(lab)]) == 2
    assert "is the class list of something else (Lab 2: LoRA (98765))" in " ".join(capsys.readouterr().err.split())
    assert names(lab) == before
    (lab / "roster.csv").unlink()
    (lab / "run.json").touch()
    assert main(["canvas", "pull", "12", "98766", "--out", str(lab)]) == 2
    assert names(lab) == before and not (lab / "roster.csv").exists()


@pytest.mark.parametrize("address", ["https://canvas.example.edu/courses/12", "x", "-1", ""])
def test_what_is_no_number_is_no_course(address, lab, capsys) -> None:
    assert main(["canvas", "pull", "--out", str(lab), "--", address, "98765"]) == 2
    assert "is not the number in the address" in " ".join(capsys.readouterr().err.split())


def test_what_others_put_there_stays(canvas, lab) -> None:
    assert pull(lab) == 0
    (lab / "submissions" / "by mail.ipynb").write_bytes(NOTEBOOK)
    canvas.student(1001).uploads = []
    assert pull(lab) == 0
    assert "by mail.ipynb" in names(lab) and "alfaanna_1001_5001_lab.ipynb" not in names(lab)


def test_texts_links_and_too_large_files(canvas, lab, capsys) -> None:
    canvas.student(1004).kind, canvas.student(1004).body = "online_text_entry", "<p>see my repository"
    canvas.student(1003).uploads[1].size = 300 << 20
    assert pull(lab) == 0
    assert (lab / "submissions" / "deltadi_1004_text.html").read_text() == "<p>see my repository"
    assert "x.csv of östcy_1003: 300 MB; at most 200 MB are fetched" in " ".join(capsys.readouterr().out.split())


def test_an_anonymous_assignment(canvas, lab, tmp_path) -> None:
    canvas.students = [Student(0, "", "", [Upload(5009, "lab.ipynb", NOTEBOOK)], anonymous_id="acJ4Q", late=True)]
    assert pull(lab) == 0
    assert names(lab) == {"LATE_anon_acJ4Q_5009_lab.ipynb"}


@pytest.mark.parametrize(
    "hostile", ["../../etc/x.ipynb", "a\\b:c?.ipynb", ".hidden", "nul\x00.ipynb", "x" * 300 + ".ipynb"]
)
def test_a_file_name_stays_in_the_folder(hostile, canvas, lab) -> None:
    canvas.student(1001).uploads[0].name = hostile
    assert pull(lab) == 0
    assert len(names(lab)) == 4 and {path.name for path in lab.iterdir()} == {"submissions", "roster.csv"}


def test_the_token_goes_to_canvas_only(canvas, lab, monkeypatch) -> None:
    from grader.lms import canvas_api

    client = canvas_api.connect()
    other = canvas.url.replace("127.0.0.1", "localhost")
    assert canvas_api.get(client, f"{other}/files/5001/download") == NOTEBOOK
    assert canvas.requests[-1][2] == ""
    canvas_api.get(client, f"{canvas.url}/files/5001/download")
    assert TOKEN in canvas.requests[-1][2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CANVAS_API_TOKEN": "wrong"}, "does not take the access token"),
        ({"CANVAS_API_TOKEN": ""}, "no access token: make one in Canvas"),
        ({"CANVAS_API_URL": ""}, "CANVAS_API_URL is not set"),
        ({"CANVAS_API_URL": "http://canvas.example.edu"}, "it has to be the address of your Canvas: https://"),
        ({"CANVAS_API_URL": "http://127.0.0.1:9"}, "could not be reached for course 12"),
    ],
)
def test_what_is_missing_is_said(change, words, canvas, lab, monkeypatch, capsys) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    assert pull(lab) in (2, 4)
    told = " ".join(capsys.readouterr().err.split())
    assert words in told and TOKEN not in told and "Traceback" not in told


def test_a_course_or_assignment_that_is_not_there(canvas, lab, capsys) -> None:
    assert main(["canvas", "pull", "12", "1", "--out", str(lab)]) == 4
    assert "Canvas does not find assignment 1 of course 12" in " ".join(capsys.readouterr().err.split())
