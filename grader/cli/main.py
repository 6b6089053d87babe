"""The command line: arguments in, exit code out. A command's module is imported when the command is chosen, so that help is quick.

Exit codes: 0 done; 1 below full marks (`check`), not as it should be (`verify`, `template`, `doctor`); 2 wrong usage; 3 some
submissions need review; 4 the grader or its machine failed; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

import grader
from grader.cli.streams import claim_streams
from grader.errors import DeclarationError, GraderError, UsageError
from grader.imports import leave_out

__all__ = ["commands", "completion", "main"]

COMMANDS = {
    "check": ("check", "Check your own notebook."),
    "grade": ("grade", "Grade a class."),
    "override": ("runs", "Set points by hand."),
    "regrade": ("runs", "Run one submission again, with other limits or another seed."),
    "rejudge": ("runs", "Judge a run again without running any notebook."),
    "report": ("runs", "Write the reports of a run in other formats."),
    "canvas": ("canvas", "Fetch submissions from Canvas, and send scores and feedback back."),
    "forget": ("runs", "Take one person out of a run."),
    "doctor": ("doctor", "Say what this machine can do, and what to install."),
    "verify": ("verify", "Prove that the reference gets full marks and the template none."),
    "template": ("template", "Make the student template from the reference solution."),
    "bundle": ("bundle", "Check and calibrate what submissions run against."),
    "completion": ("main", "Print what makes your shell complete commands and options."),
}
"""Name -> (module below `grader.cli` that holds the command by this name, its line in the help)."""


class _Commands(click.Group):
    """The commands, none of which is imported to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """Import the module of a command."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"grader.cli.{COMMANDS[name][0]}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002
        """Complete the name of a command."""
        known = {name: text for name, (_module, text) in COMMANDS.items() if name.startswith(incomplete)}
        return [CompletionItem(name, help=text) for name, text in known.items()]


@click.group(cls=_Commands, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]})
@click.version_option(grader.__version__, prog_name="grader", message="%(prog)s %(version)s")
def commands() -> None:
    """Autograder for notebooks that fine-tune DistilBERT three ways.

    \b
    A class, start to finish:
      grader grade submissions.zip --roster gradebook.csv --out run
      open run/class.html, and settle what run/needs_review.csv lists:
      grader override run STUDENT-ID CRITERION POINTS --reason "..."
      upload run/gradebook.csv in Canvas (Gradebook > Import)

    \b
    Your own notebook:
      grader check finetuning.ipynb

    \b
    Exit codes:
      0  done
      1  below full marks (check), or not as it should be (verify, template, doctor)
      2  wrong usage: the message says what to change
      3  done, but some submissions need review: see needs_review.csv
      4  the grader or its sandbox failed; nothing was charged to a student
    """  # noqa: D301 - click: the paragraph is not wrapped
    encoding = sys.getfilesystemencoding()
    if encoding.lower().replace("-", "") != "utf8":
        raise UsageError(
            f"file names are {encoding} here, and students' names need UTF-8; set PYTHONUTF8=1 and try again"
        )


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    leave_out()
    # numpy reads this once, when it is imported. The grader multiplies small matrices only: a second thread would spin beside
    # the notebooks and bring nothing. A kernel's threads are set on their own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if asked := os.environ.get("_GRADER_COMPLETE"):  # a shell asks, see `completion`
        return shell_complete(commands, {}, "grader", "_GRADER_COMPLETE", asked)
    try:
        output, errors = claim_streams()
    except GraderError as error:
        print(f"grader: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 4
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        return output.exit_code(_run(sys.argv[1:] if arguments is None else list(arguments)))


def _run(arguments: list[str]) -> int:
    """Run a command; what goes wrong becomes one sentence and an exit code."""
    try:
        with commands.make_context("grader", arguments) as context:
            return int(commands.invoke(context))
    except click.exceptions.Exit as ended:  # of --help and --version
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        code, message = 2, error.format_message()
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "grader"
        code, message = 2, f"{command}: {error.format_message()} (see `{command} --help`)"
    except GraderError as error:
        what = "the assignment is declared wrongly: " if isinstance(error, DeclarationError) else ""
        code, message = 2 if isinstance(error, UsageError) else 4, f"grader: {what}{error}"
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code, message = 4, f"grader: {where}{error.strerror or error}"
    except Exception as error:
        traceback.print_exc()
        what = f"a fault of the grader itself ({type(error).__name__})"
        code, message = 4, f"grader: {what}; please report the lines above"
    except KeyboardInterrupt:
        code, message = 130, "\ngrader: stopped; run the same command again to continue where it stopped."
    print(message, file=sys.stderr)
    return code
