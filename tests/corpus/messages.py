"""The table of `docs/messages.md`: mistakes of the corpus and what each gets to read. `python -m tests.corpus.messages` writes it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch

from grader.grading.causes import explained
from grader.records import (
    Attempt,
    Cell,
    CellError,
    CellRun,
    Evidence,
    Execution,
    Notebook,
    Observation,
    Outcome,
    Status,
    SubmissionRun,
    Usage,
    Verdict,
)  # fmt: skip
from grader.reports.sanitize import line
from grader.rubric.judge import judge
from grader.rubric.questions import Question
from tests.corpus import CASES
from tests.corpus.functions import ASSIGNMENT, ask, drawn
from tests.corpus.training import BASE, STEPS, TRAININGS, about_training, tiny_world
from tests.corpus.training import verdicts as of_training

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
HEAD = """# What students read

Mistakes, the criterion that each of them costs, and the sentences on the student's page. The table is made from the corpus:
`python -m tests.corpus.messages` writes it, and a test compares. Numbers are those of the corpus's tiny model.

A criterion that is *not judged* because of an earlier one says which one, and nothing else. A cell that failed, a limit that stopped the
notebook, a placeholder and a missing `super().__init__()` are named once, where they first cost something
(`grader/grading/causes.py`).

| mistake | costs | seen | try |
|---|---|---|---|
"""
FUNCTIONS = (
    "count-all", "count-tensors", "count-only-print", "count-string", "count-constant", "count-shared-twice", "count-no-bias",
    "count-raises", "count-missing", "count-hf-method", "count-early-return", "count-buffers-too", "count-saved",
    "extract-last-name", "extract-early-return", "extract-weights", "extract-swapped", "extract-keys-too", "extract-query-only", "extract-relative", "extract-list", "extract-copies", "extract-empty",
    "extract-none",
    "replace-dotted-setattr", "replace-copy-of-model", "replace-nothing", "replace-raises",
    "lora-missing", "lora-no-super", "lora-no-forward", "lora-residual-in-place-of-the-base", "lora-wants-weight", "lora-misspelt", "lora-no-return", "lora-both-random", "lora-new-linear",
    "lora-base-in-list", "lora-between-relu", "lora-bias-truth", "lora-two-d-only", "lora-square-only", "lora-adapter-unused",
    "lora-scale-floor", "lora-scale-alpha", "lora-rank-fixed", "lora-both-zero", "lora-no-grad", "lora-plain-list",
    "lora-train-mode-only", "lora-flattens",
)  # fmt: skip
"""Cases of functions and the class in the table."""
RUNS = (
    "no-full", "full-embeddings-frozen", "full-only-head-stepped", "head-not-frozen", "head-reused",
    "head-pre-classifier-frozen", "head-one-layer-stepped", "lora-never-placed", "lora-keys-too", "lora-queries-only",
    "lora-adapters-frozen", "lora-body-open", "lora-head-frozen", "lora-optimizer-too-early", "lora-on-the-full-model",
    "lora-twice-frozen-inside", "lora-matrix-between", "lora-trained-scaling", "lora-one-layer-for-all-queries", "learns-head-swapped",
    "learns-full-from-a-config", "learns-full-much-too-fast",
)  # fmt: skip
"""Cases of trainings in the table."""


def _row(name: str, verdicts: Mapping[str, Verdict]) -> str:
    """The first criterion that a mistake costs, with its sentences."""
    id_, verdict = next((id_, v) for id_, v in verdicts.items() if v.status is Status.FAILED)
    cells = (f"`{name}`", f"`{id_}`", verdict.message, verdict.hint or "–")
    return f"| {' | '.join(line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _of_source(name: str) -> Mapping[str, Verdict]:
    """The verdicts on a case of functions, with what its own source shows of the cause."""
    source = CASES[name].source
    exec(compile(source, "<case>", "exec"), namespace := {"__name__": "__main__"})
    questions = drawn("c0ffee")
    torch.manual_seed(1)
    seen = {name: ask(namespace, question) for name, question in questions.items()}
    return _explained([(source, "ok", "")], seen, questions)


def _explained(
    cells: Iterable[tuple[str, str, str]],
    seen: Mapping[str, Observation],
    questions: Mapping[str, Question],
    outcome: Outcome = Outcome.COMPLETED,
) -> Mapping[str, Verdict]:
    """Verdicts on what was seen of a notebook of these cells: sources, how each ended, and the text of its error."""
    cells = list(cells)
    book = Notebook(tuple(Cell(i, source) for i, (source, _, _) in enumerate(cells)), len(cells))
    ends = tuple(
        CellRun(
            i,
            name if name in ("ok", "killed", "not_run") else "error",
            0.0,
            0.0,
            None if name in ("ok", "killed", "not_run") else CellError(name, text, ""),
        )
        for i, (_, name, text) in enumerate(cells)
    )
    evidence = Evidence("c0ffee", seen)
    run = SubmissionRun(book, Execution(outcome, ends, Usage(), "none", {}, ""), evidence)
    found = judge(ASSIGNMENT, evidence, questions)
    asked = {id_: v for id_, v in found.items() if ASSIGNMENT.checks[id_].asks in seen}
    return explained(ASSIGNMENT, run, asked, questions)


GONE = Observation(Attempt.MISSING, error="`LoRA` is not defined in the notebook.")
NONE = Observation(Attempt.VALUE, {"runs": []})
_TRAIN = "trainer = Trainer(model, args)\ntrainer.train()"
BROKEN = {
    "syntax-error-in-the-class": (([BASE, "ok", ""], ["class LoRA(nn.Module):\n    def __init__(self", "SyntaxError", "'(' was never closed (1.py, line 2)"]), "lora", GONE, Outcome.COMPLETED),
    "training-cell-fails": (([STEPS["setup"], "ok", ""], [_TRAIN, "ValueError", "The model did not return a loss."]), "training", NONE, Outcome.COMPLETED),
    "data-not-loaded": ((["data = pd.read_csv('reviews.csv')", "FileNotFoundError", "[Errno 2] No such file or directory: 'reviews.csv'"], [f"table = data\n{_TRAIN}", "NameError", "name 'data' is not defined"]), "training", NONE, Outcome.COMPLETED),
    "time-ran-out": ((["while True:\n    pass", "killed", ""], [_TRAIN, "not_run", ""]), "training", NONE, Outcome.TIMED_OUT),
    "used-before-it-is-defined": (([f"model = fresh()\n{_TRAIN}", "NameError", "name 'fresh' is not defined"], ["def fresh():\n    pass", "ok", ""]), "training", NONE, Outcome.COMPLETED),
    "everything-frozen": (([_TRAIN, "RuntimeError", "element 0 of tensors does not require grad and does not have a grad_fn"],), "training", NONE, Outcome.COMPLETED),
    "placeholder-fails-later": ((["model = ...", "ok", ""], [_TRAIN, "AttributeError", "'ellipsis' object has no attribute 'to'"]), "training", NONE, Outcome.COMPLETED),
    "training-not-written-yet": ((["# YOUR CODE HERE\nmodel = ...", "ok", ""],), "training", NONE, Outcome.COMPLETED),
}  # fmt: skip
"""Notebooks whose cells failed: cells, the question that they left open, what was seen of it, how the run ended."""


def rows() -> Iterator[str]:
    """The lines of the table; a minute of work."""
    from tests.corpus import finding, learning, roots, runs, unseen_runs  # noqa: F401 - declare the cases

    for name in FUNCTIONS:
        yield _row(name, _of_source(name))
    template = 'class LoRA(nn.Module):\n    """..."""\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__()\n        # YOUR CODE HERE\n        ...\n    def forward(self, x):\n        ...\n'
    exec("from torch import nn\n" + template, namespace := {"__name__": "__main__"})
    questions = drawn("c0ffee")
    seen = {"lora": ask(namespace, questions["lora"])}
    yield _row("class-not-written-yet", _explained([(template, "ok", "")], seen, questions))
    with tempfile.TemporaryDirectory() as folder, tiny_world(Path(folder)) as facts:
        for name, (cells, question, observed, outcome) in BROKEN.items():
            asked = {**questions, "training": about_training(facts)}
            yield _row(name, _explained(map(tuple, cells), {question: observed}, asked, outcome))
        for name in RUNS:
            yield _row(name, of_training(TRAININGS[name], Path(folder), facts))


def pages() -> Iterator[str]:
    """Where each criterion that is lost leads."""
    yield "\nA hint names the concept and never holds what solves the step (`tests/finetuning/test_hints.py`). Who lost a criterion reads on at:\n"
    yield from ("| criterion | page |", "|---|---|")
    yield from (
        f"| `{name}` | [{check.read.title}]({check.read.url}) |"
        for name, check in ASSIGNMENT.checks.items()
        if check.read
    )


def page() -> str:
    """The whole page."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of code that is wrong on purpose
            return HEAD + "\n".join([*rows(), *pages()]) + "\n"
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
