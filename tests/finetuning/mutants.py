"""Mutants of the reference solution: who kills them, and why the survivors are right.

`python -m tests.finetuning.mutants` runs them all (some ten minutes) and writes docs/mutation.md. Operators are mutmut's, and a
list of the mistakes of this assignment. Functions and the class are judged in this process; whole notebooks in the real box, on
the stand-in with 48 reviews and no minimum accuracy, since that is about what is trained, not how well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import re
import secrets
import shutil
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from multiprocessing import get_context
from pathlib import Path

import libcst as cst
from mutmut.mutation.mutators import mutation_operators

from grader.assignments import load_assignment
from grader.bundles.bundle import Bundle, load_bundle
from grader.grading.pipeline import Grader, RunContext, report_for, single_submission
from grader.records import Status
from grader.sandbox.contract import Limits
from tests.corpus.functions import ASKED, ASSIGNMENT, WHOLE, verdicts
from tests.finetuning.reasons import ACCURACY, DOMAIN, SURVIVES
from tests.finetuning.reference import NOTEBOOK, cells

REPORT = Path(__file__).parents[2] / "docs" / "mutation.md"
FUNCTIONS = {"count": "count/", "layers": "layers/", "lora": "lora/"}
"""Cell -> the criteria that may kill its mutants, judged by the grader's own questions."""
TRAININGS = {
    "data-load": "",
    "tokenize": "",
    "model": "full/",
    "train": "",
    "train-full": "full/",
    "head": "head/",
    "train-head": "head/",
    "lora-model": "lora/",
    "train-lora": "lora/",
}
"""Cell -> the criteria that may kill its mutants, judged by training; empty where all trainings depend on the cell."""
WORKERS = 2


@dataclass(frozen=True)
class Mutant:
    """One change of one cell."""

    name: str
    """`CELL.LINE BEFORE -> AFTER`, unique."""
    cell: str
    """The cell's id in the notebook."""
    source: str
    """The cell after the change."""


def digest() -> str:
    """Names the reference's code."""
    return hashlib.sha256(json.dumps(cells()).encode()).hexdigest()[:12]


def mutants(chosen: dict[str, str]) -> Iterator[Mutant]:
    """All mutants of the chosen cells: one change each."""
    seen: dict[str, int] = {}
    for mutant in _one_by_one(chosen):
        seen[mutant.name] = number = seen.get(mutant.name, 0) + 1
        yield mutant if number == 1 else replace(mutant, name=f"{mutant.name} ({number})")


def _one_by_one(chosen: dict[str, str]) -> Iterator[Mutant]:
    for cell in chosen:
        source = cells()[cell]
        module = cst.parse_module(source)
        for node in _nodes(module):
            for kind, operator in mutation_operators:
                for changed in operator(node) if isinstance(node, kind) else ():
                    code = module.deep_replace(node, changed).code
                    if code != source and _compiles(code):
                        yield Mutant(_name(cell, source, code), cell, code)
        yield from edited(DOMAIN, cell)


def edited(changes: dict[str, tuple[tuple[str, str], ...]], cell: str) -> Iterator[Mutant]:
    source = cells()[cell]
    for before, after in changes.get(cell, ()):
        assert source.count(before) == 1, f"cell {cell} has {before!r} {source.count(before)} times"
        changed = source.replace(before, after)
        yield Mutant(_name(cell, source, changed), cell, changed)


def _nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Every node but what is only printed, checked or read by people."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value in ("print", "check"):
        return
    yield node
    for child in node.children:
        yield from _nodes(child)


def _name(cell: str, before: str, after: str) -> str:
    """What differs, in whole words, with the line of the cell where it begins."""
    words = [re.findall(r"\w+|\s+|.", text) for text in (before, after)]
    changes = [step for step in SequenceMatcher(None, *words, autojunk=False).get_opcodes() if step[0] != "equal"]
    first, start, last, end = changes[0][1], changes[0][3], changes[-1][2], changes[-1][4]
    line = "".join(words[0][:first]).count("\n") + 1
    parts = (" ".join("".join(w).split()) for w in (words[0][first:last], words[1][start:end]))
    return f"{cell}.{line} " + " -> ".join(f"`{part}`" if part else "nothing" for part in parts)


