"""One notebook through the box: run the cells, ask the questions, and keep what was earned when something dies.

A cell that fails costs what depends on it and nothing else: the cells after it still run, and the imports, functions and
classes of the failed cell are defined without it. A kernel that dies is first taken for the machine's fault: the notebook is
run again as it is. When a cell takes the kernel with it twice, the notebook is run once more in a fresh box with that cell
reduced to its definitions, so that what stands before it can still be judged. A kernel that ends after a cell's reply is that
cell's doing, not the next one's.
Everything that comes back from the box is untrusted until `grader.grading.wire` has decoded it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grader.errors import EvidenceError, GuardError, SandboxError
from grader.grading import wire
from grader.grading.fingerprint import question_digest, versions
from grader.notebook.adaptations import MOST_ADAPTATIONS, read_adaptations
from grader.records import (
    Attempt,
    Cell,
    CellRun,
    Evidence,
    Execution,
    Notebook,
    Notice,
    Observation,
    Outcome,
    SubmissionRun,
    Usage,
)
from grader.rubric.questions import Question
from grader.sandbox.contract import (
    BoxSpec,
    EvidenceTooLarge,
    KernelGone,
    Limits,
    MachineFault,
    QuestionCpuStarved,
    QuestionIdle,
    QuestionTimedOut,
)
from grader.sandbox.guard import guarded
from grader.sandbox.handed import HandedOut
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

__all__ = ["Progress", "RunRequest", "run_notebook", "sum_usage"]

_SECOND_RUNS = 2
_SETUP_SECONDS = 60.0
_WORD = re.compile(r"[^\W\d]\w*")
_UNCAPPED = (
    "There were no control groups ({}): memory and processes of submissions were watched ten times a second instead of being capped, and"
    " a hostile one may take more for a moment. docs/sandbox.md, Without control groups, says how to get them."
)

Progress = Callable[[str], None]
"""Is called with a few words whenever a submission gets further."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A notebook, what is asked of it, and the boxes it is run in."""

    pool: KernelPool
    """Where kernels come from."""
    notebook: Notebook
    """What is run."""
    questions: Mapping[str, Question]
    """What is asked after the last cell, by id."""
    limits: Limits = field(default_factory=Limits)
    """What all runs may use together."""
    spec: BoxSpec = field(default_factory=BoxSpec)
    """What the notebook finds in its box."""
    clean: BoxSpec = field(default_factory=BoxSpec)
    """What lies in a box for the second half of a question (`Question.then`)."""
    shims: Sequence[str] = ()
    """Modules inside the box to install before the first cell."""
    shim_config: Mapping[str, Any] = field(default_factory=dict)
    """What these need to know."""
    seed: str = ""
    """What the questions were drawn from."""
    bundle: str = ""
    """Name of what it is run against."""
    definitions: bool = False
    """Whether only imports, functions, classes and plain settings are run."""
    spent: Usage = field(default_factory=Usage)
    """What earlier runs of the same submission have used of its `limits`."""
    on_progress: Progress = lambda _stage: None
    """Is told whenever the notebook gets further."""


async def run_notebook(request: RunRequest) -> SubmissionRun:
    """Run a notebook, again where that may bring more, and ask all questions.

    Raises SandboxError when the box itself fails, or the machine twice; whatever the student's code does is in the result.
    """
    used: list[Usage] = []
    never = frozenset(cell.index for cell in request.notebook.cells if request.definitions)

    def once_more(stage: str) -> None:
        request.on_progress(f"once more: {stage}")

    async def run(say: Progress, reduced: frozenset[int] = frozenset()) -> SubmissionRun | None:
        """One more run, in what time is left; None when that is too little."""
        left = request.limits.after(sum_usage([request.spent, *used]))
        if left is None:
            return None
        try:
            ran = await _run_once(request, left, reduced | never, say)
        except MachineFault:  # what it used then is not held against it
            ran = await _run_once(request, left, reduced | never, once_more)
        used.append(ran.execution.usage)
        return ran

    first = await run(request.on_progress)
    if first is None:
        raise SandboxError("there is no time left to run the notebook again")
    again: SubmissionRun | None = first
    if first.execution.outcome is Outcome.KERNEL_DIED:  # killed from outside? Then it does not happen again
        again = await run(once_more)
        first = again or first
    runs, reduced = [first], frozenset[int]()
    while not _answered(runs[-1]) and len(runs) <= _SECOND_RUNS and (killer := _killer(runs[-1])) is not None:
        # what was blamed later than this cell had only come after it
        further = frozenset(index for index in reduced if index < killer) | {killer}
        again = await run(once_more, further)
        if again is None:
            break
        reduced = further
        runs.append(again)
    notices = [
        Notice(
            "rerun", f"Cell {index + 1} ended the kernel; the notebook was run again with only that cell's definitions."
        )
        for index in sorted(reduced)
    ]
    if again is None:
        notices.append(
            Notice("no-time", "The kernel ended, and too little time was left to run the notebook once more.")
        )
    last = runs[-1]
    execution = replace(
        last.execution,
        outcome=first.execution.outcome,  # later runs do not make it better
        cells=tuple(_best_known(runs, reduced)),
        usage=sum_usage(used),
        notices=(*notices, *last.execution.notices),
    )
    return replace(last, execution=execution)


