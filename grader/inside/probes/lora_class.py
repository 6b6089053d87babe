"""Which of the student's classes is the LoRA layer, and how it is called. Runs inside; trusted code on hostile objects.

The class of the name that was asked for comes first, whatever it is: a function that makes layers is called just like a class. Where
it cannot wrap a layer, or is not there, what else can is taken: of several the one whose layers sit at the query and value
projections of a model that was trained.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

from grader.inside.agent import Context, Missing, guarded
from grader.inside.distilbert import ADAPTED, BLOCKS, find_root
from grader.inside.hooks import torch
from grader.inside.own_calls import Layer, Size
from grader.inside.probes.functions import trial

RANK_NAMES = ("rank", "r", "lora_r", "lora_rank", "rank_", "R", "k", "lora_dim", "low_rank", "rank_size")
ALPHA_NAMES = ("alpha", "lora_alpha", "alpha_", "a", "scale_alpha", "lora_scale_alpha")
_LAYER_WORDS = ("layer", "linear", "pretrained", "base", "module", "original", "proj", "wrapped")
_NO_NUMBER = (bool, float, str)  # defaults of helper arguments: bias=True, dropout=0.1, init="kaiming"
_ANYHOW = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_REQUIRED = inspect.Parameter.empty


class Made:
    """A class or function of the student's that makes LoRA layers, and how it is called."""

    def __init__(self, thing: Any, given: Mapping[str, Any]) -> None:
        """`given`: what the student's own calls gave it, by parameter."""
        self.thing = thing
        self.name = str(getattr(thing, "__name__", "?"))[:80]
        self._given = given
        self._parameters = _parameters(thing)

    @property
    def call(self) -> list[list[Any]]:
        """What each parameter gets that gets anything: [`layer`, `rank`, `alpha` or `other`, the parameter's place]."""
        layer, rank, alpha = object(), 4, 8
        args, kwargs = self._arguments(layer, rank, alpha)
        roles = {id(layer): "layer", id(rank): "rank", id(alpha): "alpha"}
        places = {parameter.name: place for place, parameter in enumerate(self._parameters)}
        given = [*enumerate(args), *((places.get(name, len(places)), value) for name, value in kwargs.items())]
        return [[roles.get(id(value), "other"), place] for place, value in sorted(given, key=lambda pair: pair[0])][:16]

    def construct(self, base: Any, rank: int, alpha: int) -> Any:
        """Wrap `base`. Raises StudentRaised."""
        args, kwargs = self._arguments(base, rank, alpha)
        return guarded(self.thing, *args, **kwargs)

    def _arguments(self, base: Any, rank: int, alpha: int) -> tuple[list[Any], dict[str, Any]]:
        """Rank and alpha by name where the signature has such names or a configuration holds them, else by position.

        The remaining required parameter is the layer; others get what the student's own calls give them. A signature that has
        no room for rank and alpha by position (`layer, **kwargs`) gets them by the names that were asked for.
        """
        kinds = [p.kind for p in self._parameters]
        if kinds[1:] == [inspect.Parameter.VAR_KEYWORD] and kinds[0] is not inspect.Parameter.VAR_POSITIONAL:
            return [base], {RANK_NAMES[0]: rank, ALPHA_NAMES[0]: alpha}
        plain = [p for p in self._parameters if p.kind not in _ANYHOW]
        layer = self._layer(plain)
        rest = [p for p in plain if p.name != layer]
        rank_name, alpha_name = _bind(rest)
        if rank_name and alpha_name:
            numbers: dict[str, Any] = {rank_name: rank, alpha_name: alpha}
        else:
            numbers = self._configuration(rest, rank, alpha)
        first = bool(plain) and plain[0].name == layer and plain[0].kind is not inspect.Parameter.KEYWORD_ONLY
        if not numbers and layer and not first:
            free = [p.name for p in rest if type(p.default) not in _NO_NUMBER]
            numbers = dict(zip(free[:2], (rank, alpha), strict=False))
        if not numbers:
            return [base, rank, alpha], {}
        others = {p.name: self._other(p.name, base) for p in rest if p.default is _REQUIRED and p.name not in numbers}
        kwargs = {layer: base, **numbers, **{name: value for name, value in others.items() if value is not _REQUIRED}}
        leading = [p.name for p in plain if p.kind is inspect.Parameter.POSITIONAL_ONLY or (first and p.name == layer)]
        return [kwargs.pop(name) for name in leading if name in kwargs], kwargs

    def _layer(self, plain: list[inspect.Parameter]) -> str:
        """Name of the parameter that takes the layer; empty without any."""
        free = [p for p in plain if p.name not in (*_known(plain), *RANK_NAMES, *ALPHA_NAMES)]
        required = [p for p in free if p.default is _REQUIRED] or free
        nn = torch.nn
        kinds = (nn.Linear, nn.Module)
        for found in (
            [p.name for p in required if isinstance(self._given.get(p.name), Layer)],
            [p.name for p in required if p.annotation in kinds],
            [p.name for p in required if any(word in p.name.lower() for word in _LAYER_WORDS)],
        ):
            if found:
                return found[0]
        return required[0].name if required else plain[0].name if plain else ""

    def _other(self, name: str, base: Any) -> Any:
        """What a further required parameter gets: what the student gave it, or a size of the layer by its name."""
        value = self._given.get(name, _REQUIRED)
        sizes = {"in": "in_features", "out": "out_features", "input": "in_features", "output": "out_features"}
        if value is _REQUIRED and name.lower().partition("_")[0] in sizes:
            value = Size(sizes[name.lower().partition("_")[0]])
        if isinstance(value, Size):
            return getattr(base, value.of, None)
        return _REQUIRED if isinstance(value, Layer) else value

    def _configuration(self, rest: list[inspect.Parameter], rank: int, alpha: int) -> dict[str, Any]:
        """The configuration that the student's calls, the default or the annotation gives, with this rank and alpha in it."""
        for p in rest:
            config = self._given.get(p.name, p.default)
            if config in (None, _REQUIRED) and isinstance(p.annotation, type):
                try:
                    config = p.annotation()
                except Exception:  # noqa: S112 - it cannot be made without knowing more
                    continue
            changed = _with_numbers(config, rank, alpha)
            if changed is not None:
                return {p.name: changed}
        return {}


