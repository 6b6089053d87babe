"""Where the notebooks that ship with the grader lie: beside the code when installed, at the top of a checkout otherwise."""

from __future__ import annotations

from pathlib import Path

from grader.errors import UsageError

__all__ = ["corpus_path", "reference_path", "template_path"]

_PACKAGE = Path(__file__).resolve().parents[1]
_ROOTS = (_PACKAGE / "_data", _PACKAGE.parent)


def _find(name: str) -> Path | None:
    return next((root / name for root in _ROOTS if (root / name).is_file()), None)


def reference_path() -> Path:
    """Find the reference solution. Raises UsageError when this installation has none."""
    found = _find("reference_solution/finetuning.ipynb")
    if found is None:
        raise UsageError("this installation has no reference solution; give one with --reference")
    return found


def template_path() -> Path | None:
    """Find the student template, if this installation has it."""
    return _find("student_template/finetuning.ipynb")


def corpus_path() -> Path | None:
    """Find the labelled corpus; None where the grader was installed from a wheel, which does not hold it."""
    folder = _PACKAGE.parent / "tests" / "corpus"
    return folder if (folder / "__init__.py").is_file() else None
