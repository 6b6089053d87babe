"""A warm kernel in the box against a plain cold kernel, in pairs: until the import cell of a usual notebook is done.

`python -m bench.startup [--pairs 12]` prints every pair, the stages of a warm start and a table for docs/benchmarks.md; exit status 1
when a target is missed.

Cold: the kernel everybody starts, `python -m ipykernel_launcher` by jupyter_client and nbclient, nothing imported before, no box.
Warm: a fork of the zygote in a full box, with its limits and its watchdog. Both sides run the same cell.

Wall time is from the wish for a kernel to the reply to the import cell. CPU time is that of everything that worked for it meanwhile:
the kernel, this process, its helpers (bubblewrap), and the zygote's part of the fork. Memory is what the kernel alone would give back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from bench.measure import machine
from grader.sandbox import provisioner
from grader.sandbox.cgroup import ControlGroup
from grader.sandbox.contract import Limits
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession
from grader.sandbox.zygote import Zygote

IMPORTS = """
import numpy as np, pandas as pd, torch, matplotlib.pyplot as plt, datasets, evaluate
from sklearn.metrics import accuracy_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertForSequenceClassification
from transformers import Trainer, TrainingArguments, DataCollatorWithPadding
"""
CPU_PERCENT, WALL_SECONDS, PRIVATE_MB = 5.0, 0.6, 60.0
"""What is asked for: warm CPU in percent of cold, warm wall seconds on an idle machine, private megabytes of one more kernel."""


@dataclass
class Start:
    """One start."""

    wall: float = 0.0
    """Seconds until the import cell was done."""
    kernel: float = 0.0
    """CPU seconds of the kernel, and of the box's first process once it is counted."""
    own: float = 0.0
    """CPU seconds of this process and of helpers it has waited for."""
    zygote: float = 0.0
    """CPU seconds of the zygote and of what it forked, until the kernel was counted by itself."""
    private: float = 0.0
    """Megabytes (10^6 bytes) of the kernel that nobody shares, after the import cell and before any training."""
    stages: dict[str, float] = field(default_factory=dict)
    """Wall seconds of each stage."""

    @property
    def cpu(self) -> float:
        """All of it."""
        return self.kernel + self.own + self.zygote


def own_cpu() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def kernel_cpu(pid: int) -> float:
    """CPU seconds of a process, its threads ended or not included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def private(pid: int) -> float:
    """Megabytes that would come back if this process ended."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / 1e6


class ZygoteClock:
    """CPU seconds of the zygote and of its forks before they count by themselves: exact where a control group can be made."""

    def __init__(self, pid: int) -> None:
        self.pid, self.group = pid, ControlGroup.create(Limits(), f"bench-zygote-{pid}")
        if self.group is not None:
            self.group.add(pid)
        self.how = "its control group" if self.group is not None else "its own run time, without the process between"

    def __call__(self) -> float:
        if self.group is not None:
            return self.group.cpu_seconds()
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def close(self) -> None:
        if self.group is not None:
            self.group.remove()


@contextlib.contextmanager
def stopwatch(seconds: dict[str, float]) -> Iterator[None]:
    """Note how long the stages of a start take, while it lasts."""

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def plain(*arguments: Any, **options: Any) -> Any:
            began = time.monotonic()
            try:
                return function(*arguments, **options)
            finally:
                seconds[name] = time.monotonic() - began

        async def waiting(*arguments: Any, **options: Any) -> Any:
            began = time.monotonic()
            try:
                return await function(*arguments, **options)
            finally:
                seconds[name] = time.monotonic() - began

        return waiting if asyncio.iscoroutinefunction(function) else plain

    places = [
        ("the box is built", provisioner, "build"), ("the fork is in it", Zygote, "request"),
        ("folder, sockets", provisioner.Provisioner, "_start"), ("the kernel answers", KernelSession, "_ready"),
    ]  # fmt: skip
    kept = [getattr(place, name) for _, place, name in places]
    for (label, place, name), function in zip(places, kept, strict=True):
        setattr(place, name, timed(label, function))
    try:
        yield
    finally:
        for (_, place, name), function in zip(places, kept, strict=True):
            setattr(place, name, function)
        seconds["folder, sockets"] -= seconds["the box is built"] + seconds["the fork is in it"]


