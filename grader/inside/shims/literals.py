"""Constants that are true only elsewhere: sizes of the real model, paths of Colab or of a laptop, names of GPUs.

Runs in the box, on the syntax tree of a cell or helper module just before it is compiled: what a traceback shows stays as the
student wrote it. Strings are never searched for numbers; docstrings and comparisons are left alone, and so is everything that
seeds or selects.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from grader.inside.hooks import running_shell
from grader.inside.shims.adapting import config, files, folders, note
from grader.inside.shims.devices import GPU
from grader.inside.shims.syntax import older

__all__ = ["Literals", "install"]

_PATH_REASON = "one-folder"
_DEVICE_REASON = "no-gpu"

# In these places a small number is a seed, an amount of data or a duration, not a size of the model.
_NOT_SIZES = re.compile(
    r"seed|manual_seed\w*|set_seed|select|head|tail|sample|shuffle|take|skip|train_test_split|islice|sleep|DataLoader"
    r"|figure|subplots|batch|truncate|TrainingArguments|Seq2SeqTrainingArguments|set_verbosity\w*"
)
_NOT_SIZE_ARGUMENTS = re.compile(
    r".*(seed|max_?len\w*|length|steps|epochs?|batch|samples?|random_state|nrows|num_proc|workers|figsize|dpi|timeout|^n$).*"
)
_DIM, _HEAD, _WHOLE = 768, 592_130, 66_955_010
_PER_RANK = 24  # 12 layers, two factors, each of `dim` numbers for one rank
_MOST_RANK = 128
_AMBIGUOUS = 10_000  # below this a number can mean many things; 66955010 means one
_MOST_NODES = 50_000  # a larger cell holds pasted data; it runs as it stands

_FOREIGN = re.compile(
    r"/content(/|$)|/kaggle/(working|input)(/|$)|/Users/|/home/|/root/|/mnt/|/gdrive|/drive/|[A-Za-z]:[\\/]|~/"
)
_COLAB_ROOT = re.compile(
    r"/(content|kaggle/working|kaggle/input)(/g?drive(/My ?Drive)?)?(?=/|$)|/g?drive(/My ?Drive)?(?=/|$)"
)
_COLAB_ROOT_IN_COMMAND = re.compile(
    r"""(?<![^\s"'=])/(content|kaggle/working|kaggle/input)(/g?drive(/My(\\? )?Drive)?)?(?=[/\s"';&|]|$)"""
)
_KIND = re.compile(r"cuda|mps|xpu")


def install() -> None:
    """Adapt cells, and helper modules when they are imported or run. `config`: `sizes`."""
    literals = Literals()
    home = config["home"] + os.sep
    real = SourceFileLoader.source_to_code

    def source_to_code(self: Any, data: Any, path: Any, **options: Any) -> Any:
        return real(self, literals.parsed(data) if str(path).startswith(home) else data, path, **options)

    SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign]
    running_shell().ast_transformers.append(literals)
    # what `%run` compiles a script with
    vars(sys.modules["IPython.core.interactiveshell"])["compile"] = lambda source, *rest: compile(
        literals.parsed(source), *rest
    )


