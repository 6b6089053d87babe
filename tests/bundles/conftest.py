import json
import shutil
from pathlib import Path

import pytest

from grader.bundles.bundle import Bundle, load_bundle


@pytest.fixture(scope="session")
def standin() -> Bundle:
    return load_bundle()


@pytest.fixture
def copy(standin: Bundle, tmp_path: Path) -> Path:
    """A copy of the shipped bundle that a test may damage."""
    return shutil.copytree(standin.path, tmp_path / "copy")


@pytest.fixture
def handwritten(standin: Bundle, tmp_path: Path) -> Path:
    """What an instructor puts together by hand, after the example in docs/bundles.md."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copytree(standin.model_dir, folder / "model")
    (folder / "train.csv").write_text("review,label\nGood film.,1\nBad film.,0\n", encoding="utf-8")
    (folder / "eval.csv").write_text("review,label\nFine film.,1\nPoor film.,0\n", encoding="utf-8")
    (folder / "heldout.csv").write_text('review,label\n"Lovely, really.",1\nDull.,0\n', encoding="utf-8")
    (folder / "bundle.json").write_text(json.dumps({"format": 1, "name": "mine"}), encoding="utf-8")
    return folder
