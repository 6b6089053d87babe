"""Runs torch code of ours in a process of its own, one thread, offline, so that the CLI never imports torch. Trusted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence

from grader.errors import InfrastructureError
from grader.imports import python_command

_OFFLINE = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONHASHSEED": "0",
}


def run_module(module: str, arguments: Sequence[str]) -> Iterator[str]:
    """Runs a module with arguments and yields its output line by line.

    Raises InfrastructureError with the last lines of its output where it fails.
    """
    environment = {**os.environ, **_OFFLINE}
    command = [*python_command(module), *arguments]
    last: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = [*last[-9:], line.rstrip()]
                yield line.rstrip()
        except BaseException:
            # Interrupted, or the caller stopped listening: nobody is left to read what it would say.
            process.kill()
            raise
    if process.returncode:
        raise InfrastructureError(f"{module} ended with exit code {process.returncode}: " + "\n".join(last))
