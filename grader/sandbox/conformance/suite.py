"""Running the checks, one after the other, and what else makes results of this host reproducible."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from grader.errors import GraderError, SandboxError, UsageError
from grader.sandbox.conformance import isolation, limits
from grader.sandbox.conformance.attempts import CANARY, CHECKS, Breach
from grader.sandbox.host import available_modes, choose
from grader.sandbox.pool import KernelPool

__all__ = ["CHECKS", "Finding", "canary", "conform", "examine", "host_facts"]

_GROUPS = (isolation, limits)
"""The modules whose checks have entered themselves in CHECKS, in this order."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found on this host."""

    name: str
    """Stable name of the check."""
    promise: str
    """What holds when it is well, as a sentence."""
    ok: bool
    """Whether it holds."""
    why: str
    """What got through, or why it could not be tried; empty when well."""
    seconds: float
    """How long it took."""


@contextlib.contextmanager
def canary() -> Iterator[None]:
    """Put a variable into this process's environment that no box may see."""
    os.environ[CANARY] = CANARY
    try:
        yield
    finally:
        del os.environ[CANARY]


async def examine(pool: KernelPool, name: str) -> Finding:
    """Run one check on an open pool. Never raises for what it finds."""
    promise, check = CHECKS[name]
    began = time.monotonic()
    why = ""
    try:
        await check(pool)
    except Breach as breach:
        why = str(breach)
    except (GraderError, OSError) as error:
        why = f"could not be tried: {error}"
    return Finding(name, promise, not why, why, time.monotonic() - began)


def conform(
    mode: str = "auto",
    on_finding: Callable[[Finding], Any] = lambda _finding: None,
    started: Callable[[str], Any] = lambda _why_cold: None,
    **options: Any,
) -> list[Finding]:
    """Run all checks in `mode` on this host, handing each finding to `on_finding` as it comes; `options` go to the pool.

    `started` gets first why kernels start cold although they were to start warm, empty when they do start warm.
    Raises SandboxError when no box can be built at all (its text says what to install), UsageError for mode `none`:
    without a box the attempts would be made on this very machine.
    """
    if choose(mode) == "none":
        raise UsageError("the conformance suite attacks what surrounds it and only runs inside a box (warm or cold)")
    findings = []
    with canary(), KernelPool(mode, **options) as pool:
        with contextlib.suppress(SandboxError):  # then they start cold, in the same box
            pool.warm_up()
        started(pool.zygote_failure)
        for name in CHECKS:
            finding = asyncio.run(examine(pool, name))
            findings.append(finding)
            on_finding(finding)
    return findings


def host_facts() -> dict[str, str]:
    """What makes results reproducible on this host: versions and settings, name -> value."""
    facts = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.platform()}
    for name in ("torch", "transformers", "datasets", "evaluate", "peft", "accelerate", "tokenizers", "numpy", "ipykernel", "nbclient",
                 "jupyter_client"):  # fmt: skip
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "missing"
    facts["processors"] = str(os.cpu_count() or "?")
    for mode, why in available_modes().items():
        facts[f"sandbox {mode}"] = why or "works"
    return facts
