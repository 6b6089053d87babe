"""Why a criterion was lost, where the notebook itself shows it: the cell that failed, a placeholder, a limit; each named once.

Pure, over the sources and how the cells ended. It changes what is said and what follows from what, never what is earned.
"""

from __future__ import annotations

import ast
import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace

from grader.records import Attempt, Notice, Observation, Status, SubmissionRun, Verdict
from grader.rubric.assignment import Assignment
from grader.rubric.compare import NO_RUN
from grader.rubric.questions import Question

__all__ = ["explained", "follow_ons", "with_originals"]

# in what begins lines no `\s`: it goes over all blank lines, and again from each of them
_NAME = re.compile(r"^[ \t]*(?:(?:async\s+)?def|class)\s+(\w+)|^(\w+)\s*=(?!=)", re.MULTILINE)
_MISSING_NAME = re.compile(r"name '(\w+)' is not defined")
_TRAINS = re.compile(r"\.(?:train|fit|backward|step)\(|\btrain\w*\(|\bfine_?tune\w*\(")
_CALLED = re.compile(r"\b(\w+)\(")
_HINTS = {
    "does not require grad|empty parameter list": "Nothing that was to be trained is trainable: more is frozen than this step asks for."
    " Count before you train.",
    "defined further down": "A notebook runs from the top: move the definition above its first use.",
    "holds a placeholder": "Replace the placeholder by code.",
    "": "Mend that cell first; then restart the kernel and run all cells from the top.",
}
"""What a cause says -> what to try, the first that fits."""
_NO_FORWARD = "Look at its spelling and its indentation: it stands in the class, beside `__init__`."
_NEWER = " in an f-string (which a newer Python may read: use other quotes inside of its braces, and no backslash)"
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_MOST_MARKS = 50
"""Accents on one letter."""
_LINE = re.compile(r"line (\d+)")
_PLACEHOLDER = re.compile(
    r"#[ \t]*(?:YOUR CODE HERE|TODO)|^[ \t]*\w+[ \t]*=[ \t]*\.\.\.[ \t]*$|^[ \t]*\.\.\.[ \t]*$", re.MULTILINE
)
_MOST_TEXT = 200
_NOT_REACHED = "This training was not reached"
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class _Story:
    """What stands in a notebook's cells, and why some of them failed or were stopped; cells by their index, in their order."""

    def __init__(self, run: SubmissionRun) -> None:
        self.outcome = run.execution.outcome.sentence
        self.stopped = any(cell.status == "not_run" for cell in run.execution.cells)
        self.sources = {cell.index: cell.source for cell in run.notebook.cells}
        self.placeholders = [index for index, source in self.sources.items() if _PLACEHOLDER.search(source)]
        self.errors = {
            cell.index: (cell.error.name, cell.error.message) if cell.error is not None else None
            for cell in run.execution.cells
            if cell.status in ("error", "killed") and cell.index in self.sources
        }
        """Name and text of what a cell raised that failed; None where it was stopped."""
        self.defines = {index: _defines(source) for index, source in self.sources.items() if self.errors}
        self.roots: dict[int, int] = {}
        """Failed cell -> the first failed one that should have defined the name which it lacks, else itself."""
        lacking: dict[str, int] = {}
        for index, error in self.errors.items():
            missing = _MISSING_NAME.search(error[1]) if error else None
            self.roots[index] = lacking.get(missing[1], index) if missing else index
            for name in self.defines[index]:
                lacking.setdefault(name, self.roots[index])

    def cause(self, index: int) -> str:
        """What a failed cell follows from, as a sentence without its full stop: `cell 5 failed with KeyError: 'text'`."""
        index = self.roots[index]
        cell, error = f"cell {index + 1}", self.errors[index]
        if error is None:
            return f"the notebook was stopped in {cell}. {self.outcome.rstrip('.')}"
        name, message = error
        line, missing = _LINE.search(message), _MISSING_NAME.search(message)
        if name in ("SyntaxError", "IndentationError", "TabError"):
            newer = _NEWER if "f-string" in message else ""
            return f"{cell} has a syntax error{f' in line {line[1]}' if line else ''}{newer}"
        if "ellipsis" in message and (empty := [place for place in self.placeholders if place <= index]):
            return f"cell {empty[-1] + 1} still holds a placeholder (`...`)"
        place = next((place for place, names in self.defines.items() if missing and missing[1] in names), 0)
        if missing and place > index:
            return f"{cell} uses `{missing[1]}`, which is defined further down, in cell {place + 1}"
        message = " ".join(message.split())[:_MOST_TEXT]
        return f"{cell} failed with `{name}{f': {message}' if message else ''}`"

    def training(self) -> list[int]:
        """Failed cells that train: by the usual methods, or by functions of the notebook that do, directly or by others of them."""
        callers: dict[str, list[str]] = {}
        train: list[str] = []
        for node in (node for source in self.sources.values() for node in _parsed(source) or []):
            for call in (part.func for part in ast.walk(node) if isinstance(part, ast.Call)):
                if isinstance(node, ast.FunctionDef) and isinstance(call, ast.Name | ast.Attribute):
                    name = call.id if isinstance(call, ast.Name) else f".{call.attr}"
                    callers.setdefault(name, []).append(node.name)
        for name in [name for name in callers if _TRAINS.search(f"{name}(")]:
            train += callers.pop(name)
        for name in train:  # it grows meanwhile
            train += callers.pop(name, [])
        own = frozenset(train)
        return [
            index
            for index in self.errors
            if _TRAINS.search(self.sources[index]) or not own.isdisjoint(_CALLED.findall(self.sources[index]))
        ]

    def definition(self, names: Iterable[str]) -> _Definition | None:
        """The last definition of any of these names."""
        wanted = frozenset(names)
        nodes = (node for source in reversed(self.sources.values()) for node in reversed(_parsed(source) or []))
        return next((node for node in nodes if isinstance(node, _Definition) and node.name in wanted), None)


