"""Packages that a notebook may import although the box does not have them: they plot, log or talk to a service.

Their place is taken by stubs that absorb every call (`grader.inside.shims.stub_modules`); nothing that is graded needs them.
A package that is not listed here and is missing stays missing: the student's code could depend on what it computes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from grader.notebook.adapt.environment import Environment
from grader.records import Adaptation

__all__ = ["SERVICES", "STAND_INS", "import_adaptations"]

SERVICES = frozenset(
    {"wandb", "mlflow", "comet_ml", "neptune", "clearml", "dvclive", "aim", "trackio", "kaggle", "gdown"}
)
"""Packages that talk to a service: a stub takes their place even where they are installed."""

STAND_INS = SERVICES | frozenset(
    {"seaborn", "plotly", "bokeh", "altair", "wordcloud", "missingno", "bertviz", "graphviz", "torchviz", "netron"}
    | {"torchinfo", "torchsummary", "torchsummaryX", "ipywidgets", "tensorboard", "tensorboardX", "tensorboardcolab"}
    | {"dotenv", "colorama", "termcolor", "tabulate", "prettytable", "watermark", "gradio", "streamlit", "opendatasets"}
    | {"kaggle_secrets", "kagglehub", "line_profiler", "memory_profiler", "pynvml", "GPUtil", "nvidia_smi"}
    | {"bitsandbytes", "codecarbon", "cartopy", "japanize_matplotlib", "scienceplots", "pyngrok"}
)
"""Packages whose place a stub takes where they are missing."""

_COLAB = "Colab's own functions do not exist while grading; stubs take their place."
_MISSING = "This package is not part of what is graded; a stub that does nothing takes its place."


def import_adaptations(tree: ast.Module, environment: Environment, cell: int) -> Iterator[Adaptation]:
    """One adaptation for each package imported in `tree` whose place a stub takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in dict.fromkeys(filter(None, (stand_in(name, environment) for name in names))):
            rule, reason = ("colab", _COLAB) if name == "google.colab" else ("stub-module", _MISSING)
            yield Adaptation(cell, rule, f"import {name}", "", reason)


def stand_in(module: str, environment: Environment) -> str | None:
    """The package whose stub answers an import of `module`, or None when the real one does."""
    top = module.split(".")[0]
    if module == "google.colab" or module.startswith("google.colab."):
        return "google.colab"
    if (module + ".").startswith("torch.utils.tensorboard.") and "tensorboard" not in environment.packages:
        return "torch.utils.tensorboard"
    if top in SERVICES or (top in STAND_INS and top not in environment.packages):
        return top
    return None
