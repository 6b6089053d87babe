"""`grader doctor`: what this machine can do, what it cannot, and what to install."""

from __future__ import annotations

import click
from rich.table import Table

from grader.cli.common import bar, console
from grader.sandbox.conformance import CHECKS, Finding, conform, host_facts
from grader.sandbox.host import available_modes

__all__ = ["doctor"]


@click.command()
def doctor() -> int:
    """Try the box and show the versions on this machine, and say what to install. Exit code 1 when a promise does not hold."""
    facts = Table(title="What results depend on", title_justify="left", show_header=False, box=None)
    for name, value in host_facts().items():
        facts.add_row(f"[dim]{name}[/dim]", value)
    console.print(facts)
    usable = available_modes()
    if usable["warm"] and usable["cold"]:
        console.print(f"\n[bold red]No box can be built here:[/bold red] {usable['cold']}", soft_wrap=True)
        console.print(
            "`grader check` still runs your own notebook; `grader grade` refuses unless --sandbox none is given."
        )
        return 1
    findings: list[Finding] = []
    with bar() as progress:
        task = progress.add_task("trying the box", total=len(CHECKS))

        def on_finding(finding: Finding) -> None:
            findings.append(finding)
            progress.update(task, advance=1, description=finding.name)

        def started(why_cold: str) -> None:
            if why_cold:
                console.print(
                    f"[yellow]Kernels start cold here, some seconds of CPU time each:[/yellow] {why_cold}.",
                    soft_wrap=True,
                )

        conform("warm" if not usable["warm"] else "cold", on_finding, started)
    table = Table(title="The box on this machine", title_justify="left", box=None, pad_edge=False)
    for header in ("", "promise", "what was found", "s"):
        table.add_column(header, justify="right" if header == "s" else "left", overflow="fold")
    for finding in findings:
        mark = "[green]holds[/green]" if finding.ok else "[bold red]FAILS[/bold red]"
        table.add_row(mark, finding.promise, finding.why, f"{finding.seconds:.1f}")
    console.print(table)
    broken = [finding.name for finding in findings if not finding.ok]
    if broken:
        console.print(
            f"[bold red]{len(broken)} of {len(findings)} promises do not hold.[/bold red] Do not grade untrusted notebooks here."
        )
        return 1
    console.print(f"All {len(findings)} promises hold.")
    return 0
