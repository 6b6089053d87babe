"""What the student's own code gave to its classes and functions that build modules: how else could the grader call them?

Runs inside. Seen where every module begins, in `nn.Module.__init__`: the student's functions that are running then are the ones that
build it, and what they were given is in their frames.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grader.inside.hooks import replacing, torch

_FRAMES = 8  # from a module's start up to the student's call
_MOST = 500  # functions of the student's that are remembered
_OWN = str(Path(__file__).parents[1])
_PREFIXES = tuple(place + os.sep for place in (sys.prefix, sys.base_prefix, _OWN))
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def is_beside(file: str, home: str) -> bool:
    """Whether a module was written by the student: it lies in their folder, in no virtual environment there and in no package."""
    installed = file.startswith(_PREFIXES) or any(place in file for place in _PACKAGES)
    return file.startswith(home + os.sep) and not installed


@dataclass(frozen=True)
class Size:
    """An argument that was a size of the layer beside it."""

    of: str
    """`in_features` or `out_features`."""


@dataclass(frozen=True)
class Layer:
    """An argument that was a layer with parameters, which is not kept alive for this."""


class OwnCalls:
    """The latest arguments of each of the student's functions that built a module, in the notebook or a helper module beside it."""

    def __init__(self) -> None:
        self._given: dict[Any, dict[str, Any]] = {}
        self._home = str(Path.cwd())

    def install(self) -> None:
        """Watch all modules being made from now on."""

        @replacing(torch.nn.Module, "__init__")
        def begin(real: Any, module: Any, *args: Any, **kwargs: Any) -> None:
            with contextlib.suppress(Exception):  # a guess less must not break the student's module
                self._look(sys._getframe(2))
            real(module, *args, **kwargs)

    def _look(self, frame: Any) -> None:
        for _ in range(_FRAMES):
            if frame is None:
                return
            code = frame.f_code
            if code.co_argcount and len(self._given) < _MOST and self._is_own(frame.f_globals):
                names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
                if code.co_name == "__init__":  # what is being made is no argument, and no module yet
                    names = names[1:]
                self._given[code] = _kept({name: frame.f_locals[name] for name in names if name in frame.f_locals})
            frame = frame.f_back

    def _is_own(self, names: Mapping[str, Any]) -> bool:
        """Whether these are the names of the notebook, or of a module that lies in its folder."""
        return names.get("__name__") == "__main__" or is_beside(str(names.get("__file__", "")), self._home)

    def of(self, thing: Any) -> Mapping[str, Any]:
        """What a class or function was given in the student's own code, by parameter; empty where it was not called."""
        function = vars(thing).get("__init__") if isinstance(thing, type) else getattr(thing, "func", thing)
        return self._given.get(getattr(function, "__code__", None), {})


def _kept(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they may be given again: sizes of the layer beside them by their meaning, layers without their weights."""
    layer = next((value for value in given.values() if isinstance(value, torch.nn.Linear)), None)
    kept: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, torch.nn.Module) and next(torch.nn.Module.parameters(value), None) is not None:
            kept[name] = Layer()
        elif layer is not None and type(value) is int and value in (layer.in_features, layer.out_features):
            either = layer.in_features == layer.out_features
            inside = name.lower().startswith(("in", "d_in")) if either else value == layer.in_features
            kept[name] = Size("in_features" if inside else "out_features")
        else:
            kept[name] = value
    return kept