def _parameters(thing: Any) -> list[inspect.Parameter]:
    """The parameters of a class or function, with annotations that are text looked up; empty where they cannot be told."""
    for look_up in (True, False):
        try:
            return list(inspect.signature(thing, eval_str=look_up).parameters.values())
        except Exception:  # noqa: S112 - a text that names nothing, or an object without a signature
            continue
    return []


def _bind(parameters: list[inspect.Parameter]) -> tuple[str, str]:
    """Names of the rank and alpha arguments; empty where the signature has none, which means: by position."""
    rank, alpha = _known(parameters)
    if bool(rank) != bool(alpha):
        # one has its usual name: the other is the first number beside it (`layer, scaling, rank`)
        likely = [p.name for p in parameters if type(p.default) is int or p.default is _REQUIRED]
        other = next((name for name in likely if name not in (rank, alpha)), "")
        rank, alpha = rank or other, alpha or other
    return (rank, alpha) if rank != alpha else ("", "")


def _known(parameters: list[inspect.Parameter]) -> tuple[str, str]:
    """Names of the rank and alpha arguments as far as they have usual ones."""
    numbers = [p.name for p in parameters if type(p.default) not in _NO_NUMBER or p.name in ALPHA_NAMES]
    return _named(numbers, RANK_NAMES, ("rank", "rang")), _named(numbers, ALPHA_NAMES, ("alpha", "alfa"))


def _named(names: list[str], exact: tuple[str, ...], parts: tuple[str, ...]) -> str:
    known = [name for name in names if name in exact]
    return next(iter([*known, *(name for name in names if any(part in name.lower() for part in parts))]), "")


def _with_numbers(config: Any, rank: int, alpha: int, depth: int = 3) -> Any:
    """A copy of a configuration with other numbers for rank and alpha, in it or in one that it holds; None without such fields."""
    fields = _fields(config)
    rank_name, alpha_name = _named(list(fields), RANK_NAMES, ("rank",)), _named(list(fields), ALPHA_NAMES, ("alpha",))
    if rank_name and alpha_name and rank_name != alpha_name:
        return _changed(config, fields, {rank_name: rank, alpha_name: alpha})
    for name, inner in fields.items() if depth else ():
        changed = _with_numbers(inner, rank, alpha, depth - 1)
        if changed is not None:
            return _changed(config, fields, {name: changed})
    return None


