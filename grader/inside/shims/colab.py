"""All that a notebook expects around it and a box lacks: Colab, a GPU, a network, other versions, a person at the keyboard.

Runs in the box, before the first cell: standard library only; other packages are changed when the student's code imports
them. Every change that takes effect is recorded once. Nothing that is graded is touched.
"""

from __future__ import annotations

import builtins
import functools
import getpass
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from grader.inside.hooks import Record, once, when_imported
from grader.inside.shims import compat, devices, metrics, paths, stub_modules

__all__ = ["install"]

_INSTALL = "The libraries are installed already; nothing is installed while grading."
_COMMAND = "Nothing is installed, fetched from the network or asked of a GPU while grading."
_LOGIN = "There is no network and no account while grading."
_PROMPT = "Nobody answers while grading; the answer is empty."
_PROMPTS = 20
_installed = False


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Prepare this process for a student's notebook; a second call does nothing.

    `record` takes rule, before, after and reason. `config` is what `grader.notebook.adapt.shim_config` returns: `data_files`, `companions`,
    `gpu`, `packages`, `stand_ins`, `services`, `commands`.
    """
    global _installed
    if _installed:
        return
    _installed = True
    record = once(record)
    stub_modules.install(record, config)
    paths.install(record, config)
    devices.install(record, config)
    compat.install(record, config)
    metrics.install(record, config)
    _patch_prompts(record)
    _patch_processes(record, frozenset(config.get("commands", ())))
    when_imported("huggingface_hub", lambda module: _patch_login(module, record))
    for name in ("pip", "pip._internal"):
        when_imported(name, lambda module: _patch_pip(module, record))


def _patch_prompts(record: Record) -> None:
    asked = 0

    def answer(prompt: Any = "", *_args: Any, **_kwargs: Any) -> str:
        nonlocal asked
        asked += 1
        if asked > _PROMPTS:
            raise EOFError("input() was called too often: nobody answers while grading.")
        record("prompt", f"input({str(prompt)[:80]!r})", "''", _PROMPT)
        return ""

    builtins.input = answer
    getpass.getpass = answer
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:  # which sets both names anew for each cell
        kernel.raw_input = answer
        kernel.getpass = answer


def _patch_processes(record: Record, commands: frozenset[str]) -> None:
    """Leave out commands that install or fetch, and a kernel's signal to itself (the way to restart on Colab)."""
    real_init, real_system, real_kill = subprocess.Popen.__init__, os.system, os.kill

    @functools.wraps(real_init)
    def init(self: Any, args: Any, *rest: Any, **kwargs: Any) -> None:
        if _is_left_out(args, commands):
            record("command", _shown(args), "", _COMMAND)
            args = "true" if isinstance(args, str | bytes) else ["true"]
            kwargs.pop("executable", None)
        real_init(self, args, *rest, **kwargs)

    def system(command: Any) -> int:
        if _is_left_out(command, commands):
            record("command", _shown(command), "", _COMMAND)
            return 0
        return real_system(command)

    def kill(pid: int, number: int) -> None:
        if pid == os.getpid() and number in (signal.SIGKILL, signal.SIGTERM):
            record("restart", f"os.kill(os.getpid(), {int(number)})", "", "The notebook runs in one go; no restart.")
        else:
            real_kill(pid, number)

    subprocess.Popen.__init__ = init  # type: ignore[method-assign]
    os.system = system
    os.kill = kill


def _is_left_out(args: Any, commands: frozenset[str]) -> bool:
    """Whether a process would run one of `commands`, by itself, through `python -m` or through a shell."""
    if isinstance(args, bytes | os.PathLike):
        args = os.fsdecode(args)
    if isinstance(args, list | tuple):
        words = [os.fsdecode(word) for word in args if isinstance(word, str | bytes | os.PathLike)]
        if len(words) >= 3 and words[0].rsplit("/", 1)[-1] in ("sh", "bash") and words[1] in ("-c", "-lc"):
            return _is_left_out(words[2], commands)
    elif isinstance(args, str):
        words = re.split(r"\s+", args.strip())
    else:
        return False
    while words and (words[0] in ("sudo", "yes") or re.match(r"\w+=", words[0])):
        words = words[1:]
    if not words:
        return False
    name = words[0].strip("'\"").rsplit("/", 1)[-1]
    if name.startswith("python") and "-m" in words[1:3]:
        after = words[words.index("-m") + 1 :]
        name = after[0] if after else ""
    return name in commands


def _shown(args: Any) -> str:
    return " ".join(map(str, args)) if isinstance(args, list | tuple) else str(args)


def _patch_login(module: Any, record: Record) -> None:
    def nothing(name: str) -> Callable[..., None]:
        def skipped(*_args: Any, **_kwargs: Any) -> None:
            record("login", f"huggingface_hub.{name}()", "", _LOGIN)

        return skipped

    for name in ("login", "notebook_login", "interpreter_login", "logout"):
        setattr(module, name, nothing(name))

    def whoami(*_args: Any, **_kwargs: Any) -> dict[str, str]:
        record("login", "huggingface_hub.whoami()", "", _LOGIN)
        return {"name": "student"}

    module.whoami = whoami


def _patch_pip(module: Any, record: Record) -> None:
    def main(args: Any = (), *_rest: Any) -> int:
        record("install", f"pip {' '.join(map(str, args or ()))}".strip(), "", _INSTALL)
        return 0

    module.main = main
