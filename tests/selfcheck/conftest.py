"""A student's folder, and a kernel in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from grader.bundles.bundle import load_bundle
from grader.bundles.hf_cache import prepare_home


@pytest.fixture(scope="session")
def machine(tmp_path_factory) -> Iterator[Path]:
    """A machine on which the model was downloaded; a folder for students' folders."""
    folder = tmp_path_factory.mktemp("student")
    prepare_home(load_bundle(), folder / "hf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder / "hf"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TRANSFORMERS_VERBOSITY", "error")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@pytest.fixture(scope="module")
def place(machine, request) -> Path:
    """A folder as a student has it, with the data."""
    folder = machine / request.module.__name__ / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)  # a worker may come back to a module
    for file in (load_bundle().train_csv, load_bundle().eval_csv):
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def run(place) -> Iterator[Callable[[str], str]]:
    """Run a cell in a kernel of this module; gives what it shows as text, cards included. An exception fails the test."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(place))

    def cell(source: str) -> str:
        shown: list[str] = []

        def keep(message: dict) -> None:
            content = message["content"]
            shown.append(
                content.get("text", "") if "text" in content else content.get("data", {}).get("text/plain", "")
            )

        reply = client.execute_interactive(source, timeout=300, output_hook=keep)["content"]
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", ()))
        return "".join(shown)

    yield cell
    client.stop_channels()
    manager.shutdown_kernel(now=True)
