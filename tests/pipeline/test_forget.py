"""One person taken out of a run: nothing that names the person is left in any file, and a later command does not bring it back."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from grader.cli.main import main
from grader.runs.directory import IntakeRecord, RunDirectory
from tests.pipeline.conftest import notebook_bytes
from tests.pipeline.test_gradebook import NOTEBOOK, archive, export, grade, nothing_is_run, run, said, scores

__all__ = ["archive", "export", "nothing_is_run", "run"]

FILES = {"alfaanna_1001_5001_lab.ipynb": NOTEBOOK, "bravobo_1002_5002_lab.ipynb": NOTEBOOK}


def traces(run: Path, *words: str) -> list[str]:
    """Files whose name or content tells of somebody."""
    found = []
    for path in run.rglob("*"):
        text = str(path.relative_to(run)) + (path.read_text("utf-8", "replace") if path.is_file() else "")
        text = re.sub(r"[0-9a-f]{32,}", "", text)  # a digest may hold the digits of anybody's number
        found += [f"{path.relative_to(run)}: {word}" for word in words if word.casefold() in text.casefold()]
    return found


def test_nothing_of_the_person_is_left(archive, export, run, capsys) -> None:
    source, roster = archive(FILES), export()
    assert grade(source, roster, run) == 0
    assert main(["override", str(run), "1001", "add/sum", "2", "--reason", "by word of mouth"]) == 0
    assert main(["report", str(run), "--format", "html,json,csv,junit,md"]) == 0
    assert traces(run, "1001", "alfa", "anna", "5001")
    assert main(["forget", str(run), "Anna Alfa"]) == 2
    assert "Nothing was removed. Alfa, Anna would be taken out" in said(capsys.readouterr().out)
    assert main(["forget", str(run), "Anna Alfa", "--yes"]) == 0
    assert traces(run, "1001", "alfa", "anna", "5001", "word of mouth") == []
    assert scores(run) == {"1002": "3"}


def test_a_later_command_does_not_bring_the_person_back(archive, export, run) -> None:
    source, roster = archive(FILES), export()
    assert grade(source, roster, run) == 0
    assert main(["forget", str(run), "1001", "--yes"]) == 0
    for more in ((), ("--force",)):
        assert grade(source, roster, run, *more) == 0
        assert traces(run, "1001", "alfa", "anna", "5001") == []
        assert scores(run) == {"1002": "3"}


def test_who_handed_in_nothing(archive, export, run) -> None:
    source, roster = archive({"bravobo_1002_5002_lab.ipynb": NOTEBOOK}), export()
    assert grade(source, roster, run) == 0
    assert traces(run, "anna")
    assert main(["forget", str(run), "1001", "--yes"]) == 0
    assert traces(run, "1001", "anna") == []
    assert grade(source, roster, run) == 0
    assert traces(run, "1001", "anna") == []


def test_modules_beside_a_notebook_go_with_it(run, tmp_path) -> None:
    (tmp_path / "anna.ipynb").write_bytes(notebook_bytes("import lora"))
    (tmp_path / "lora.py").write_text("NAME = 'Anna Alfa'")
    assert main(["grade", str(tmp_path / "anna.ipynb"), "--out", str(run), "--assignment", "tests.toy:TOY"]) == 0
    assert list((run / "sources").glob("*.zip"))
    assert main(["forget", str(run), "anna", "--yes"]) == 0
    assert not list((run / "sources").glob("*.zip")) and traces(run, "anna", "alfa") == []


def test_a_score_like_the_id_keeps_its_student(archive, export, run) -> None:
    files = {"alfaanna_5_5001_lab.ipynb": NOTEBOOK, "bravobo_1002_5002_lab.ipynb": NOTEBOOK}
    assert grade(archive(files), export(first="5"), run) == 0
    assert main(["forget", str(run), "5", "--yes"]) == 0
    assert scores(run) == {"1002": "3"} and traces(run, "alfa", "anna") == []


def test_of_a_group_only_the_member_goes(archive, export, run, capsys) -> None:
    roster = export()
    rows = list(csv.reader(roster.read_text(encoding="utf-8").splitlines()))
    for row, group in zip(rows, ("group_name", "", "Team 1", "Team 1"), strict=True):
        row.insert(5, group)
    with roster.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    source = archive({"team1_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, roster, run) == 0
    assert scores(run) == {"1001": "3", "1002": "3"}
    capsys.readouterr()
    assert main(["forget", str(run), "1001", "--yes"]) == 2, "the other member's score would go, too"
    told = " ".join(capsys.readouterr().err.split())
    assert "bears the id 1001, and would go for all 2 members" in told
    assert scores(run) == {"1001": "3", "1002": "3"}
    assert main(["forget", str(run), "1002", "--yes"]) == 0
    assert scores(run) == {"1001": "3"} and traces(run, "bravo", "1002") == []
    assert grade(source, roster, run) == 0
    assert scores(run) == {"1001": "3"} and traces(run, "bravo", "1002") == []


@pytest.mark.parametrize("who", ["Nobody", "77"])
def test_nobody_is_an_error(who, archive, export, run, capsys) -> None:
    assert grade(archive(FILES), export(), run) == 0
    assert main(["forget", str(run), who, "--yes"]) == 2
    assert "no submission" in capsys.readouterr().err


def test_copies_of_earlier_sources_forget_too(archive, export, run, tmp_path) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text("canvas_user_id,name,group_name\n1001,Anna,T\n1002,Bo,\n")
    source, roster = archive(FILES), export()
    assert grade(source, roster, run, "--groups", str(groups)) == 0
    assert main(["forget", str(run), "1001", "--yes"]) == 0
    assert traces(run, "1001", "alfa", "anna", "5001") == []
    assert grade(archive({"bravobo_LATE_1002_5009_lab.ipynb": NOTEBOOK}), roster, run, "--groups", str(groups)) == 0
    assert traces(run, "1001", "alfa", "anna", "5001") == [] and scores(run) == {"1002": "3"}


def test_what_was_sent_of_an_anonymous_hand_in_goes_too(archive, run) -> None:
    """Canvas knows who is anonymous by an id of its own, and so does the log of what was sent."""
    source = archive({"anon_ab12c_5001_lab.ipynb": NOTEBOOK, "anon_de34f_5002_lab.ipynb": NOTEBOOK})
    assert main(["grade", str(source), "--out", str(run), "--assignment", "tests.toy:TOY"]) == 0
    directory = RunDirectory(run)
    directory.write_ledger("canvas.jsonl", [{"student": "ab12c"}, {"student": "de34f"}])
    assert main(["forget", str(run), "anon-ab12c", "--yes"]) == 0
    assert traces(run, "ab12c") == []
    assert directory.ledger("canvas.jsonl", dict) == [{"student": "de34f"}]


def test_a_namesake_who_handed_in_nothing_stays(archive, export, run) -> None:
    roster = export()
    with roster.open("a", encoding="utf-8") as file:
        file.write('"Cy, Dee",1003,s3,dee,A,,\n"Cy, Dee",1004,s4,dee2,A,,\n')
    assert grade(archive(FILES), roster, run) == 0
    assert main(["forget", str(run), "1003", "--yes"]) == 0
    assert RunDirectory(run).read("intake.json", IntakeRecord).missing == ("Cy, Dee",)
