"""What a course sets in a file: it is checked, applied, remembered, and told to staff; students see what they may."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.cli.common import limits_of
from grader.cli.main import main
from grader.errors import UsageError
from grader.grading.context import RunContext
from grader.grading.settings import Settings, read_settings
from grader.runs.directory import RunDirectory
from tests.pipeline.test_gradebook import NOTEBOOK, archive, export, grade, nothing_is_run, run, said, scores

__all__ = ["archive", "export", "nothing_is_run", "run"]


@pytest.fixture
def config(tmp_path: Path):
    def write(text: str) -> str:
        (tmp_path / "grader.toml").write_text(text, encoding="utf-8")
        return str(tmp_path / "grader.toml")

    return write


def page(run: Path, name: str) -> str:
    return " ".join((run / "submissions" / "1001" / name).read_text(encoding="utf-8").split())


def test_points_are_set_remembered_and_told(archive, export, run, config) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, export(points="11"), run, "--config", config('[points]\n"shout/upper" = 5')) == 0
    assert scores(run) == {"1001": "5"}
    assert "Points: shout/upper 5." in page(run, "instructor.html") and "Points: shout" in page(run, "report.html")
    assert grade(source, export(points="11"), run) == 0
    assert main(["rejudge", str(run)]) == 0
    assert scores(run) == {"1001": "5"}
    assert main(["override", str(run), "1001", "shout/upper", "5", "--reason", "yes"]) == 0
    assert main(["rejudge", str(run), "--config", config('[points]\n"shout/upper" = 1\n"add/sum" = 8')]) == 0
    assert scores(run) == {"1001": "1"}, "also by hand no more than there are"


def test_a_byte_order_mark_is_passed_over(config) -> None:
    assert read_settings(Path(config("\ufeff[points]\n"))).points == {}  # as some editors of Windows save it


def test_a_note_is_on_every_page(archive, export, run, config) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, export(), run, "--config", config('note = "Late: <b>10 %</b> a day."')) == 0
    for name in ("instructor.html", "report.html"):
        assert "Late: &lt;b&gt;10 %&lt;/b&gt; a day." in page(run, name)
    assert main(["report", str(run), "--format", "md"]) == 0
    assert "Late: &lt;b&gt;10 %&lt;/b&gt; a day." in page(run, "report.md")


@pytest.mark.parametrize(
    ("show", "title", "message"),
    [('default = "all"', True, True), ('shout = "titles"', True, False), ('"shout/upper" = "nothing"', False, False)],
)
def test_students_see_what_they_may(show, title, message, archive, export, run, config) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert (
        grade(source, export(), run, "--config", config(f'[points]\n"shout/upper" = 3\n[show]\nadd = "all"\n{show}'))
        == 0
    )
    report, annotated = page(run, "report.html"), page(run, "annotated.ipynb")
    for shown in (report, annotated):
        assert ("returns the text in capitals" in shown) is title
        assert "3 / 3" in shown.replace("<span>", "").replace("</span>", ""), "points are always shown"
    assert "returns the text in capitals" in page(run, "instructor.html")
    stored = json.loads(page(run, "report.json"))
    assert stored["score"]["criteria"][2]["verdict"]["status"] == "passed"
    assert ("below-0" in annotated) is message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[pionts]\nx = 1", "has pionts; there are note, language, points, accuracy, limits, show"),
        ('[points]\n"lora/speed" = 1', "[points] has lora/speed; there are add/negative, add/sum, shout/upper"),
        ('[points]\n"add/sum" = 0', "Expected `int` >= 1"),
        ('[points]\n"add/sum" = 2.5', "Expected `int`"),
        ("[accuracy]\nfull = 80", "Expected `float` <= 1.0"),
        ("[accuracy]\nfast = 0.8", "[accuracy] has fast; there are full, head, linear_range, lora"),
        ("[accuracy]\nfull = 0", "[accuracy] full is 0; a minimum accuracy is above 0"),
        ("[accuracy]\nlinear_range = -0.1", "Expected `float` >= 0.0"),
        ("[accuracy]\nlinear_range = 0.9", "linear_range is 0.9; it is 0.5 at most"),
        ("[limits]\nwall = 3", "Invalid enum value 'wall'"),
        ('[show]\nadd = "some"', "Invalid enum value 'some'"),
        ('[show]\nlora = "all"', "[show] has lora; there are add,"),
        ("note = 3", "Expected `str`"),
        ('language = "se"', "language is se; there are da, de, en, es, fi, fr, it, nb, nl, sv"),
        ("language = 46", "Expected `str`"),
        ("[points", "cannot be read"),
        ("\xff", "cannot be read"),
    ],
)
def test_a_fault_is_told_before_anything_is_run(text, words, archive, export, run, config, capsys, tmp_path) -> None:
    path = config("")
    Path(path).write_bytes(text.encode("latin-1"))
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert grade(source, export(), run, "--config", path) == 2
    assert words in said(capsys.readouterr().err)
    assert not (run / "gradebook.csv").exists()


def test_accuracies_reach_the_judge() -> None:
    settings = Settings(accuracy={"head": 0.66, "linear_range": 0.05})
    context = RunContext.create(load_assignment(), load_bundle(), b"a secret", settings)
    plain = RunContext.create(load_assignment(), load_bundle(), b"a secret")
    assert context.facts.calibrations["head"].accuracy == 0.66 != plain.facts.calibrations["head"].accuracy
    assert context.facts.calibrations["full"] == plain.facts.calibrations["full"]
    assert (context.facts.linear_range, plain.facts.linear_range) == (0.05, 0.0)


def test_a_course_makes_the_minimum_a_hard_one(config) -> None:
    soft = replace(load_bundle(), linear_range=0.05)
    hard = read_settings(Path(config("[accuracy]\nlinear_range = 0")))
    assert hard.apply(load_assignment(), soft)[1].linear_range == 0
    assert hard.sentences() == ("Minimum accuracy: linear_range 0.",)


def test_limits_of_the_command_line_win() -> None:
    settings = Settings(limits={"cpu_seconds": 50.0, "memory_gib": 2.0})
    of_course, given = (
        limits_of(settings.limited(**told))
        for told in ({}, {"cpu_seconds": 70.0, "memory_gib": 1.0, "wall_seconds": None})
    )
    assert (of_course.cpu_seconds, of_course.memory_bytes) == (50, 2 << 30)
    assert (given.cpu_seconds, given.memory_bytes) == (70, 1 << 30)
    assert limits_of(Settings()).cpu_seconds == 900


@pytest.mark.parametrize(
    ("language", "half", "day"), [("sv", "2,5", r"\d{4}-\d\d-\d\d"), ("fi", "2,5", r"\d\d\.\d\d\.\d{4}")]
)
def test_pages_write_numbers_and_dates_as_told(language, half, day, archive, export, run, config) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    chosen = config(f'language = "{language}"\n[limits]\ncpu_seconds = 2000\nmemory_gib = 1.5')
    assert grade(source, export(), run, "--config", chosen) == 0
    assert main(["override", str(run), "1001", "shout/upper", "2.5", "--reason", "nearly"]) == 0
    assert main(["regrade", str(run), "1001"]) == 0
    assert main(["report", str(run), "--format", "html,json,csv,md"]) == 0
    for name in ("report.html", "instructor.html", "annotated.ipynb", "report.md"):
        assert half in (shown := page(run, name)) and not re.search(r"2\.5(?!r?em|px|\d)", shown)
        assert re.search(rf"run again on {day}", shown)
    staff = page(run, "instructor.html").replace("\u00a0", " ")
    assert "Limits: cpu_seconds 2 000; memory_gib 1,5; wall_seconds 16 600." in staff
    assert f"Numbers and dates: as in the language {language}." in staff
    shown = (run / "class.html").read_text(encoding="utf-8")
    assert f">{half}</b><span>median" in shown and 'data-value="2.5">2,5<' in shown, "scripts sort by numbers"
    assert scores(run) == {"1001": "2.5"} and json.loads(page(run, "report.json"))["score"]["total"] == 2.5


def test_every_report_says_which_values_were_used(archive, export, run, config) -> None:
    source = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK})
    assert (
        grade(source, export(points="10"), run, "--config", config('[points]\n"add/sum" = 5\n[show]\nadd = "titles"'))
        == 0
    )
    used = "Points: add/sum 5. Limits: cpu_seconds 900; wall_seconds 7,800; memory_gib 6."
    assert used in page(run, "report.html") and "Students see" not in page(run, "report.html")
    assert f"{used} Students see: add titles." in page(run, "instructor.html")
    assert regrade(run, "1001", "--cpu-seconds", "1000") == 0
    assert "Limits: cpu_seconds 1,000; wall_seconds 8,600; memory_gib 6." in page(run, "report.html")


def regrade(run: Path, *more: str) -> int:
    return main(["regrade", str(run), *more])


def test_limits_are_remembered_until_others_are_told(archive, export, run, config, capsys) -> None:
    source, roster = archive({"alfaanna_1001_5001_lab.ipynb": NOTEBOOK}), export()

    def limits(*more: str) -> dict[str, float]:
        assert grade(source, roster, run, *more) == 0
        return limits_told()

    def limits_told() -> dict[str, float]:
        return dict(RunDirectory(run).info().settings.limits)

    assert limits("--cpu-seconds", "50", "--memory-gib", "2") == {"cpu_seconds": 50.0, "memory_gib": 2.0}
    assert limits() == {"cpu_seconds": 50.0, "memory_gib": 2.0}
    assert limits("--config", config('note = "Ask."')) == {"cpu_seconds": 50.0, "memory_gib": 2.0}
    assert limits("--config", config("[limits]\ncpu_seconds = 70")) == {"cpu_seconds": 70.0, "memory_gib": 2.0}
    assert limits("--cpu-seconds", "60", "--wall-seconds", "99")["wall_seconds"] == 99
    capsys.readouterr()
    assert grade(source, roster, run, "--cpu-seconds", "200") == 2
    assert "--wall-seconds (99) is a net above --cpu-seconds (200)" in said(capsys.readouterr().err)
    assert limits_told()["cpu_seconds"] == 60, "what was refused is not remembered"


def test_the_documented_file_is_valid(config) -> None:
    document = Path(__file__).parents[2] / "docs" / "settings.md"
    text = document.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    settings = read_settings(Path(config(text)))
    assignment, bundle = settings.apply(load_assignment(), load_bundle())
    assert assignment.checks["lora/accuracy"].points == 4 and bundle.calibrations["full"].accuracy == 0.8
    assert [settings.shown(name) for name in ("count/frozen", "lora/accuracy", "lora/forward")] == [
        "all",
        "titles",
        "nothing",
    ]


def test_a_bundle_is_sealed_after_an_edit(tmp_path, capsys) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(load_bundle().path, copy)
    thresholds = copy / "thresholds.json"
    thresholds.write_text(thresholds.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert main(["bundle", "verify", str(copy)]) != 0
    assert main(["bundle", "seal", str(copy)]) == 0
    assert "it was" in capsys.readouterr().out
    assert main(["bundle", "verify", str(copy)]) == 0
    with pytest.raises(UsageError):
        read_settings(tmp_path / "absent.toml")
