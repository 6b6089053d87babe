"""Why a criterion was lost, where the notebook itself shows it: the cell that failed, a placeholder, a limit; each named once.

Pure, over the sources and how the cells ended. It changes what is said and what follows from what, never what is earned.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from grader.records import Attempt, CellRun, Notice, Observation, Status, SubmissionRun, Verdict
from grader.rubric.assignment import Assignment
from grader.rubric.compare import NO_RUN
from grader.rubric.questions import Question

__all__ = ["explained", "follow_ons", "with_originals"]

# in what begins lines no `\s`: it goes over all blank lines, and again from each of them
_NAME = re.compile(r"^[ \t]*(?:(?:async\s+)?def|class)\s+(\w+)|^(\w+)\s*=(?!=)", re.MULTILINE)
_MISSING_NAME = re.compile(r"name '(\w+)' is not defined")
_TRAINS = re.compile(r"\.(?:train|fit|backward|step)\(|\btrain\w*\(|\bfine_?tune\w*\(")
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
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class _Failure:
    """A cell that did not run to its end."""

    run: CellRun
    """What happened to it."""
    source: str
    """The student's source."""
    text: str
    """What happened, as a sentence without its full stop: `cell 5 failed with KeyError: 'text'`."""

    @property
    def error(self) -> tuple[str, str]:
        """Name and text of what it raised."""
        return (self.run.error.name, self.run.error.message) if self.run.error is not None else ("", "")


def _failures(run: SubmissionRun) -> list[_Failure]:
    """The cells that failed or were stopped, in their order."""
    sources = {cell.index: cell.source for cell in run.notebook.cells}
    return [
        _Failure(cell, sources.get(cell.index, ""), _what_happened(cell, run, sources))
        for cell in run.execution.cells
        if cell.status in ("error", "killed")
    ]


def _what_happened(cell_run: CellRun, run: SubmissionRun, sources: Mapping[int, str]) -> str:
    error, cell = cell_run.error, f"cell {cell_run.index + 1}"
    if error is None:
        return f"the notebook was stopped in {cell}. {run.execution.outcome.sentence.rstrip('.')}"
    line, missing = _LINE.search(error.message), _MISSING_NAME.search(error.message)
    if error.name in ("SyntaxError", "IndentationError", "TabError"):
        newer = _NEWER if "f-string" in error.message else ""
        return f"{cell} has a syntax error{f' in line {line[1]}' if line else ''}{newer}"
    if "ellipsis" in error.message and (empty := _placeholder(run, cell_run.index)) is not None:
        return f"cell {empty + 1} still holds a placeholder (`...`)"
    places = [index for index, source in sources.items() if missing and missing[1] in _defines(source)]
    if missing and places and min(places) > cell_run.index:
        return f"{cell} uses `{missing[1]}`, which is defined further down, in cell {min(places) + 1}"
    message = " ".join(error.message.split())[:_MOST_TEXT]
    return f"{cell} failed with `{error.name}{f': {message}' if message else ''}`"


def _roots(failures: Iterable[_Failure]) -> dict[int, _Failure]:
    """Index of each failed cell -> what it follows from: the first failure that should have defined the name it lacks; else itself."""
    roots: dict[int, _Failure] = {}
    lacking: dict[str, _Failure] = {}
    for failure in failures:
        found = _MISSING_NAME.search(failure.run.error.message) if failure.run.error is not None else None
        roots[failure.run.index] = root = lacking.get(found[1], failure) if found else failure
        for name in _defines(failure.source):
            lacking.setdefault(name, root)
    return roots


