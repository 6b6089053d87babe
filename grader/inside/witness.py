"""The witness: sees every training run while it happens, whatever the student calls things.

Runs inside the box, so what it says is a claim. Official hooks are used: the optimizers' global
step hooks, and a wrapper around `Trainer.train` to know when a run is over. For each run it keeps which model was trained
(reached from the stepped parameters), the state of its tensors before the first step, and a copy of the model as the
training left it.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from grader.inside.hooks import replacing, torch, when_imported
from grader.inside.own_calls import OwnCalls
from grader.inside.tensors import digest

_MAX_RUNS = 24
_MAX_OTHER = 2000
MOST_TENSORS = 2000
"""Of a model that are looked at."""


class TrainingForbidden(BaseException):
    """A function that was only tried out began to train."""


@dataclass
class Run:
    """One training run: the steps of one optimizer."""

    order: int
    model: Any
    optimizer: str
    start: list[list[Any]]
    layout: dict[str, Any]
    cell: int | None
    steps: int = 0
    rated: bool = False
    peak_rate: float = 0.0
    lr_sum: float = 0.0
    stepped_since_snapshot: int = 0
    started: float = 0.0
    last_step: float = 0.0
    seconds: float = 0.0
    snapshot: Any = None
    saved_state: dict[str, Any] | None = None
    begun: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    parameters: dict[int, Any] = field(default_factory=dict)


def _leaves(outputs: Any) -> Iterator[Any]:
    """Parameters that the gradients of `outputs` will reach, depth first."""
    waiting = [o.grad_fn for o in (outputs if isinstance(outputs, list | tuple) else [outputs])]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


def states(model: Any) -> list[list[Any]]:
    """[name, shape, whether it is trainable, digest] of every registered parameter and buffer, shared ones once."""
    members = [(n, p, bool(p.requires_grad)) for n, p in torch.nn.Module.named_parameters(model)]
    members += [(n, b, False) for n, b in torch.nn.Module.named_buffers(model)]
    there = [member for member in members if not member[1].is_meta][:MOST_TENSORS]
    return [[name, list(tensor.shape), trainable, digest(tensor)] for name, tensor, trainable in there]


def own_at_start(model: Any, layout: dict[str, Any]) -> dict[str, Any]:
    """Copies, by name, of what is trained beside the plain layers of a pretrained body: the head, adapters."""
    root = f"{layout['root']}." if layout["root"] else ""
    wrapped = tuple(f"{root}{position}." for position in layout["wrapped"])
    return {
        name: parameter.detach().clone()
        for name, parameter in torch.nn.Module.named_parameters(model)
        if parameter.requires_grad and (not name.startswith(f"{root}distilbert.") or name.startswith(wrapped))
    }


def tensors_of(model: Any) -> dict[str, Any]:
    """Parameters and buffers by name, shared ones under each of their names, whatever the model's own methods say."""
    module = torch.nn.Module
    named = [
        *module.named_buffers(model, remove_duplicate=False),
        *module.named_parameters(model, remove_duplicate=False),
    ]
    return {name: tensor for name, tensor in named if not tensor.is_meta}


def owner(parameters: list[Any]) -> Any:
    """Return the module that holds all of `parameters`, or most of them.

    Of several such modules: the smallest that is a classifier on a body (so that a container of several models is not taken
    for one), else the largest.
    """
    module, wanted = torch.nn.Module, {id(p) for p in parameters}
    best, best_key = None, (0, False, 0)
    for candidate in gc.get_objects():
        try:
            if not issubclass(type(candidate), module):
                continue
            held = {id(p) for p in module.parameters(candidate)}
            root = is_classifier(candidate)
        except Exception:  # noqa: S112 - half-built or hostile objects are passed over
            continue
        key = (len(wanted & held), root, -len(held) if root else len(held))
        if key > best_key:
            best, best_key = candidate, key
    return best


