"""Seconds of each kind of self-check in a student's kernel, cold (the first in a fresh kernel) and warm (the second).

    python -m bench.check [--kernels 5]

Fresh IPython kernels with the reference's cells and the stand-in; trainings take 40 steps. Wall time from the request to the reply,
medians over the kernels. What is cold has everything that the notebook itself imports, and nothing more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from bench.measure import machine
from grader.bundles.bundle import load_bundle
from grader.bundles.hf_cache import prepare_home
from tests.selfcheck.steps import SHORT, steps

KINDS = (
    "from grader import check",
    "check(count_trainable_parameters)",
    "check(extract_qv_layers)",
    "check(replace_layers)",
    "check(LoRA)",
    "check()",
    'check("head", model)',
    "check()  # after a training",
)
HEAD = "model = AutoModelForSequenceClassification.from_pretrained(MODEL_NAME, num_labels=2)\nmodel.distilbert.requires_grad_(False)\n"


def run(client: Any, source: str) -> float:
    """Seconds until the kernel has replied."""
    began = time.perf_counter()
    reply = client.execute_interactive(source, timeout=600, output_hook=lambda _: None)["content"]
    assert reply["status"] == "ok", f"{source}: {reply.get('ename')}: {reply.get('evalue')}"
    return time.perf_counter() - began


def one_kernel(folder: Path, cells: list[str]) -> dict[str, tuple[float, float]]:
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(folder))
    try:
        for source in cells:
            run(client, source)
        found = {}
        for kind in KINDS:
            if kind.startswith('check("head"'):
                run(client, HEAD + SHORT)
            found[kind] = (run(client, kind), run(client, kind))
        return found
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", type=int, default=5)
    kernels = parser.parse_args().kernels
    bundle = load_bundle()
    with tempfile.TemporaryDirectory() as home:
        prepare_home(bundle, Path(home, "hf"))
        os.environ.update(HF_HOME=str(Path(home, "hf")), HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
        folder = Path(home, "work")
        folder.mkdir()
        for file in (bundle.train_csv, bundle.eval_csv):
            shutil.copy(file, folder)
        # all cells that define and load, without trainings and what shows their results
        cells = [
            step.source.replace("from grader import check", "raise ImportError") for step in steps() if not step.marks
        ]
        cells = [
            source
            for source in cells
            if not any(word in source for word in ("fine_tune(model,", "trainers", "comparison"))
        ]
        found = [one_kernel(folder, cells) for _ in range(kernels)]
    print(machine())
    print(f"medians of {kernels} kernels, seconds\n\n| check | cold | warm |\n|---|---|---|")
    for kind in KINDS:
        cold, warm = (statistics.median(times[kind][i] for times in found) for i in (0, 1))
        print(f"| `{kind}` | {cold:.2f} | {warm:.2f} |")


if __name__ == "__main__":
    main()
