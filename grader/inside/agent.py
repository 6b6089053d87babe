"""The agent: answers the grader's questions inside the kernel, after the student's cells ran.

It shares the interpreter with the student's code, so every answer is a claim that is checked outside. It never learns what
the right answer is. Requests arrive as `grader_request` messages on the shell channel (see `grader.inside.kernel`).
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import linecache
import os
import re
import sys
import time
import traceback
import types
from collections.abc import Callable
from typing import Any

from grader.inside.own_calls import is_beside
from grader.inside.packing import TooMuch, pack, unpack
from grader.inside.state import State
from grader.inside.witness import Witness

_state: dict[str, Any] = {}
_NAMED = 5
_MOST_ADAPTED = 501
"""One more than a report shows, so that it can say that there were more."""
_FUNCTION_OR_CLASS = (types.FunctionType, type)
_name_of = type.__dict__["__name__"].__get__
"""The name of a class, whatever its metaclass says."""
_names_of = vars(types.ModuleType)["__dict__"].__get__
"""The names in a module, whatever its class says."""


class Missing(Exception):  # noqa: N818 - an outcome, not a fault
    """The asked-for name is not there; its arguments are names that could stand for it."""


class StudentRaised(Exception):  # noqa: N818 - an outcome, not a fault
    """The student's code raised while a question was asked."""


class Context:
    """What an operation sees: the student's names and the witness."""

    def __init__(self, kernel: Any, witness: Witness) -> None:
        self.kernel, self._witness = kernel, witness
        self.renamed = ""
        self.touched = False
        """Whether an operation has laid hands on the student's objects: whatever is raised from then on is the student's."""

    @property
    def witness(self) -> Witness:
        """What has seen the student's trainings."""
        self.touched = True
        return self._witness

    @property
    def checkpoint(self) -> str:
        """Folder of the pretrained model, as it was before the first cell."""
        return str(_state.get("checkpoint", ""))

    @property
    def home(self) -> str:
        """The work folder, wherever the notebook has gone."""
        return str(_state.get("home", "."))

    @property
    def handed(self) -> int | str:
        """Descriptor or path of the file that another kernel handed out. Raises KeyError where there is none."""
        found: int | str = self.kernel.parent.descriptors["handed"]
        return found

    @property
    def names(self) -> dict[str, Any]:
        """The student's global names."""
        self.touched = True
        namespace: dict[str, Any] = self.kernel.shell.user_ns
        return namespace

    def find(
        self, names: list[str], accept: Callable[[Any], bool], plausible: Callable[[Any], bool] | None = None
    ) -> Any:
        """Find an object by one of `names`, or the single candidate that does what is asked.

        Looks at the globals, then at the last callable that once had the name, then at modules written by the student.
        Raises Missing.
        """
        for scope in self._scopes():
            for name in names:
                if name in scope and accept(scope[name]):
                    return scope[name]
        candidates = self.candidates(accept, plausible) if plausible is not None else []
        if len(candidates) == 1:
            self.renamed = str(getattr(candidates[0], "__name__", "?"))[:80]
            return candidates[0]
        raise Missing(*sorted(str(getattr(c, "__name__", "?"))[:80] for c in candidates)[:_NAMED])

    def _scopes(self) -> list[dict[str, Any]]:
        """Where names are looked for, in this order."""
        return [self.names, _state.get("once", {}), *self._modules()]

    def _modules(self) -> list[dict[str, Any]]:
        home = _state.get("home", "")
        found = []
        for module in list(sys.modules.values()):
            names = _names_of(module) if issubclass(type(module), types.ModuleType) else {}
            file = names.get("__file__")
            if type(file) is str and home and is_beside(file, home):
                found.append(names)
        return found

    def is_own(self, thing: Any) -> bool:
        """Whether a class or function was defined in the notebook or in a module written by the student."""
        module = getattr(thing, "__module__", None)
        return module == "__main__" or any(module == names.get("__name__") for names in self._modules())

    def candidates(self, accept: Callable[[Any], bool], plausible: Callable[[Any], bool]) -> list[Any]:
        """Public callables of the student's own that are accepted and, on trial, do what is asked."""
        found: list[Any] = []
        for scope in (self.names, *self._modules()):
            for name, thing in list(scope.items()):
                if type(name) is not str or name.startswith("_") or not callable(thing):
                    continue
                try:
                    own = getattr(thing, "__module__", None) in ("__main__", scope.get("__name__"))
                    if own and all(thing is not other for other in found) and accept(thing) and plausible(thing):
                        found.append(thing)
                except BaseException:  # noqa: S112 - what raises is no candidate
                    continue
        return found


