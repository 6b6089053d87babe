"""Warm against cold start of a boxed kernel, in pairs: until the import cell of a usual notebook is done.

`python bench/startup.py [--pairs 10]`: prints a table for docs/benchmarks.md. Start, kernel and cell are counted, the box's own
processes by their control group or /proc; the zygote's start is paid once per worker and printed beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import statistics
import time
from pathlib import Path

from grader.kernel import KernelSession
from grader.sandbox.conformance import host_facts
from grader.sandbox.pool import KernelPool

IMPORTS = """
import numpy as np, pandas as pd, torch, matplotlib.pyplot as plt, datasets, evaluate
from sklearn.metrics import accuracy_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertForSequenceClassification
from transformers import Trainer, TrainingArguments, DataCollatorWithPadding
"""


def private_bytes(pids: list[int]) -> int:
    """Memory that would come back if these processes ended."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                total += int(line.split()[1]) * 1024
    return total


async def measure(pool: KernelPool) -> tuple[float, float, float]:
    """Wall and CPU seconds (box and grader together) until the import cell is done; private MiB then."""
    began, own = time.monotonic(), time.process_time()
    async with KernelSession(pool) as session:
        run = await session.run_cell(IMPORTS, 0)
        assert run.status == "ok", run.error
        assert session.mode == pool.mode
        wall, cpu = time.monotonic() - began, session.usage.cpu_seconds + time.process_time() - own
        return wall, cpu, private_bytes(session.host_processes()) / (1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    pairs = parser.parse_args().pairs
    found: dict[str, list[tuple[float, float, float]]] = {"warm": [], "cold": []}
    with KernelPool("warm") as warm, KernelPool("cold") as cold:
        began = time.monotonic()
        warm.warm_up()
        zygote = time.monotonic() - began
        asyncio.run(measure(warm))  # the first one pays for the grader's own imports
        for number in range(pairs):
            for pool in (warm, cold) if number % 2 else (cold, warm):
                found[pool.mode].append(asyncio.run(measure(pool)))
    print("| start | wall s, median (min-max) | CPU s, median (min-max) | private MiB, median |")
    print("|---|---|---|---|")
    for mode, rows in found.items():
        wall, cpu, memory = zip(*rows, strict=True)
        print(
            f"| {mode} | {statistics.median(wall):.2f} ({min(wall):.2f}-{max(wall):.2f})"
            f" | {statistics.median(cpu):.2f} ({min(cpu):.2f}-{max(cpu):.2f}) | {statistics.median(memory):.0f} |"
        )
    ratios = [w[1] / c[1] for w, c in zip(found["warm"], found["cold"], strict=True)]
    middle, low, high = (100 * number for number in (statistics.median(ratios), min(ratios), max(ratios)))
    print(f"\nCPU warm/cold, median of {pairs} pairs: {middle:.1f} % ({low:.1f}-{high:.1f})")
    print(f"Zygote, once per worker: {zygote:.1f} s wall")
    print(", ".join(f"{name} {value}" for name, value in host_facts().items()), platform.processor())


if __name__ == "__main__":
    main()
