"""Command line: `python -m tools.standin DIR [--seed N]` writes the bundle; about 90 s on one core."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from grader.errors import GraderError
from tools.standin.build import build


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the stand-in; the exit code is 1 where that fails."""
    parser = argparse.ArgumentParser(prog="python -m tools.standin", description=build.__doc__)
    parser.add_argument("out", type=Path, metavar="DIR", help="folder to write, absent or empty")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the build (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        bundle = build(options.out, options.seed, lambda what, share: print(f"{what}: {share:.0%}", flush=True))
    except GraderError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Bundle {bundle.name} ({bundle.digest[:12]}) in {bundle.path}")
    if not bundle.calibrations:
        print("It has no thresholds yet: run `grader bundle calibrate` on it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
