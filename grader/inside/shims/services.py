"""What services give back where nobody answers: the settings and names they were given, and a machine without a GPU's numbers.

Runs in the box. The contents of stub modules (`grader.inside.shims.stub_modules`); what is not here absorbs every call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from grader.inside.shims.stub_modules import Absorber

__all__ = ["SERVICES"]


class Settings(dict[str, Any]):
    """A service's settings: a dictionary whose keys are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__

    def update(self, *given: Any, **more: Any) -> None:
        """Take settings from a mapping, or from the attributes of an `argparse` namespace."""
        for item in given:
            super().update(getattr(item, "__dict__", None) or item or {})
        super().update(more)

    def setdefaults(self, given: Mapping[str, Any]) -> None:
        """Take those that are not there yet."""
        super().update({**given, **self})

    def as_dict(self) -> dict[str, Any]:
        """All of them."""
        return dict(self)


class _Run(Absorber):
    """One run of a tracker: it has the settings it was begun with, and a summary to write to."""

    def __init__(self, name: str, config: Settings) -> None:
        super().__init__(name)
        self.config, self.summary = config, Settings()


def _tracker(package: str) -> Callable[[], dict[str, Any]]:
    """The contents of wandb, and of a package with its interface."""

    def contents() -> dict[str, Any]:
        config = Settings()
        run = _Run(f"{package}.run", config)
        sweeps: dict[str, Mapping[str, Any]] = {}

        def init(*_args: Any, **given: Any) -> _Run:
            module = sys.modules[package]
            settings = given.get("config")
            chosen = dict(config)
            config.update(settings if not isinstance(settings, str) else None)
            config.update(chosen)  # what a sweep has chosen goes before a run's own
            module.__dict__.update(run=run, config=config)
            return run

        def sweep(sweep: Any = None, *_args: Any, **_given: Any) -> str:
            name = f"sweep{len(sweeps)}"
            sweeps[name] = sweep if isinstance(sweep, Mapping) else {}
            return name

        def agent(sweep_id: Any = "", function: Any = None, *_args: Any, **_given: Any) -> None:
            asked = sweeps.get(str(sweep_id).rsplit("/", 1)[-1], {})
            config.clear()
            config.update({name: _first(choice) for name, choice in dict(asked.get("parameters", {})).items()})
            if function is not None:
                function()
            config.clear()

        return {"config": config, "run": None, "init": init, "sweep": sweep, "agent": agent}

    return contents


def _first(choice: Any) -> Any:
    """The first value that a sweep would try of one parameter."""
    if not isinstance(choice, Mapping):
        return choice
    for name in ("value", "values", "min"):
        if name in choice:
            return choice[name][0] if name == "values" else choice[name]
    return None


_OF_8_BITS = frozenset(
    ("optim_bits", "args", "min_8bit_size", "percentile_clipping", "block_wise", "max_unorm", "is_paged")
)


def _bitsandbytes_optim() -> dict[str, Any]:
    """PyTorch's own optimizers under the names of those with 8 bits, whose arguments `_OF_8_BITS` mean nothing to them."""
    import torch

    def plain(real: Any) -> type:
        def init(self: Any, *args: Any, **given: Any) -> None:
            real.__init__(self, *args, **{name: value for name, value in given.items() if name not in _OF_8_BITS})

        return type(real.__name__, (real,), {"__init__": init})

    found: dict[str, Any] = {}
    for name in ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad"):
        adapted = plain(getattr(torch.optim, name))
        found |= {f"{before}{name}{bits}": adapted for before in ("", "Paged") for bits in ("", "8bit", "32bit")}
    return found


def _bitsandbytes_nn() -> dict[str, Any]:
    """PyTorch's own layers under the names of those with fewer bits."""
    import torch

    class Linear(torch.nn.Linear):
        def __init__(
            self, input_features: int, output_features: int, bias: bool = True, *_args: Any, **_given: Any
        ) -> None:
            super().__init__(input_features, output_features, bias)

    return dict.fromkeys(("Linear8bitLt", "Linear4bit", "LinearNF4", "LinearFP4"), Linear)


def _gdown() -> dict[str, Any]:
    def download(url: Any = None, output: Any = None, *_args: Any, **_given: Any) -> Any:
        return output or str(url or "").rsplit("/", 1)[-1]

    return {"download": download, "cached_download": download}


def _kaggle_secrets() -> dict[str, Any]:
    class UserSecretsClient:
        def get_secret(self, _name: str = "") -> str:
            return ""

        get_gcloud_credential = get_bigquery_access_token = get_secret

    return {"UserSecretsClient": UserSecretsClient}


SERVICES: Mapping[str, Callable[[], dict[str, Any]]] = {
    "wandb": _tracker("wandb"),
    "trackio": _tracker("trackio"),
    "bitsandbytes.optim": _bitsandbytes_optim,
    "bitsandbytes.nn": _bitsandbytes_nn,
    "gdown": _gdown,
    "kaggle_secrets": _kaggle_secrets,
}
"""Module -> what makes those of its names that do more than nothing, when it is imported."""