def _answered(run: SubmissionRun) -> bool:
    return any(seen.attempt is not Attempt.NOT_ASKED for seen in run.evidence.observations.values())


def _killer(run: SubmissionRun) -> int | None:
    """Index of the cell that ended the kernel: the one that ran, or the last that had run when the kernel ended between cells."""
    cells = run.execution.cells
    killed = next((cell.index for cell in cells if cell.status == "killed"), None)
    if killed is not None or run.execution.outcome is not Outcome.KERNEL_DIED:
        return killed
    return next((cell.index for cell in reversed(cells) if cell.status != "not_run"), None)


def _best_known(runs: Sequence[SubmissionRun], reduced: frozenset[int]) -> list[CellRun]:
    """What happened to each cell: the last run's word, but an earlier one's of a cell that is reduced since."""
    found = {cell.index: cell for cell in runs[-1].execution.cells}
    for earlier in runs[:-1]:
        ran = [cell for cell in earlier.execution.cells if cell.index in reduced and cell.status != "not_run"]
        found |= {cell.index: replace(cell, status="killed") for cell in ran}
    return [found[index] for index in sorted(found)]


def sum_usage(usages: Sequence[Usage]) -> Usage:
    """What several runs of one submission used together; the peak is that of the largest."""
    return Usage(
        cpu_seconds=sum(u.cpu_seconds for u in usages),
        wall_seconds=sum(u.wall_seconds for u in usages),
        peak_bytes=max(u.peak_bytes for u in usages),
        output_bytes=sum(u.output_bytes for u in usages),
    )


async def _run_once(
    request: RunRequest, limits: Limits, reduced: frozenset[int], on_progress: Progress
) -> SubmissionRun:
    """One pass over the notebook in one box; of the cells in `reduced` only the definitions are run.

    Second halves of questions are asked when that box is gone with all that the notebook started in it.
    """
    notebook, pool, notices = request.notebook, request.pool, list[Notice]()
    second: dict[str, tuple[Question, HandedOut]] = {}
    with contextlib.ExitStack() as files:
        async with KernelSession(pool, request.spec, limits) as session:
            await _order(session, "install", {"modules": list(request.shims), "config": dict(request.shim_config)})
            cells, changes = await _run_cells(session, notebook, reduced, on_progress)
            why = "" if session.outcome is Outcome.COMPLETED else session.outcome.sentence
            observations = dict.fromkeys(request.questions, Observation(Attempt.NOT_ASKED, error=why))
            if session.alive:
                for cell, run in zip(notebook.cells, cells, strict=True):
                    if run.status in ("killed", "not_run"):  # it may still define functions and classes
                        await _define(session, cell)
            # the last reply's, where the kernel has ended after it
            changes = await _order(session, "adaptations", {}) or changes
            if session.alive:  # what is said from now on may hold what was asked
                on_progress("asking questions")
                known = _words_of(notebook, request.spec)
                for name, question in sorted(request.questions.items(), key=lambda item: not item[1].public):
                    observations[name], asked = await _ask(session, question, known)
                    if asked.then is not None and observations[name].attempt is Attempt.VALUE:
                        second[name] = (asked.then, files.enter_context(session.kernel.handed_out()))
            if session.fault:
                raise session.fault
            mode = session.kernel.mode
            if mode == "cold" and pool.zygote and pool.zygote.gone_for_good:
                text = f"It was started cold, which changes nothing but the time it takes: {pool.zygote.failure}."
                notices.append(Notice("cold-start", text))
            if isinstance(changes, list) and len(changes) > MOST_ADAPTATIONS:
                notices.append(Notice("many-adaptations", f"Only the first {MOST_ADAPTATIONS} adaptations are listed."))
            if pool.no_groups:
                notices.append(Notice("no-control-groups", _UNCAPPED.format(pool.no_groups)))
            execution = Execution(
                session.outcome, tuple(cells), session.usage, mode, versions(), request.bundle, tuple(notices)
            )
        for name, (question, file) in second.items():
            on_progress("judging what was handed out")
            observations[name] = await _ask_clean(request, question, file, observations[name])
    adaptations = read_adaptations(changes, {None, *(cell.index for cell in notebook.cells)})
    asked_as = {name: question_digest(question) for name, question in request.questions.items()}
    evidence = Evidence(request.seed, observations, asked_as)
    return SubmissionRun(replace(notebook, adaptations=adaptations), execution, evidence)


