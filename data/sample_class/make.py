"""Make the sample class: a Canvas archive of 16 hand-ins, the gradebook export of their course, and the expected scores.

    python data/sample_class/make.py [--out FOLDER]

Everyone in it is invented. The notebooks are composed from the named fragments in `handwritings/`; none is edited by hand.
The archive is byte for byte the same on every machine (stored without compression, fixed times).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat

from grader.authoring.template import dumps

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(ROOT) not in sys.path:  # as a script: Python then looks beside this file only, and the tests lie at the top
    sys.path.insert(0, str(ROOT))

from tests.corpus.handwriting import Fragment, compose, read_fragments  # noqa: E402

TITLE = "Assignment 4: fine-tuning (98765)"
TOTALS = ("Assignments Current Score", "Current Score", "Final Score")
SECTIONS = ("DAT450 LP2", "DIT247 LP2")

# The rubric of the assignment: what a right notebook earns.
RUBRIC = {
    "count/distilbert": 8,
    "count/frozen": 6,
    "count/any-module": 6,
    "full/trained": 5,
    "full/accuracy": 10,
    "head/frozen": 10,
    "head/trained": 5,
    "head/accuracy": 8,
    "layers/extract": 6,
    "layers/replace": 6,
    "lora/identity": 4,
    "lora/forward": 6,
    "lora/rank-scaling": 4,
    "lora/gradients": 2,
    "lora/model": 8,
    "lora/accuracy": 6,
}
LORA_CLASS = ("lora/identity", "lora/forward", "lora/rank-scaling", "lora/gradients")
LORA_RUN = ("lora/model", "lora/accuracy")
EVERYTHING = tuple(RUBRIC)


@dataclass(frozen=True)
class HandIn:
    """One student's (or group's) file in the archive, and what it should earn."""

    sortable: str  # "Family, Given" as Canvas sorts by, or the name of a group
    user: int  # Canvas user id
    attachment: int  # Canvas attachment id
    file: str  # name of the file as Canvas shows it
    base: str = "clean"  # handwriting; "" for a file that is not composed
    change: tuple[tuple[str, str], ...] = ()  # cell of the handwriting -> fragment of mistakes.md
    lost: tuple[str, ...] = ()  # criteria that earn nothing; all others earn everything
    why: str = ""  # one sentence for those who wonder about the score
    late: bool = False  # marked late by Canvas
    outcome: str = "completed"  # completed, raised, timed_out, unreadable
    group: bool = False  # `sortable` names a group; the user id is that of the member who handed in
    section: int = 0  # index into SECTIONS

    @property
    def entry(self) -> str:
        """Name in the archive, as Canvas composes it."""
        name = "".join(c for c in self.sortable.lower() if c.isalnum() or c == "_")
        return f"{name}{'_LATE' if self.late else ''}_{self.user}_{self.attachment}_{self.file}"


CLASS = (
    HandIn("Åkesson, Märta", 41001, 700101, "finetuning.ipynb", why="A tidy and right notebook."),
    HandIn(
        "Björk, Sören",
        41002,
        700102,
        "finetuning-1.ipynb",
        base="one-model",
        why="Right: one variable for three models, other names and orientations; handed in twice.",
    ),
    HandIn(
        "Dahlström, Göran",
        41003,
        700103,
        "Kopia av finetuning.ipynb",
        base="colab",
        section=1,
        why="Right once installs, drive, GPU and the older argument names of Colab are adapted.",
    ),
    HandIn(
        "李, 小龙",
        41004,
        700104,
        "作业_4.ipynb",
        base="own-loop",
        why="Right: an own training loop instead of the Trainer, no model left in a variable.",
    ),
    HandIn(
        "Eriksson, Elin",
        41005,
        700105,
        "finetuning.ipynb",
        change=(("count", "count-frozen-too"),),
        lost=("count/frozen",),
        why="Counts frozen parameters as well; without frozen ones its numbers are right.",
    ),
    HandIn(
        "Fälth, Oskar",
        41006,
        700106,
        "finetuning.ipynb",
        change=(("count", "count-prints"),),
        late=True,
        lost=("count/distilbert", "count/frozen", "count/any-module"),
        why="Prints the count and returns None: without a value there is nothing to judge in any counting criterion.",
    ),
    HandIn(
        "Grönlund, Åsa",
        41007,
        700107,
        "finetuning.ipynb",
        change=(("head", "head-not-frozen"),),
        lost=("head/frozen",),
        section=1,
        why="The body is not frozen in step 2; the run is still taken for the head-only one by its place, so its head "
        "moved and its accuracy is enough.",
    ),
    HandIn(
        "Håkansson, Nils-Erik",
        41008,
        700108,
        "finetuning_final_v2.ipynb",
        change=(("head", "head-reused"),),
        lost=("head/frozen",),
        why="The fine-tuned model of step 1 is used again in step 2: frozen, but no longer pretrained.",
    ),
    HandIn(
        "team_7",
        41009,
        700109,
        "lab 4 (final).ipynb",
        change=(("lora", "lora-no-scaling"),),
        group=True,
        section=1,
        lost=("lora/rank-scaling",),
        why="alpha / rank is missing; identity, form and gradients are right.",
    ),
    HandIn(
        "Öberg, Linnéa",
        41010,
        700110,
        "finetuning.ipynb",
        change=(("lora", "lora-integer-scaling"),),
        lost=("lora/rank-scaling",),
        why="alpha // rank is right for the defaults only.",
    ),
    HandIn(
        "Nyström_Sjöö, Ida",
        41011,
        700111,
        "finetuning.ipynb",
        change=(("lora-model", "lora-model-all-attention"),),
        lost=("lora/model",),
        why="k_lin and out_lin are wrapped as well; the class and the accuracy are right.",
    ),
    HandIn(
        "Persson, Björn",
        41012,
        700112,
        "finetuning.ipynb",
        change=(("replace", "replace-attention-only"),),
        section=1,
        lost=("layers/replace",),
        why="replace_layers works for attention layers only, which is enough for its own model.",
    ),
    HandIn(
        "Räisänen, Väinö",
        41013,
        700113,
        "finetuning.ipynb",
        change=(("lora", "lora-no-super"),),
        outcome="raised",
        lost=(*LORA_CLASS, *LORA_RUN),
        why="super().__init__() is missing, so no LoRA layer can be made, alone or in a model; what stands before counts.",
    ),
    HandIn(
        "Sjögren, Émilie",
        41014,
        700114,
        "finetuning.ipynb",
        change=(("lora-model", "lora-model-endless"),),
        outcome="timed_out",
        lost=LORA_RUN,
        why="An endless loop before the third training: there is no LoRA run; what is defined and trained before stands.",
    ),
    HandIn(
        "Törnqvist, Pär",
        41015,
        700115,
        "finetuning.ipynb",
        base="",
        lost=EVERYTHING,
        section=1,
        why="A notebook without a cell.",
    ),
    HandIn(
        "Zetterlund, Örjan",
        41016,
        700116,
        "finetuning.ipynb",
        base="",
        outcome="unreadable",
        why="A PDF that was renamed to .ipynb: it has no score until a person decides.",
    ),
)
ABSENT = (("Ahlgren, Tove", 41017, 0), ("Student, Test", 41099, 0))  # in the gradebook, without a hand-in
SECOND_FILE = ("björksören_41002_700122_lora_sketch.txt", "y = Wx + b + alpha/r * B A x\n")

PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)


def handwriting(name: str) -> dict[str, Fragment]:
    """Read a handwriting, or the mistakes, by name."""
    return read_fragments(HERE / "handwritings" / f"{name}.md")


def notebook_bytes(hand_in: HandIn, mistakes: Mapping[str, Fragment]) -> bytes:
    """Return the file that was handed in."""
    if hand_in.outcome == "unreadable":
        return PDF
    if not hand_in.base:
        return dumps(compose({})).encode()
    notebook = compose(handwriting(hand_in.base), {cell: mistakes[name] for cell, name in hand_in.change})
    if hand_in.base == "colab":
        return _as_colab_writes(notebook)
    text = dumps(notebook)
    if hand_in.base == "own-loop":  # an editor on Windows: a byte order mark and its line ends
        return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    return text.encode()


def _as_colab_writes(notebook: nbformat.NotebookNode) -> bytes:
    """Write format 4.0, cells without ids, outputs and widgets without state: valid for Colab, not for every tool."""
    cells = []
    for cell in notebook.cells:
        cells.append(
            {
                "cell_type": cell.cell_type,
                "metadata": {"id": f"Zx{len(cells):02d}", "colab": {"base_uri": "https://localhost:8080/"}},
                "source": cell.source.splitlines(keepends=True),
            }
        )
        if cell.cell_type == "code":
            stream = {"name": "stdout", "output_type": "stream", "text": ["accuracy: 0.99\n"]}
            cells[-1] |= {"execution_count": len(cells), "outputs": [stream] if cell.id == "full" else []}
    metadata = {
        "accelerator": "GPU",
        "colab": {"provenance": [], "gpuType": "T4"},
        "kernelspec": {"display_name": "Python 3", "name": "python3"},
        "language_info": {"name": "python"},
        "widgets": {"application/vnd.jupyter.widget-state+json": {"5f1c": {"model_name": "HTMLModel"}}},
    }
    content = {"nbformat": 4, "nbformat_minor": 0, "metadata": metadata, "cells": cells}
    return json.dumps(content, ensure_ascii=False, indent=2).encode()


def archive() -> bytes:
    """Return the archive as Canvas's "Download Submissions" gives it; the same bytes each time."""
    mistakes = handwriting("mistakes")
    files = {hand_in.entry: notebook_bytes(hand_in, mistakes) for hand_in in CLASS}
    files[SECOND_FILE[0]] = SECOND_FILE[1].encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as zipped:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, date_time=(2025, 12, 1, 12, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            zipped.writestr(info, files[name])
    return target.getvalue()


def gradebook() -> bytes:
    """Return the course's gradebook as Canvas exports it."""
    rows: list[list[object]] = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", TITLE, *TOTALS],
        ["", "", "", "", "", "Manual Posting", "", "", ""],
        ["    Points Possible", "", "", "", "", sum(RUBRIC.values()), "(read only)", "(read only)", "(read only)"],
    ]
    people = [(h.sortable if not h.group else "Quist, Åke", h.user, h.section) for h in CLASS]
    for name, user, section in [*sorted([*people, ABSENT[0]]), ABSENT[1]]:
        test = name == ABSENT[1][0]
        sis = "" if test else f"chs-{user - 41000:04d}"
        login = "b7c2f0" if test else f"stud{user - 41000:02d}"
        rows.append([name, user, sis, login, SECTIONS[section], "", "", "", ""])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def expected() -> bytes:
    """Return the expected points per criterion, file by file; null for what is no notebook and needs a decision."""
    files = {}
    for hand_in in CLASS:
        earned: dict[str, int | None] = {n: 0 if n in hand_in.lost else points for n, points in RUBRIC.items()}
        if hand_in.outcome == "unreadable":
            earned = dict.fromkeys(RUBRIC)
        files[hand_in.entry] = {
            "user": hand_in.user,
            "late": hand_in.late,
            "outcome": hand_in.outcome,
            "earned": earned,
            "total": None if None in earned.values() else sum(points or 0 for points in earned.values()),
            "why": hand_in.why,
        }
    content = {"possible": RUBRIC, "absent": [user for _, user, _ in ABSENT], "files": files}
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def main(arguments: list[str] | None = None) -> int:
    """Write the three files of the sample class."""
    parser = argparse.ArgumentParser(description="Make the sample class.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    out = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for name, data in (("submissions.zip", archive()), ("gradebook.csv", gradebook()), ("expected.json", expected())):
        (out / name).write_bytes(data)
        print(f"{out / name}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
