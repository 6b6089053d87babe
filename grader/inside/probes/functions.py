"""Questions about the student's functions: counting, extracting and replacing layers. Runs inside; trusted code on hostile objects."""

from __future__ import annotations

import inspect
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from grader.inside.agent import Context, StudentRaised, guarded
from grader.inside.distilbert import real_size_model, small_model
from grader.inside.hooks import torch


@contextmanager
def trial(context: Context, seconds: float = 2.0) -> Iterator[None]:
    """Keep a trial call of an unknown function of the student's harmless.

    It ends after `seconds` of CPU time (again and again, should it catch that), and it cannot train: the first step raises. Without
    such a clock, as on a student's Windows or beside the main thread, only the latter holds.
    """
    context.witness.forbids_training = True
    try:
        with _clock(seconds):
            yield
    finally:
        context.witness.forbids_training = False


@contextmanager
def _clock(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after so many seconds of CPU time."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signum: int, _frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def required_arguments(function: Any) -> int:
    """Count the positional arguments a call must give; -1 when they cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return -1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(1 for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty)


def is_function(thing: Any) -> bool:
    """Tell functions and callables from classes and modules' own objects."""
    return callable(thing) and not isinstance(thing, type)


# ---------------------------------------------------------------- counting


def build(spec: Mapping[str, Any]) -> Any:
    """Build a plain module from a description.

    `layers`: lists like ["linear", in, out, bias], ["embedding", n, d], ["conv", in, out, k], ["norm", n], ["batch", n],
    ["scalar"]; `shared`: pairs of layer numbers whose weights are one tensor; `frozen`: numbers of frozen layers;
    `frozen_bias`: numbers of layers of which only the bias is frozen; `buffers`: shapes of registered buffers.
    """
    nn = torch.nn

    class Scalar(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.tensor(0.5))

    class Plain(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList()
            self.inner = nn.Module()

    makers: dict[str, Callable[..., Any]] = {
        "linear": lambda i, o, b: nn.Linear(int(i), int(o), bias=bool(b)),
        "embedding": lambda n, d: nn.Embedding(int(n), int(d)),
        "conv": lambda i, o, k: nn.Conv1d(int(i), int(o), int(k)),
        "norm": lambda n: nn.LayerNorm(int(n)),
        "batch": lambda n: nn.BatchNorm1d(int(n)),
        "scalar": Scalar,
    }
    model = Plain()
    layers = [makers[kind](*sizes) for kind, *sizes in spec["layers"]]
    for number, layer in enumerate(layers):
        if number % 2:
            setattr(model.inner, f"part{number}", layer)
        else:
            model.parts.append(layer)
    for first, second in spec.get("shared", []):
        layers[second].weight = layers[first].weight
    for number in spec.get("frozen", []):
        for parameter in layers[number].parameters():
            parameter.requires_grad_(False)
    for number in spec.get("frozen_bias", []):
        layers[number].bias.requires_grad_(False)
    for number, shape in enumerate(spec.get("buffers", [])):
        model.register_buffer(f"table{number}", torch.zeros(*[int(n) for n in shape]))
    return model


def describe_number(value: Any) -> dict[str, Any]:
    """Reduce a student's return value to a plain number with the kind of object it was."""
    import numpy as np

    kind = type(value)
    if value is None:
        return {"kind": "None", "number": None}
    if kind is bool:
        return {"kind": "bool", "number": None}
    if isinstance(value, int):
        return {"kind": "int", "number": int.__add__(value, 0)}
    if kind.__module__ == "numpy" and isinstance(value, np.integer):
        return {"kind": "numpy integer", "number": int(np.int64(value))}
    if isinstance(value, float):
        return {"kind": "float", "number": float.__add__(value, 0.0)}  # a subclass may answer every question its way
    if kind.__module__ == "numpy" and isinstance(value, np.floating):
        return {"kind": "float", "number": float(value)}
    if kind in (torch.Tensor, torch.nn.Parameter):
        shape = list(value.shape)
        single = value.numel() == 1 and not shape and not value.is_meta
        return {"kind": f"tensor of shape {shape}", "number": value.item() if single else None}
    if kind is np.ndarray and value.shape == () and value.dtype.kind in "iuf":
        return {"kind": "numpy array without dimensions", "number": value.item()}
    return {"kind": kind.__name__[:60], "number": None}


def _freeze_body(model: Any) -> Any:
    for parameter in model.distilbert.parameters():
        parameter.requires_grad_(False)
    return model


def _lacks_memory(error: BaseException) -> bool:
    """Whether Python or PyTorch got no memory; an exception of another type is the student's, and its text is not asked for."""
    return type(error) is MemoryError or (type(error) is RuntimeError and "allocate memory" in str(error))


def count(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    """Call the counting function on DistilBERT at its real size and on small modules.

    Returns {"distilbert", "frozen", "modules": [...], "pairs": [[whole, part], ...]}, each entry {"kind", "number"} or {"raised"}.
    """

    def plausible(function: Any) -> bool:
        if required_arguments(function) != 1:
            return False
        with trial(context):
            number = describe_number(function(build({"layers": [["linear", 3, 5, True]]})))["number"]
        return number in (20, 2)

    try:
        first = [real_size_model()]
    except BaseException as error:
        # no memory left for a model is no answer of the function's; all else comes from classes that a notebook has patched
        context.touched = not _lacks_memory(error)
        raise
    function = context.find(list(params["names"]), is_function, plausible)

    def ask(model: Any) -> dict[str, Any]:
        try:
            return describe_number(guarded(function, model))
        except StudentRaised as error:
            return {"kind": "", "number": None, "raised": str(error)[:300]}

    return {
        "distilbert": ask(first.pop()),
        "frozen": ask(_freeze_body(real_size_model())),
        "modules": [ask(build(spec)) for spec in params["modules"]],
        "pairs": [[ask(build(whole)), ask(build(part))] for whole, part in params["pairs"]],
    }


# ---------------------------------------------------------------- layers


def extract(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    """Call `extract_qv_layers` on a small six-block model; returns what each entry of the result is.

    {"type", "entries": [[key, the true name of the very layer or '', type, reached by that key?]]}.
    """

    def plausible(function: Any) -> bool:
        if required_arguments(function) != 1:
            return False
        with trial(context):
            found = function(small_model())
        return isinstance(found, Mapping) and any(isinstance(v, torch.nn.Linear) for v in found.values())

    function = context.find(list(params["names"]), is_function, plausible)
    model = small_model()
    true = {id(module): name for name, module in model.named_modules()}
    found = guarded(function, model)
    if not issubclass(type(found), Mapping):
        return {"type": type(found).__name__[:60], "entries": []}
    entries = []
    for key, layer in list(guarded(dict, found).items())[:200]:
        text = key if type(key) is str else type(key).__name__
        try:
            reached = type(key) is str and model.get_submodule(key) is layer
        except AttributeError:
            reached = False
        entries.append([text[:200], true.get(id(layer), ""), type(layer).__name__[:60], bool(reached)])
    return {"type": "dict", "entries": entries}


def _tree(kind: str, seed: int) -> Any:
    """Build a model for replacement: DistilBERT, or nested plain modules."""
    nn = torch.nn
    if kind == "distilbert":
        return small_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4)))
        blocks = nn.ModuleList([nn.ModuleDict({"proj": nn.Linear(4, 4), "gate": nn.Linear(4, 4)}) for _ in range(2)])
        model = nn.Module()
        model.encoder, model.blocks, model.head = inner, blocks, nn.Linear(4, 2)
        model.device = torch.device("cpu")  # as the library's models have it
    return model


def modules_by_path(model: Any) -> dict[tuple[str, ...], Any]:
    """Every module by the path of attributes that leads to it: unlike a dotted name, a path tells `a.b` from an attribute "a.b"."""
    found: dict[tuple[str, ...], Any] = {(): model}
    _children((), model, found)
    return found


def _children(path: tuple[str, ...], module: Any, found: dict[tuple[str, ...], Any]) -> None:
    if len(path) > 12:
        return
    for name, child in torch.nn.Module.named_children(module):
        place = (*path, name)
        found[place] = child
        _children(place, child, found)


def replace(context: Context, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Call `replace_layers` on several models with the grader's own layers.

    For each case {"kind", "names"}: {"placed": [is the layer where its name says?], "others": number of other changes, "copied": whether
    another model was given back, "raised"}.
    """

    def plausible(function: Any) -> bool:
        if required_arguments(function) != 2:
            return False
        model, layer = _tree("plain", 1), torch.nn.Linear(4, 2)
        with trial(context):
            result = function(model, {"head": layer})
        return (result if isinstance(result, torch.nn.Module) else model).head is layer

    function = context.find(list(params["names"]), is_function, plausible)
    answers = []
    for case in params["cases"]:
        model = _tree(case["kind"], int(params["seed"]))
        layers = {}
        for name in case["names"]:
            old = model.get_submodule(name)
            layers[name] = torch.nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
        before, keys = modules_by_path(model), set(model.state_dict())
        try:
            result = guarded(function, model, dict(layers))
        except StudentRaised as error:
            answers.append({"placed": [], "others": 0, "copied": False, "raised": str(error)[:300]})
            continue
        after = modules_by_path(model)
        wanted = {tuple(name.split(".")): layer for name, layer in layers.items()}
        placed = [after.get(path) is layer for path, layer in wanted.items()]
        untouched = {path: module for path, module in before.items() if path not in wanted}
        others = sum(1 for path, module in untouched.items() if after.get(path) is not module)
        others += sum(1 for path in after if path not in before)
        others += len(set(torch.nn.Module.state_dict(model)) ^ keys)
        copied = isinstance(result, torch.nn.Module) and result is not model
        answers.append({"placed": placed, "others": others + copied, "copied": copied, "raised": ""})
    return answers


__all__ = ["build", "count", "describe_number", "extract", "replace", "required_arguments", "trial"]
