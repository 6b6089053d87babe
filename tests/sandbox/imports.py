"""What the reference run imports after the fork: the zygote's list is made from it.

`python -m tests.sandbox.imports` shows what is imported late now, and what it costs; with `--write` the list is made anew, from a
zygote that has imported the roots alone. The run is the reference notebook in a warm box with all its questions, its three trainings
shortened: they import the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grader.grading.execution
from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.cli.resources import reference_path
from grader.grading.pipeline import Grader, RunContext, single_submission
from grader.inside import preloaded
from grader.sandbox.session import KernelSession
from grader.sandbox.shown import prefixes

__all__ = ["Late", "late_imports", "listed"]

TARGET = Path(preloaded.__file__)
BEFORE = """
import importlib.machinery as _machinery, sys as _sys, time as _time
_log, _open = [], []
def _logged(original):
    def exec_module(self, module):
        began = _time.process_time()
        _open.append(module.__name__)
        try:
            return original(self, module)
        finally:
            _open.pop()
            _log.append([module.__name__, len(_open), getattr(module.__spec__, "origin", None), _time.process_time() - began])
    return exec_module
for _kind in (_machinery.SourceFileLoader, _machinery.ExtensionFileLoader):
    _kind.exec_module = _logged(_kind.exec_module)
"""
AFTER = "_told = __import__('json').dumps(_log)"
FEWER = "\nreviews = type(reviews)({name: part.select(range(8)) for name, part in reviews.items()})\n"


@dataclass(frozen=True)
class Late:
    """One module of a library that was imported after the fork."""

    name: str
    depth: int
    """0 when no other late module imported it."""
    size: int
    """Bytes of its file."""
    seconds: float
    """CPU seconds, with what it imported."""


def shortened(data: bytes) -> bytes:
    """The reference notebook with a handful of reviews and one epoch."""
    notebook = json.loads(data)
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    training = next(n for n, source in enumerate(sources) if "num_train_epochs=3" in source)
    tokens = next(n for n, source in enumerate(sources) if "reviews.map(" in source)
    notebook["cells"][training]["source"] = sources[training].replace("num_train_epochs=3", "num_train_epochs=1")
    notebook["cells"][tokens]["source"] = sources[tokens] + FEWER
    return json.dumps(notebook).encode()


class RecordingSession(KernelSession):
    """Runs a cell before the first one, and another one after the last question."""

    printed = ""
    """The log, as the box printed it."""

    async def __aenter__(self) -> RecordingSession:
        await super().__aenter__()
        assert self.kernel.mode == "warm", self.pool.zygote.failure
        await self.run_cell(BEFORE, 0)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.run_cell(AFTER, 0)
        RecordingSession.printed = ""
        for start in range(0, 1 << 20, 10_000):  # a report keeps only so much of one cell's output
            piece = (await self.run_cell(f"print(_told[{start}:{start + 10_000}], end='')", 0)).output
            RecordingSession.printed += piece
            if len(piece) < 10_000:
                break
        await super().__aexit__(*error)


@contextmanager
def recording() -> Iterator[None]:
    grader.grading.execution.KernelSession = RecordingSession
    try:
        yield
    finally:
        grader.grading.execution.KernelSession = KernelSession


def late_imports() -> list[Late]:
    """Run it; the library modules imported after the fork, in the order in which their imports ended."""
    context = RunContext.create(load_assignment(), load_bundle(None), b"nobody is graded here")
    submission, data = single_submission(reference_path())
    with Grader(context, sandbox="warm") as grader, recording():
        grader.pool.warm_up()
        result = asyncio.run(grader.run(submission, shortened(data)))
    wrong = [cell for cell in result.execution.cells if cell.status != "ok"]
    assert not wrong, wrong
    return libraries(json.loads(RecordingSession.printed))


def libraries(log: Sequence[Sequence[Any]]) -> list[Late]:
    """Without modules that were made in the box: scripts of metrics, generated code."""
    folders = [Path("/usr"), *prefixes()]
    found = []
    for name, depth, origin, seconds in log:
        if origin and any(Path(origin).is_relative_to(folder) for folder in folders):
            found.append(Late(name, depth, Path(origin).stat().st_size, seconds))
    return found


def listed(found: Sequence[Late]) -> list[str]:
    """What to import so that all of it is there: modules no other one imported, packages only where nothing below is named."""
    names = list(dict.fromkeys(late.name for late in found if late.depth == 0))
    return [name for name in names if not any(other.startswith(name + ".") for other in names)]


def main() -> None:
    parser = argparse.ArgumentParser(description="what the reference run imports after the fork")
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.name} anew")
    options = parser.parse_args()
    kept = TARGET.read_text(encoding="utf-8")
    head, mark, _old = kept.partition("LATE = (")
    if options.write:
        TARGET.write_text(f"{head}{mark})\n", encoding="utf-8")
    try:
        found = late_imports()
    except BaseException:
        TARGET.write_text(kept, encoding="utf-8")
        raise
    top = sorted((late for late in found if late.depth == 0), key=lambda late: -late.seconds)
    for late in top[:40]:
        print(f"{1000 * late.seconds:8.1f} ms {late.size / 1000:8.1f} kB  {late.name}")
    print(
        f"{len(found)} modules, {sum(late.size for late in found) / 1000:.0f} kB, {sum(late.seconds for late in top):.2f} s of CPU"
    )
    if options.write:
        lines = "".join(f'    "{name}",\n' for name in listed(found))
        TARGET.write_text(f"{head}{mark}\n{lines})\n", encoding="utf-8")
        print(f"{TARGET} written: {len(listed(found))} names")


if __name__ == "__main__":
    main()