class Literals:
    """Adapts syntax trees; one of IPython's `ast_transformers`."""

    def __init__(self) -> None:
        self.sizes = {int(real): ours for real, ours in config["sizes"].items()}

    def parsed(self, source: Any) -> Any:
        """The adapted tree of a module's `source`; the source itself where it does not parse."""
        try:
            return self.visit(ast.parse(older(source)))
        except (SyntaxError, ValueError, RecursionError):
            return source  # whoever compiles it says what is wrong

    def visit(self, tree: Any) -> Any:
        """`tree` with its constants adapted in place."""
        try:
            nodes = list(ast.walk(tree))
            if len(nodes) <= _MOST_NODES:
                places = _Places(nodes)
                for node in nodes:
                    self._adapt(node, places)
        except Exception:  # a mistake of ours must not break the student's cell
            traceback.print_exc(file=sys.__stderr__)
        return tree

    def _adapt(self, node: ast.AST, places: _Places) -> None:
        if isinstance(node, ast.Assert | ast.If):
            if id(node.test) in places.asks_for_gpu:
                self._gpu_demand(node)
        elif isinstance(node, ast.Constant):
            parent = places.parents.get(id(node))
            if isinstance(parent, ast.Expr | ast.FormattedValue | ast.MatchValue):
                return
            if isinstance(parent, ast.JoinedStr):
                if node is parent.values[0]:
                    self._start_of_path(node)
            elif type(node.value) is int:
                self._size(node, node.value, places)
            elif isinstance(node.value, str):
                if _is_command(parent):
                    self._replace(node, "path", _COLAB_ROOT_IN_COMMAND.sub(".", node.value), _PATH_REASON)
                elif len(node.value) <= 300 and "\n" not in node.value and _FOREIGN.match(node.value):
                    local = self._local(node.value)
                    there = [*Path(local).parents, *([] if "." in Path(local).name else [Path(local)])]
                    folders.update(str(place.absolute()) for place in there)
                    self._replace(node, "path", local, _PATH_REASON)
                elif GPU.fullmatch(node.value) and not _is_choice(node, parent, places):
                    self._replace(node, "device", "cpu", _DEVICE_REASON)

    def _replace(self, node: ast.Constant, rule: str, value: int | str, reason: str) -> None:
        if value != node.value:
            note(rule, repr(node.value), repr(value), reason)
            node.value = value

    def _start_of_path(self, node: ast.Constant) -> None:
        """The text before the first value of an f-string."""
        found = _COLAB_ROOT.match(node.value) if isinstance(node.value, str) else None
        if found:
            self._replace(node, "path", "." + found.string[found.end() :], _PATH_REASON)

    def _local(self, path: str) -> str:
        """Where `path` lies here: data and companion files by base name, Colab's folders below the working folder."""
        parts = [part for part in re.split(r"[/\\]+", path) if part]
        base = parts[-1] if parts else ""
        if base.casefold() in files:
            return Path(files[base.casefold()]).name
        slash = "/" if path[-1] in "/\\" else ""
        root = _COLAB_ROOT.match(path)
        if root:
            return (path[root.end() :].strip("/") or ".") + slash
        return ("." if re.fullmatch(r"[A-Za-z]:|~", base) or (len(parts) <= 2 and slash) else base) + slash

    def _size(self, node: ast.Constant, value: int, places: _Places) -> None:
        """An integer that is a size of the real model."""
        here = self._size_here(value)
        if here is not None and (value >= _AMBIGUOUS or id(node) not in places.something_else):
            self._replace(node, "size", here, "smaller-model")

    def _size_here(self, value: int) -> int | None:
        """Size of the bundle's model that stands for `value`; None if that is no size.

        Also what adapters of any rank in the 12 query and value layers add to the head, to the whole model or to nothing.
        """
        if value in self.sizes or not {_DIM, _HEAD, _WHOLE} <= self.sizes.keys():
            return self.sizes.get(value)
        for known in (_WHOLE, _HEAD, 0):
            rank, rest = divmod(value - known, _PER_RANK * _DIM)
            if rest == 0 and 0 < rank <= _MOST_RANK and value != _DIM * _DIM:
                return self.sizes.get(known, 0) + rank * _PER_RANK * self.sizes[_DIM]
        return None

    def _gpu_demand(self, node: ast.Assert | ast.If) -> None:
        """Take out a stop of the notebook because there is no GPU."""
        if isinstance(node, ast.Assert):
            note("device", ast.unparse(node), "", _DEVICE_REASON)
            node.test = ast.copy_location(ast.Constant(True), node.test)
            return
        for block in (node.body, node.orelse):
            for index, statement in enumerate(block):
                stops = isinstance(statement, ast.Expr) and _called(statement.value) in ("exit", "quit", "_exit")
                if isinstance(statement, ast.Raise) or stops:
                    note("device", ast.unparse(statement), "", _DEVICE_REASON)
                    block[index] = ast.copy_location(ast.Pass(), statement)