def _defines(source: str) -> frozenset[str]:
    """Names that a cell defines at its top level or would if it ran; of one that does not parse by the look of its lines."""
    body = _parsed(source)
    if body is None:
        return frozenset(name for pair in _NAME.findall(source) for name in pair if name)
    names = {node.name for node in body if isinstance(node, _Definition)}
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif not isinstance(node, _Definition):
            stored = (part for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
            names |= {part.id for part in stored}
    return frozenset(names)


def _parsed(source: str) -> list[ast.stmt] | None:
    """The statements of a cell; None where it cannot be parsed, or a tower of accents stands in it: sorting those takes its square."""
    for run in _FOREIGN.findall(source):
        for accent, letters in itertools.groupby(run, lambda letter: unicodedata.combining(letter) > 0):
            if accent and len(list(letters)) > _MOST_MARKS:
                return None
    try:
        return ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def follow_ons(run: SubmissionRun) -> tuple[Notice, ...]:
    """A notice for each failed cell that others failed only because of: it should have defined what they lack."""
    after: dict[int, list[int]] = {}
    for index, root in _Story(run).roots.items():
        if root != index:
            after.setdefault(root + 1, []).append(index + 1)
    return tuple(
        Notice(
            "follow-on",
            f"Cell{'s' * (len(cells) > 1)} {', '.join(map(str, cells))} failed only because cell {root} had failed before.",
        )
        for root, cells in after.items()
    )


def with_originals(run: SubmissionRun) -> SubmissionRun:
    """The same run with the student's own number beside each adapted one that an error speaks of: `142034 (for your 66955010)`."""
    sizes = {change.after: change.before for change in run.notebook.adaptations if change.rule == "size"}
    if not sizes:
        return run
    adapted = re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, sizes))})(?![\w.]*\w)")

    def told(text: str) -> str:
        return adapted.sub(lambda found: f"{found[0]} (for your {sizes[found[0]]})", text)

    cells = tuple(
        replace(cell, error=replace(cell.error, message=told(cell.error.message))) if cell.error is not None else cell
        for cell in run.execution.cells
    )
    return replace(run, execution=replace(run.execution, cells=cells))


def explained(
    assignment: Assignment, run: SubmissionRun, verdicts: Mapping[str, Verdict], questions: Mapping[str, Question]
) -> dict[str, Verdict]:
    """The same verdicts with what caused them: the first that a cause costs names it, the others say that they follow."""
    story = _Story(run)
    found: dict[str, Verdict] = {}
    charged: dict[str, str] = {}  # cause -> the criterion that names it
    not_reached = 0
    for id_, verdict in verdicts.items():
        asks = assignment.checks[id_].asks
        seen = run.evidence.observations.get(asks, Observation(Attempt.NOT_ASKED))
        said = verdict
        if verdict.status is Status.FAILED and seen.attempt is Attempt.MISSING:
            said = _of_missing(verdict, story, questions[asks].names)
        elif verdict.status is Status.FAILED and verdict.message.startswith(NO_RUN):
            said = _of_training(verdict, story, not_reached)
            not_reached += said.message.startswith(_NOT_REACHED)
        elif verdict.status is Status.FAILED and seen.attempt is Attempt.VALUE:
            names = (seen.renamed,) if seen.renamed else questions[asks].names
            said = _of_definition(verdict, story.definition(names))
        found[id_] = _once(id_, said, charged) if said is not verdict else said
    return found


