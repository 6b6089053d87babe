"""`grader doctor`: what this machine can do, what it cannot, and what to install."""

from __future__ import annotations

import os
import platform

import click
from rich.table import Table
from rich.text import Text

from grader.cli.common import console, say, working
from grader.grading.fingerprint import versions
from grader.sandbox.conformance import CHECKS, Finding, conform
from grader.sandbox.host import why_no_box
from grader.sandbox.pool import KernelPool

__all__ = ["doctor"]


@click.command()
def doctor() -> int:
    """Try the box and show the versions on this machine, and say what to install. Exit code 1 when a promise does not hold."""
    facts = Table(title="What results depend on", title_justify="left", show_header=False, box=None)
    facts.add_column(style="dim")
    why = why_no_box()
    host = {"machine": platform.machine(), "system": platform.platform(), "processors": str(os.cpu_count() or "?")}
    modes = {"sandbox warm": why or "works", "sandbox cold": why or "works", "sandbox none": "works"}
    if not why:
        with KernelPool("cold", preload=()) as pool:
            modes["control groups"] = pool.no_groups or "work"
    for name, value in {**versions(), **host, **modes}.items():
        facts.add_row(name, value)
    console.print(facts)
    if why:
        say(f"\nNo box can be built here: {why}", "bold red")
        say("`grader check` still runs your own notebook; `grader grade` refuses unless --sandbox none is given.")
        return 1
    findings: list[Finding] = []
    with working("trying the box", len(CHECKS)) as update:

        def on_start(why_cold: str) -> None:
            if why_cold:
                say(f"Kernels start cold here, some seconds of CPU time each: {why_cold}.", "yellow")

        for finding in conform(on_start):
            findings.append(finding)
            update(advance=1, description=finding.name)
    table = Table(title="The box on this machine", title_justify="left", box=None, pad_edge=False)
    for header in ("", "promise", "what was found", "s"):
        table.add_column(header, justify="right" if header == "s" else "left", overflow="fold")
    for finding in findings:
        mark = Text("holds", "green") if finding.ok else Text("FAILS", "bold red")
        table.add_row(mark, finding.promise, finding.why, f"{finding.seconds:.1f}")
    console.print(table)
    broken = sum(not finding.ok for finding in findings)
    if broken:
        say(f"{broken} of {len(findings)} promises do not hold. Do not grade untrusted notebooks here.", "bold red")
        return 1
    say(f"All {len(findings)} promises hold.")
    return 0
