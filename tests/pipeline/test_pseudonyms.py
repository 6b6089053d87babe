"""A run without names: nothing but one file, the lists and copies it was given, and exports tells whose a submission is."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path

import pytest

from grader.cli.main import main
from tests.pipeline.conftest import notebook_bytes
from tests.pipeline.test_forget import traces
from tests.pipeline.test_gradebook import NOTEBOOK, archive, export, grade, nothing_is_run, run, said, scores

__all__ = ["archive", "export", "nothing_is_run", "run"]

FILES = {
    "alfaanna_LATE_1001_5001_annas lab.ipynb": NOTEBOOK,
    "alfaanna_LATE_1001_4003_annas old lab.ipynb": notebook_bytes("1"),
    "deltadi_1004_5004_by di.pdf": b"%PDF-1.4",
}
"""Bo is in the class list and handed in nothing, Di handed in and is in no class list."""
WORDS = ("1001", "1002", "1004", "5001", "5004", "alfa", "anna", "bravo", "deltadi", "by di", "s1")
MAY = ("names.json", "roster.csv", "gradebook", "feedback", "sources", "canvas.jsonl")
"""What joins names and ids, by its documentation."""


def told(run: Path) -> list[str]:
    """Files that tell whose something is and should not."""
    return [found for found in traces(run, *WORDS) if not found.startswith(MAY) and not found.startswith("secret")]


@pytest.fixture
def graded(archive, export, run, capsys) -> str:
    """What was said while a class was graded without names."""
    assert grade(archive(FILES), export(), run, "--pseudonyms", "--verbose") == 3
    shown = capsys.readouterr()
    return said(shown.out + shown.err)


def hers(run: Path) -> str:
    names = json.loads((run / "names.json").read_text(encoding="utf-8"))
    return next(name for name, one in names["submissions"].items() if one["display_name"] == "Alfa, Anna")


def test_nothing_tells_whose_it_is(graded, run) -> None:
    assert main(["report", str(run), "--format", "html,json,csv,junit,md,gradescope,prairielearn"]) == 3
    assert told(run) == []
    assert not any(word in graded.casefold().replace(str(run).casefold(), "") for word in WORDS)
    assert hers(run) in graded and hers(run) in (run / "class.html").read_text(encoding="utf-8")
    assert stat.S_IMODE((run / "names.json").stat().st_mode) == 0o600
    assert "“hand-in.pdf” is a PDF file" in (run / "needs_review.csv").read_text(encoding="utf-8")


def test_what_intake_has_to_say_names_nobody(archive, export, run, capsys) -> None:
    roster = export()
    with roster.open("a", encoding="utf-8") as file:
        file.write('"Anna, Echo",,s3,eee,A,,\n"Alfa, Anna",1001,s1,anna,A,,\n')
    groups = run.with_name("groups.csv")
    groups.write_text("canvas_user_id,name,group_name\n1001,Anna,Annas team\n1002,Bo,Annas team\n")
    files = {"annasteam_1001_5001_lab.ipynb": NOTEBOOK, "x.pdf": b"%PDF", "__MACOSX/anna.ipynb": b"x"}
    assert grade(archive(files), roster, run, "--pseudonyms", "--groups", str(groups)) == 0
    shown = capsys.readouterr()
    assert told(run) == ["groups.csv: 1001", "groups.csv: 1002", "groups.csv: anna"]
    assert not any(word in said(shown.out + shown.err).replace(str(run), "").casefold() for word in ("anna", "1001"))
    assert scores(run) == {"1001": "3", "1002": "3"}
    assert main(["forget", str(run), "1002", "--yes"]) == 0
    assert traces(run, "bravo", "1002") == [] and scores(run) == {"1001": "3"}


def test_exports_are_joined(graded, run) -> None:
    assert scores(run) == {"1001": "3"}
    with (run / "feedback-manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["user"], row["attachment"]) for row in rows] == [("1001", "5001")]
    assert "Bravo" in (run / "gradebook-preview.csv").read_text(encoding="utf-8")


def test_pseudonyms_stay_and_are_remembered(graded, archive, export, run) -> None:
    name = hers(run)
    later = archive({"bravobo_1002_5009_lab.ipynb": NOTEBOOK})
    assert grade(later, export(), run) == 3
    assert hers(run) == name and scores(run) == {"1001": "3", "1002": "3"}
    assert told(run) == []


def test_names_and_pseudonyms_find_a_submission(graded, run, capsys) -> None:
    for who, points in (("Anna Alfa", "1"), ("1001", "2"), (hers(run), "3")):
        capsys.readouterr()
        assert main(["override", str(run), who, "add/sum", points, "--reason", "nearly"]) == 3
        assert f"{hers(run)}: add/sum" in (shown := said(capsys.readouterr().out)) and "Alfa" not in shown
    assert scores(run) == {"1001": "6"}
    assert main(["regrade", str(run), "Anna Alfa"]) == 3
    assert told(run) == []
    assert main(["override", str(run), "Anna", "add/sum", "1", "--reason", "nearly"]) == 2
    assert "did you mean" not in capsys.readouterr().err, "part of a name is not answered with the name"


@pytest.mark.parametrize("who", ["Anna Alfa", "1001", "pseudonym"])
def test_forgetting_reaches_the_names(who, graded, archive, export, run) -> None:
    name = hers(run)
    assert main(["forget", str(run), name if who == "pseudonym" else who, "--yes"]) == 0
    assert traces(run, name, "1001", "alfa", "anna", "5001", "4003") == []
    assert grade(archive(FILES), export(), run) == 3
    assert traces(run, name, "1001", "alfa", "anna", "5001", "4003") == [] and scores(run) == {}
    assert main(["forget", str(run), "Bo Bravo", "--yes"]) == 0
    assert traces(run, "1002", "bravo") == []


def test_a_run_with_names_keeps_them(archive, export, run, capsys) -> None:
    assert grade(archive(FILES), export(), run) == 3
    assert grade(archive(FILES), export(), run, "--pseudonyms") == 2
    assert "was begun with names" in said(capsys.readouterr().err)