def _compiles(source: str) -> bool:
    try:
        compile(source, "<mutant>", "exec")
    except SyntaxError:
        return False
    return True


def lost_by_functions(mutant: Mutant) -> set[str]:
    """Criteria that a mutant of a function or of the class loses; `?` for one that needs review.

    It is asked what concerns its cell; one of so many is asked everything.
    """
    own = {check.asks for check in ASSIGNMENT.checks.values() if check.id.startswith(FUNCTIONS[mutant.cell])}
    asked = ASKED if zlib.crc32(mutant.name.encode()) % WHOLE == 0 else [name for name in ASKED if name in own]
    source = "\n".join(mutant.source if i == mutant.cell else text for i, text in cells().items() if i in FUNCTIONS)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        found = verdicts("import torch\nfrom torch import nn\n" + source, asked=asked)
    return {("?" if v.status is Status.ERROR else "") + c for c, v in found.items() if v.status is not Status.PASSED}


def small_bundle(folder: Path) -> Bundle:
    """Make the stand-in with 48 reviews to train on, 100 held-out ones, and no minimum accuracy."""
    shutil.copytree(load_bundle().path, folder)
    for name, rows in (("train.csv", 48), ("eval.csv", 16)):
        lines = (folder / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(lines[: rows + 1]), encoding="utf-8")
    none = {method: {"accuracy": 0.0} for method in ("full", "head", "lora")}
    (folder / "thresholds.json").write_text(json.dumps({"methods": none}), encoding="utf-8")
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    manifest["heldout"]["count"], manifest["files"] = 100, {}
    (folder / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    return load_bundle(folder)


def lost_by_trainings(grader: Grader, mutant: Mutant | None, folder: Path) -> set[str]:
    """Criteria that the notebook with this mutant loses, through the real pipeline."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    if mutant is not None:
        next(cell for cell in notebook["cells"] if cell["id"] == mutant.cell)["source"] = mutant.source
    path = folder / "finetuning.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    submission, data = single_submission(path)
    found = report_for(grader.context, submission, asyncio.run(grader.run(submission, data))).score.criteria
    return {
        ("?" if r.verdict.status is Status.ERROR else "") + r.id for r in found if r.verdict.status is not Status.PASSED
    }


def _share(share: list[tuple[Mutant | None, bool]]) -> Iterator[tuple[str, set[str]]]:
    """Run a share of the notebooks; True stands for the whole stand-in with its minimum accuracies."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        bundles = {False: small_bundle(folder / "bundle"), True: load_bundle()}
        for whole, bundle in bundles.items():
            context = RunContext.create(load_assignment("finetuning"), bundle, secrets.token_bytes(32))
            with Grader(context, limits=Limits(cpu_seconds=180, wall_seconds=1800)) as grader:
                for mutant, wants_whole in share:
                    if wants_whole is whole:
                        yield mutant.name if mutant else "", lost_by_trainings(grader, mutant, folder)


def _work(share: list[tuple[Mutant | None, bool]], outcomes: Path) -> None:
    for name, lost in _share(share):
        with outcomes.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, sorted(lost)]) + "\n")