async def _run_cells(
    session: KernelSession, notebook: Notebook, reduced: frozenset[int], on_progress: Progress
) -> tuple[list[CellRun], Any]:
    """What happened to each cell, and what the shims had changed before the last one."""
    cells: list[CellRun] = []
    changes: Any = None
    stopped = False
    for number, cell in enumerate(notebook.cells):
        run = CellRun(cell.index, "not_run", 0.0, 0.0)
        if not stopped:
            on_progress(f"cell {number + 1} of {len(notebook.cells)}")
            if cell.index in reduced:
                await _define(session, cell)
                stopped = not session.alive
            else:
                changes = await _order(session, "begin_cell", {"index": cell.index}) or changes
                run = await session.run_cell(cell.source, cell.index)
                stopped = run.status == "killed"
            if run.status == "error":
                await _define(session, cell)
        cells.append(run)
    return cells, changes


async def _order(session: KernelSession, op: str, params: Mapping[str, Any]) -> Any:
    """Send an order of our own; a kernel that is gone or busy shows itself at the next cell."""
    try:
        reply, buffers = await session.ask({"op": op, "params": params}, cpu_seconds=_SETUP_SECONDS)
    except (KernelGone, EvidenceError):
        return None
    if reply.get("status") in ("fault", "error") and op == "install":
        raise SandboxError(f"the shims inside the box could not be installed: {reply.get('error')}")
    try:
        return wire.decode(reply.get("value"), buffers)
    except EvidenceError:
        return None


async def _define(session: KernelSession, cell: Cell) -> None:
    await _order(session, "define", {"index": cell.index, "source": cell.source})


def _words_of(notebook: Notebook, spec: BoxSpec) -> Callable[[str], bool]:
    """Tells words of the notebook and of the modules beside it: names that were there before anything was asked.

    They are looked for when somebody asks: a set of them takes fifteen times the memory of a module, and a module may be large.
    """
    texts = [cell.source.encode() for cell in notebook.cells]
    texts += [data for name, data in spec.files.items() if name.endswith(".py") and isinstance(data, bytes)]

    def known(name: str) -> bool:
        if not _WORD.fullmatch(name):
            return False
        word = re.compile(rf"\b{name}\b")
        return any(name.encode() in text and word.search(text.decode("utf-8", "replace")) for text in texts)

    return known


async def _ask(
    session: KernelSession, question: Question, known: Callable[[str], bool], first: Observation | None = None
) -> tuple[Observation, Question]:
    """Ask, and ask on where the answer leaves something open; the last answer, and to what. A clean box is told the `first` half's."""
    params = question.params if first is None else {**question.params, "handed": first.value}
    seen = await _ask_once(session, replace(question, params=params), known, clean=first is not None)
    followup = question.followup
    if followup is None:
        return seen, question
    try:
        wanted = await asyncio.to_thread(guarded, lambda: followup.wanted(seen), bool)
    except GuardError:  # whoever judges it will say so
        return seen, question
    return await _ask(session, followup.question, known, first) if wanted else (seen, question)


async def _ask_clean(request: RunRequest, question: Question, handed: HandedOut, first: Observation) -> Observation:
    """Ask the second half of a question in a box of its own, with what was handed out. Raises SandboxError."""
    async with KernelSession(request.pool, request.clean, request.limits, handed) as session:
        seen, _ = await _ask(session, question, lambda _name: False, first)
        if session.fault:
            raise session.fault
    return replace(seen, cpu_seconds=first.cpu_seconds + seen.cpu_seconds)


async def _ask_once(
    session: KernelSession, question: Question, known: Callable[[str], bool], *, clean: bool
) -> Observation:
    """Ask one question; in a `clean` box nothing but an answer of ours is the student's doing."""
    params, buffers = wire.encode(question.params)
    raised, forged = (Attempt.FAULT, Attempt.FAULT) if clean else (Attempt.RAISED, Attempt.FORGED)
    try:
        reply, found = await session.ask(
            {"op": question.op, "params": params}, buffers, cpu_seconds=question.cpu_seconds
        )
        return wire.observed(question, reply, found, known)
    except KernelGone as gone:
        return Observation(raised, error=f"the end of the kernel: {gone.outcome.sentence}")
    except EvidenceTooLarge:
        return Observation(raised, error=wire.TOO_LARGE)
    except (QuestionTimedOut, QuestionIdle) as error:
        return Observation(raised, error=str(error))
    except QuestionCpuStarved as error:
        return Observation(Attempt.FAULT, error=str(error))
    except EvidenceError as error:
        return Observation(forged, error=str(error))