def _once(id_: str, verdict: Verdict, charged: dict[str, str]) -> Verdict:
    """A verdict that names its cause, or says where it was named; the cause is what stands behind the colon."""
    what, _, cause = verdict.message.partition(": ")
    if cause and cause in charged:
        return replace(verdict, message=f"{what}, which follows from the same: see `{charged[cause]}`.", hint="")
    charged.setdefault(cause, id_)
    if cause and not verdict.hint:
        return replace(verdict, hint=next(hint for words, hint in _HINTS.items() if re.search(words, cause)))
    return verdict


def _of_missing(verdict: Verdict, story: _Story, names: tuple[str, ...]) -> Verdict:
    """The cell that should have defined one of these names, and failed."""
    failed = next((index for index in story.errors if not story.defines[index].isdisjoint(names)), None)
    if failed is None:
        return verdict
    return replace(verdict, message=f"`{names[0]}` is not defined: {story.cause(failed)}.", hint="")


def _of_training(verdict: Verdict, story: _Story, earlier: int) -> Verdict:
    """Why a training was not reached; `earlier` ones were not, either."""
    if training := story.training():
        failed = story.roots[training[min(earlier, len(training) - 1)]]
        if error := story.errors[failed]:  # the same error in several cells is one cause
            failed = next(index for index in story.errors if story.errors[index] == error)
        return replace(verdict, message=f"{_NOT_REACHED}: {story.cause(failed)}.", hint="")
    if story.stopped:
        return replace(verdict, message=f"{_NOT_REACHED}. {story.outcome}", hint="")
    if story.placeholders:
        return replace(verdict, message=f"{NO_RUN} Cell {story.placeholders[0] + 1} still holds a placeholder (`...`).")
    return verdict


def _of_definition(verdict: Verdict, node: _Definition | None) -> Verdict:
    """What the source of a function or class shows of its failure: that it is not written yet, or no `super().__init__()`."""
    if node is None:
        return verdict
    start, step = _method(node, "__init__"), _method(node, "forward")
    for name, part in ((node.name, node), (f"{node.name}.forward", step)):
        if part is not None and _is_unwritten(part):
            return replace(verdict, message=f"`{name}` is not written yet.", hint="Replace its placeholder by code.")
    if step is None and isinstance(node, ast.ClassDef) and "`forward` raised NotImplementedError" in verdict.message:
        return replace(verdict, message=f"`{node.name}` has no method `forward`.", hint=_NO_FORWARD)
    if start is not None and "AttributeError" in verdict.message and not _calls_super(start):
        message = (
            f"`{node.name}.__init__` does not call `super().__init__()`, without which a module cannot hold layers."
        )
        return replace(verdict, message=message, hint="Make `super().__init__()` the first line of `__init__`.")
    function = start if isinstance(node, ast.ClassDef) else node
    if "called as `" in verdict.message and function is not None:
        return replace(verdict, message=f"{verdict.message} Its signature is `{node.name}{_signature(function)}`.")
    return verdict


def _method(node: ast.AST, name: str) -> ast.FunctionDef | None:
    body = node.body if isinstance(node, ast.ClassDef) else []
    return next((part for part in body if isinstance(part, ast.FunctionDef) and part.name == name), None)


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = function.args
    stars = {arguments.vararg: "*", arguments.kwarg: "**"}
    named = (part for part in ast.iter_child_nodes(arguments) if isinstance(part, ast.arg) and part.arg != "self")
    return f"({', '.join(stars.get(part, '') + part.arg for part in named)})"[:_MOST_TEXT]


def _is_unwritten(node: _Definition) -> bool:
    """Whether a body holds nothing but texts, `...`, `pass`, `super().__init__()`, `return` and `raise NotImplementedError`."""
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and (isinstance(part.value, ast.Constant) or _calls_super(part)))
        or (isinstance(part, ast.Return) and (part.value is None or _is_nothing(part.value)))
        or (
            isinstance(part, ast.Raise)
            and any(getattr(name, "id", "") == "NotImplementedError" for name in ast.walk(part))
        )
        or (isinstance(part, _Definition) and _is_unwritten(part))
        for part in node.body
    )


def _is_nothing(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in (None, ...)


def _calls_super(node: ast.AST) -> bool:
    """Whether `super().__init__()` or a base's `__init__` is called."""
    return any(isinstance(part, ast.Attribute) and part.attr == "__init__" for part in ast.walk(node))
