"""What a notebook on Colab or at a desk has around it: Colab's own functions, a person at the keyboard, an account on the hub.

Runs in the box. Colab's functions do nothing, but for an upload, which gives the data files; nobody answers a prompt.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grader.inside.hooks import running_shell
from grader.inside.shims import services, stub_modules
from grader.inside.shims.adapting import adapts, answering, files, note, replaces

__all__ = ["install"]

_PROMPTS = 20
_LOGINS = ("login", "notebook_login", "interpreter_login", "logout", "whoami")
_UPLOADS = ("create_repo", "upload_file", "upload_folder", "upload_large_folder", "create_commit", "delete_repo")
_asked = itertools.count(1)

_SECRETS = (
    "WANDB_API_KEY", "HF_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "COMET_API_KEY", "NEPTUNE_API_TOKEN",
    "KAGGLE_USERNAME", "KAGGLE_KEY", "OPENAI_API_KEY",
)  # fmt: skip
"""What people keep in their environment for services that are not there while grading."""


def install() -> None:
    """Make Colab's modules importable, have secrets that are empty, and a kernel that answers its own prompts."""
    stub_modules.install({**services.SERVICES, **_COLAB})
    for name in _SECRETS:
        os.environ.setdefault(name, "")
    kernel = running_shell().kernel  # which sets both names of the modules anew for each cell
    kernel.raw_input = kernel.getpass = functools.partial(_prompt, None)


def _uploaded(*_given: Any) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in map(Path, files.values()) if path.is_file()}


def _colab(call: str, after: str = "", reason: str = "no-colab", answer: Any = None) -> Any:
    return answering("colab", call, after, reason, answer)


_COLAB: Mapping[str, Callable[[], dict[str, Any]]] = {
    "google.colab.drive": lambda: {
        "mount": _colab("drive.mount({!r})", reason="no-drive"),
        "flush_and_unmount": _colab("drive.flush_and_unmount()"),
    },
    "google.colab.files": lambda: {
        "upload": _colab("files.upload()", "the data files", answer=_uploaded),
        "upload_file": _colab(
            "files.upload_file({!r})", "the file beside the notebook", answer=lambda name="", *_given: str(name)
        ),
        **{name: _colab(f"files.{name}({{!r}})") for name in ("download", "view")},
    },
    "google.colab.userdata": lambda: {"get": _colab("userdata.get({!r})", "''", "no-secrets", answer="")},
}
"""The contents of Colab's modules that do more than nothing (`grader.inside.shims.stub_modules`)."""


@replaces("getpass", "getpass")
@replaces("builtins", "input")
def _prompt(_real: Any, prompt: Any = "", *_args: Any, **_kwargs: Any) -> str:
    if next(_asked) > _PROMPTS:
        raise EOFError("input() was called too often: nobody answers while grading.")
    note("prompt", f"input({str(prompt)[:80]!r})", "''", "nobody-answers")
    return ""


@adapts("huggingface_hub")
def _without_account(module: Any) -> None:
    def repository(*args: Any, **kwargs: Any) -> Any:
        return kwargs.get("repo_id", args[-1] if args and isinstance(args[-1], str) else "")

    def skip(owner: Any, name: str, answer: Any) -> None:
        setattr(owner, name, answering("login", f"huggingface_hub.{name}()", "", "no-account", answer))

    for name in _LOGINS:
        skip(module, name, {"name": "student"} if name == "whoami" else None)
    for name in _UPLOADS:
        skip(module, name, repository)
        skip(module.HfApi, name, repository)