class _Places:
    """What the nodes of a tree stand in, each found out once from its parent: however a cell is built, this takes time by its length."""

    def __init__(self, nodes: Sequence[ast.AST]) -> None:
        """Look at `nodes`, parents before children."""
        self.parents = {id(child): parent for parent in nodes for child in ast.iter_child_nodes(parent)}
        self.asks_for_gpu: set[int] = set()
        """Nodes that call something like `torch.cuda.is_available()`, or hold such a call."""
        self.something_else: set[int] = set()
        """Nodes whose small numbers are seeds, indices, lengths or amounts, by the call or name that they are given to."""
        self.with_gpu: dict[int, frozenset[str]] = {}
        """Nodes that are used only where the code has found a GPU, or has found none -> the kinds of GPU that it asked for by name."""
        for node in reversed(nodes):
            if id(node) in self.asks_for_gpu or _called(node) in ("is_available", "device_count", "is_built"):
                self.asks_for_gpu |= {id(node), id(self.parents.get(id(node)))}
        for parent in nodes:
            for_all = self._counts(parent)
            branches = isinstance(parent, ast.IfExp | ast.If) and id(parent.test) in self.asks_for_gpu
            for child in ast.iter_child_nodes(parent):
                if for_all or (isinstance(parent, ast.Subscript) and child is parent.slice):
                    self.something_else.add(id(child))
                test = getattr(parent, "test", None) if branches else None
                if id(parent) in self.with_gpu or (test is not None and child is not test):
                    asked = frozenset(_KIND.findall(ast.unparse(test))) if test is not None else frozenset()
                    self.with_gpu[id(child)] = self.with_gpu.get(id(parent), frozenset()) | asked

    def _counts(self, parent: ast.AST) -> bool:
        """Whether all small numbers in a node are something else than sizes."""
        if isinstance(parent, ast.stmt):
            return isinstance(parent, ast.Assign | ast.AnnAssign) and _names_no_size(parent)
        if isinstance(parent, ast.Call) and _NOT_SIZES.fullmatch(_called(parent)):
            return True
        if isinstance(parent, ast.keyword) and parent.arg and _NOT_SIZE_ARGUMENTS.fullmatch(parent.arg.lower()):
            return True
        return isinstance(parent, ast.Slice) or id(parent) in self.something_else


def _called(node: ast.AST | None) -> str:
    """Last part of the name that a call calls."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_command(call: ast.AST | None) -> bool:
    """Whether a call is what IPython makes of a shell line or magic."""
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and _called(call.func.value) == "get_ipython"
    )


def _names_no_size(statement: ast.Assign | ast.AnnAssign) -> bool:
    """Whether a number is given a name such as `SEED` or `max_length`."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    names = [target.id.lower() for target in targets if isinstance(target, ast.Name)]
    return any(_NOT_SIZE_ARGUMENTS.fullmatch(name) for name in names)


def _is_choice(node: ast.Constant, parent: ast.AST | None, places: _Places) -> bool:
    """Whether the name of a GPU is compared, looked up or printed, or used only where the code has found a GPU."""
    if isinstance(parent, ast.Compare | ast.Dict) or (isinstance(parent, ast.Subscript) and parent.slice is node):
        return True
    if isinstance(parent, ast.Call) and _called(parent) in ("print", "startswith", "is_available"):
        return True
    asked = places.with_gpu.get(id(node))  # "cuda" is no choice where only "mps" was asked for
    return asked is not None and (not asked or not asked.isdisjoint(_KIND.findall(str(node.value))))
