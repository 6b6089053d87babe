"""One submission through all stages; the only place that knows their order.

file -> Submission -> Notebook -> Execution + Evidence -> Verdicts -> Score -> Report. What runs student code is in
`Workplace.run`; everything after it is pure and can be done again from stored files (`report_for`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib.metadata
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import grader
from grader.adapt import Environment, adapt, adapt_source, merge
from grader.adapt import facts as shim_facts
from grader.assignment import Assignment
from grader.bundles import Bundle, load_bundle, prepare_home
from grader.errors import InfrastructureError, SubmissionError
from grader.execution import Ran, run_notebook
from grader.fingerprint import digest_of, question_digest, versions
from grader.judging import judge
from grader.notebook import read_notebook
from grader.probes import Question, seed_for
from grader.records import (
    Adaptation,
    Attempt,
    Evidence,
    Execution,
    Notebook,
    Notice,
    Observation,
    Outcome,
    Report,
    Status,
    Submission,
    Usage,
    Verdict,
)
from grader.reruns import settle
from grader.sandbox.claimed import ClaimedFolder
from grader.sandbox.contract import BoxSpec, Limits
from grader.sandbox.pool import KernelPool
from grader.scoring import score

__all__ = [
    "Ground",
    "Result",
    "Workplace",
    "grade",
    "report_for",
    "single_submission",
    "versions",
]

_SHIMS = ("grader.inside.colab",)
_COPIED_BYTES = 64 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Ground:
    """What all submissions of a run share: assignment, bundle, secret, and what follows from them."""

    assignment: Assignment
    """The rubric and its questions."""
    bundle: Bundle
    """What submissions run against."""
    secret: bytes
    """What seeds and held-out reviews are drawn from."""
    facts: Any
    """What the questions need to know of the bundle."""

    @classmethod
    def lay(cls, assignment: Assignment, bundle: Bundle, secret: bytes) -> Ground:
        """Read the bundle once for a whole run."""
        return cls(assignment, bundle, secret, assignment.facts(bundle, secret))

    def questions(self, seed: str) -> Mapping[str, Question]:
        """All questions of a seed."""
        return self.assignment.draw(seed, self.facts)

    @functools.cached_property
    def sample(self) -> str:
        """Digest of the questions of fixed seeds: another one means that other questions are asked (also of all others)."""
        drawn = (("a", self.questions("a")), ("b", self.questions("b")))
        return digest_of({f"{seed} {name}": question_digest(q) for seed, found in drawn for name, q in found.items()})

    def seed(self, submission: Submission) -> str:
        """Seed of a submission's questions."""
        return seed_for(self.secret, submission.sha256)


@dataclass(frozen=True, repr=False)  # asyncio.run makes a text of what it returns: half a second for all this evidence
class Result:
    """What running one submission brought; with the ground it is enough to judge."""

    notebook: Notebook
    """The notebook as it ran."""
    execution: Execution
    """How it went."""
    evidence: Evidence
    """What was seen."""
    fault: str = ""
    """Why the grader or its machine failed, when it did."""


@functools.cache
def _packages() -> frozenset[str]:
    """Importable names of this environment; telling them reads the files of every distribution, so it is done once."""
    return frozenset(importlib.metadata.packages_distributions())


def _still_asked(evidence: Evidence, questions: Mapping[str, Question]) -> Evidence:
    """Take evidence of questions that have changed since as our fault: it can neither pass nor fail anybody."""
    now = {name: question_digest(question) for name, question in questions.items()}
    text = "What is asked here has changed since this was run; run `grader grade` on the same folder again."
    stale = {
        name: Observation(Attempt.FAULT, error=text) for name in evidence.asked if now.get(name) != evidence.asked[name]
    }
    return replace(evidence, observations={**evidence.observations, **stale})


