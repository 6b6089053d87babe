"""Engines: where submissions run. This machine is the default; clusters are imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from grader.errors import UsageError
from grader.runs.engines.contract import Engine, Job, Session
from grader.runs.engines.local import LocalEngine

__all__ = ["Engine", "Job", "LocalEngine", "Session", "choose_engine"]

FORMS = "local[:N], dask:ADDRESS or slurm:PROFILE.yaml"
_EXTRA = "engines for clusters are an extra: pip install 'dat450-grader[cluster]'"


def choose_engine(text: str, *, slots: int, tls: Path | None = None, insecure_tcp: bool = False) -> Engine:
    """Make the engine that `--executor` names.

    `slots`: submissions side by side on this machine when the text says none; `tls`: folder with `cert.pem` and `key.pem`
    for an address; `insecure_tcp`: allow an address without encryption that is not this machine's.
    Raises UsageError, saying what to write or to install.
    """
    kind, _, rest = text.partition(":")
    if kind == "local":
        if rest and not (rest.isdecimal() and int(rest) > 0):
            raise UsageError(f"--executor {text}: N of local:N is a whole number above 0")
        return LocalEngine(int(rest) if rest else slots)
    if kind not in ("dask", "slurm") or not rest:
        raise UsageError(f"--executor {text} is none of {FORMS}")
    try:
        module = import_module(f"grader.runs.engines.{kind}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("grader"):
            raise
        raise UsageError(f"{_EXTRA} ({error.name} is not installed)") from error
    engine: Engine = (
        module.DaskEngine(rest, tls=tls, insecure_tcp=insecure_tcp)
        if kind == "dask"
        else module.SlurmEngine(module.read_profile(Path(rest)))
    )
    return engine
