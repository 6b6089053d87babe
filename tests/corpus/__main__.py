"""Run the corpus: `python -m tests.corpus [NAME PART]`; prints what differs from its label, and the sum of it."""

from __future__ import annotations

import sys

from grader.matrix import difference, summary
from tests.corpus import judged


def main(wanted: str = "") -> int:
    """Judge every case whose name holds `wanted`; the exit code is 1 when a verdict differs from its label."""
    cases = []
    for case in judged(wanted):
        cases.append(case)
        found = difference(case)
        if found is not None:
            print(f"{found.kind:10} {found.case}: {found.text}\n", flush=True)
    print(summary(cases))
    return 1 if any(difference(case) is not None for case in cases) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
