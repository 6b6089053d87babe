"""What the checks share: small limits, the list they enter themselves in, and how an attempt is made and judged.

Trusted code; what an attempt prints is believed, since the attempts are ours.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from grader.sandbox.contract import BoxSpec, Limits, Outcome
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

__all__ = [
    "CANARY",
    "CHECKS",
    "LIMITS",
    "MIB",
    "Breach",
    "all_refused",
    "attempts",
    "box_check",
    "expect",
    "outcome_of",
]

MIB = 1 << 20
LIMITS = Limits(
    cpu_seconds=20, wall_seconds=120, memory_bytes=700 * MIB, processes=64, disk_bytes=48 * MIB, files=1500,
    output_bytes=2 * MIB, output_messages=2000, message_bytes=4 * MIB,
)  # fmt: skip
"""Small limits, so that meeting them takes a moment; one more process than a few is enough for torch."""

CANARY = "DAT450_CANARY"


class Breach(Exception):  # noqa: N818 - what a check reports
    """Something got through; the text says what."""


BoxCheck = Callable[[KernelPool], Awaitable[None]]
CHECKS: dict[str, tuple[str, BoxCheck]] = {}
"""Name -> promise and the coroutine function that tries it, in the order of the report."""


def box_check(name: str) -> Callable[[BoxCheck], BoxCheck]:
    """Enter a check in the list; its docstring is the promise it tries."""

    def keep(function: BoxCheck) -> BoxCheck:
        CHECKS[name] = ((function.__doc__ or "").strip(), function)
        return function

    return keep


TRY = """
import os, socket, ctypes, json, signal
_libc, _seen = ctypes.CDLL(None, use_errno=True), {}
def attempt(name, action):
    try: _seen[name] = "done: " + str(action())[:80]
    except BaseException as error: _seen[name] = "refused: " + type(error).__name__ + ": " + str(error)[:80]
def call(number, *arguments):
    if _libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), "refused")
def report(): print("SEEN" + json.dumps(_seen))
"""


async def attempts(pool: KernelPool, code: str, spec: BoxSpec | None = None) -> dict[str, str]:
    """Run a cell that makes attempts; attempt -> `done: ...` or `refused: ...`."""
    async with KernelSession(pool, spec, LIMITS) as session:
        run = await session.run_cell(f"{TRY}\n{code}\nreport()", 0)
        if run.status != "ok" or "SEEN" not in run.output:
            raise Breach(f"the probe itself did not run ({run.status}: {run.error}, {session.outcome})")
        seen: dict[str, str] = json.loads(run.output.split("SEEN", 1)[1].splitlines()[0])
        return seen


def all_refused(seen: dict[str, str]) -> None:
    """Raise Breach, naming the attempts that were not refused."""
    through = [f"{name} ({what})" for name, what in seen.items() if not what.startswith("refused")]
    if through:
        raise Breach(f"got through: {'; '.join(through)}")


async def outcome_of(pool: KernelPool, code: str, limits: Limits) -> tuple[Outcome, bool, str]:
    """Run one cell; the outcome, whether the kernel lived on, and the cell's status."""
    session = KernelSession(pool, None, limits)
    async with session:
        run = await session.run_cell(code, 0)
        alive = session.alive
    return session.outcome, alive, run.status


async def expect(pool: KernelPool, code: str, wanted: Outcome, limits: Limits | None = None) -> None:
    """Run one cell under `limits` (LIMITS by default); raises Breach unless it ends as `wanted`."""
    outcome, _alive, status = await outcome_of(pool, code, limits or LIMITS)
    if outcome is not wanted:
        raise Breach(f"ended as {outcome} (cell {status}), not as {wanted}")
