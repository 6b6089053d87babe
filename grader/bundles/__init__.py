"""Bundles: what a submission sees and is judged by. Open one, prepare a home, calibrate thresholds.

Trusted. Torch runs in processes of its own, never in the one that imports this package. A name is loaded when it is first used: a
self-check in a student's kernel needs the thresholds, and nothing that draws reviews.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grader.bundles.bundle import Bundle, load_bundle
    from grader.bundles.calibration import calibrate
    from grader.bundles.heldout import DEFAULT_SECRET, HeldOut
    from grader.bundles.hf_cache import prepare_home
    from grader.bundles.thresholds import Calibration

__all__ = [
    "DEFAULT_SECRET",
    "Bundle",
    "Calibration",
    "HeldOut",
    "calibrate",
    "load_bundle",
    "prepare_home",
]

_HOMES = {
    "Bundle": "bundle", "load_bundle": "bundle", "calibrate": "calibration", "DEFAULT_SECRET": "heldout", "HeldOut": "heldout",
    "prepare_home": "hf_cache", "Calibration": "thresholds",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
