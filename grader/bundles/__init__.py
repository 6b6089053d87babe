"""Bundles: what a submission sees and is judged by. Open one, prepare a home, calibrate thresholds.

Trusted. Torch runs in processes of its own, never in the one that imports this package.
"""

from __future__ import annotations

from grader.bundles.bundle import Bundle, Calibration, load_bundle
from grader.bundles.calibration import calibrate
from grader.bundles.heldout import DEFAULT_SECRET, HeldOut
from grader.bundles.hf_cache import prepare_home

__all__ = [
    "DEFAULT_SECRET",
    "Bundle",
    "Calibration",
    "HeldOut",
    "calibrate",
    "load_bundle",
    "prepare_home",
]
