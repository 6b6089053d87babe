"""What the zygote imports before it forks: the kernel, the roots by hand, and what the reference run was seen to import later.

Runs in the zygote and in cold kernels. An assignment may name other roots. The last list is generated:
`python -m tests.sandbox.imports --write` runs the reference notebook in a fork of a zygote that has the roots alone, and writes down
what was imported late. A test compares.
"""

from __future__ import annotations

__all__ = ["KERNEL", "LATE", "ROOTS"]

KERNEL = (
    "numpy", "IPython.core.magics", "ipykernel.zmqshell", "ipykernel.debugger", "matplotlib_inline.backend_inline",
    "grader.inside.kernel", "grader.inside.agent", "grader.inside.shims",
)  # fmt: skip
"""The kernel itself, for every assignment."""

ROOTS = (
    "pandas", "torch", "torch.utils.data", "datasets", "transformers", "peft", "evaluate", "accelerate",
    "transformers.trainer", "transformers.training_args", "transformers.data.data_collator",
    "transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto",
    "transformers.models.distilbert.modeling_distilbert",
    "sklearn.metrics", "matplotlib.pyplot", "matplotlib.backends.backend_agg", "tqdm.auto", "tqdm.notebook",
    "grader.inside.probes.functions", "grader.inside.probes.lora", "grader.inside.probes.training",
    "grader.inside.probes.rebuilt",
)  # fmt: skip
"""What the first cell of a notebook on fine-tuning names, and what its questions need."""

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