class Workplace:
    """Where submissions are run: one warm zygote and one prepared model cache, for one worker process."""

    def __init__(
        self, ground: Ground, *, sandbox: str = "auto", limits: Limits | None = None, threads: int = 1
    ) -> None:
        """Prepare nothing yet; use it as a context manager."""
        self.ground, self.limits, self.threads = ground, limits or Limits(), threads
        self._sandbox = sandbox
        self._home: ClaimedFolder
        self.pool: KernelPool

    def __enter__(self) -> Workplace:
        """Write the model cache and open the pool of kernels. Raises SandboxError or UsageError when that cannot be."""
        self._home = ClaimedFolder.make("grader-models-")
        home = self._home.path
        try:
            home.chmod(0o755)
            prepare_home(self.ground.bundle, home / "hf")
            preload = self.ground.assignment.preload
            self.pool = KernelPool(self._sandbox, threads=self.threads, readable=(home,), preload=preload)
            self.pool.__enter__()
        except BaseException:
            self._home.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all boxes and remove what was written."""
        try:
            self.pool.__exit__(kind, error, trace)
        finally:
            self._home.remove()

    def environment(self, companions: Mapping[str, bytes]) -> Environment:
        """What notebooks are adapted to."""
        return Environment(
            data_files={"train.csv": "train.csv", "eval.csv": "eval.csv"},
            companions=tuple(companions),
            gpu=False,
            sizes=dict(self.ground.bundle.sizes),
            packages=_packages(),
            transformers_version=versions()["transformers"],
        )

    def spec(self, companions: Mapping[str, bytes], seed: str = "") -> BoxSpec:
        """What a submission finds in its box; a `seed`, which nothing there tells, makes it train the same whenever it is run."""
        bundle = self.ground.bundle
        own: dict[str, Path | bytes] = {"train.csv": bundle.train_csv, "eval.csv": bundle.eval_csv}
        cache = self._home.path / "hf"
        hub = cache / "hub"
        binds: dict[str, Path] = {}
        if bundle.model_bytes <= _COPIED_BYTES:
            own[".hf"] = cache
        else:  # a large model is shown read-only instead of being copied for every submission
            own |= {f".hf/{part.name}": part for part in cache.iterdir() if part != hub}
            binds[".hf/hub"] = hub
        allowed = {name: data for name, data in companions.items() if name not in own and not name.startswith(".")}
        state = int(hashlib.sha256(f"{seed}/random state".encode()).hexdigest()[:12], 16) if seed else None
        return BoxSpec(files={**allowed, **own}, binds=binds, seed=state, threads=self.threads)

    async def run(
        self,
        submission: Submission,
        data: bytes,
        companions: Mapping[str, bytes] | None = None,
        progress: Progress = lambda _s: None,
    ) -> Result:
        """Run one submission. Never raises for what a student handed in; faults of ours are in the result."""
        helpers = dict(companions or {})
        seed = self.ground.seed(submission)
        questions = self.ground.questions(seed)
        try:
            environment = self.environment(helpers)
            notebook = adapt(read_notebook(data), environment)
            helpers, changed = _adapt_helpers(helpers, environment)
            notebook = replace(notebook, adaptations=merge(notebook.adaptations, changed))
        except SubmissionError as error:
            return self._nothing(seed, str(error))
        try:
            shims = (_SHIMS, shim_facts(environment))
            run = functools.partial(run_notebook, self.pool, self.spec(helpers, seed), self.limits, notebook)
            ran = await run(questions, shims, progress)
            ran = await settle(self.ground.assignment, ran, run, questions, shims, progress)
        except InfrastructureError as error:
            return self._fault(notebook, seed, str(error))
        except Exception as error:  # a bug of ours must stop neither the batch nor cost a student points
            return self._fault(notebook, seed, f"{type(error).__name__}: {error}")
        notebook = replace(notebook, adaptations=merge(notebook.adaptations, ran.adaptations))
        asked = {name: question_digest(question) for name, question in questions.items()}
        return Result(notebook, self._execution(ran), Evidence(seed, ran.observations, asked))

    def _execution(self, ran: Ran) -> Execution:
        return Execution(ran.outcome, ran.cells, ran.usage, ran.mode, versions(), self._bundle_name(), ran.notices)

    def _bundle_name(self) -> str:
        return f"{self.ground.bundle.name} {self.ground.bundle.digest[:12]}"

    def _nothing(self, seed: str, problem: str) -> Result:
        execution = Execution(
            Outcome.COMPLETED, (), Usage(), "none", versions(), self._bundle_name(), (Notice("unreadable", problem),)
        )
        nothing = {name: Observation(Attempt.NOT_ASKED, error=problem) for name in self.ground.assignment.questions}
        return Result(Notebook((), 0, notices=(Notice("unreadable", problem),)), execution, Evidence(seed, nothing))

    def _fault(self, notebook: Notebook, seed: str, problem: str) -> Result:
        execution = Execution(Outcome.SANDBOX_FAILED, (), Usage(), self._sandbox, versions(), self._bundle_name())
        lost = {name: Observation(Attempt.FAULT, error=problem) for name in self.ground.assignment.questions}
        return Result(notebook, execution, Evidence(seed, lost), problem)


def _adapt_helpers(helpers: Mapping[str, bytes], environment: Environment) -> tuple[dict[str, bytes], list[Adaptation]]:
    """Adapt helper modules by the rules of notebooks; what is not UTF-8 text stays as it is."""
    adapted, changes = dict(helpers), list[Adaptation]()
    for name, data in helpers.items():
        if name.endswith(".py"):
            with contextlib.suppress(UnicodeDecodeError):
                source, found = adapt_source(data.decode("utf-8-sig"), environment)
                adapted[name] = source.encode("utf-8")
                changes += [replace(a, cell=None, before=f"{name}: {a.before}") for a in found]
    return adapted, changes


def report_for(
    ground: Ground,
    submission: Submission,
    result: Result | None,
    overrides: Mapping[str, tuple[int, str]] | None = None,
) -> Report:
    """Judge stored evidence and fill in a report: pure, and the same bytes every time.

    Without a result (nothing could be run) every criterion fails with the submission's problem as its message.
    """
    if result is None:
        problem = submission.problem or "There is nothing to judge."
        verdicts = {name: Verdict(Status.FAILED, problem) for name in ground.assignment.checks}
        return _report(ground, submission, None, verdicts, overrides, ())
    questions = ground.questions(result.evidence.seed)
    evidence = _still_asked(result.evidence, questions)
    verdicts = judge(ground.assignment, evidence, questions)
    review = (f"The grader or its machine failed: {result.fault}",) if result.fault else ()
    facts = ground.assignment.summary(questions, evidence.observations)
    return _report(ground, submission, result, verdicts, overrides, review, facts)


def _report(
    ground: Ground,
    submission: Submission,
    result: Result | None,
    verdicts: Mapping[str, Verdict],
    overrides: Mapping[str, tuple[int, str]] | None,
    review: tuple[str, ...],
    facts: Mapping[str, Any] | None = None,
) -> Report:
    filled = score(ground.assignment, verdicts, overrides, review)
    missing = _missing_packages(result) if result is not None and filled.total is not None else ()
    if missing and filled.total != filled.possible and not overrides:
        names = ", ".join(f"`{name}`" for name in missing)
        filled = score(
            ground.assignment, verdicts, overrides, (f"The notebook imports {names}, which this grader does not have.",)
        )
    notices = () if result is None else (*result.notebook.notices, *result.execution.notices)
    return Report(
        assignment=ground.assignment.id,
        assignment_title=ground.assignment.title,
        submission=submission,
        execution=None if result is None else result.execution,
        adaptations=() if result is None else result.notebook.adaptations,
        notices=tuple(dict.fromkeys((*submission.notices, *notices))),
        score=filled,
        facts=facts or {},
        grader_version=grader.__version__,
    )


def _missing_packages(result: Result) -> tuple[str, ...]:
    """Packages a cell asked for in vain: the machine's fault unless the student made them up, so a person decides."""
    errors = [cell.error for cell in result.execution.cells if cell.error is not None]
    found = [e.message.rpartition("named ")[2].strip("' ")[:60] for e in errors if e.name == "ModuleNotFoundError"]
    return tuple(dict.fromkeys(name for name in found if name))


def single_submission(path: Path) -> tuple[Submission, bytes]:
    """Take one notebook file as a submission of its own. Raises SubmissionError when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SubmissionError(f"{path} cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    return Submission(path.stem, (), path.name, path.name, path.name, digest), data


def grade(
    path: str | Path,
    assignment: Assignment,
    *,
    bundle: Bundle | None = None,
    sandbox: str = "auto",
    limits: Limits | None = None,
    secret: bytes | None = None,
    progress: Progress = lambda _stage: None,
) -> Report:
    """Grade one notebook and return its report; helper modules (`*.py`) beside it are taken along.

    Raises a GraderError when the file or the machine does not allow it.
    """
    notebook = Path(path)
    submission, data = single_submission(notebook)
    helpers = {
        file.name: file.read_bytes() for file in sorted(notebook.parent.glob("*.py")) if file.stat().st_size < 1 << 20
    }
    ground = Ground.lay(assignment, bundle or load_bundle(None), secret or secrets.token_bytes(32))
    with Workplace(ground, sandbox=sandbox, limits=limits) as workplace:
        result = asyncio.run(workplace.run(submission, data, helpers, progress))
    return report_for(ground, submission, result)
