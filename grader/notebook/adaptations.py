"""What the shims in the box say they adapted, and the sentences that a report has for it.

The box says which rule and which of these reasons, in which cell, and what stood there: it shares its process with the student's
code, so that any other text would be the student's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from grader.records import Adaptation

__all__ = ["MOST_ADAPTATIONS", "REASONS", "RULES", "read_adaptations"]

MOST_ADAPTATIONS = 500
"""So many of one submission are listed."""

_LONGEST = 300
RULES = frozenset(
    ("argument", "cell-magic", "colab", "device", "folder", "hardware", "hub-dataset", "install", "line-magic", "login", "metric",
     "network", "path", "plot", "prompt", "renamed", "restart", "rows", "size", "stand-in", "stub-module", "syntax")
)  # fmt: skip
"""Ids of the rules (see docs/adaptations.md)."""
REASONS: Mapping[str, str] = {
    "by-scikit-learn": "There is no network; scikit-learn computes the same.",
    "clipped": "The model used for grading is smaller than the real one, and its gradients are larger; those of SGD are clipped, as the"
    " Trainer does.",
    "data-on-the-network": "This data has to be fetched from the network; something simpler takes its place while grading.",
    "drawn-narrow": "The model used for grading is smaller than the real one; a new layer is drawn so that it learns as one"
    " of the real width.",
    "fewer-rows": "The data has fewer rows while grading.",
    "found-by-name": "The file lies elsewhere while grading, and was found by its name.",
    "installed-already": "The libraries are installed already; nothing is installed while grading.",
    "judged-already": "The self-check does nothing while grading: all of it is judged anyway.",
    "newer-python": "The grading machine's Python is older than the one that this is written for.",
    "no-account": "There is no network and no account while grading.",
    "no-colab": "Colab's own functions do not exist while grading; stubs take their place.",
    "no-compiler": "Compiling needs a compiler that the grading machine lacks.",
    "no-drive": "Google Drive is not there while grading; the data files lie beside the notebook.",
    "no-gpu": "The grading machine has no GPU; the same code runs on the CPU.",
    "no-gpu-to-ask-for": "The grading machine has no GPU to ask for.",
    "no-half-precision": "The grading machine has no GPU; the same code runs on the CPU, in full precision.",
    "no-loader-processes": "A loader's own processes cost more than they bring on the grading machine.",
    "no-network": "There is no network while grading.",
    "no-restart": "The notebook runs in one go; no restart.",
    "no-screen": "There is no screen while grading.",
    "no-secrets": "Nobody's secrets are there while grading.",
    "no-such-folder": "This folder exists on the student's machine only.",
    "no-window": "This command is for the notebook's screen or machine; there is neither while grading.",
    "nobody-answers": "Nobody answers while grading; the answer is empty.",
    "not-there": "Not there while grading.",
    "one-cache": "Models and metrics lie in one cache while grading; there is no network to fill another one.",
    "one-folder": "This folder exists on the student's machine only; the notebook runs in one folder that holds the data.",
    "other-version": "The running version of the library calls this differently or no longer has it.",
    "plain-bar": "There is no screen while grading; a plain bar is used.",
    "runs-directly": "The cell runs directly, so that its errors and line numbers are the cell's own.",
    "smaller-model": "The model used for grading is smaller than the real one; this number is true of the real one only.",
    "stand-in-for-package": "This package is not part of what is graded; an empty package that does nothing takes its place.",
    "stand-in-took-part": "What it computes is missing while grading; a person looks where that costs points.",
    "written-beside": "The file is written beside the notebook, where an import finds it.",
}
"""Why something was adapted: the id that shims give, and the sentence that people read."""


_OTHER = "other"
_UNKNOWN = "It was changed so that the notebook runs here."


def read_adaptations(rows: Any, cells: Collection[int | None]) -> tuple[Adaptation, ...]:
    """The rows `[cell, rule, before, after, reason]` that are of these cells, as many as shims ever give."""
    return tuple(
        Adaptation(
            row[0],
            row[1] if row[1] in RULES else _OTHER,
            row[2][:_LONGEST],
            row[3][:_LONGEST],
            REASONS.get(row[4], _UNKNOWN),
        )
        for row in (rows[:MOST_ADAPTATIONS] if isinstance(rows, list) else [])
        if isinstance(row, list)
        and len(row) == 5
        and (row[0] is None or type(row[0]) is int)
        and all(type(part) is str for part in row[1:])
        and row[0] in cells
    )
