"""Archives, folders and notebooks to take in; everything is made here, nothing is stored."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest


def make_notebook(*code: str, **extra: object) -> bytes:
    cells = [{"cell_type": "code", "source": c, "metadata": {}, "outputs": [], "execution_count": None} for c in code]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **extra}).encode()


@pytest.fixture
def notebook() -> Callable[..., bytes]:
    return make_notebook


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    def make(entries: Mapping[str, bytes], name: str = "lab2_submissions.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, content in entries.items():
                archive.writestr(entry, content)
        return path

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    def make(entries: Mapping[str, bytes], name: str = "class") -> Path:
        root = tmp_path / name
        root.mkdir()
        for entry, content in entries.items():
            path = root / entry
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root

    return make


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "run" / "files"
