"""Run the function-level corpus: `python -m tests.corpus [NAME PART]`; prints false fails, misses and misplaced verdicts."""

from __future__ import annotations

import sys
from collections import Counter

from tests.corpus import CASES
from tests.corpus.functions import differences, verdicts


def main(wanted: str = "") -> int:
    """Judge every case whose name holds `wanted`; the exit code is 1 when a verdict differs from its label."""
    chosen = [case for case in CASES.values() if wanted in case.name]
    found = [difference for case in chosen for difference in differences(case.name, case.loses, verdicts(case.source))]
    for difference in found:
        print(f"{difference.kind:10} {difference.case}: {difference.text}\n")
    kinds = Counter(difference.kind for difference in found)
    right = sum(1 for case in chosen if not case.loses)
    print(f"{right} right and {len(chosen) - right} wrong cases: {kinds['false fail']} false fails, {kinds['miss']} misses, "
          f"{kinds['misplaced']} misplaced, {kinds['review']} to review")  # fmt: skip
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