def run_all(outcomes: Path) -> dict[Mutant, set[str]]:
    """Run what `outcomes` (one JSON line per mutant) does not hold yet; returns everything but the reference's own line."""
    known = dict(json.loads(line) for line in outcomes.read_text("utf-8").splitlines()) if outcomes.exists() else {}
    trained = list(mutants(TRAININGS))
    badly = [mutant for cell in ACCURACY for mutant in edited(ACCURACY, cell)]
    jobs = [(None, False), *((m, False) for m in trained), *((m, True) for m in badly)]
    jobs = [(mutant, whole) for mutant, whole in jobs if (mutant.name if mutant else "") not in known]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_work, jobs[n::WORKERS], outcomes) for n in range(WORKERS)]:
            done.result()
    known = dict(json.loads(line) for line in outcomes.read_text("utf-8").splitlines())
    assert known[""] == [], f"the reference itself loses {known['']}"
    return {m: lost_by_functions(m) for m in mutants(FUNCTIONS)} | {m: set(known[m.name]) for m in (*trained, *badly)}


def allowed(mutant: Mutant, criterion: str) -> bool:
    """Whether a criterion is the right one to kill a mutant."""
    if any(mutant == other for other in edited(ACCURACY, mutant.cell)):
        return criterion.endswith("/accuracy")
    return criterion.startswith({**FUNCTIONS, **TRAININGS}[mutant.cell])


def problems_of(outcomes: dict[Mutant, set[str]]) -> list[str]:
    """What is wrong: killed in the wrong place, alive without a reason, said to be right and killed; criteria that kill nobody."""
    found = []
    for mutant, lost in outcomes.items():
        if bool(lost) == (mutant.name in SURVIVES) or not all(allowed(mutant, criterion) for criterion in lost):
            found.append(
                f"{mutant.name}: loses {sorted(lost) or 'nothing'}; reason to be right: {SURVIVES.get(mutant.name)}"
            )
    idle = set(load_assignment("finetuning").checks) - set().union(*outcomes.values())
    gone = SURVIVES.keys() - {mutant.name for mutant in outcomes}
    return [*found, *(f"{c} kills no mutant" for c in sorted(idle)), *(f"{n}: no such mutant" for n in sorted(gone))]


def main(arguments: list[str] | None = None) -> int:
    """Run all mutants and write the report; the exit code is 1 for a problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.finetuning.mutants", description=__doc__)
    parser.add_argument(
        "outcomes", type=Path, help="file for the outcomes of whole notebooks; what it holds is not run again"
    )
    outcomes = run_all(parser.parse_args(arguments).outcomes)
    problems = problems_of(outcomes)
    REPORT.write_text(report(outcomes, problems), encoding="utf-8")
    for problem in problems:
        print(problem)
    print(f"{len(outcomes)} mutants, {sum(not lost for lost in outcomes.values())} survive, {len(problems)} problems")
    return 1 if problems else 0


def report(outcomes: dict[Mutant, set[str]], problems: list[str]) -> str:
    """The outcome as a page for docs/."""
    kills = {c: sum(c in lost for lost in outcomes.values()) for c in load_assignment("finetuning").checks}
    alone = {c: sum(lost == {c} for lost in outcomes.values()) for c in kills}
    survivors = [mutant.name for mutant, lost in outcomes.items() if not lost]
    explained: dict[str, list[str]] = {}
    for name in survivors:
        explained.setdefault(SURVIVES.get(name, "**unexplained**"), []).append(name)
    lines = [
        "# Mutants of the reference solution",
        "",
        f"Written by `python -m tests.finetuning.mutants` for the reference with digest `{digest()}`. Operators: mutmut's, and the",
        "mistakes of this assignment (`tests/finetuning/reasons.py`). Prints and plots are left out.",
        "",
        f"{len(outcomes)} mutants: {len(outcomes) - len(survivors)} killed, {len(survivors)} equivalent, {len(problems)} problems.",
        "",
        "| criterion | kills | alone |",
        "|---|---:|---:|",
        *(f"| {c} | {kills[c]} | {alone[c]} |" for c in kills),
        "",
        "## Survivors, and why they are right",
        "",
        *(f"- {reason}: {', '.join(names)}" for reason, names in explained.items()),
        *(["", "## Problems", "", *(f"- {problem}" for problem in problems)] if problems else []),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
