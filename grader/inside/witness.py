"""The witness: sees every training run while it happens, whatever the student calls things.

Runs inside the box, so what it says is a claim. Official hooks are used: the optimizers' global
step hooks, and a wrapper around `Trainer.train` to know when a run is over. For each run it keeps which model was trained
(reached from the stepped parameters), the state of its tensors before the first step, and a copy of the model as the
training left it.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from grader.inside.hooks import when_imported

_MAX_RUNS = 24


class TrainingForbidden(BaseException):
    """A function that was only tried out began to train."""


@dataclass
class TensorState:
    """One tensor of a model at one moment."""

    name: str
    shape: tuple[int, ...]
    trainable: bool
    digest: str
    parameter: bool


@dataclass
class Run:
    """One training run: the steps of one optimizer."""

    order: int
    model: Any
    optimizer: str
    start: list[TensorState]
    layout: dict[str, Any]
    cell: int | None
    steps: int = 0
    stepped_since_snapshot: int = 0
    started: float = 0.0
    seconds: float = 0.0
    snapshot: Any = None
    saved_state: dict[str, Any] | None = None
    training_log: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""


def digest(tensor: Any) -> str:
    """Digest of a tensor's float32 values and shape; equal tensors have equal digests wherever they are kept."""
    torch = sys.modules["torch"]
    plain = torch.Tensor.detach(tensor)
    if plain.is_floating_point():
        plain = plain.to(torch.float32)
    data = plain.cpu().contiguous()
    shape = ",".join(str(n) for n in data.shape)
    return hashlib.blake2b(shape.encode() + data.numpy().tobytes(), digest_size=16).hexdigest()


def states(model: Any) -> list[TensorState]:
    """State of every registered parameter and buffer, shared ones once."""
    torch = sys.modules["torch"]
    found, seen = [], set()
    members = [(n, p, True) for n, p in torch.nn.Module.named_parameters(model)]
    members += [(n, b, False) for n, b in torch.nn.Module.named_buffers(model)]
    for name, tensor, is_parameter in members:
        if id(tensor) in seen or tensor.is_meta:
            continue
        seen.add(id(tensor))
        trainable = bool(is_parameter and tensor.requires_grad)
        found.append(TensorState(name, tuple(tensor.shape), trainable, digest(tensor), is_parameter))
    return found


def owner(parameters: list[Any]) -> Any:
    """Return the smallest-depth (largest) module that holds all of `parameters`, or most of them."""
    torch = sys.modules["torch"]
    wanted = {id(p) for p in parameters}
    best, best_key = None, (0, 0)
    for candidate in gc.get_objects():
        try:
            if not issubclass(type(candidate), torch.nn.Module):
                continue
            held = {id(p) for p in torch.nn.Module.parameters(candidate)}
        except Exception:  # noqa: S112 - half-built or hostile objects are passed over
            continue
        key = (len(wanted & held), len(held))
        if key > best_key:
            best, best_key = candidate, key
    return best


class Witness:
    """Watches the optimizers of this process. One per kernel."""

    def __init__(self, layout: Callable[[Any], dict[str, Any]] | None = None) -> None:
        self.runs: list[Run] = []
        self.current_cell: int | None = None
        self.forbids_training = False
        """True while the grader tries out an unknown function: the first step of an optimizer then raises."""
        self._by_optimizer: dict[int, Run] = {}
        self._optimizers: list[Any] = []  # kept alive, so that an id is never used twice
        self._layout: Callable[[Any], dict[str, Any]] = layout or (lambda _model: {})
        self._handles: list[Any] = []

    def install(self) -> None:
        """Hook into torch's optimizers and transformers' Trainer, both already imported or not."""
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        self._handles = [register_optimizer_step_pre_hook(self._before), register_optimizer_step_post_hook(self._after)]
        when_imported("transformers.trainer", self._watch_trainer)

    def _watch_trainer(self, module: Any) -> None:
        if not hasattr(module.Trainer.train, "__witnessed__"):
            module.Trainer.train = self._wrap_train(module.Trainer.train)

    def _wrap_train(self, train: Any) -> Any:
        import functools

        witness = self

        @functools.wraps(train)
        def watched(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            first = len(witness.runs)
            try:
                return train(trainer, *args, **kwargs)
            finally:
                witness._train_over(trainer, first)

        watched.__witnessed__ = True  # type: ignore[attr-defined]
        return watched

    def _train_over(self, trainer: Any, first: int) -> None:
        try:
            history = getattr(getattr(trainer, "state", None), "log_history", None)
            log = [dict(entry) for entry in history][-200:] if isinstance(history, list) else []
            for run in self.runs[first:]:
                run.training_log = log
            self.settle()
        except Exception as error:
            self._blame(error)

    def _before(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if self.forbids_training:
            raise TrainingForbidden
        if id(optimizer) in self._by_optimizer:
            return
        try:
            self._begin(optimizer)
        except Exception as error:
            self._blame(error)

    def _begin(self, optimizer: Any) -> None:
        self.settle()
        self._optimizers.append(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        model = owner(parameters)
        if model is None or len(self.runs) >= _MAX_RUNS:
            return
        run = Run(
            len(self.runs), model, type(optimizer).__name__, states(model), self._layout(model), self.current_cell
        )
        run.started = time.monotonic()
        self._by_optimizer[id(optimizer)] = run
        self.runs.append(run)

    def _after(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        run = self._by_optimizer.get(id(optimizer))
        if run is not None:
            run.steps += 1
            run.stepped_since_snapshot += 1

    def settle(self) -> None:
        """Copy the model of every run that has moved since it was copied last."""
        for run in self.runs:
            if run.stepped_since_snapshot and run.model is not None:
                run.stepped_since_snapshot = 0
                run.seconds = time.monotonic() - run.started
                self._copy(run)

    def _copy(self, run: Run) -> None:
        torch = sys.modules["torch"]
        grads = [(p, p.grad) for p in torch.nn.Module.parameters(run.model)]
        try:
            for parameter, _grad in grads:
                parameter.grad = None  # a copy needs no gradients
            run.snapshot, run.saved_state = copy.deepcopy(run.model), None
        except Exception:
            tensors = [*torch.nn.Module.named_parameters(run.model), *torch.nn.Module.named_buffers(run.model)]
            run.snapshot = None
            run.saved_state = {name: tensor.detach().clone() for name, tensor in tensors}
        finally:
            for parameter, grad in grads:
                parameter.grad = grad

    def _blame(self, error: Exception) -> None:
        if self.runs:
            self.runs[-1].problem = f"{type(error).__name__}: {error}"[:300]

    def model_of(self, run: Run) -> Any:
        """Return the model as the run left it: the copy, or the original with the saved values put back."""
        torch = sys.modules["torch"]
        if run.snapshot is not None:
            return run.snapshot
        if run.saved_state is not None and run.model is not None:
            tensors = [*torch.nn.Module.named_parameters(run.model), *torch.nn.Module.named_buffers(run.model)]
            with torch.no_grad():
                for name, tensor in tensors:
                    if name in run.saved_state and tensor.shape == run.saved_state[name].shape:
                        tensor.copy_(run.saved_state[name])
        return run.model
