"""Mode `none`: the kernel as a plain subprocess, without any isolation, on any system.

Trusted code, untrusted result: student code runs with all rights of the caller. For one's own notebook (`grader check`), or on the
explicit wish of a person; every report says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from grader.errors import SandboxError
from grader.sandbox.contract import BoxSpec
from grader.sandbox.meter import tree
from grader.sandbox.zygote import python_command

__all__ = ["PlainKernel"]


@dataclass(slots=True)
class PlainKernel:
    """A kernel process and its descendants."""

    process: subprocess.Popen[bytes]
    """The kernel itself."""

    @classmethod
    def start(cls, spec: BoxSpec, work: Path, request: dict[str, Any], log: int, python: str = sys.executable) -> Self:
        """Fill the work folder and start the kernel there, with this interpreter or another one. Raises SandboxError."""
        work.mkdir(mode=0o700)
        (work / ".tmp").mkdir()
        try:
            for name, source in {**spec.files, **spec.binds}.items():
                target = work / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(source, bytes):
                    target.write_bytes(source)
                elif source.is_dir():
                    shutil.copytree(source, target, dirs_exist_ok=True)
                else:
                    shutil.copyfile(source, target)
        except OSError as error:
            raise SandboxError(f"the work folder could not be filled: {error}") from error
        process = subprocess.Popen(
            python_command("grader.inside.kernel", python), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log,
            env=request["environment"], cwd=work, start_new_session=True,
            pass_fds=list(request["descriptors"].values()) if sys.platform != "win32" else (),
        )  # fmt: skip
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        return cls(process)

    def end(self) -> None:
        """Kill the kernel, its descendants and its process group, as far as they can be found. Idempotent."""
        for process in reversed(tree(self.process.pid) if self.process.poll() is None else []):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, 9)
        self.process.kill()
        self.process.wait()
