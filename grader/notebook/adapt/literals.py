"""Literals that are true only elsewhere: sizes of the real model, paths of Colab or of a laptop, names of GPUs.

Trusted code over untrusted text. Only constants whose position in the source is certain are touched; strings are never
searched for numbers, docstrings and comparisons are left alone, and so is everything that seeds or selects.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from grader.notebook.adapt.edits import Edit, has_position, segment
from grader.notebook.adapt.environment import Environment

__all__ = ["literal_edits"]

_SIZE_REASON = "The model used for grading is smaller than the real one; this number is true of the real one only."
_PATH_REASON = "This folder exists on the student's machine only; the notebook runs in one folder that holds the data."
_DEVICE_REASON = "The grading machine has no GPU; the same code runs on the CPU."

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

_FOREIGN = re.compile(
    r"/content(/|$)|/kaggle/(working|input)(/|$)|/Users/|/home/|/root/|/mnt/|/gdrive|/drive/|[A-Za-z]:[\\/]|~/"
)
_COLAB_ROOT = re.compile(
    r"/(content|kaggle/working|kaggle/input)(/g?drive(/My ?Drive)?)?(?=/|$)|/g?drive(/My ?Drive)?(?=/|$)"
)
_GPU = re.compile(r"(cuda|mps|xpu)(:\d+)?")


def literal_edits(source: str, tree: ast.Module, environment: Environment) -> Iterator[Edit]:
    """Edits of constants in `tree`, parsed from `source`."""
    parents = {id(child): parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield from _formatted_path(source, node)
        elif isinstance(node, ast.Constant):
            if isinstance(parents.get(id(node)), ast.Expr | ast.JoinedStr | ast.FormattedValue | ast.MatchValue):
                continue  # docstrings, and parts of f-strings whose position is that of the whole
            if type(node.value) is int:
                yield from _size(source, node, parents, environment.sizes)
            elif isinstance(node.value, str):
                yield from _path(source, node, environment)
                if not environment.gpu:
                    yield from _device(source, node, parents)
        elif not environment.gpu and isinstance(node, ast.Assert | ast.If):
            yield from _gpu_demand(node)


def _ancestors(node: ast.AST, parents: Mapping[int, ast.AST]) -> Iterator[tuple[ast.AST, ast.AST]]:
    """(child, parent) pairs from `node` upwards."""
    while (parent := parents.get(id(node))) is not None:
        yield node, parent
        node = parent


def _called(node: ast.AST) -> str:
    """Last part of the name that a call calls."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _size(source: str, node: ast.Constant, parents: Mapping[int, ast.AST], sizes: Mapping[int, int]) -> Iterator[Edit]:
    """The edit of an integer that is a size of the real model."""
    assert isinstance(node.value, int)
    new = _size_here(node.value, sizes)
    if new is None or new == node.value or not has_position(source, node, node.value):
        return
    if node.value < _AMBIGUOUS:
        for child, parent in _ancestors(node, parents):
            if isinstance(parent, ast.stmt):
                if isinstance(parent, ast.Assign | ast.AnnAssign) and _names_no_size(parent):
                    return
                break
            if isinstance(parent, ast.Slice) or (
                isinstance(parent, ast.Call) and _NOT_SIZES.fullmatch(_called(parent))
            ):
                return
            if isinstance(parent, ast.keyword) and parent.arg and _NOT_SIZE_ARGUMENTS.fullmatch(parent.arg.lower()):
                return
            if isinstance(parent, ast.Subscript) and child is parent.slice:
                return
    yield Edit(node, str(new), "size", _SIZE_REASON)


def _size_here(value: int, sizes: Mapping[int, int]) -> int | None:
    """Size of the bundle's model that stands for `value`; None if that is no size.

    Also what adapters of any rank in the 12 query and value layers add to the head, to the whole model or to nothing.
    """
    if value in sizes or not {_DIM, _HEAD, _WHOLE} <= sizes.keys():
        return sizes.get(value)
    for known in (_WHOLE, _HEAD, 0):
        rank, rest = divmod(value - known, _PER_RANK * _DIM)
        if rest == 0 and 0 < rank <= _MOST_RANK and value != _DIM * _DIM:
            return sizes.get(known, 0) + rank * _PER_RANK * sizes[_DIM]
    return None