async def warm(pool: KernelPool, clock: ZygoteClock) -> Start:
    start = Start()
    began, own, zygote = time.monotonic(), own_cpu(), clock()
    with stopwatch(start.stages):
        async with KernelSession(pool) as session:
            run = await session.run_cell(IMPORTS, 0)
            start.wall = time.monotonic() - began
            start.zygote = clock() - zygote
            start.kernel = session.usage.cpu_seconds
            assert (run.status, session.kernel.mode) == ("ok", "warm"), (run.error, session.kernel.mode)
            start.stages["the import cell"] = run.seconds
            start.private = private(session.kernel.pid)
    start.own = own_cpu() - own  # with bubblewrap, which is waited for at the end only
    return start


async def cold() -> Start:
    start = Start()
    began, own = time.monotonic(), own_cpu()
    cell = nbformat.v4.new_code_cell(IMPORTS)
    manager = AsyncKernelManager(kernel_name="python3")
    client = NotebookClient(nbformat.v4.new_notebook(cells=[cell]), km=manager, timeout=None)
    async with client.async_setup_kernel(cleanup_kc=True, stderr=subprocess.DEVNULL):
        await client.async_execute_cell(cell, 0)
        start.wall = time.monotonic() - began
        start.own = own_cpu() - own
        pid = manager.provisioner.process.pid  # type: ignore[union-attr]
        start.kernel, start.private = kernel_cpu(pid), private(pid)
        await manager.shutdown_kernel(now=True)
    return start


def summary(name: str, starts: list[Start]) -> str:
    wall, cpu = [s.wall for s in starts], [s.cpu for s in starts]
    return (
        f"| {name} | {statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}) "
        f"| {statistics.median(cpu):.3f} ({min(cpu):.3f} to {max(cpu):.3f}) "
        f"| {statistics.median(s.private for s in starts):.0f} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="warm against cold start")
    parser.add_argument("--pairs", type=int, default=12)
    pairs = parser.parse_args().pairs
    found: dict[str, list[Start]] = {"warm": [], "cold": []}
    with KernelPool("warm") as pool:
        began = time.monotonic()
        pool.warm_up()
        ready = time.monotonic() - began
        zygote = pool.zygote
        assert zygote is not None
        zygote_cpu, clock = kernel_cpu(zygote.pid), ZygoteClock(zygote.pid)
        # the first of each pays for this process's own imports and for reading the disk
        asyncio.run(warm(pool, clock))
        asyncio.run(cold())
        for number in range(pairs):
            for mode in ("warm", "cold") if number % 2 else ("cold", "warm"):
                found[mode].append(asyncio.run(warm(pool, clock) if mode == "warm" else cold()))
            w, c = found["warm"][-1], found["cold"][-1]
            print(
                f"{number + 1:3}  cold {c.wall:5.2f} s, CPU {c.cpu:5.2f} s   warm {w.wall:5.3f} s, CPU {w.cpu:5.3f} s"
                f" (kernel {w.kernel:.3f}, grader and bubblewrap {w.own:.3f}, zygote {w.zygote:.3f})"
                f"   {100 * w.cpu / c.cpu:4.1f} %   private {w.private:.0f} MB",
                flush=True,
            )
        how = clock.how
    clock.close()
    percent = statistics.median(100 * w.cpu / c.cpu for w, c in zip(found["warm"], found["cold"], strict=True))
    wall = statistics.median(s.wall for s in found["warm"])
    memory = statistics.median(s.private for s in found["warm"])
    print("\n| start | wall s, median (range) | CPU s, median (range) | private MB, median |\n|---|---|---|---|")
    print(summary("plain cold kernel", found["cold"]))
    print(summary("warm, in the box", found["warm"]))
    print("\n| stage of a warm start | wall ms, median |\n|---|---|")
    for name in found["warm"][0].stages:
        print(f"| {name} | {1000 * statistics.median(s.stages[name] for s in found['warm']):.0f} |")
    print(
        f"\nThe zygote, once per worker: {ready:.1f} s, {zygote_cpu:.1f} s of CPU. Its part of a fork is read from {how}."
    )
    print(machine())
    targets = (
        (f"CPU warm/cold, median of {pairs} pairs", percent, CPU_PERCENT, "%"),
        ("warm wall", wall, WALL_SECONDS, "s"), ("private memory", memory, PRIVATE_MB, "MB"),
    )  # fmt: skip
    for name, value, most, unit in targets:
        print(f"{'holds ' if value <= most else 'MISSED'} {name}: {value:.2f} {unit}, at most {most:g} {unit}")
    return int(any(value > most for _, value, most, _ in targets))


if __name__ == "__main__":
    raise SystemExit(main())
