"""The commands as people use them: a class in, reports out, resumed, judged again, settled by hand. Toy assignment, real kernels."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grader.cli.common import exit_code
from grader.cli.main import main
from grader.runs.directory import RunDirectory
from tests.pipeline.conftest import notebook_bytes
from tests.reports import samples

ADD, WRONG = "def add(a, b):\n    return a + b", "def add(a, b):\n    return a - b"
SHOUT = "def shout(text):\n    return text.upper()"
TOY = ["--assignment", "tests.toy:TOY"]
ROOT = Path(__file__).parents[2]


def hand_in(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


CLASS = {
    "lindsara_101_901_lab.ipynb": notebook_bytes(ADD, SHOUT),
    "öbergpär_LATE_102_902_lab-1.ipynb": notebook_bytes(WRONG, SHOUT),
    "quistmy_103_903_lab.ipynb": b"%PDF-1.7 not a notebook",
}
ROSTER = (
    "Student,ID,SIS Login ID,Section,Two small functions (77)\n    Points Possible,,,,9\n"
    '"Lind, Sara",101,sara,A,\n"Öberg, Pär",102,par,A,\n"Quist, My",103,my,B,\n"Ek, Bo",104,bo,B,\n'
)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("class")
    source = hand_in(folder / "in", CLASS)
    (folder / "roster.csv").write_text(ROSTER, encoding="utf-8")
    code = main(
        [
            "grade",
            str(source),
            "--roster",
            str(folder / "roster.csv"),
            "--out",
            str(folder / "run"),
            "--workers",
            "1",
            "--no-notebook",
            "0",
            *TOY,
        ]
    )
    assert code == 0
    return folder


def test_a_class_gets_scores_pages_and_a_gradebook(graded, capsys) -> None:
    run = graded / "run"
    with (run / "scores.csv").open(encoding="utf-8") as file:
        rows = {row[0]: row for row in csv.reader(file)}
    header = next(iter(rows.values()))
    totals = {key: row[header.index("total")] for key, row in rows.items() if key.isdigit()}
    assert totals == {"101": "9", "102": "3", "103": "0"}
    with (run / "gradebook.csv").open(encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["Student", "ID", "Section", "Two small functions (77)"],
            ["Lind, Sara", "101", "A", "9"],
            ["Öberg, Pär", "102", "A", "3"],
            ["Quist, My", "103", "B", "0"],
        ]
    page = (run / "class.html").read_text(encoding="utf-8")
    assert "Ek, Bo" in page
    assert "Öberg, Pär" in page
    student = (run / "submissions" / "102" / "report.html").read_text(encoding="utf-8")
    assert "Did you forget" in student
    seed = json.loads((run / "submissions" / "102" / "evidence.json").read_text())["seed"]
    for name in ("report.html", "report.json", "instructor.html"):
        assert seed not in (run / "submissions" / "102" / name).read_text(encoding="utf-8")
    assert (run / "feedback.zip").stat().st_size > 100


def test_a_second_run_has_nothing_to_do_and_changes_nothing(graded, capsys) -> None:
    before = tree(graded / "run")
    assert (
        main(["grade", str(graded / "in"), "--roster", str(graded / "roster.csv"), "--out", str(graded / "run"), *TOY])
        == 0
    )
    assert "0 to run, 2 unchanged" in capsys.readouterr().out
    after = tree(graded / "run")
    assert before.pop("stamp") and after.pop("stamp")  # other tests may have touched the run in between
    assert after == before


def test_rejudge_gives_the_same_bytes_without_a_kernel(graded, capsys, monkeypatch) -> None:
    def no_kernel(*_args, **_kwargs):
        raise AssertionError("a kernel was started")

    monkeypatch.setattr("grader.sandbox.session.KernelSession.__init__", no_kernel)
    before = tree(graded / "run")
    assert main(["rejudge", str(graded / "run")]) == 0
    assert "Nothing changed." in capsys.readouterr().out
    assert tree(graded / "run") == before


def test_numpy_gets_one_thread(graded) -> None:
    """More of them spin beside the notebooks: judging a LoRA layer cost twice the CPU time."""
    code = (
        "import os, sys, time; from grader.cli.main import main; code = main(['rejudge', sys.argv[1]]); import numpy\n"
        "end = time.monotonic() + 5  # a spinner's thread that has ended stays listed for a moment\n"
        "while len(os.listdir('/proc/self/task')) > 1 and time.monotonic() < end: time.sleep(0.05)\n"
        "print('threads:', len(os.listdir('/proc/self/task'))); sys.exit(code)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(graded / "run")], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "threads: 1" in done.stdout


def test_rejudge_tells_what_changed(graded, capsys) -> None:
    stored = graded / "run" / "submissions" / "102" / "evidence.json"
    before = stored.read_text(encoding="utf-8")
    changed = json.loads(before)
    changed["observations"]["shout/upper"]["value"] = "hej"
    stored.write_text(json.dumps(changed), encoding="utf-8")
    try:
        assert main(["rejudge", str(graded / "run")]) == 0
        assert "Öberg, Pär: shout/upper 3 -> 0" in capsys.readouterr().out
    finally:
        stored.write_text(before, encoding="utf-8")
        main(["rejudge", str(graded / "run")])


def test_damaged_evidence_is_said_not_scored(graded, capsys) -> None:
    stored = graded / "run" / "submissions" / "101" / "evidence.json"
    before = stored.read_text(encoding="utf-8")
    stored.write_text(before[: len(before) // 2], encoding="utf-8")
    try:
        assert main(["rejudge", str(graded / "run")]) in (3, 4)
        assert "review" in capsys.readouterr().out
        assert (
            json.loads((graded / "run" / "submissions" / "101" / "report.json").read_text())["score"]["total"] is None
        )
    finally:
        assert (
            main(
                [
                    "grade",
                    str(graded / "in"),
                    "--roster",
                    str(graded / "roster.csv"),
                    "--out",
                    str(graded / "run"),
                    *TOY,
                ]
            )
            == 0
        )
        assert "1 to run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "code"),
    [((), 0), (("perfect", "mistakes"), 0), (("perfect", "review"), 3), (("review", "sandbox_failed"), 4)],
)
def test_exit_code_says_what_is_left_to_do(names, code) -> None:
    assert exit_code([samples.SAMPLES[name]() for name in names]) == code


def test_an_override_wins_and_survives(graded, capsys) -> None:
    run = graded / "run"
    assert main(["override", str(run), "102", "add/negative", "1", "--reason", "right idea"]) == 0
    assert "add/negative 0 -> 1" in capsys.readouterr().out
    assert main(["rejudge", str(run)]) == 0
    assert "right idea" in (run / "submissions" / "102" / "report.html").read_text(encoding="utf-8")
    (run / "overrides.jsonl").unlink()
    main(["rejudge", str(run)])


@pytest.mark.parametrize(
    "command", [["report"], ["rejudge"], ["override", "102", "add/negative", "1", "--reason", "x"]], ids=lambda c: c[0]
)
def test_nothing_is_written_in_a_run_that_another_grader_writes(graded, capsys, monkeypatch, command) -> None:
    run, lock = graded / "run", RunDirectory.lock
    monkeypatch.setattr(RunDirectory, "lock", lambda directory, wait_seconds=0: lock(directory))
    with lock(RunDirectory(run)):
        before = tree(run)
        assert main([command[0], str(run), *command[1:]]) == 2
        assert f"another grader writes in {run}" in capsys.readouterr().err
        assert tree(run) == before


@pytest.mark.parametrize(("arguments", "message"), [
    (["override", "RUN", "999", "add/sum", "1", "--reason", "x"], "no submission"),
    (["override", "RUN", "101", "nothing", "1", "--reason", "x"], "there are add/sum"),
    (["override", "RUN", "101", "add/sum", "5", "--reason", "x"], "out of range"),
    (["override", "RUN", "101", "add/sum", "1", "--reason", " "], "--reason is empty"),
    (["rejudge", "NOWHERE"], "does not exist"),
    (["report", "RUN", "--format", "pdf"], "unknown format pdf"),
    (["grade", "NOWHERE", "--out", "NEW", *TOY], "does not exist"),
    (["grade", "IN", "--out", "RUN", "--only", "999", *TOY], "no submission 999"),
    (["grade", "IN", "--out", "IN", *TOY], "not empty"),
    (["grade", "IN", "--out", "RUN"], "Choose another folder"),
    (["grade", "RUN", "--out", "RUN", *TOY], "lies in the folder of the run"),
    (["grade", "IN", "--out", "NEW", "--executor", "slrum:x.yaml", *TOY], "is none of local[:N], dask:ADDRESS or slurm"),
    (["check", "NOWHERE"], "does not exist"),
    (["grade", "IN", "--out", "NEW", "--assignment", "nothing"], "known are finetuning"),
])  # fmt: skip
def test_wrong_usage_exits_with_2_and_says_what_to_do(graded, capsys, tmp_path, arguments, message) -> None:
    places = {"RUN": graded / "run", "IN": graded / "in", "NOWHERE": tmp_path / "nowhere", "NEW": tmp_path / "new"}
    assert main([str(places.get(a, a)) for a in arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "new").exists()


def test_a_damaged_run_is_said_in_one_line(tmp_path, capsys) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{")
    hand_in(tmp_path / "in", CLASS)
    for arguments in (["rejudge", "RUN"], ["report", "RUN"], ["grade", "IN", "--out", "RUN", *TOY]):
        assert main([{"RUN": str(run), "IN": str(tmp_path / "in")}.get(a, a) for a in arguments]) == 4
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"grader: run.json of {run} is damaged: ")


def test_other_formats(graded) -> None:
    assert main(["report", str(graded / "run"), "--format", "junit,md"]) == 0
    assert "<testsuite" in (graded / "run" / "junit.xml").read_text(encoding="utf-8")
    assert "returns the sum" in (graded / "run" / "submissions" / "101" / "report.md").read_text(encoding="utf-8")


def test_only_what_changed_is_run_again(graded, capsys) -> None:
    target = graded / "in" / "öbergpär_LATE_102_902_lab-1.ipynb"
    target.write_bytes(notebook_bytes(ADD, SHOUT))
    assert (
        main(["grade", str(graded / "in"), "--out", str(graded / "run"), "--roster", str(graded / "roster.csv"), *TOY])
        == 0
    )
    output = capsys.readouterr().out
    assert "1 to run, 1 unchanged" in output
    report = json.loads((graded / "run" / "submissions" / "102" / "report.json").read_text(encoding="utf-8"))
    assert report["score"]["total"] == 9
    assert report["submission"]["late"] is True


def test_check_tells_full_marks_from_less(tmp_path, capsys) -> None:
    right, wrong = tmp_path / "right.ipynb", tmp_path / "wrong.ipynb"
    right.write_bytes(notebook_bytes("from helper import add", SHOUT))
    wrong.write_bytes(notebook_bytes(ADD))
    (tmp_path / "helper.py").write_text(ADD)
    outputs = [
        "--html",
        str(tmp_path / "r.html"),
        "--json",
        str(tmp_path / "r.json"),
        "--markdown",
        str(tmp_path / "r.md"),
    ]
    assert main(["check", str(right), *outputs, *TOY]) == 0
    assert "9 / 9" in capsys.readouterr().out
    assert (tmp_path / "r.html").stat().st_size > 1000
    assert json.loads((tmp_path / "r.json").read_text())["score"]["total"] == 9
    assert main(["check", str(wrong), "--sandbox", "none", *TOY]) == 1
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "shout is not defined" in output


# ---------------------------------------------------------------- interruptions

SLOW = "import time\ntime.sleep(2)"


def start(folder: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "grader",
        "grade",
        str(folder / "in"),
        "--out",
        str(folder / "run"),
        "--workers",
        "1",
        *TOY,
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, "the first submission never finished"
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)


def totals(run: Path) -> dict[str, int | None]:
    return {
        p.parent.name: json.loads(p.read_text())["score"]["total"]
        for p in sorted(run.glob("submissions/*/report.json"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_continues_where_it_stopped(tmp_path, how, capsys) -> None:
    hand_in(
        tmp_path / "in", {f"student{n}_{n}_9{n}_lab.ipynb": notebook_bytes(ADD, SLOW, SHOUT) for n in (201, 202, 203)}
    )
    process = start(tmp_path)
    wait_for(tmp_path / "run" / "submissions" / "201" / "done.json", process)
    process.send_signal(how)
    output = process.communicate(timeout=120)[0]
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command again" in output
    done = [s for s in ("201", "202", "203") if RunDirectory(tmp_path / "run").done(s)]
    assert "201" in done
    assert len(done) < 3
    first = (tmp_path / "run" / "submissions" / "201" / "evidence.json").read_bytes()
    assert main(["grade", str(tmp_path / "in"), "--out", str(tmp_path / "run"), "--workers", "1", *TOY]) == 0
    assert f"{3 - len(done)} to run, {len(done)} unchanged" in capsys.readouterr().out
    assert (tmp_path / "run" / "submissions" / "201" / "evidence.json").read_bytes() == first
    assert totals(tmp_path / "run") == {"201": 9, "202": 9, "203": 9}
    assert not list((tmp_path / "run").rglob("*.part"))