def _fields(config: Any) -> dict[str, Any]:
    """What a configuration holds, by name; empty for what is none."""
    if isinstance(config, dict):
        found = dict(config)
    elif inspect.isroutine(config) or isinstance(config, types.ModuleType | torch.nn.Module | torch.Tensor):
        return {}
    else:
        names = (*getattr(config, "_fields", ()), *getattr(type(config), "__slots__", ()))
        found = {**getattr(type(config), "__dict__", {}), **getattr(config, "__dict__", {})}
        found = {
            name: value
            for name, value in found.items()
            if not inspect.isroutine(value) and not inspect.isdatadescriptor(value)
        }
        found |= {name: getattr(config, name, None) for name in names}
        found = {**{p.name: p.default for p in _parameters(type(config))}, **found}  # it may keep only what follows
    return {name: value for name, value in found.items() if isinstance(name, str) and not name.startswith("__")}


def _changed(config: Any, fields: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    """A copy of a configuration with other values for some of its fields: made anew where that is possible, as others may follow."""
    if isinstance(config, dict):
        return {**config, **new}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.replace(config, **new)
    if hasattr(config, "_replace"):
        return config._replace(**new)  # a named tuple
    if isinstance(config, type):
        return type(config.__name__, (config,), dict(new))
    known = {**fields, **new}
    needed = [p for p in _parameters(type(config)) if p.name in known or p.default is _REQUIRED]
    if {*new} <= {p.name for p in needed} and all(
        p.kind not in (*_ANYHOW, inspect.Parameter.POSITIONAL_ONLY) and p.name in known for p in needed
    ):
        with contextlib.suppress(Exception):
            return type(config)(**{p.name: known[p.name] for p in needed})
    changed = copy.copy(config)
    vars(changed).update(new)
    return changed


def _makes_layers(thing: Any) -> bool:
    """Tell classes of modules, and functions, which may make layers just as a class does, from everything else."""
    module = torch.nn.Module
    if isinstance(thing, type):
        return issubclass(thing, module)
    return callable(thing) and not isinstance(thing, module)


def _at_query_and_value(context: Context) -> Iterator[Any]:
    """The classes of the modules that sit at the query and value projections of the models that were trained, latest first."""
    get = torch.nn.Module.get_submodule
    for run in reversed(context.witness.runs):
        if run.model is None:
            continue
        root = find_root(context.witness.model_of(run))[1]
        for place in (f"distilbert.transformer.layer.{i}.{role}" for i in range(BLOCKS) for role in ADAPTED):
            try:
                yield type(get(root, place))
            except AttributeError:
                continue


def find_class(context: Context, names: list[str]) -> Made:
    """Find what the student's LoRA layers are made with. Raises Missing.

    (`LoRALayer(in, out, rank, alpha)` with a wrapper `LinearWithLoRA(layer, rank, alpha)` around it is a common pair.)
    """

    def made(thing: Any) -> Made:
        return Made(thing, context.witness.own_calls.of(thing))

    def wraps(thing: Any) -> bool:
        with trial(context):
            layer = made(thing).construct(torch.nn.Linear(5, 7), 3, 6)
            y = layer(torch.zeros(2, 5))
        return tuple(y.shape) == (2, 7) and len(list(layer.parameters())) >= 2

    named = None
    try:
        named = context.find(names, _makes_layers)
        if wraps(named):
            return made(named)
    except BaseException:  # noqa: S110 - it is not there, or whatever it raises: it is asked properly below
        pass
    others = [thing for thing in context.candidates(_makes_layers, wraps) if thing is not named]
    own = [cls for cls in _at_query_and_value(context) if context.is_own(cls) and cls is not named]
    used = [cls for cls in own if any(cls is other for other in others)]
    found = used[0] if used else others[0] if len(others) == 1 else None
    if found is None and named is None and not others and own:
        found = own[0]  # nothing can be wrapped here, but these are the layers that were trained
    if found is not None:
        context.renamed = str(getattr(found, "__name__", "?"))[:80]
        return made(found)
    if named is None:
        raise Missing(*sorted(made(other).name for other in others)[:5])
    return made(named)
