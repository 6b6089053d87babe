"""The command line: arguments in, exit code out, no logic. Nothing heavy is imported before a command is chosen.

Exit codes: 0 done; 1 below full marks (`check`, `verify`); 2 usage; 3 some submissions need review; 4 the grader failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import grader

__all__ = ["main"]

_EXIT_CODES = """exit codes:
  0  done
  1  below full marks (check), or not as it should be (verify, doctor)
  2  wrong usage: the message says what to change
  3  done, but some submissions need review: see needs_review.csv
  4  the grader or its sandbox failed; nothing was charged to a student

A class, start to finish:
  grader grade submissions.zip --roster gradebook.csv --out run
  open run/class.html, settle what needs review:
  grader override run STUDENT-ID CRITERION POINTS --reason "..."
  upload run/gradebook.csv in Canvas (Gradebook > Import)
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)


def _limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits of one submission")
    group.add_argument(
        "--cpu-seconds", type=float, default=900.0, metavar="S", help="CPU time for all cells together (default: 900)"
    )
    group.add_argument(
        "--memory-gib", type=float, default=6.0, metavar="G", help="memory of all processes (default: 6)"
    )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--assignment",
        default="finetuning",
        metavar="NAME",
        help="assignment, or module:attribute (default: finetuning)",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="model, data and thresholds to run against (default: the small stand-in)",
    )
    parser.add_argument(
        "--sandbox",
        choices=("auto", "warm", "cold", "none"),
        default="auto",
        help="isolation: auto takes the best this machine has; none runs the code unprotected",
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="grader",
        description="Autograder for notebooks that fine-tune DistilBERT three ways.",
        epilog=_EXIT_CODES,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"grader {grader.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=description, formatter_class=_Help)

    check = add(
        "check",
        "check your own notebook",
        "Run one notebook and show what each criterion sees. Exit code 1 below full marks.",
    )
    check.add_argument("notebook", type=Path, help="the notebook (.ipynb); helper modules beside it are taken along")
    check.add_argument("--html", type=Path, metavar="FILE", help="also write the report as a web page")
    check.add_argument("--json", type=Path, metavar="FILE", help="also write the report as JSON")
    check.add_argument(
        "--markdown", type=Path, metavar="FILE", help="also write the report as Markdown (for CI summaries)"
    )
    check.add_argument("--junit", type=Path, metavar="FILE", help="also write the report as JUnit XML")
    _common(check)
    _limits(check)

    grade = add(
        "grade",
        "grade a class",
        "Grade a Canvas archive, a folder or single notebooks. Run it again on the same --out to continue: what is finished\n"
        "and has not changed is not run again. --only, --failed and --changed narrow down what is run; reports and tables\n"
        "are always written for all.",
    )
    grade.add_argument(
        "sources", nargs="+", type=Path, metavar="PATH", help="Canvas archive (.zip), folder, or notebook"
    )
    grade.add_argument(
        "--out", required=True, type=Path, metavar="RUN", help="folder of the run; made when it is not there"
    )
    grade.add_argument(
        "--roster", type=Path, metavar="CSV", help="Canvas gradebook export (or a CSV with columns id,name)"
    )
    grade.add_argument("--column", default="", metavar="TEXT", help="gradebook column to fill, when there are several")
    grade.add_argument("--title", default="", metavar="TEXT", help="title of the class report")
    grade.add_argument(
        "--workers", type=int, default=0, metavar="N", help="submissions side by side (default: by cores and memory)"
    )
    grade.add_argument(
        "--executor",
        default="local",
        metavar="ENGINE",
        help="where to run: local[:N], dask:ADDRESS, slurm:PROFILE.yaml, MODULE:FACTORY (default: local)",
    )
    grade.add_argument(
        "--tls", type=Path, metavar="DIR", help="folder with cert.pem and key.pem for dask:tls://HOST:PORT"
    )
    grade.add_argument(
        "--insecure-tcp", action="store_true", help="allow dask:tcp://HOST:PORT beyond this machine, unencrypted"
    )
    grade.add_argument(
        "--secret-file", type=Path, metavar="FILE", help="draw questions from this file's bytes instead of new ones"
    )
    grade.add_argument(
        "--only", action="append", default=[], metavar="ID", help="run only this submission (repeatable)"
    )
    grade.add_argument(
        "--failed",
        action="store_true",
        help="run again those that need review or whose run did not complete, nothing else",
    )
    grade.add_argument(
        "--changed", action="store_true", help="run only new and changed files, also when the grader itself has changed"
    )
    grade.add_argument("--force", action="store_true", help="run everything again, changed or not")
    grade.add_argument("--verbose", action="store_true", help="name every submission that is run, and why")
    _common(grade)
    _limits(grade)

    rejudge = add(
        "rejudge",
        "judge a run again without running any notebook",
        "Verdicts, scores and reports again from stored evidence; says what changed.",
    )
    rejudge.add_argument("run", type=Path, metavar="RUN", help="folder of a run")

    override = add(
        "override",
        "settle the points of one criterion by hand",
        "Set the points of a criterion; kept with the run, survives rejudge and always wins.",
    )
    override.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    override.add_argument("submission", metavar="ID", help="id of the submission, as in scores.csv")
    override.add_argument("criterion", metavar="CRITERION", help="e.g. lora/forward")
    override.add_argument("points", type=int, metavar="POINTS", help="points to give")
    override.add_argument("--reason", required=True, metavar="TEXT", help="why; the student reads it")

    report = add(
        "report",
        "write reports of a run in other formats",
        "Write the reports of a run again, in the formats asked for.",
    )
    report.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    report.add_argument(
        "--format", default="html,json,csv", metavar="LIST", help="of html,json,csv,junit,md (default: html,json,csv)"
    )

    verify = add(
        "verify",
        "prove that the reference gets full marks and the template none",
        "Grade the reference solution and the empty template. Exit code 1 when either is not as it should be.",
    )
    verify.add_argument("--reference", type=Path, metavar="FILE", help="notebook that must get full marks")
    verify.add_argument("--template", type=Path, metavar="FILE", help="notebook that must get nothing")
    verify.add_argument(
        "--corpus",
        type=Path,
        metavar="FOLDER",
        help="labelled submissions to judge: a Python package with a function judged() (default: tests/corpus of a checkout)",
    )
    verify.add_argument("--no-corpus", action="store_true", help="only the two notebooks")
    verify.add_argument("--markdown", type=Path, metavar="FILE", help="also write a summary as Markdown (for CI)")
    _common(verify)

    template = add(
        "template",
        "make the student template from the reference solution",
        "Write the student template from the reference solution.",
    )
    template.add_argument(
        "reference", type=Path, nargs="?", metavar="REFERENCE", help="default: the bundled reference solution"
    )
    template.add_argument(
        "template", type=Path, nargs="?", metavar="TEMPLATE", help="default: the bundled student template"
    )
    template.add_argument("--check", action="store_true", help="write nothing; exit code 1 when they are out of step")

    add(
        "doctor",
        "say what this machine can do",
        "Check the sandbox and the versions on this machine, and say what to install.",
    )

    bundle = add("bundle", "check and calibrate what submissions run against", "What submissions are run against.")
    actions = bundle.add_subparsers(dest="action", metavar="ACTION", required=True)
    calibrate = actions.add_parser(
        "calibrate", help="measure thresholds by training with many seeds", formatter_class=_Help
    )
    calibrate.add_argument("bundle", type=Path, metavar="DIR", help="folder of the bundle")
    calibrate.add_argument("--seeds", type=int, default=30, metavar="N", help="trainings per method (default: 30)")
    calibrate.add_argument(
        "--window", type=int, metavar="N",
        help="keep the thresholds, and train N times at each of 16 other choices of learning rate, epochs and batch size:"
        " a miss outside the window where right solutions pass then needs review and costs nothing",
    )  # fmt: skip
    verify_bundle = actions.add_parser(
        "verify", help="compare a bundle's files with their hashes", formatter_class=_Help
    )
    verify_bundle.add_argument(
        "bundle", type=Path, nargs="?", metavar="DIR", help="default: the stand-in that ships with the grader"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # numpy reads this once, when it is imported. The grader multiplies small matrices only: a second thread would spin beside
    # the notebooks and bring nothing. A kernel's threads are set on their own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = build_parser().parse_args(arguments)
    from grader.errors import DeclarationError, GraderError, UsageError

    try:
        code = import_module(f"grader.cli.{options.command}").run(options)
    except UsageError as error:
        print(f"grader: {error}", file=sys.stderr)
        return 2
    except DeclarationError as error:
        print(f"grader: the assignment is declared wrongly: {error}", file=sys.stderr)
        return 4
    except GraderError as error:
        print(f"grader: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        print("\ngrader: stopped; run the same command again to continue where it stopped.", file=sys.stderr)
        return 130
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
