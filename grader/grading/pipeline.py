"""One submission through all stages; the only place that knows their order.

file -> Submission -> Notebook -> Execution + Evidence -> Verdicts -> Score -> Report. What runs student code is in
`Grader.run`; everything after it is pure and can be done again from stored files (`grader.grading.report`).
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import secrets
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec

from grader.assignments import DEFAULT, load_assignment
from grader.bundles.bundle import Bundle, load_bundle
from grader.bundles.hf_cache import prepare_home
from grader.errors import GuardError, InfrastructureError, SubmissionError
from grader.grading.context import RunContext
from grader.grading.execution import Progress, RunRequest, run_notebook
from grader.grading.report import report_for
from grader.grading.reruns import rerun_close_results
from grader.grading.settings import Settings
from grader.notebook.helpers import imported_helpers
from grader.notebook.limited import read_notebook
from grader.records import Notebook, Notice, Report, Submission, SubmissionRun
from grader.rubric.assignment import Assignment
from grader.sandbox.contract import BoxSpec, Limits
from grader.sandbox.guard import guarded
from grader.sandbox.pool import KernelPool
from grader.sandbox.shown import refuse_exposed

__all__ = ["Grader", "RunContext", "agrade", "grade", "report_for", "single_submission"]

P = ParamSpec("P")


class Grader:
    """Where submissions are run: one warm zygote and one prepared model cache for all that run side by side."""

    def __init__(self, context: RunContext, *, sandbox: str = "auto", limits: Limits | None = None) -> None:
        """Prepare nothing yet; use it as a context manager."""
        self.context, self.limits = context, limits or Limits()
        self._sandbox = sandbox
        wanted = context.assignment
        self.pool = KernelPool(sandbox, preload=wanted.preload, watch=wanted.watch)

    def __enter__(self) -> Grader:
        """Open the pool of kernels and write the model cache. Raises SandboxError or UsageError when that cannot be."""
        self.pool.__enter__()
        try:
            if self.pool.mode != "none":
                refuse_exposed("the bundle", self.context.bundle.path)
            prepare_home(self.context.bundle, self._cache)
        except BaseException:
            self.pool.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """End all boxes and remove what was written."""
        self.pool.close()

    @property
    def _cache(self) -> Path:
        """The model cache, which goes with the pool's folder."""
        return self.pool.folder / "hf"

    def _data_files(self) -> dict[str, Path]:
        """Base name of each data file -> where it lies in the bundle."""
        return {Path(name).name: self.context.bundle.path / name for name in self.context.assignment.data_files}

    def shim_config(self, companions: Mapping[str, bytes]) -> dict[str, Any]:
        """What the shims inside the box have to know, as plain data (see `grader.inside.shims`)."""
        return {
            "data_files": sorted(self._data_files()),
            "companions": sorted(companions),
            "sizes": {str(real): ours for real, ours in self.context.bundle.sizes.items()},
            "head_gain": self.context.bundle.head_gain,
        }

    def spec(self, companions: Mapping[str, bytes], seed: str = "") -> BoxSpec:
        """What a submission finds in its box; a `seed`, which nothing there tells, makes it train the same whenever it is run."""
        own: dict[str, Path | bytes] = dict(self._data_files())
        hub = self._cache / "hub"  # shown read-only instead of being copied for every submission
        own |= {f".hf/{part.name}": part for part in self._cache.iterdir() if part != hub}
        allowed = {name: data for name, data in companions.items() if name not in own and not name.startswith(".")}
        state = int(hashlib.sha256(f"{seed}/random state".encode()).hexdigest()[:12], 16) if seed else None
        return BoxSpec(files={**allowed, **own}, binds={".hf/hub": hub}, seed=state)

    async def run(
        self,
        submission: Submission,
        data: bytes,
        companions: Mapping[str, bytes] | None = None,
        on_progress: Progress = lambda _stage: None,
        *,
        limits: Limits | None = None,
        draw: int = 0,
    ) -> SubmissionRun:
        """Run one submission; `companions` are further files by base name.

        `limits` and `draw` (of questions and random numbers) are for one that a person has run again.

        Never raises for what a student handed in; faults of ours are in the result.
        """
        helpers = dict(companions or {})
        seed = self.context.seed(submission, helpers, draw)
        # in threads: the clocks of submissions beside it go on meanwhile
        questions = await asyncio.to_thread(self.context.questions, seed)
        try:
            notebook = await asyncio.to_thread(read_notebook, data)
        except SubmissionError as error:
            notices = (Notice("unreadable", str(error)),)
            empty = Notebook((), 0, notices=notices)
            return self.context.unseen(submission, str(error), ours=False, notebook=empty, notices=notices)
        except InfrastructureError as error:
            return self.context.unseen(submission, str(error), sandbox=self._sandbox)
        request = RunRequest(
            self.pool,
            notebook,
            questions,
            limits or self.limits,
            self.spec(helpers, seed),
            BoxSpec(binds={".hf": self._cache}),
            self.context.assignment.shims,
            self.shim_config(helpers),
            seed,
            self.context.bundle_name,
            self.context.definitions,
            on_progress=on_progress,
        )
        try:
            return await rerun_close_results(self.context.assignment, request, await run_notebook(request))
        except Exception as error:  # a bug of ours must stop neither the batch nor cost a student points
            why = str(error) if isinstance(error, InfrastructureError) else f"{type(error).__name__}: {error}"
            return self.context.unseen(submission, why, notebook=notebook, sandbox=self._sandbox)

    async def report(self, path: Path, on_progress: Progress = lambda _stage: None) -> Report:
        """Run and judge one notebook file, with the modules beside it that it imports. Raises SubmissionError when it cannot be read."""
        submission, data = single_submission(path)
        helpers = await asyncio.to_thread(imported_helpers, path, data)
        run = await self.run(submission, data, helpers, on_progress)
        try:
            return await asyncio.to_thread(guarded, lambda: report_for(self.context, submission, run), Report)
        except GuardError as error:
            unseen = self.context.unseen(submission, f"Judging it ended badly: it {error}.")
            return report_for(self.context, submission, unseen)


