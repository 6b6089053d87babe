"""What cells leave behind, and questions must not meet: gradients switched off, another default type, `sum` as a number.

Runs in the box, beside student code. A function is asked as it was when the notebook called it: on a fresh interpreter's settings.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

from grader.inside.hooks import running_shell

__all__ = ["State"]


class State:
    """The settings at the start of a notebook, and the built-in names that it has taken since."""

    def __init__(self, names: dict[str, Any]) -> None:
        """Look at the notebook's `names` before its first cell, and at the working folder."""
        self.names, self.home = names, os.getcwd()  # noqa: PTH109
        self.change_folder = os.chdir
        self.first = dict(names)
        self.builtins = dict(vars(builtins))
        self._known: set[int] = set()
        self._wanted: set[str] = set()
        self._taken: set[str] = set()
        self._used: set[str] = set()
        self._needed: dict[str, Any] = {}

    def after_cell(self) -> None:
        """Note which built-in names the cell has taken, which of them the functions that came after use, and what else these need."""
        earlier = set(self._taken)
        own = {name for name, value in self.names.items() if name not in self.first or self.first[name] is not value}
        self._taken = {name for name in own & self.builtins.keys() if not name.startswith("_")}
        new: set[str] = set()
        for thing in list(self.names.values()):
            if issubclass(type(thing), (types.FunctionType, type)) and id(thing) not in self._known:
                self._known.add(id(thing))
                same_cell = {name for name in self._taken - earlier if callable(self.names[name])}
                new |= (used := _used(thing))
                self._wanted |= used & (earlier | same_cell)
        self._used |= new
        for name in self._used & own - self.builtins.keys():
            value, before = self.names[name], self._needed.get(name)
            if _is_defined(value) or (_is_constant(value) and (name in new or not _is_defined(before))):
                self._needed[name] = value
            elif name in new:
                self._needed.pop(name, None)  # it was written with what has the name now

    def _lost(self) -> dict[str, Any]:
        """What functions were written with that cells have since deleted (`%reset`), or taken the name of for a number (`F = 0.9`)."""
        return {
            name: value
            for name, value in self._needed.items()
            if name not in self.names or (_is_defined(value) and not _is_defined(self.names[name]))
        }

    @contextlib.contextmanager
    def as_at_first(self) -> Iterator[None]:
        """Put settings, built-in names and the working folder back for as long as a question is asked."""
        taken = {name: self.names.pop(name) for name in self._taken - self._wanted if name in self.names}
        lacking = self._lost()
        taken |= {name: self.names[name] for name in lacking if name in self.names}
        self.names.update(lacking)
        changed = {n: v for n, v in vars(builtins).items() if self.builtins.get(n, v) is not v}
        lost = [name for name in self.builtins if name not in vars(builtins)]
        folder, limit = _folder(), sys.getrecursionlimit()
        _let_go()
        vars(builtins).update(self.builtins)
        sys.setrecursionlimit(max(limit, 1000))
        try:
            self.change_folder(self.home)
            with warnings.catch_warnings(), _libraries():
                warnings.simplefilter("ignore")
                yield
        finally:
            sys.setrecursionlimit(limit)
            for name in lacking:
                self.names.pop(name, None)
            self.names.update(taken)
            vars(builtins).update(changed)
            for name in lost:
                vars(builtins).pop(name, None)
            with contextlib.suppress(OSError):
                self.change_folder(folder)


def _let_go() -> None:
    """Forget the last exception, whose frames hold all that a training had in memory when it ran out of it."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    with contextlib.suppress(Exception):  # a shell that a cell has changed, or none
        shell = running_shell()
        shell.last_execution_result = shell.InteractiveTB.tb = None


def _folder() -> str:
    """The working folder; the root where a cell has removed it."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return os.sep


def _is_defined(value: Any) -> bool:
    """Whether this is a module, function or class."""
    return issubclass(type(value), (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type))


def _is_constant(value: Any) -> bool:
    """Whether this is a number, a text or a device, which takes no memory to keep."""
    return type(value) in (bool, int, float, str) or type(value).__name__ in ("device", "dtype")


def _used(thing: Any) -> set[str]:
    """Global names in the code of a function, or of the methods and properties of a class, and of the functions in them."""
    members = list(vars(thing).values()) if isinstance(thing, type) else [thing]
    inner = [getattr(member, name, None) for name in ("fget", "__func__", "__wrapped__") for member in members]
    members += [function for function in inner if issubclass(type(function), types.FunctionType)]
    codes = [code for member in members if isinstance(code := getattr(member, "__code__", None), types.CodeType)]
    found: set[str] = set()
    while codes:
        code = codes.pop()
        found.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return found


@contextlib.contextmanager
def _libraries() -> Iterator[None]:
    """Numpy and PyTorch as they are after their import, where they were imported."""
    with contextlib.ExitStack() as stack:
        if numpy := sys.modules.get("numpy"):
            stack.enter_context(numpy.errstate(all="ignore"))
        if torch := sys.modules.get("torch"):
            stack.enter_context(torch.inference_mode(False))  # gradients are on by it, too
            stack.enter_context(torch.autocast("cpu", enabled=False))
            if torch.empty(0).device.type != "cpu":  # `get_default_device` came with 2.3
                stack.enter_context(torch.device("cpu"))
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        yield
