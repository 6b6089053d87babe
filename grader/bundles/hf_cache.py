"""Writes a bundle as the caches of the Hugging Face libraries, so that the real names work offline. Trusted; stdlib only.

The tree holds no absolute path: it is written once, shown to every submission, and named by `HF_HOME` with `HF_HUB_OFFLINE=1`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from grader.bundles.bundle import Bundle, hash_files
from grader.errors import BundleError


def prepare_home(bundle: Bundle, target: Path) -> None:
    """Writes the bundle's model and metric under `target`, a folder that then serves as `HF_HOME`.

    Every model name gets its own hub folder, from any working directory, also with `revision="main"`. The files of the second
    name are relative links to those of the first. Raises BundleError where the folder cannot be written.
    """
    try:
        hashes = hash_files(bundle.model_dir)
        # The hub names a revision by 40 hexadecimal digits; these say which model it is.
        revision = hashlib.sha1(repr(hashes).encode(), usedforsecurity=False).hexdigest()
        first: Path | None = None
        for name in bundle.model_names:
            repository = target / "hub" / f"models--{name.replace('/', '--')}"
            snapshot = repository / "snapshots" / revision
            snapshot.mkdir(parents=True, exist_ok=True)
            (repository / "refs").mkdir(exist_ok=True)
            (repository / "refs" / "main").write_text(revision, encoding="ascii")
            for file in hashes:
                place = snapshot / file
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)
                if first is None:
                    shutil.copyfile(bundle.model_dir / file, place)
                else:
                    place.symlink_to(os.path.relpath(first / file, place.parent))
            first = first or snapshot
        _write_metric(bundle.metric, target)
    except OSError as error:
        raise BundleError(f"the model's cache could not be written to {target}: {error}") from error


def _write_metric(source: Path, target: Path) -> None:
    content = source.read_bytes()
    folder = target / "modules" / "evaluate_modules" / "metrics" / "evaluate-metric--accuracy"
    folder /= hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "accuracy.py").write_bytes(content)
    # evaluate imports the metric as a module of nested packages; the topmost one is `modules` itself.
    for package in (folder, *folder.parents[:4]):
        (package / "__init__.py").touch()
