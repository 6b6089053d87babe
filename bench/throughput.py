"""The sample class, several times over, on all cores: this grader against a plain loop of nbclient over the same notebooks.

The loop runs the adapted notebooks with cold kernels on the same bundle, as many side by side as there are cores, one torch thread
each, and does nothing else: no box, no recording, no questions, no reports. Two things are told of it: what it takes as it is, and
what its bare cells take, that is, without starting kernels. They import the libraries, as the same notebooks do everywhere; with
`--preloaded` the loop's kernels have imported them before, uncounted, which leaves the trainings and is the harsher comparison.

    python -m bench.throughput [--times 10] [--loop-times 2] [--only björk,team_7] [--cpu-seconds 100] [--pairs 4] [--preloaded]

Overhead of a submission = (CPU of the grader - CPU of the cells) / submissions, told twice: against the loop's cells, whose CPU time
is another run's and moves with the machine, and against the same cells as they were measured in the box, which is exact for all
that is outside of them. Efficiency = CPU of the loop's cells / (wall of the grader x cores). `--loop-times` runs the loop over fewer
copies than the grader and counts them as often as needed: copies are equal but for their ends, and the loop takes hours. `--pairs`
does all of it several times over, loop and grader in turn, and tells what cells cost in the box beyond those of the loop, pair by pair.
"""

from __future__ import annotations

import argparse
import concurrent.futures as cf
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

from bench.measure import Spent, machine, spent
from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.bundles.hf_cache import prepare_home
from grader.errors import SubmissionError
from grader.grading.pipeline import Grader, RunContext
from grader.notebook.reader import read_notebook

ROOT = Path(__file__).parents[1]
CLASS = ROOT / "data" / "sample_class" / "submissions.zip"
FIRST = """\
import importlib, json, resource, time
if {preloaded}:
    importlib.import_module("grader.inside.zygote").preload()
importlib.import_module("grader.inside.shims").install(lambda *_: None, json.loads({config!r}))
def _spent():
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
resource.setrlimit(resource.RLIMIT_CPU, (int(_spent()) + {seconds}, int(_spent()) + {seconds} + 5))  # as the grader counts
print("spent", _spent())"""
LAST = 'print("spent", _spent())'


def hand_in(folder: Path, times: int, only: list[str]) -> int:
    """Write the class so many times over, every copy with bytes and ids of its own; returns the number of submissions."""
    count = 0
    with zipfile.ZipFile(CLASS) as archive:
        for info in archive.infolist():
            owner, _, rest = info.filename.partition("_4")
            owner = re.sub(r"_(?=\d)", "", owner)  # without a roster a student's number could be read in team_7
            if only and not any(word in info.filename for word in only):
                continue
            count += info.filename.endswith(".ipynb") * times
            for copy in range(times):
                # 41002 becomes 42002, 43002, ...: another student of the same name
                number = int("4" + rest[:4]) + 1000 * copy
                (folder / f"{owner}_{number}{rest[4:]}").write_bytes(archive.read(info) + b"\n" * copy)
    return count


# ------------------------------------------------------------------ the plain loop


def prepared(source: Path, target: Path, times: int) -> None:
    """Write the notebooks of the first `times` classes as the grader would run them; what cannot be read is left out."""
    bundle = load_bundle(None)
    grader = Grader(RunContext.create(load_assignment("finetuning"), bundle, b"a secret of benches"))
    prepare_home(bundle, target / "hf")
    (target / "config.json").write_text(json.dumps(grader.shim_config({})))
    for name, data in (("train.csv", bundle.train_csv), ("eval.csv", bundle.eval_csv)):
        (target / name).write_bytes(data if isinstance(data, bytes) else data.read_bytes())
    copies = tuple(f"_{41 + copy}" for copy in range(times))  # see `hand_in`
    for path in sorted(source.glob("*.ipynb")):
        if not any(copy in path.name for copy in copies):
            continue
        with contextlib.suppress(SubmissionError):
            cells = read_notebook(path.read_bytes()).cells
            nbformat.write(new_notebook(cells=[new_code_cell(cell.source) for cell in cells]), target / path.name)


def execute(path: Path, seconds: int, preloaded: bool) -> tuple[str, float]:
    """Run one notebook with a cold kernel; returns its name and the CPU seconds of its cells alone."""
    book = nbformat.read(path, 4)
    config = (path.parent / "config.json").read_text()
    first = FIRST.format(seconds=seconds, config=config, preloaded=preloaded)
    book.cells = [new_code_cell(first), *book.cells, new_code_cell(LAST)]
    with tempfile.TemporaryDirectory(prefix="bare-") as work:
        for name in ("train.csv", "eval.csv"):
            (Path(work) / name).symlink_to(path.parent / name)
        client = NotebookClient(
            book, timeout=None, allow_errors=True, kernel_name="python3", resources={"metadata": {"path": work}}
        )
        with contextlib.suppress(DeadKernelError):
            client.execute()
    stamps = [stamp for cell in (book.cells[0], book.cells[-1]) for stamp in _stamps(cell)]
    if not stamps:
        raise RuntimeError(f"{path.name}: the first cell failed: {book.cells[0].get('outputs')}")
    # one that ended at its limit says nothing at its end
    return path.name, stamps[1] - stamps[0] if len(stamps) > 1 else float(seconds)