def single_submission(path: Path) -> tuple[Submission, bytes]:
    """Take one notebook file as a submission of its own. Raises SubmissionError when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SubmissionError(f"{path} cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    return Submission(path.stem, (), path.name, path.name, path.name, digest), data


async def agrade(
    notebook: str | Path,
    assignment: Assignment | str = DEFAULT,
    *,
    bundle: Bundle | str | Path | None = None,
    sandbox: str = "auto",
    limits: Limits | None = None,
    secret: bytes | None = None,
    definitions: bool = False,
    settings: Settings | None = None,
    on_progress: Progress = lambda _stage: None,
) -> Report:
    """Grade one notebook and return its report; helper modules (`*.py`) beside it that it imports are taken along.

    - `notebook`: path of the file.
    - `assignment`: an `Assignment`, or a name that `load_assignment` takes; left out, the one that ships with the grader.
    - `bundle`: a bundle or its folder; left out, the stand-in that ships with the grader.
    - `sandbox`: `warm` (forked into a locked box), `cold` (a fresh interpreter in such a box), `none` (no isolation), or `auto`, the
      first of these that works here, `none` excepted.
    - `limits`: what the submission may use (CPU and wall seconds, bytes); left out, `Limits()`.
    - `secret`: what questions and held-out reviews are drawn from; left out, drawn anew. The same one gives the same questions.
    - `definitions`: take only imports, functions, classes and plain settings of the cells, and ask what needs no training.
    - `settings`: what the course sets, as `read_settings` gives it.
    - `on_progress`: called with a few words whenever the notebook gets further.

    `agrade` is for callers with an event loop, which goes on meanwhile; `grade` takes the same and blocks, also where a loop runs
    (Jupyter). Raises SubmissionError for a file that cannot be read, UsageError for an unknown assignment or sandbox, and an
    InfrastructureError (BundleError, SandboxError) when the machine does not allow it. What the student's code does is in the report.
    """
    path = Path(notebook)
    single_submission(path)  # a file that cannot be read is told before anything is prepared
    declared = load_assignment(assignment) if isinstance(assignment, str) else assignment
    against = bundle if isinstance(bundle, Bundle) else load_bundle(None if bundle is None else Path(bundle))
    context = await asyncio.to_thread(RunContext.create, declared, against, secret or secrets.token_bytes(32), settings)
    context = context.only(definitions=definitions)
    grader = await asyncio.to_thread(Grader(context, sandbox=sandbox, limits=limits).__enter__)
    try:
        return await grader.report(path, on_progress)
    finally:
        await asyncio.to_thread(grader.pool.close)


def _blocking(work: Callable[P, Coroutine[Any, Any, Report]]) -> Callable[P, Report]:
    """The same for callers that wait for it."""

    @functools.wraps(work)
    def call(*args: P.args, **options: P.kwargs) -> Report:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(work(*args, **options))
        with ThreadPoolExecutor(1, "grade") as beside:  # a loop cannot be entered twice in one thread
            return beside.submit(asyncio.run, work(*args, **options)).result()

    call.__name__ = call.__qualname__ = "grade"
    return call


grade = _blocking(agrade)
