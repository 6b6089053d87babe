"""`grader check` of the package for students: what a notebook's functions and class do. No cell is run and nothing trains."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from types import SimpleNamespace

__all__ = ["main"]

_WHOLE = (
    "Only the whole grader can run a notebook (dat450-grader, on Linux). Here `grader check NOTEBOOK --fast` looks at its functions and"
    " its class, and in the notebook itself `from grader import check` and `check()` look at trainings, too."
)
_NOTHING_RAN = (
    "No cell was run: trainings are checked in the notebook itself, with `from grader import check`, `check()`."
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 where all that is there is right, 1 where it is not, 2 for wrong usage."""
    for stream in (sys.stdout, sys.stderr):  # Windows may have a code page without ticks and crosses
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    parser = argparse.ArgumentParser("grader", description=__doc__, epilog=_WHOLE)
    parser.add_argument("command", metavar="check", help="The one command of this package.")
    parser.add_argument("notebook", nargs="?", type=Path, metavar="NOTEBOOK", help="Your .ipynb file.")
    parser.add_argument("--fast", action="store_true", help="Functions and the class only, from their definitions.")
    parser.add_argument("--step", default="", metavar="PART", help="One part of the assignment only, e.g. lora.")
    given, others = parser.parse_known_args(arguments)
    if given.command != "check" or not given.fast or given.notebook is None or others:
        parser.error(_WHOLE)
    from grader.errors import GraderError

    try:
        return _check(given.notebook, given.step)
    except ImportError as error:
        parser.error(f"{error}. It is needed here: pip install {error.name}")
    except (GraderError, OSError) as error:
        parser.error(str(error))


def _check(path: Path, step: str) -> int:
    """Define what the notebook defines, beside helper modules of its folder, and show the card."""
    from grader.notebook.reader import read_notebook

    notebook = read_notebook(path.read_bytes())
    import torch  # noqa: F401 - without it there is nothing to check
    from IPython.core.interactiveshell import InteractiveShell

    os.chdir(path.resolve().parent)
    sys.path.insert(0, str(Path.cwd()))
    shell = InteractiveShell.instance()

    from grader.inside.agent import handle
    from grader.selfcheck import check  # watches what the shell defines from now on
    from grader.selfcheck.asking import set_up

    set_up()
    for cell in notebook.cells:
        params = {"index": cell.index, "source": cell.source}
        handle(SimpleNamespace(shell=shell), {"op": "define", "params": params}, [])
    card = check(*([step] if step else []))
    print(_NOTHING_RAN)
    judged = [row.mark for row in card.rows if row.mark != "open"]
    return int(not judged or any(mark != "passed" for mark in judged))


if __name__ == "__main__":
    sys.exit(main())
