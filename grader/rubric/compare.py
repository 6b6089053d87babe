"""Comparisons for checks: exact types first, NaN never equals, messages with shapes, dtypes and numbers. Numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np

from grader.records import Status, Verdict

__all__ = ["NO_RUN", "close", "describe", "expect_close", "expect_equal", "failed", "passed", "skipped"]

NO_RUN = "No training run was seen for this step."
"""How a check begins to say that a training is not there; `grader.grading.causes` adds why, where the notebook shows it."""


def passed(message: str = "") -> Verdict:
    """Give full marks; the message says what was seen."""
    return Verdict(Status.PASSED, message)


def failed(message: str, hint: str = "") -> Verdict:
    """Give no marks: what was seen, and what to try."""
    return Verdict(Status.FAILED, message, hint)


def skipped(because: str, message: str) -> Verdict:
    """Give no verdict of its own, since `because` failed for the same reason."""
    return Verdict(Status.SKIPPED, message, because=because)


def expect_equal(seen: Any, wanted: int | str | bool, *, what: str = "the result", hint: str = "") -> Verdict:
    """Pass when `seen` has the same plain type and value as `wanted`."""
    if type(seen) is type(wanted) and seen == wanted:
        return passed(f"{what} is {seen!r}")
    return failed(f"{what} is {describe(seen)}, expected {wanted!r}", hint)


def close(seen: Any, wanted: Any, *, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """True when both are finite float arrays of the same shape and agree within rtol * max|wanted| + atol.

    The tolerance is relative to the largest entry, as float32 sums are; NaN and infinities never agree.
    """
    a, b = np.asarray(seen, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    bound = atol + rtol * (float(np.abs(b).max()) if b.size else 0.0)
    return bool(a.size == 0 or float(np.abs(a - b).max()) <= bound)


def expect_close(seen: Any, wanted: Any, *, what: str = "the result", hint: str = "", rtol: float = 1e-4) -> Verdict:
    """Pass when `seen` is an array like `wanted`, within float32 rounding."""
    if not isinstance(seen, np.ndarray) or seen.dtype.kind not in "fiu":
        return failed(f"{what} is {describe(seen)}, expected numbers of shape {np.shape(wanted)}", hint)
    if seen.shape != np.shape(wanted):
        return failed(f"{what} has shape {seen.shape}, expected {np.shape(wanted)}", hint)
    if close(seen, wanted, rtol=rtol):
        return passed()
    if not np.isfinite(seen).all():
        return failed(f"{what} holds values that are not finite", hint)
    gap = float(np.abs(np.asarray(seen, np.float64) - np.asarray(wanted, np.float64)).max())
    return failed(f"{what} differs from the expected values by up to {gap:.3g}", hint)


def describe(value: Any) -> str:
    """Say briefly what a piece of evidence is: type, shape, dtype, or the value when it is short."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if value is None:
        return "None"
    if isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, dict) and set(value) == {"__object__"}:
        return f"an object of type {str(value['__object__'])[:60]}"
    return f"a {type(value).__name__} of length {len(value)}"
