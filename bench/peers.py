"""CPU seconds of each further submission, and submissions in a minute: this grader, nbgrader and otter-grader on one assignment.

Each peer is installed by name into a virtual environment of its own and run as its documentation says: `nbgrader autograde` for the
class, `otter run` for each submission (its way without containers; with them an image is built and started on top). All run the same
cells with the same torch, one thread each; this one runs in its full box, with recording and reports.

    python -m bench.peers [--home DIR] [--sizes 4,12] [--rounds 3] [--batch 40] [--peers ours,nbgrader,otter]

`--batch 0` leaves the throughput out. A further submission costs (CPU of the larger batch - CPU of the smaller) / difference.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_raw_cell

import grader
from bench.measure import Spent, machine, spent
from bench.short import CELLS

ROOT = Path(__file__).parents[1]
WANTED = {"nbgrader": "nbgrader==0.9.6", "otter": "otter-grader==7.0.0"}
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
NBGRADER = {"schema_version": 3, "grade": False, "solution": False, "locked": False, "task": False}
CONFIG = "c = get_config()\nc.CourseDirectory.course_id = 'peers'\nc.ExecutePreprocessor.timeout = 300\n"
TOTAL = 10


def install(peer: str, home: Path) -> Path:
    """Make a peer's environment; it sees the large libraries of this one, so that all run the same torch. Returns its bin."""
    venv = home / f"{peer}-venv"
    python = venv / "bin" / "python"
    if not (venv / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", WANTED[peer]], check=True, stdout=subprocess.DEVNULL)
        own = subprocess.check_output([str(python), "-c", "import site; print(site.getsitepackages()[0])"], text=True)
        here = Path(nbformat.__file__).parents[1]
        Path(own.strip(), "shared.pth").write_text(f"{here}\n")  # after its own packages on the path
        kernel = [str(python), "-m", "ipykernel", "install", "--prefix", str(venv), "--name", "python3"]
        subprocess.run(kernel, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (venv / "ready").touch()
    return venv / "bin"


def tool(folder: Path, *words: str, cwd: Path) -> None:
    done = spent([str(folder / words[0]), *words[1:]], cwd, at(folder))
    if done.code:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.output}")


def at(folder: Path) -> dict[str, str]:
    """An environment in which a peer's own tools and kernel are found first."""
    found = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "JUPYTER_PATH": str(folder.parent / "share/jupyter")}
    return found | {"VIRTUAL_ENV": str(folder.parent), "PYTHONPATH": ""}


def student(source: str, number: int) -> str:
    return f"# student {number}\n{source}"


# ------------------------------------------------------------------ the three graders


class Ours:
    """This grader: `grader grade`."""

    name = "ours"

    def __init__(self, _home: Path) -> None:
        self.version = grader.__version__

    def hand_in(self, folder: Path, size: int) -> None:
        for n in range(size):
            cells = [new_code_cell(student(c[2], n) if c[0] == "solution" else c[2]) for c in CELLS if c[0] != "test"]
            nbformat.write(
                new_notebook(cells=cells, metadata=KERNEL), folder / f"s{n:03d}_{1000 + n}_{9000 + n}_hw.ipynb"
            )

    def grade(self, folder: Path, out: Path, *, alone: bool) -> Spent:
        words = [
            "-m",
            "grader",
            "grade",
            str(folder),
            "--out",
            str(out / "run"),
            "--assignment",
            "bench.short:SHORT",
        ]
        return spent([sys.executable, *words, *(["--workers", "1"] if alone else [])], ROOT)

    def scores(self, _folder: Path, out: Path) -> list[float | None]:
        found = sorted((out / "run" / "submissions").glob("*/report.json"))
        return [json.loads(path.read_text())["score"]["total"] for path in found]