def setup(kernel: Any, watch: str = "") -> Witness:
    """Begin to watch trainings, where `watch` names a `module:function` that gives the witness; called once by the kernel."""
    from pathlib import Path

    witness: Witness = _named(watch)() if watch else Witness()
    hub = Path(os.environ.get("HF_HOME", ".")) / "hub"
    checkpoint = next((str(path) for path in sorted(hub.glob("models--*/snapshots/*"))), "")
    _state.update(kernel=kernel, witness=witness, once={}, adapted={}, home=str(Path.cwd()), checkpoint=checkpoint)
    _state["left"] = State(kernel.shell.user_ns)
    kernel.shell.events.register("post_run_cell", _after_cell)
    return witness


def _after_cell(*_args: Any) -> None:
    try:
        kernel, witness = _state["kernel"], _state["witness"]
        _state["left"].after_cell()
        witness.snapshot_models()
        once = _state["once"]
        for name, thing in list(kernel.shell.user_ns.items()):
            if issubclass(type(thing), _FUNCTION_OR_CLASS):
                once[name] = thing
    except BaseException:  # the student's objects raise what they like
        traceback.print_exc(file=sys.__stderr__)


def handle(
    kernel: Any, content: dict[str, Any], buffers: list[bytes], context: Context | None = None
) -> tuple[dict[str, Any], list[bytes]]:
    """Answer one request; never raises. The reply's status is ok, raised, missing, large or fault.

    `context`: what the operation sees, where it is not the whole notebook (a self-check asks about one function).

    A fault is ours: it was raised before the student's objects were touched. All else that is raised is the student's, be it by a
    metaclass, an `__eq__`, a `__len__` or a property of theirs, or by a library that was handed what they made.
    """
    started = time.process_time()
    witness = _state.get("witness") or Witness()
    context = context or Context(kernel, witness)
    witness.asking = True
    reply: dict[str, Any]
    out: list[bytes] = []
    try:
        params = unpack(content.get("params", {}), buffers)
        operation, left = _operation(str(content.get("op"))), _state.get("left")
        asks = operation not in _ORDERS.values()
        with left.as_at_first() if left and asks else contextlib.nullcontext():
            value = operation(context, params)
            context.touched = asks
            tree, out = pack(value)
        reply = {"status": "ok", "value": tree}
    except Missing as missing:
        reply = {"status": "missing", "names": list(missing.args)}
    except TooMuch:
        reply = {"status": "large"}
    except StudentRaised as error:
        reply = {"status": "raised", "error": str(error)[:500]}
    except BaseException as error:
        # an interrupt of ours is followed by no reading, so that one that is read was raised by the student's code
        students = context.touched or issubclass(type(error), (KeyboardInterrupt, SystemExit))
        reply = {"status": "raised" if students else "fault", "error": describe_error(error)}
        if not students:
            traceback.print_exc(file=sys.__stderr__)
    finally:
        witness.asking = False
    reply["renamed"] = context.renamed
    reply["cpu_seconds"] = time.process_time() - started
    return reply, out


def _operation(op: str) -> Callable[[Context, Any], Any]:
    found: Callable[[Context, Any], Any] = _ORDERS.get(op) or (_call if op == "call" else _named(op))
    return found


def _named(name: str) -> Any:
    """What `module:function` names."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def text_of(error: BaseException) -> str:
    """The beginning of an exception's text; empty where it cannot say it."""
    try:
        return str(error)[:1000]
    except BaseException:
        return ""


