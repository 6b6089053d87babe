from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import grader
from grader.grading.fingerprint import code_digest

PACKAGE = Path(grader.__file__).parent
ROOMS = ("inside", "notebook", "sandbox", "grading")


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "grader"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("_data", "__pycache__"))
    return folder


@pytest.mark.parametrize("room", ROOMS)
def test_code_digest_changes_with_any_file(copied, room) -> None:
    before = code_digest()
    assert code_digest.__wrapped__(copied) == before
    files = sorted((copied / room).rglob("*.py"))
    assert files
    for file in files:
        source = file.read_bytes()
        file.write_bytes(source + b"\n# changed\n")
        assert code_digest.__wrapped__(copied) != before, file
        file.write_bytes(source)


def test_code_digest_changes_with_a_new_file_and_not_elsewhere(copied) -> None:
    before = code_digest.__wrapped__(copied)
    (copied / "reports" / "new.py").write_text("x = 1\n")
    assert code_digest.__wrapped__(copied) == before
    (copied / "sandbox" / "new.py").write_text("x = 1\n")
    assert code_digest.__wrapped__(copied) != before
