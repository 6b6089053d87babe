"""Sees trainings in a student's own kernel, as the grading's witness does, and keeps no model alive for it."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

from grader.inside.distilbert import layout
from grader.inside.hooks import torch
from grader.inside.witness import Run, Witness

__all__ = ["KernelWitness", "watch"]

_MOST = 24


class _WeakRun(Run):
    """A run that does not keep its model alive."""

    @property
    def model(self) -> Any:
        """The model, as it is now; None when the notebook has let go of it."""
        return self._model()

    @model.setter
    def model(self, model: Any) -> None:
        self._model = weakref.ref(model)


class KernelWitness(Witness):
    """What is known of the trainings so far: how each began, and how it went. Nothing is copied, models are referred to weakly."""

    runs: list[Run]

    def __init__(self) -> None:
        super().__init__(layout)
        self.on_end: Callable[[Run], None] = lambda _run: None
        """Called with each run that has ended or paused."""

    def _watch_backward(self) -> None:
        """Loops without any optimizer are not seen here."""

    def _begin(self, optimizer: Any) -> None:
        super()._begin(optimizer)
        self._optimizers.clear()
        if id(optimizer) in self._by_optimizer:
            weakref.finalize(optimizer, self._by_optimizer.pop, id(optimizer), None)
            run = self.runs[-1]
            model = vars(run).pop("model")
            run.__class__ = _WeakRun
            run.model, run.parameters = model, {}

    def _make_room(self) -> None:
        for run in self.runs[: 1 - _MOST]:
            run.begun = {}

    def snapshot_models(self) -> None:
        """Note that trainings have ended or paused."""
        for run in self.runs:
            if run.stepped_since_snapshot:
                run.stepped_since_snapshot = 0
                run.seconds = time.monotonic() - run.started
                if run.model is not None:
                    self.on_end(run)

    def model_of(self, run: Run) -> Any:
        """The model that a run trained, as it is now."""
        return run.model

    def run_of(self, model: Any) -> Run | None:
        """The latest run that trained a model, something in it or around it."""
        modules = torch.nn.Module.modules
        for run in reversed(self.runs):
            trained = run.model
            if trained is not None and any(
                one is part for one, other in ((trained, model), (model, trained)) for part in modules(other)
            ):
                return run
        return None


def watch() -> KernelWitness:
    """Watch every training of this process from now on."""
    import torch  # noqa: F401 - what is watched

    witness = KernelWitness()
    witness.install()
    return witness
