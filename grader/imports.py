"""Where the grader's own processes import from: never from the folder they were started in, nor from where submissions lie.

A `multiprocessing.py` beside a notebook would else be run by whoever grades. At its top this module imports only what Python has
loaded when it starts: `python -m grader` begins with the current folder in the first place.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["import_by_hand", "leave_out", "place", "python_command"]

_left_out: list[str] = []
"""Folders that were taken out of this process's import path."""


def place() -> str:
    """The folder that holds this package: one of site-packages, or a checkout."""
    return os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - pathlib would be imported


def _real(path: "str | os.PathLike[str]") -> str:
    try:
        return os.path.realpath(path)
    except OSError:  # the current folder was removed
        return ""


def leave_out(*folders: "str | os.PathLike[str]") -> None:
    """Take the current folder and `folders` out of this process's import path, and out of what its children look in.

    A checkout in the current folder goes to the end instead, where it hides nothing; one that holds submissions goes for good, since
    modules of this package are found without it.
    """
    own = place()
    foreign = {_real(os.curdir), *map(_real, folders)}
    gone = {_real(entry) for entry in sys.path} & foreign
    sys.path[:] = [entry for entry in sys.path if _real(entry) not in foreign]
    if own in gone and own not in map(_real, folders):
        sys.path.append(own)
        gone.remove(own)
    _left_out.extend(sorted(gone.difference(_left_out)))
    os.environ["PYTHONSAFEPATH"] = "1"
    for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH"):
        entries = os.environ.get(name, "").split(os.pathsep)
        # an empty entry is the current folder, too
        kept = [entry for entry in entries if os.path.isabs(entry) and _real(entry) not in foreign]  # noqa: PTH117
        if name in os.environ and kept != entries:
            os.environ[name] = os.pathsep.join(kept)


def import_by_hand(name: str) -> "ModuleType":
    """Import a module that a person has named, also from a folder that was left out. Raises ImportError."""
    from importlib import import_module

    sys.path += _left_out
    try:
        return import_module(name)
    finally:
        sys.path[:] = [entry for entry in sys.path if entry not in _left_out]


_START = """
import importlib.util, os, runpy, site, sys
place = {place!r}
sites = map(os.path.realpath, [*site.getsitepackages(), site.getusersitepackages(), *{user!r}])
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != place] + [place] * (place in sites or {whole!r})
spec = importlib.util.spec_from_file_location("grader", place + "/grader/__init__.py")
sys.modules["grader"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["grader"])
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def python_command(module: str) -> list[str]:
    """The command line that runs a module with this interpreter, wherever the package lies and whatever lies in the current folder.

    A checkout is no place to import from, except for what else it holds (`tools`): submissions may lie there.
    """
    import site

    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    code = _START.format(place=place(), user=user, whole=not module.startswith("grader."), module=module)
    return [sys.executable, "-Pc", code]
