"""What a notebook on Colab or at a desk has around it: Colab's own functions, a person at the keyboard, an account on the hub.

Runs in the box. Colab's functions do nothing, but for an upload, which gives the data files; nobody answers a prompt.
"""

from __future__ import annotations

import builtins
import functools
import getpass
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grader.inside.hooks import Record, running_shell, when_imported
from grader.inside.shims import services, stub_modules

__all__ = ["install"]

_PROMPTS = 20
_LOGINS = ("login", "notebook_login", "interpreter_login", "logout")
_UPLOADS = ("create_repo", "upload_file", "upload_folder", "upload_large_folder", "create_commit", "delete_repo")


_SECRETS = (
    "WANDB_API_KEY", "HF_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "COMET_API_KEY", "NEPTUNE_API_TOKEN",
    "KAGGLE_USERNAME", "KAGGLE_KEY", "OPENAI_API_KEY",
)  # fmt: skip
"""What people keep in their environment for services that are not there while grading."""


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Make Colab's modules importable, and answer prompts and logins. `config`: `data_files`, `companions`."""
    colab: dict[str, Callable[[], Any]] = {
        name: functools.partial(dict, contents) for name, contents in _colab(record, config).items()
    }
    stub_modules.install(record, {**services.SERVICES, **colab})
    for name in _SECRETS:
        os.environ.setdefault(name, "")
    _patch_prompts(record)
    when_imported("huggingface_hub", _patch_login, record)


def _colab(record: Record, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The contents of Colab's modules that do more than nothing."""
    home = Path.cwd()
    known = {name: home / path for name, path in dict(config.get("data_files", {})).items()}
    known |= {name: home / name for name in config.get("companions", ())}

    def stub(call: str, after: str = "", reason: str = "no-colab", answer: Callable[[str], Any] | None = None) -> Any:
        """What stands for a function: notes that it was called and with what first, and gives the answer to that."""

        def called(given: Any = "", *_args: Any, **_kwargs: Any) -> Any:
            record("colab", call.format(repr(str(given))), after, reason)
            return answer(str(given)) if answer is not None else None

        return called

    def uploaded(_given: str) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in known.items() if path.is_file()}

    download = stub("files.download({})")
    upload = stub("files.upload()", "the data files", answer=uploaded)
    upload_file = stub("files.upload_file({})", "the file beside the notebook", answer=str)
    return {
        "google.colab.drive": {"mount": stub("drive.mount({})", reason="no-drive"), "flush_and_unmount": download},
        "google.colab.files": {"upload": upload, "upload_file": upload_file, "download": download, "view": download},
        "google.colab.userdata": {"get": stub("userdata.get({})", "''", "no-secrets", answer=lambda _key: "")},
    }


def _patch_prompts(record: Record) -> None:
    asked = itertools.count(1)

    def answer(prompt: Any = "", *_args: Any, **_kwargs: Any) -> str:
        if next(asked) > _PROMPTS:
            raise EOFError("input() was called too often: nobody answers while grading.")
        record("prompt", f"input({str(prompt)[:80]!r})", "''", "nobody-answers")
        return ""

    builtins.input = answer
    getpass.getpass = answer
    kernel = getattr(running_shell(), "kernel", None)
    if kernel is not None:  # which sets both names anew for each cell
        kernel.raw_input = kernel.getpass = answer


def _patch_login(module: Any, record: Record) -> None:
    def skipped(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            record("login", f"huggingface_hub.{name}()", "", "no-account")
            return answer(*args, **kwargs)

        return called

    def repository(*args: Any, **kwargs: Any) -> Any:
        return kwargs.get("repo_id", args[-1] if args and isinstance(args[-1], str) else "")

    for name in _LOGINS:
        setattr(module, name, skipped(name, lambda *_args, **_kwargs: None))
    module.whoami = skipped("whoami", lambda *_args, **_kwargs: {"name": "student"})
    for name in _UPLOADS:
        setattr(module, name, skipped(name, repository))
        setattr(module.HfApi, name, skipped(name, repository))
