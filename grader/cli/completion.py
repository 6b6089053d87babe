"""`grader completion`: commands and options completed by the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print what makes a SHELL complete commands and options.

    \b
    For this session in bash or zsh, in fish, and for good in bash:
      eval "$(grader completion bash)"
      grader completion fish | source
      grader completion bash > ~/.local/share/bash-completion/completions/grader
    """  # noqa: D301 - click: the paragraph is not wrapped
    made = get_completion_class(shell)
    assert made is not None, "click knows every shell of the choice"
    click.echo(made(click.Command("grader"), {}, "grader", "_GRADER_COMPLETE").source())
    return 0
