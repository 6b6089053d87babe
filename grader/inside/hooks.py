"""Change a module when it is imported, or at once when it is already there.

Runs in the box, beside student code. Costs microseconds: nothing is imported here that the student does not import.
"""

from __future__ import annotations

import functools
import importlib.abc
import sys
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

__all__ = ["Record", "provide", "replacing", "rescuing", "running_shell", "torch", "when_imported"]

Record = Callable[[str, str, str, str], None]
"""Takes rule, before, after and reason of one adaptation; rules and reasons are ids (`grader/notebook/adaptations.py`)."""


class _PyTorch:
    """Its names, looked up when they are used: notebooks import it, nothing here is the first to do so."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["torch"], name)


torch: Any = _PyTorch()


def running_shell() -> Any:
    """The IPython shell of this process; None where there is none."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


class _Watcher(importlib.abc.MetaPathFinder):
    """Finds nothing itself; sees to it that patches run after the import of the modules they are for."""

    def __init__(self) -> None:
        self.patches: dict[str, list[tuple[Callable[..., object], Sequence[Any]]]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.patches:
            return None
        for finder in list(sys.meta_path):
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is None:
                continue
            if spec.loader is not None:
                self._follow(fullname, spec.loader)
            return spec
        return None

    def _follow(self, fullname: str, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            del loader.exec_module
            execute(module)
            for patch, given in self.patches[fullname]:
                # A lazy package puts another object in its own place.
                _apply(patch, sys.modules.get(fullname, module), given)

        loader.exec_module = exec_module


_watcher = _Watcher()


def when_imported(name: str, patch: Callable[..., object], *given: Any) -> None:
    """Call `patch(module, *given)` now or right after the module's import, also when it is imported anew.

    A patch that fails is reported to the log.
    """
    module = sys.modules.get(name)
    if module is not None:
        _apply(patch, module, given)
        return
    _watcher.patches.setdefault(name, []).append((patch, given))
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)


def _apply(patch: Callable[..., object], module: Any, given: Sequence[Any]) -> None:
    try:
        patch(module, *given)
    except Exception:  # a library that looks different must not break the student's import
        traceback.print_exc(file=sys.__stderr__)


def provide(module: Any, names: Mapping[str, Callable[[], Any]]) -> None:
    """Let a module answer for names that it lacks; each is made, by its function, when it is asked for."""
    # a lazy package makes several modules of a class of its own, which answers for all of them
    owner: Any = module if type(module) is types.ModuleType else type(module)
    original = owner.__dict__.get("__getattr__")

    def missing(*given: Any) -> Any:
        *asked, name = given
        if name in names and all(lazy.__name__ == module.__name__ for lazy in asked):
            return names[name]()
        if original is not None:
            return original(*given)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    owner.__getattr__ = missing


def replacing(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function that takes the place of `owner.name`, and gets what stood there before its own arguments."""
    held: Any = getattr(owner, "__dict__", {}).get(name)
    kind = type(held) if isinstance(held, classmethod | staticmethod) else None
    real = held.__func__ if kind else getattr(owner, name)

    def put(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            return function(real, *args, **kwargs)

        setattr(owner, name, kind(replaced) if kind else replaced)
        return replaced

    return put


def rescuing(owner: Any, name: str, *errors: type[Exception]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function that is called, with the same arguments, where `owner.name` raises one of `errors`."""

    def put(function: Callable[..., Any]) -> Callable[..., Any]:
        @replacing(owner, name)
        def tried(real: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return real(*args, **kwargs)
            except errors:
                return function(*args, **kwargs)

        return tried

    return put