def describe_error(error: BaseException) -> str:
    """Name and text of a student's exception; the name alone where it has no text."""
    text, name = " ".join(text_of(error).split()), _name_of(type(error))[:100]
    return f"{name}: {text}"[:400] if text else name


def guarded(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the student's code; whatever it raises (also SystemExit) becomes StudentRaised."""
    try:
        return function(*args, **kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise StudentRaised(describe_error(error)) from None


def _call(context: Context, params: dict[str, Any]) -> Any:
    """Call a function by name with plain arguments."""
    function = context.find(list(params["names"]), callable)
    return guarded(function, *params.get("args", []))


def _begin_cell(context: Context, params: dict[str, Any]) -> list[list[Any]]:
    """Tell the witness which cell comes next; returns what the shims changed before, where that is new, should it end the kernel."""
    context.witness.current_cell = params.get("index")
    told, _state["told"] = _state.get("told", 0), len(_state["adapted"])
    return _adaptations(context, {}) if _state["told"] > told else []


def _define(context: Context, params: dict[str, Any]) -> list[str]:
    """Run only the imports, functions, classes and settings of a cell that failed, each by itself; returns what was defined."""
    shell, context.witness.current_cell = context.kernel.shell, params.get("index")
    try:
        tree = shell.transform_ast(ast.parse(text := shell.transform_cell(str(params["source"]))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    defined, file = [], f"<cell {params.get('index')}>"
    lines = text.splitlines(keepends=True)
    linecache.cache[file] = (len(text), None, lines, file)  # for decorators that read it: `torch.jit.script`
    for node in tree.body:
        definition = isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
        )
        if not definition and not _is_setting(node, shell.user_ns):
            continue
        try:
            code = compile(ast.Module([node], []), file, "exec")
            exec(code, shell.user_ns)  # noqa: S102 - the student's own definitions, in their own kernel
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: S112 - what cannot be defined alone stays undefined
            continue
        defined.append(getattr(node, "name", "import"))
    _after_cell()
    return defined


def _is_setting(node: ast.AST, names: dict[str, Any]) -> bool:
    """Whether a statement gives a new name to a function or a value without computing: `count = lambda m: ...`, `RANK = 12`, a device."""
    if not isinstance(node, ast.Assign) or not all(isinstance(target, ast.Name) for target in node.targets):
        return False
    if isinstance(node.value, ast.Lambda):
        return True
    calls = (ast.unparse(part.func) for part in ast.walk(node.value) if isinstance(part, ast.Call))
    harmless = all(re.fullmatch(r"torch\..*\b(device|is_available)|(functools\.)?partial", call) for call in calls)
    targets = {target.id for target in node.targets if isinstance(target, ast.Name)}
    return harmless and not targets & (names.keys() | vars(builtins).keys())


def _install(_context: Context, params: dict[str, Any]) -> None:
    """Install run-time shims by module name, e.g. `grader.inside.shims`."""

    def record(rule: str, before: str, after: str, reason: str) -> None:
        cell = _state["witness"].current_cell
        if (
            cell is not None and len(_state["adapted"]) < _MOST_ADAPTED
        ):  # before the first cell it was no code of the student's
            _state["adapted"][cell, str(rule), str(before)[:300], str(after)[:300], str(reason)[:300]] = None

    for module in params["modules"]:
        importlib.import_module(module).install(record, dict(params.get("config", {})))
    _state["left"] = State(_state["kernel"].shell.user_ns)


def _adaptations(_context: Context, _params: dict[str, Any]) -> list[list[Any]]:
    """What the shims changed so far, once for each cell."""
    return [list(change) for change in _state["adapted"]]


_ORDERS: dict[str, Callable[[Context, Any], Any]] = {
    "begin_cell": _begin_cell, "define": _define, "install": _install, "adaptations": _adaptations,
}  # fmt: skip
"""What is no question: it is carried out as the cells have left things."""