def is_classifier(module: Any) -> bool:
    """Whether a module is a classifier on a DistilBERT body, and not something around one."""
    return {"distilbert", "classifier"} <= dict(torch.nn.Module.named_children(module)).keys()


def _alike(copied: Any, original: Any) -> bool:
    """Whether two models are of the same classes and hold the same tensors; what is no number equals itself here."""
    kinds, others = ([type(m) for m in torch.nn.Module.modules(model)] for model in (copied, original))
    theirs, ours = tensors_of(copied), tensors_of(original)
    return (
        kinds == others
        and theirs.keys() == ours.keys()
        and all(
            torch.equal(theirs[name], tensor) or digest(theirs[name]) == digest(tensor) for name, tensor in ours.items()
        )
    )


class Witness:
    """Watches the optimizers of this process. One per kernel."""

    def __init__(self, layout: Callable[[Any], dict[str, Any]] = lambda _model: {"root": "", "wrapped": []}) -> None:
        self.runs: list[Run] = []
        self.current_cell: int | None = None
        self.forbids_training = False
        """True while the grader tries out an unknown function: the first step of an optimizer then raises."""
        self._by_optimizer: dict[int, Run] = {}
        self._optimizers: list[Any] = []  # kept alive, so that an id is never used twice
        self._layout = layout
        self._by_hand: list[Run] = []
        self.own_calls = OwnCalls()
        """What the student's code gave to its own classes."""
        self.asking = False
        """True while the grader asks a question: going backwards is then no training."""
        self._other: dict[int, Any] = {}  # first leaf of graphs that are no DistilBERT's; kept alive with its id

    def install(self) -> None:
        """Hook into torch's optimizers and transformers' Trainer, both already imported or not."""
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        self._watch_backward()
        self.own_calls.install()
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)
        when_imported("transformers.trainer", self._watch_trainer)

    def _watch_backward(self) -> None:
        """See loops that step by hand, without any optimizer: by the gradients they ask for."""

        def watched(real: Any, outputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._before_backward(outputs)
            return real(outputs, *args, **kwargs)

        for name in ("backward", "grad"):
            replacing(torch.autograd, name)(watched)

    def _before_backward(self, outputs: Any) -> None:
        if self.forbids_training or self.asking:
            return
        with self._blaming_itself():
            leaf = next(_leaves(outputs), None)
            if leaf is None or id(leaf) in self._other:
                return
            for run in self._by_hand:
                if id(leaf) in run.parameters:
                    run.steps += 1
                    return
            leaves = list(_leaves(outputs))
            model = self._known(leaves) or owner(leaves)
            if model is None or "distilbert" not in {n.split(".")[-1] for n, _ in model.named_modules()}:
                if len(self._other) < _MAX_OTHER:  # looking for the owner costs milliseconds: once per model
                    self._other[id(leaf)] = leaf
                return
            run = self._start_of(model, "by hand")
            run.steps = 1
            self._by_hand.append(run)

    def _start_of(self, model: Any, optimizer: str) -> Run:
        """A run that begins now."""
        run = Run(len(self.runs), model, optimizer, states(model), self._layout(model), self.current_cell)
        run.begun = own_at_start(model, run.layout)
        run.parameters = {id(p): p for p in torch.nn.Module.parameters(model)}
        run.started = time.monotonic()
        return run

    def _known(self, parameters: list[Any]) -> Any:
        """Return a classifier seen before that holds all of `parameters`, which spares the search through all objects."""
        wanted = {id(p) for p in parameters}
        for run in [*self._by_hand, *reversed(self.runs)]:
            if run.model is not None and wanted <= run.parameters.keys() and is_classifier(run.model):
                return run.model
        return None

    def _snapshot_hand_trained(self) -> None:
        """Turn what asked for gradients and moved, but belongs to no optimizer that stepped, into runs."""
        waiting, self._by_hand = self._by_hand, []
        for run in waiting:
            if any(other.model is run.model and other.last_step >= run.started for other in self.runs):
                continue  # an optimizer stepped, and that has a run of its own
            before = {name: state for name, _, _, state in run.start}
            if any(before.get(name) != state for name, _, _, state in states(run.model)):
                self._make_room()
                run.order, run.stepped_since_snapshot = len(self.runs), run.steps
                self.runs.append(run)

    def _watch_trainer(self, module: Any) -> None:
        """Copy what a `Trainer` trained as soon as it is done; an own loop is copied when its cell is."""

        @replacing(module.Trainer, "train")
        def train(real: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return real(*args, **kwargs)
            finally:
                with self._blaming_itself():
                    self.snapshot_models()

    def _before(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if self.forbids_training:
            raise TrainingForbidden
        if id(optimizer) not in self._by_optimizer:
            with self._blaming_itself():
                self._begin(optimizer)

    def _begin(self, optimizer: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        model = self._known(parameters)
        self.snapshot_models()
        self._optimizers.append(optimizer)
        model = model or owner(parameters)
        if model is None:
            return
        self._make_room()
        run = self._by_optimizer[id(optimizer)] = self._start_of(model, type(optimizer).__name__)
        self.runs.append(run)

    def _make_room(self) -> None:
        """Forget the copy of an early run of the most frequent kind, so that a long search keeps its last runs of each kind."""
        kept = [run for run in self.runs if run.model is not None]
        if len(kept) < _MAX_RUNS:
            return
        kinds = [sum(trainable for _, _, trainable, _ in run.start) for run in kept]
        often = max(kinds, key=kinds.count)
        first = kept[kinds.index(often)]
        first.model = first.snapshot = first.saved_state = None
        first.parameters, first.begun = {}, {}

    def _after(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        run = self._by_optimizer.get(id(optimizer))
        if run is not None:
            run.steps += 1
            run.stepped_since_snapshot += 1
            run.last_step = time.monotonic()
            with contextlib.suppress(KeyError, TypeError, ValueError):  # some optimizers choose their own, unseen
                rate = max(float(group["lr"]) for group in optimizer.param_groups)
                run.rated, run.peak_rate, run.lr_sum = True, max(run.peak_rate, rate), run.lr_sum + rate

    def snapshot_models(self) -> None:
        """Copy the model of every run that has moved since it was copied last."""
        self._snapshot_hand_trained()
        for run in self.runs:
            if run.stepped_since_snapshot and run.model is not None:
                run.stepped_since_snapshot = 0
                run.seconds = time.monotonic() - run.started
                self.copy(run)

    @staticmethod
    def copy(run: Run) -> None:
        """Copy the model of a run as it is now, or its values where it cannot be copied."""
        grads = [(p, p.grad) for p in torch.nn.Module.parameters(run.model)]
        try:
            for parameter, _grad in grads:
                parameter.grad = None  # a copy needs no gradients
            run.snapshot, run.saved_state = copy.deepcopy(run.model), None
            if not _alike(run.snapshot, run.model):
                raise ValueError("the copy is of something else")
        except Exception:
            run.snapshot = None
            run.saved_state = {name: tensor.detach().clone() for name, tensor in tensors_of(run.model).items()}
        finally:
            for parameter, grad in grads:
                parameter.grad = grad

    @contextlib.contextmanager
    def _blaming_itself(self) -> Iterator[None]:
        """What fails here is no fault of the student's training: it is noted with the run, and the training goes on."""
        try:
            yield
        except Exception as error:
            if self.runs:
                self.runs[-1].problem = f"{type(error).__name__}: {error}"[:300]

    def model_of(self, run: Run) -> Any:
        """Return the model as the run left it: the copy, or the original with the saved values put back."""
        if run.snapshot is not None:
            return run.snapshot
        if run.saved_state is not None and run.model is not None:
            with torch.no_grad():
                for name, tensor in tensors_of(run.model).items():
                    if name in run.saved_state and tensor.shape == run.saved_state[name].shape:
                        tensor.copy_(run.saved_state[name])
        return run.model
