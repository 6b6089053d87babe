"""What the zygote imports before it forks: the roots, by hand, and what the reference run was seen to import later.

Runs in the zygote and in cold kernels. The second list is generated: `python -m tests.sandbox.imports --write` runs the reference
notebook in a fork of a zygote that has the roots alone, and writes down what was imported late. A test compares.
"""

from __future__ import annotations

__all__ = ["LATE", "ROOTS"]

ROOTS = (
    "numpy", "pandas", "torch", "torch.utils.data", "datasets", "transformers", "peft", "evaluate", "accelerate",
    "transformers.trainer", "transformers.training_args", "transformers.data.data_collator",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "sklearn.metrics", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "matplotlib_inline.backend_inline",
    "tqdm.auto", "tqdm.notebook", "IPython.core.magics", "ipykernel.zmqshell", "ipykernel.debugger",
    "grader.inside.kernel", "grader.inside.agent", "grader.inside.witness",
)  # fmt: skip
"""What a notebook's first cell names, and the kernel itself."""

# fmt: off
LATE = (
    "scipy.io",
    "transformers.models.distilbert.tokenization_distilbert",
    "torch.profiler._cupti_monitor",
    "torch._subclasses.schema_check_mode",
    "pandas.io.formats.string",
    "pandas.io.formats.html",
    "zmq.utils.garbage",
)