def _names_no_size(statement: ast.Assign | ast.AnnAssign) -> bool:
    """Whether a number is given a name such as `SEED` or `max_length`."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    names = [target.id.lower() for target in targets if isinstance(target, ast.Name)]
    return any(_NOT_SIZE_ARGUMENTS.fullmatch(name) for name in names)


def _path(source: str, node: ast.Constant, environment: Environment) -> Iterator[Edit]:
    """The edit of a string that is a path on Colab, Kaggle or a laptop."""
    value = node.value
    assert isinstance(value, str)
    if len(value) > 300 or "\n" in value or not _FOREIGN.match(value) or not has_position(source, node, value):
        return
    yield Edit(node, repr(_local(value, environment)), "path", _PATH_REASON)


def _local(path: str, environment: Environment) -> str:
    """Where `path` lies in the box: data and companion files by base name, Colab's folders below the working folder."""
    parts = [part for part in re.split(r"[/\\]+", path) if part]
    base = parts[-1] if parts else ""
    if base in environment.data_files:
        return environment.data_files[base]
    if base in environment.companions:
        return base
    slash = "/" if path[-1] in "/\\" else ""
    inside = _COLAB_ROOT.match(path)
    if inside:
        return (path[inside.end() :].strip("/") or ".") + slash
    return ("." if re.fullmatch(r"[A-Za-z]:|~", base) or (len(parts) <= 2 and slash) else base) + slash


def _formatted_path(source: str, node: ast.JoinedStr) -> Iterator[Edit]:
    """The edit of an f-string that starts with a folder of Colab or Kaggle."""
    text = segment(source, node)
    found = re.match(r"""(?P<open>[rRfF]{1,2}(?:\"{3}|'{3}|"|'))(?P<path>.*)""", text, re.DOTALL)
    if not found or "\n" in text:
        return
    root = _COLAB_ROOT.match(found["path"].replace("{", "/{").replace("//{", "/{", 1))
    if root and root.end() <= len(found["path"]):
        yield Edit(node, found["open"] + "." + found["path"][root.end() :], "path", _PATH_REASON)


def _device(source: str, node: ast.Constant, parents: Mapping[int, ast.AST]) -> Iterator[Edit]:
    """The edit of a string that names a GPU, unless the code asks first whether there is one."""
    value = node.value
    assert isinstance(value, str)
    if not _GPU.fullmatch(value) or not has_position(source, node, value):
        return
    parent = parents.get(id(node))
    if isinstance(parent, ast.Compare | ast.Dict) or (isinstance(parent, ast.Subscript) and parent.slice is node):
        return
    if isinstance(parent, ast.Call) and _called(parent) in ("print", "startswith", "is_available"):
        return
    for child, ancestor in _ancestors(node, parents):
        if isinstance(ancestor, ast.IfExp | ast.If) and child is not ancestor.test and _asks_for_gpu(ancestor.test):
            return
    yield Edit(node, repr("cpu"), "device", _DEVICE_REASON)


def _asks_for_gpu(test: ast.expr) -> bool:
    """Whether a condition calls something like `torch.cuda.is_available()`."""
    return any(_called(node) in ("is_available", "device_count", "is_built") for node in ast.walk(test))


def _gpu_demand(node: ast.Assert | ast.If) -> Iterator[Edit]:
    """Edits that take out a stop of the notebook because there is no GPU."""
    if not _asks_for_gpu(node.test):
        return
    if isinstance(node, ast.Assert):
        yield Edit(node, "pass", "device", _DEVICE_REASON, after="")
        return
    for statement in node.body + node.orelse:
        stops = isinstance(statement, ast.Expr) and _called(statement.value) in ("exit", "quit", "_exit")
        if isinstance(statement, ast.Raise) or stops:
            yield Edit(statement, "pass", "device", _DEVICE_REASON, after="")