class Nbgrader:
    """`nbgrader autograde`, one process for the class."""

    name = "nbgrader"

    def __init__(self, home: Path) -> None:
        self.bin = install("nbgrader", home)
        self.version = WANTED["nbgrader"]
        self.course = home / "nbgrader-course"
        if not (self.course / "release").exists():
            shutil.rmtree(self.course, ignore_errors=True)
            (self.course / "source" / "hw").mkdir(parents=True)
            (self.course / "nbgrader_config.py").write_text(CONFIG)
            nbformat.write(self._source(), self.course / "source" / "hw" / "hw.ipynb")
            tool(self.bin, "nbgrader", "generate_assignment", "hw", "--force", cwd=self.course)

    def _source(self) -> Any:
        cells = []
        for kind, name, source, *rest in CELLS:
            marks: dict[str, Any] = {**NBGRADER, "grade_id": name}
            if kind == "given":
                marks |= {"locked": True}
            elif kind == "solution":
                marks |= {"solution": True}
                source = f"### BEGIN SOLUTION\n{source}\n### END SOLUTION"
            else:
                marks |= {"grade": True, "locked": True, "points": int(rest[1])}
                source += f"\n### BEGIN HIDDEN TESTS\n{rest[0]}\n### END HIDDEN TESTS"
            cells.append(new_code_cell(source, metadata={"nbgrader": marks}))
        return new_notebook(cells=cells, metadata=KERNEL)

    def hand_in(self, folder: Path, size: int) -> None:
        shutil.copytree(self.course, folder, dirs_exist_ok=True)
        solutions = {c[1]: c[2] for c in CELLS if c[0] == "solution"}
        for n in range(size):
            book = nbformat.read(self.course / "release" / "hw" / "hw.ipynb", 4)
            for cell in book.cells:
                name = cell.metadata.get("nbgrader", {}).get("grade_id")
                if name in solutions:
                    cell.source = student(solutions[name], n)
            place = folder / "submitted" / f"s{n:03d}" / "hw"
            place.mkdir(parents=True)
            nbformat.write(book, place / "hw.ipynb")

    def grade(self, folder: Path, _out: Path, *, alone: bool) -> Spent:  # noqa: ARG002 - it knows no other way
        return spent([str(self.bin / "nbgrader"), "autograde", "hw"], folder, at(self.bin))

    def scores(self, folder: Path, _out: Path) -> list[float | None]:
        base = sqlite3.connect(folder / "gradebook.db")
        rows = base.execute(
            "select s.student_id, sum(g.auto_score) from submitted_assignment s join submitted_notebook n "
            "on n.assignment_id = s.id left join grade g on g.notebook_id = n.id group by s.student_id"
        ).fetchall()
        base.close()
        return [score for _, score in rows]


class Otter:
    """`otter run`, a process for each submission."""

    name = "otter"

    def __init__(self, home: Path) -> None:
        self.bin = install("otter", home)
        self.version = WANTED["otter"]
        self.home = home / "otter-assignment"
        if not list(self.home.glob("dist/autograder/*.zip")):
            shutil.rmtree(self.home, ignore_errors=True)
            self.home.mkdir()
            nbformat.write(self._source(), self.home / "hw.ipynb")
            tool(self.bin, "otter", "assign", "hw.ipynb", "dist", cwd=self.home)
        (self.zip,) = self.home.glob("dist/autograder/*.zip")

    def _source(self) -> Any:
        head = "# ASSIGNMENT CONFIG\nname: hw\ngenerate: true\nexport_cell: false\nrun_tests: false\nrequirements: []\n"
        cells = [new_raw_cell(head)]
        points = {c[1].removeprefix("test_"): c[4] for c in CELLS if c[0] == "test"} | {"train": "3"}
        for kind, name, source, *rest in CELLS:
            if kind == "given":
                cells.append(new_code_cell(source))
            elif kind == "solution":
                cells.append(new_raw_cell(f"# BEGIN QUESTION\nname: {name}\npoints: {points[name]}"))
                cells += [new_raw_cell("# BEGIN SOLUTION"), new_code_cell(source, metadata={"peer": name})]
                cells.append(new_raw_cell("# END SOLUTION"))
            else:
                half = int(rest[1]) / 2
                shown = f'""" # BEGIN TEST CONFIG\npoints: {half}\n""" # END TEST CONFIG\n{source}'
                # Names made in one of otter's test cases are not seen by the next.
                hidden = (
                    f'""" # BEGIN TEST CONFIG\nhidden: true\npoints: {half}\n""" # END TEST CONFIG\n{source}\n{rest[0]}'
                )
                cells += [new_raw_cell("# BEGIN TESTS"), new_code_cell(shown), new_code_cell(hidden)]
                cells += [new_raw_cell("# END TESTS"), new_raw_cell("# END QUESTION")]
        return new_notebook(cells=cells, metadata=KERNEL)

    def hand_in(self, folder: Path, size: int) -> None:
        solutions = {c[1]: c[2] for c in CELLS if c[0] == "solution"}
        for n in range(size):
            book = nbformat.read(self.home / "dist" / "autograder" / "hw.ipynb", 4)
            for cell in book.cells:
                if cell.metadata.get("peer") in solutions:
                    cell.source = student(solutions[cell.metadata["peer"]], n)
            nbformat.write(book, folder / f"s{n:03d}.ipynb")

    def grade(self, folder: Path, out: Path, *, alone: bool) -> Spent:  # noqa: ARG002
        names = sorted(path.stem for path in folder.glob("*.ipynb"))
        one = f"{self.bin / 'otter'} run -a {self.zip} --no-logo"
        loop = "; ".join(f"mkdir -p {name} && {one} -o {name} {folder / name}.ipynb" for name in names)
        return spent(["sh", "-c", loop], out, at(self.bin))

    def scores(self, _folder: Path, out: Path) -> list[float | None]:
        found = [json.loads(path.read_text()) for path in sorted(out.glob("*/results.json"))]
        return [sum(test.get("score", 0) for test in one["tests"]) for one in found]


