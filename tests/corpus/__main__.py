"""Run the corpus: `python -m tests.corpus [NAME PART]`; prints what differs from its label, and the sum of it.

`--json FILE` writes every verdict, so that two runs can be compared: `--threads 4` beside busy processes is another machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.corpus import judged
from tests.corpus.matrix import difference, summary


def main(arguments: list[str] | None = None) -> int:
    """Judge the chosen cases; the exit code is 1 when a verdict differs from its label."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("names", nargs="?", default="", help="only cases whose name holds this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth of these")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all verdicts")
    options = parser.parse_args(arguments)
    cases = []
    for case in judged(options.names, options.every, options.threads):
        cases.append(case)
        found = difference(case)
        if found is not None:
            print(f"{found.kind:10} {found.case}: {found.text}\n", flush=True)
    print(summary(cases))
    if options.json:
        verdicts = {f"{case.part}/{case.name}": {c: v.status for c, v in case.verdicts.items()} for case in cases}
        options.json.write_text(json.dumps(verdicts, indent=1), encoding="utf-8")
    return 1 if any(difference(case) is not None for case in cases) else 0


if __name__ == "__main__":
    sys.exit(main())
