"""What trained models must reach, as a bundle's thresholds.json has it. Trusted; stdlib only, and nothing of held-out reviews."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from grader.errors import BundleError

__all__ = ["MANIFEST", "THRESHOLDS_FILE", "Calibration", "read_object", "read_thresholds", "shipped"]

MANIFEST: Final = "bundle.json"
THRESHOLDS_FILE: Final = "thresholds.json"
_MEASURED: Final = (
    "correlation",
    "seed_std",
    "correlation_std",
    "max_lr",
    "max_sgd_lr",
    "own_correlation",
    "unchanged",
)
_STEPS: Final = ("min_steps", "own_steps")
_SHIPPED: Final = (
    Path(__file__).parents[1] / "_data" / "standin",
    Path(__file__).parents[2] / "data" / "standin",
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a method's trained model must reach on the held-out reviews, and where right solutions were seen to reach it."""

    accuracy: float
    """Lowest accuracy that passes, 0 to 1."""
    correlation: float | None = None
    """Lowest correlation of the labels with what the training added to the log-odds that passes instead; None: accuracy alone decides."""
    seed_std: float = 0.0
    """Standard deviation of the accuracy over seeds at the library's defaults; 0 where nobody measured."""
    correlation_std: float = 0.0
    """Standard deviation of the correlation over seeds, at the noisiest setting."""
    max_lr: float | None = None
    """Highest learning rate up to which right solutions passed; None where none was calibrated."""
    min_steps: int = 0
    """Fewest steps from which on right solutions passed."""
    max_sgd_lr: float | None = None
    """The same as `max_lr` for SGD, whose rates are of another kind; None: `max_lr` holds."""
    own_correlation: float | None = None
    """The same as `correlation` for heads of one's own, which may find a direction in labels that say nothing."""
    own_steps: int = 0
    """The same as `min_steps` for heads of one's own."""
    unchanged: float | None = None
    """Cosine of a body with its adapters and the pretrained one from which on no rate broke it; None where none did."""

    @property
    def of_own_head(self) -> Calibration:
        """What holds for a head of one's own."""
        return replace(self, correlation=self.own_correlation, min_steps=max(self.min_steps, self.own_steps))


def shipped() -> Path:
    """The folder of the stand-in that the project ships. Raises BundleError where it is not installed."""
    for folder in _SHIPPED:
        if (folder / MANIFEST).is_file():
            return folder
    raise BundleError("the stand-in bundle is not installed: install the grader again, or pass --bundle.")


def read_thresholds(path: Path) -> dict[str, Calibration]:
    """The thresholds of thresholds.json by method; empty without the file. Raises BundleError where it is malformed."""
    file = path / THRESHOLDS_FILE
    if not file.is_file():
        return {}
    content = read_object(file)
    try:
        return {method: _read_threshold(entry) for method, entry in content["methods"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f'{file}: every method needs a number "accuracy" (see docs/bundles.md); {error!r}') from error


def _read_threshold(entry: dict[str, Any]) -> Calibration:
    numbers: dict[str, Any] = {name: float(entry[name]) for name in _MEASURED if entry.get(name) is not None}
    return Calibration(float(entry["accuracy"]), **numbers, **{name: int(entry.get(name, 0)) for name in _STEPS})


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a bundle's file. Raises BundleError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} does not exist: the folder is not a bundle (see docs/bundles.md).") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must hold a JSON object.")
    return content