def _stamps(cell: Any) -> list[float]:
    texts = [output.get("text", "") for output in cell.get("outputs", [])]
    return [float(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("spent ")]


def loop(folder: Path, seconds: int, preloaded: bool) -> None:
    """Run all notebooks of a folder, as many side by side as there are cores; leaves what the cells took in `cells.json`."""
    paths, took = sorted(folder.glob("*.ipynb")), {}
    with cf.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for done in cf.as_completed([pool.submit(execute, path, seconds, preloaded) for path in paths]):
            name, cpu = done.result()
            took[name] = cpu
            print(f"  bare {len(took)}/{len(paths)} {name}: {cpu:.1f} CPU s in its cells", file=sys.stderr, flush=True)
    (folder / "cells.json").write_text(json.dumps(took))


# ------------------------------------------------------------------ both, and what they say


def in_the_box(run: Path) -> float:
    """CPU seconds of all cells as the grader measured them."""
    records = (json.loads(path.read_text()) for path in run.glob("submissions/*/execution.json"))
    return sum(cell["cpu_seconds"] for record in records for cell in record["cells"])


@dataclass(frozen=True)
class Figures:
    """What one pair brought."""

    ours: Spent
    """The grader."""
    boxed: float
    """CPU seconds of its cells."""
    bare: Spent
    """The plain loop."""
    cells: float
    """CPU seconds of the loop's cells."""
    count: int
    """Submissions of the grader."""
    share: float
    """Part of them that the loop ran."""

    @property
    def gap(self) -> float:
        """CPU seconds that the cells of one submission cost in the box beyond what they cost in the loop."""
        return (self.boxed - self.cells / self.share) / self.count


def told(found: Figures) -> str:
    """All figures of a pair."""
    ours, boxed, bare, cells, count, share = (getattr(found, field.name) for field in fields(found))
    cores = len(os.sched_getaffinity(0))
    rows = [("grader", ours.cpu, ours.wall), ("its cells", boxed, 0.0)]
    rows += [("plain loop", bare.cpu / share, bare.wall / share), ("the loop's cells", cells / share, 0.0)]
    lines = [f"{count} submissions on {cores} cores", f"{'':22} {'CPU s':>9} {'wall s':>8}"]
    lines += [f"{name:22} {cpu:9.1f} {f'{wall:8.1f}' if wall else ''}" for name, cpu, wall in rows]
    if share < 1:
        lines.append(f"the loop ran over {share:.0%} of the submissions; its figures are divided by that share")
    lines.append(f"outside of the cells: {(ours.cpu - boxed) / count:.2f} CPU s a submission")
    lines.append(f"cells in the box against those of the loop: {boxed / (cells / share):.3f}")
    for name, cpu in (("the loop's cells", cells / share), ("the loop as it is", bare.cpu / share)):
        overhead, efficiency = (ours.cpu - cpu) / count, cpu / (ours.wall * cores)
        lines.append(f"against {name}: overhead {overhead:+.2f} CPU s a submission, efficiency {efficiency:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="how many times over the class of 16 is graded")
    parser.add_argument(
        "--loop-times", type=int, help="how many times over the loop runs it; as often as --times if not given"
    )
    parser.add_argument("--only", default="", help="parts of file names, with commas between them")
    parser.add_argument("--cpu-seconds", type=int, default=100, help="what a submission may take, on both sides")
    parser.add_argument("--pairs", type=int, default=1, help="how many times all of it is done")
    parser.add_argument("--preloaded", action="store_true", help="the loop's kernels import the libraries beforehand")
    parser.add_argument("--keep", type=Path, help="leave the run directory there")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(options.loop, options.cpu_seconds, options.preloaded)
        return
    if options.keep and options.pairs > 1:
        parser.error("--keep keeps the run of a single pair")
    print(machine(), flush=True)
    gaps = []
    for number in range(options.pairs):
        with tempfile.TemporaryDirectory(prefix="grader-throughput-") as temporary:
            found = measure(options, Path(temporary))
        gaps.append(found.gap)
        print(f"pair {number + 1} of {options.pairs}\n{told(found)}", flush=True)
    each = ", ".join(f"{gap:+.2f}" for gap in gaps)
    print(f"cells in the box beyond the loop's: {statistics.median(gaps):+.2f} CPU s a submission, median of {each}")


def measure(options: argparse.Namespace, folder: Path) -> Figures:
    """The loop, then the grader."""
    source, bare = folder / "class", folder / "bare"
    source.mkdir()
    bare.mkdir()
    run = options.keep or folder / "run"
    loop_times = min(options.loop_times or options.times, options.times)
    count = hand_in(source, options.times, [word for word in options.only.split(",") if word])
    prepared(source, bare, loop_times)
    print(f"{count} submissions; the loop first, then the grader", flush=True)
    limit = ["--cpu-seconds", str(options.cpu_seconds)]
    words = [sys.executable, "-m", "bench.throughput", "--loop", str(bare), *limit]
    words += ["--preloaded"] * options.preloaded
    plain = spent(words, ROOT, {"HF_HOME": str(bare / "hf")}, shown=True)
    if plain.code:
        raise SystemExit(plain.output)
    grade = [sys.executable, "-m", "grader", "grade", str(source), "--out", str(run), *limit]
    ours = spent(grade, ROOT, shown=True)
    if ours.code not in (0, 3):
        raise SystemExit(ours.output)
    cells = json.loads((bare / "cells.json").read_text())
    return Figures(ours, in_the_box(run), plain, sum(cells.values()), count, loop_times / options.times)


if __name__ == "__main__":
    main()
