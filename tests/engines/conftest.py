"""A Dask cluster in processes of its own on loopback, over TLS, and the run that all engines are compared with."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from grader.runs.engines import LocalEngine
from grader.runs.engines.certificates import write_certificates
from tests.engines.toys import CLASS, grade_on

ROOT = Path(__file__).parents[2]


@dataclass
class DaskProcesses:
    """A scheduler and its workers, started by their own commands."""

    folder: Path
    tls: Path
    address: str = ""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def _start(self, *words: str, log: str, path: str = "") -> subprocess.Popen[bytes]:
        cert, key = str(self.tls / "cert.pem"), str(self.tls / "key.pem")
        with (self.folder / log).open("wb") as out:
            tls = ["--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key]
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", *words, "--no-dashboard", *tls],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)])),
                    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
                },
            )
        self.started.append(process)
        return process

    def scheduler(self) -> None:
        self._start(
            "distributed.cli.dask_scheduler",
            "--host",
            "tls://127.0.0.1",
            "--port",
            "0",
            "--protocol",
            "tls",
            log="s.log",
        )
        text = self._until("s.log", r"tls://127\.0\.0\.1:\d+")
        self.address = text

    def worker(self, name: str, *, path: str = "", slots: int = 1) -> int:
        """Start a worker under its nanny and wait until it has joined; returns the nanny's process id."""
        process = self._start(
            "distributed.cli.dask_worker", self.address, "--host", "127.0.0.1", "--nthreads", str(slots), "--name", name,
            "--local-directory", str(self.folder), log=f"{name}.log", path=path,
        )  # fmt: skip
        self._until(f"{name}.log", r"Registered to:.*")
        return process.pid

    def _until(self, log: str, pattern: str) -> str:
        for _ in range(1200):
            found = re.search(pattern, (self.folder / log).read_text(errors="replace"))
            if found:
                return found.group()
            time.sleep(0.1)
        raise AssertionError((self.folder / log).read_text(errors="replace"))

    def close(self) -> None:
        """End all; a nanny that is waiting for a scheduler that is gone is not waited for."""
        for process in reversed(self.started):
            below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in below:
                with contextlib.suppress(psutil.Error):
                    child.kill()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    write_certificates(folder)
    return folder


@pytest.fixture
def processes(tmp_path, certificates) -> Iterator[DaskProcesses]:
    folder = tmp_path / "dask"
    folder.mkdir()
    cluster = DaskProcesses(folder, certificates)
    try:
        cluster.scheduler()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def local(tmp_path_factory) -> dict[str, Any]:
    """What the default engine makes of the class."""
    return grade_on(LocalEngine(1), tmp_path_factory.mktemp("local") / "run", CLASS)
