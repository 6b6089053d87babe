"""A university's worth of submissions through the real command: intake, pump, store, judging and reports.

Their execution is REPLACED by one that was recorded once from a real run of the reference solution (or of the toy assignment), so
that what is measured is the coordinator: its memory, its seconds per submission, a resume with nothing to do, and `rejudge`.

    python -m bench.scale [--assignment finetuning|toy] [--sizes 100,1000,10000] [--rejudge 300]
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures as cf
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import machine
from grader import serialization
from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.cli.main import main as main_of_grader
from grader.grading.pipeline import Grader, RunContext, single_submission
from grader.records import SubmissionRun
from grader.runs.engines import Job, LocalEngine, Session

ROOT = Path(__file__).parents[1]
SECRET = b"a secret of benches"
RECORDED = "GRADER_BENCH_RECORDED"
TOY = ("def add(a, b):\n    return a + b", "def shout(text):\n    return text.upper()", "print(add(1, 2))")


def replay() -> int:
    """Be the grader's command line, with the recorded result for every submission, at once, in place of its boxes."""
    recorded = serialization.loads(Path(os.environ[RECORDED]).read_text(encoding="utf-8"), SubmissionRun)

    def submit(_job: Job) -> cf.Future[SubmissionRun]:
        future: cf.Future[SubmissionRun] = cf.Future()
        future.set_result(recorded)
        return future

    @contextlib.contextmanager
    def opened(*_given: Any) -> Iterator[Session]:
        yield Session(submit, 8)

    LocalEngine.open = opened
    return main_of_grader(sys.argv[2:])


def notebook(assignment: str) -> dict[str, Any]:
    if assignment != "toy":
        path = next((ROOT / "reference_solution").glob("*.ipynb"))
        return json.loads(path.read_text(encoding="utf-8"))
    cells = [{"cell_type": "code", "source": s, "metadata": {}, "outputs": [], "execution_count": None} for s in TOY]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}


def record(assignment: str, name: str, folder: Path) -> Path:
    """Run one notebook for real and keep what it brought."""
    path = folder / "recorded.ipynb"
    path.write_text(json.dumps(notebook(assignment)))
    submission, data = single_submission(path)
    context = RunContext.create(load_assignment(name), load_bundle(None), SECRET)
    with Grader(context) as grader:
        result = asyncio.run(grader.run(submission, data))
    target = folder / "recorded.json"
    target.write_text(serialization.dumps(result), encoding="utf-8")
    return target


def hand_in(source: Path, assignment: str, size: int) -> Path:
    source.mkdir()
    text = notebook(assignment)
    for n in range(size):
        text["metadata"] = {"number": n}
        letters = "".join(chr(97 + n // 26**k % 26) for k in range(3))
        (source / f"student{letters}_{10_000 + n}_{90_000 + n}_lab.ipynb").write_text(json.dumps(text))
    return source


def timed(*arguments: str) -> tuple[float, float]:
    """Wall seconds and peak memory (MB) of a command of the grader, in a process of its own."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        command = [sys.executable, "-m", "bench.scale", "--replay", *arguments]
        pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=[
            (os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, out.fileno(), 2),
        ])  # fmt: skip
        _, status, usage = os.wait4(pid, 0)
        seconds = time.monotonic() - began
        if os.waitstatus_to_exitcode(status) not in (0, 3):
            out.seek(0)
            raise SystemExit(out.read().decode()[-3000:])
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assignment", choices=("finetuning", "toy"), default="finetuning")
    parser.add_argument("--sizes", default="100,1000,10000")
    parser.add_argument("--rejudge", type=int, default=300)
    options = parser.parse_args()
    name = "tests.toy:TOY" if options.assignment == "toy" else options.assignment
    print(machine())
    print(f"assignment: {name}; execution REPLACED by a recorded one: nothing is run", flush=True)
    with tempfile.TemporaryDirectory(prefix="grader-scale-") as temporary:
        folder = Path(temporary)
        os.environ[RECORDED] = str(record(options.assignment, name, folder))
        (folder / "secret").write_bytes(SECRET)
        print(f"{'submissions':>12} {'first run s':>12} {'ms each':>9} {'peak MB':>8} {'resume s':>9} {'peak MB':>8}")
        for size in (int(part) for part in options.sizes.split(",")):
            source, run = hand_in(folder / f"in{size}", options.assignment, size), folder / f"run{size}"
            grade = ["grade", str(source), "--out", str(run), "--assignment", name]
            grade += ["--secret-file", str(folder / "secret")]
            first, peak = timed(*grade)
            again, peak_again = timed(*grade)
            each = 1000 * first / size
            print(f"{size:12} {first:12.1f} {each:9.1f} {peak:8.0f} {again:9.1f} {peak_again:8.0f}", flush=True)
        size = options.rejudge
        source, run = hand_in(folder / "in", options.assignment, size), folder / "run"
        timed("grade", str(source), "--out", str(run), "--assignment", name)
        seconds, peak = timed("rejudge", str(run))
        print(f"rejudge of {size}: {seconds:.1f} s, peak {peak:.0f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replay"]:
        sys.exit(replay())
    main()