@functools.lru_cache(1024)
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
    towers = (
        itertools.groupby(run, lambda letter: unicodedata.combining(letter) > 0) for run in _FOREIGN.findall(source)
    )
    try:
        return (
            None
            if any(marks and len(list(found)) > _MOST_MARKS for tower in towers for marks, found in tower)
            else ast.parse(source).body
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def follow_ons(run: SubmissionRun) -> tuple[Notice, ...]:
    """A notice for each failed cell that others failed only because of: it should have defined what they lack."""
    failures = _failures(run)
    roots, after = _roots(failures), dict[int, list[int]]()
    for failure in failures:
        root = roots[failure.run.index]
        if root is not failure:
            after.setdefault(root.run.index + 1, []).append(failure.run.index + 1)
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
    failures = _failures(run)
    roots = _roots(failures)
    trains = _training(run)
    training = [failure for failure in failures if trains.search(failure.source)]
    stopped = any(cell.status == "not_run" for cell in run.execution.cells)
    found: dict[str, Verdict] = {}
    charged: dict[str, str] = {}  # cause -> the criterion that names it
    for id_, verdict in verdicts.items():
        asks = assignment.checks[id_].asks
        seen = run.evidence.observations.get(asks, Observation(Attempt.NOT_ASKED))
        said = verdict
        if verdict.status is Status.FAILED and seen.attempt is Attempt.MISSING:
            names = list(questions[asks].params.get("names", ()))
            cause = next((f for f in failures if _defines(f.source) & {*names}), None)
            if cause is not None:
                said = replace(verdict, message=f"`{names[0]}` is not defined: {roots[cause.run.index].text}.", hint="")
        elif verdict.status is Status.FAILED and verdict.message.startswith(NO_RUN):
            which = sum(v.message.startswith("This training was not reached") for v in found.values())
            if training:
                cause = roots[training[min(which, len(training) - 1)].run.index]
                cause = next((other for other in failures if other.error == cause.error != ("", "")), cause)
                said = replace(verdict, message=f"This training was not reached: {cause.text}.", hint="")
            elif stopped:
                said = replace(
                    verdict, message=f"This training was not reached. {run.execution.outcome.sentence}", hint=""
                )
            elif (empty := _placeholder(run)) is not None:
                said = replace(verdict, message=f"{NO_RUN} Cell {empty + 1} still holds a placeholder (`...`).")
        elif verdict.status is Status.FAILED and seen.attempt is Attempt.VALUE:
            said = _of_definition(verdict, run, seen, questions[asks])
        found[id_] = _once(id_, said, charged) if said is not verdict else said
    return found


def _training(run: SubmissionRun) -> re.Pattern[str]:
    """What calls a training: the usual methods, and the notebook's own functions that do, directly or by others of them."""
    texts = {
        node.name: "\n".join(map(ast.unparse, node.body))
        for cell in run.notebook.cells
        for node in _parsed(cell.source) or []
        if isinstance(node, ast.FunctionDef)
    }
    pattern = _TRAINS
    while found := [name for name, text in texts.items() if pattern.search(text)]:
        pattern = re.compile("|".join([pattern.pattern, *(rf"\b{name}\(" for name in found)]))
        texts = {name: text for name, text in texts.items() if name not in found}
    return pattern


def _once(id_: str, verdict: Verdict, charged: dict[str, str]) -> Verdict:
    """A verdict that names its cause, or says where it was named; the cause is what stands behind the colon."""
    cause = verdict.message.partition(": ")[2]
    if cause and cause in charged:
        what = verdict.message.partition(":")[0]
        return replace(verdict, message=f"{what}, which follows from the same: see `{charged[cause]}`.", hint="")
    charged.setdefault(cause, id_)
    if cause and not verdict.hint:
        hint = next(hint for words, hint in _HINTS.items() if re.search(words, cause))
        return replace(verdict, hint=hint)
    return verdict


def _placeholder(run: SubmissionRun, until: int | None = None) -> int | None:
    """Index of the first code cell that still holds a placeholder; of the last one up to cell `until` where that is given."""
    found = [cell.index for cell in run.notebook.cells if _has_placeholder(cell.source)]
    return next(iter(found), None) if until is None else max((index for index in found if index <= until), default=None)


@functools.lru_cache(1024)
def _has_placeholder(source: str) -> bool:
    return _PLACEHOLDER.search(source) is not None


def _definitions(run: SubmissionRun, names: Iterable[str]) -> Iterator[_Definition]:
    """The definitions of any of these names, the last one first."""
    wanted = frozenset(names)
    for cell in reversed(run.notebook.cells):
        body = _parsed(cell.source) or []
        yield from (node for node in reversed(body) if isinstance(node, _Definition) and node.name in wanted)


def _of_definition(verdict: Verdict, run: SubmissionRun, seen: Observation, question: Question) -> Verdict:
    """What the source of a function or class shows of its failure: that it is not written yet, or no `super().__init__()`."""
    node = next(_definitions(run, [seen.renamed] if seen.renamed else question.params.get("names", ())), None)
    if node is None:
        return verdict
    if _is_unwritten(node):
        return replace(verdict, message=f"`{node.name}` is not written yet.", hint="Replace its placeholder by code.")
    if (step := _method(node, "forward")) is not None and _is_unwritten(step):
        message = f"`{node.name}.forward` is not written yet."
        return replace(verdict, message=message, hint="Replace its placeholder by code.")
    if step is None and isinstance(node, ast.ClassDef) and "`forward` raised NotImplementedError" in verdict.message:
        return replace(verdict, message=f"`{node.name}` has no method `forward`.", hint=_NO_FORWARD)
    start = _method(node, "__init__")
    if start is not None and "AttributeError" in verdict.message and not _calls_super(start):
        message = (
            f"`{node.name}.__init__` does not call `super().__init__()`, without which a module cannot hold layers."
        )
        return replace(verdict, message=message, hint="Make `super().__init__()` the first line of `__init__`.")
    if "called as `" in verdict.message:
        function = start if isinstance(node, ast.ClassDef) else node
        if function is not None:
            return replace(verdict, message=f"{verdict.message} Its signature is `{node.name}{_signature(function)}`.")
    return verdict


def _method(node: ast.AST, name: str) -> Any:
    body = node.body if isinstance(node, ast.ClassDef) else []
    return next((part for part in body if isinstance(part, ast.FunctionDef) and part.name == name), None)


def _signature(function: Any) -> str:
    arguments = function.args
    names = [part.arg for part in (*arguments.posonlyargs, *arguments.args) if part.arg != "self"]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [part.arg for part in arguments.kwonlyargs]
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return f"({', '.join(names)})"[:_MOST_TEXT]


def _is_unwritten(node: _Definition) -> bool:
    """Whether a body holds nothing but texts, `...`, `pass`, `super().__init__()`, `return` and `raise NotImplementedError`."""
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and (isinstance(part.value, ast.Constant) or _calls_super(part)))
        or (isinstance(part, ast.Return) and (part.value is None or _is_nothing(part.value)))
        or (isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part))
        or (isinstance(part, _Definition) and _is_unwritten(part))
        for part in node.body
    )


def _is_nothing(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in (None, ...)


def _calls_super(node: ast.AST) -> bool:
    """Whether `super().__init__()` or a base's `__init__` is called."""
    return any(isinstance(part, ast.Attribute) and part.attr == "__init__" for part in ast.walk(node))
