"""Engines: where worker processes run. The local one is the default; the others are imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from grader.errors import UsageError
from grader.runs.engines.contract import Engine, Session
from grader.runs.engines.local import LocalEngine
from grader.runs.engines.worker import Job, Order, Setting

__all__ = ["Engine", "Job", "LocalEngine", "Order", "Session", "Setting", "choose_engine"]

FORMS = "local[:N], dask:ADDRESS, slurm:PROFILE.yaml or MODULE:FACTORY"
_EXTRA = "engines for clusters are an extra: pip install 'dat450-grader[cluster]'"


def choose_engine(text: str, *, workers: int, tls: Path | None = None, insecure_tcp: bool = False) -> Engine:
    """Make the engine that `--executor` names.

    `workers`: processes of the local engine when the text says none; `tls`: folder with `cert.pem` and `key.pem` for an
    address; `insecure_tcp`: allow an address without encryption that is not this machine's.
    Raises UsageError, saying what to write or to install.
    """
    kind, _, rest = text.partition(":")
    if kind == "local":
        if rest and not (rest.isdecimal() and int(rest) > 0):
            raise UsageError(f"--executor {text}: N of local:N is a whole number above 0")
        return LocalEngine(int(rest) if rest else workers)
    if not kind or not rest:
        raise UsageError(f"--executor {text} is none of {FORMS}")
    if kind in ("dask", "slurm"):
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
    return _own_engine(kind, rest)


def _own_engine(module: str, factory: str) -> Engine:
    """Call a site's own factory; what it returns has a name and can be opened."""
    try:
        make = getattr(import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--executor {module}:{factory}: {error}; the forms are {FORMS}") from error
    engine: Engine = make() if callable(make) else make
    if not callable(getattr(engine, "open", None)):
        raise UsageError(
            f"{module}:{factory} returned no engine: it needs `name` and `open(order)`, see docs/clusters.md"
        )
    return engine
