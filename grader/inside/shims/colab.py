"""What a notebook on Colab or at a desk has around it: Colab's own functions, a person at the keyboard, an account on the hub.

Runs in the box. Colab's functions do nothing, but for an upload, which gives the data files; nobody answers a prompt.
"""

from __future__ import annotations

import builtins
import functools
import getpass
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grader.inside.hooks import Record, when_imported
from grader.inside.shims import services, stub_modules

__all__ = ["install"]

_COLAB = "no-colab"
_LOGIN = "no-account"
_PROMPT = "nobody-answers"
_PROMPTS = 20


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Make Colab's modules importable, and answer prompts and logins. `config`: `data_files`, `companions`."""
    colab: dict[str, Callable[[], Any]] = {
        name: functools.partial(dict, contents) for name, contents in _colab(record, config).items()
    }
    stub_modules.install(record, {**services.SERVICES, **colab})
    _patch_prompts(record)
    when_imported("huggingface_hub", lambda module: _patch_login(module, record))


def _colab(record: Record, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The contents of Colab's modules that do more than nothing."""
    home = Path.cwd()
    known = {name: home / path for name, path in dict(config.get("data_files", {})).items()}
    known |= {name: home / name for name in config.get("companions", ())}

    def mount(mountpoint: str = "", *_args: Any, **_kwargs: Any) -> None:
        record("colab", f"drive.mount({str(mountpoint)!r})", "", _COLAB)
        print("no-drive")

    def upload(*_args: Any, **_kwargs: Any) -> dict[str, bytes]:
        record("colab", "files.upload()", "the data files", _COLAB)
        return {name: path.read_bytes() for name, path in known.items() if path.is_file()}

    def upload_file(name: str = "", *_args: Any, **_kwargs: Any) -> str:
        record("colab", "files.upload_file()", str(name), _COLAB)
        return str(name)

    def download(name: Any = "", *_args: Any, **_kwargs: Any) -> None:
        record("colab", f"files.download({str(name)!r})", "", _COLAB)

    def secret(key: str = "", *_args: Any, **_kwargs: Any) -> str:
        record("colab", f"userdata.get({str(key)!r})", "''", "no-secrets")
        return ""

    return {
        "google.colab.drive": {"mount": mount, "flush_and_unmount": download},
        "google.colab.files": {"upload": upload, "upload_file": upload_file, "download": download, "view": download},
        "google.colab.userdata": {"get": secret},
    }


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

    def uploaded(name: str) -> Callable[..., Any]:
        def skipped(*args: Any, **kwargs: Any) -> Any:
            record("login", f"huggingface_hub.{name}()", "", _LOGIN)
            return kwargs.get("repo_id", args[-1] if args and isinstance(args[-1], str) else "")

        return skipped

    for name in ("create_repo", "upload_file", "upload_folder", "upload_large_folder", "create_commit", "delete_repo"):
        setattr(module, name, uploaded(name))
        setattr(module.HfApi, name, uploaded(name))
