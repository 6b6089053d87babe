"""The sample class, graded once by the README's first command for all tests that look at the outcome."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A shell starts what runs in its background with Ctrl-C ignored, which the grader's commands would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class SampleClass:
    """What the command did."""

    run: Path
    """The run directory."""
    secret: Path
    """A file with the secret it was run with."""
    code: int
    """Exit code."""
    output: str
    """What it printed."""
    errors: str
    """What it said on standard error."""


@pytest.fixture(scope="session")
def sample_class(tmp_path_factory) -> SampleClass:
    """Sixteen notebooks that train; minutes."""
    folder = tmp_path_factory.mktemp("sample-class")
    secret, run = folder / "secret", folder / "run"
    secret.write_text("a secret of the sample class")
    done = subprocess.run(
        ["bash", "scripts/sample-class.sh", "--secret-file", str(secret)],
        cwd=ROOT, env={**os.environ, "RUN": str(run)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return SampleClass(run, secret, done.returncode, done.stdout, done.stderr)