PEERS = {peer.name: peer for peer in (Ours, Nbgrader, Otter)}


def graded(peer: Any, size: int, work: Path, *, alone: bool) -> Spent:
    """Let a peer grade so many right submissions, one at a time (`alone`) or as it likes; SystemExit unless all got all points."""
    folder, out = (Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=work)) for _ in range(2))
    peer.hand_in(folder, size)
    took = peer.grade(folder, out, alone=alone)
    scores = peer.scores(folder, out)
    if scores != [TOTAL] * size:
        raise SystemExit(
            f"{peer.name} gave {scores}, code {took.code}; right is {TOTAL} for all {size}:\n{took.output}"
        )
    print(f"  {peer.name:9} {size:3} submissions: {took.cpu:7.1f} CPU s, {took.wall:7.1f} s wall", flush=True)
    shutil.rmtree(folder)
    shutil.rmtree(out)
    return took


def further(peers: Sequence[Any], sizes: tuple[int, int], rounds: int, work: Path) -> None:
    """Measure CPU seconds of a further submission, peers in turn within each round."""
    small, large = sizes
    costs: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for n in range(rounds):
        print(f"round {n + 1} of {rounds}")
        for peer in peers:
            # One at a time: two on one core's two threads would slow each other down, and count as more CPU time.
            difference = graded(peer, large, work, alone=True).cpu - graded(peer, small, work, alone=True).cpu
            costs[peer.name].append(difference / (large - small))
    for peer in peers:
        found = costs[peer.name]
        ratio = [ours / cost for ours, cost in zip(costs.get("ours", ()), found, strict=False)]
        said = f"; ours costs {statistics.median(ratio):.3f} of it" if ratio and peer.name != "ours" else ""
        told = ", ".join(f"{cost:.2f}" for cost in found)
        print(f"{peer.name} ({peer.version}): {statistics.median(found):.2f} CPU s a further submission ({told}){said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "grader-peers")
    parser.add_argument("--sizes", default="4,12")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--peers", default="ours,nbgrader,otter")
    options = parser.parse_args()
    options.home.mkdir(parents=True, exist_ok=True)
    print(machine(), flush=True)
    peers = [PEERS[name](options.home) for name in options.peers.split(",")]
    small, large = (int(size) for size in options.sizes.split(","))
    with tempfile.TemporaryDirectory(prefix="grader-peers-work-") as work:
        if options.rounds:
            further(peers, (small, large), options.rounds, Path(work))
        if options.batch:
            print(f"throughput: {options.batch} submissions on {len(os.sched_getaffinity(0))} cores")
            walls = {p.name: graded(p, options.batch, Path(work), alone=False).wall for p in peers if p.name != "otter"}
            for name, wall in walls.items():
                print(f"{name}: {60 * options.batch / wall:.1f} submissions a minute")
            if len(walls) == 2:
                print(f"ours is {walls['nbgrader'] / walls['ours']:.1f} times as fast")


if __name__ == "__main__":
    main()
