"""Compare the scores of a run of the sample class with the expected ones; exit code 1 when they differ.

Usage: compare.py RUN
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def differences(run: Path) -> tuple[int, list[str]]:
    """Number of submissions compared, and a line for everything that differs."""
    expected = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))["files"]
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(run.glob("submissions/*/report.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        found[str(report["submission"]["id"])] = report
    lines = []
    for name, wanted in expected.items():
        report = found.pop(str(wanted["user"]), None)
        if report is None:
            lines.append(f"{name}: no report")
            continue
        score = report["score"]
        if score["total"] != wanted["total"]:
            lines.append(f"{name}: {score['total']} points, expected {wanted['total']} ({wanted['why']})")
        for entry in score["criteria"]:
            if entry["earned"] != wanted["earned"][entry["id"]]:
                verdict = entry["verdict"]
                right = wanted["earned"][entry["id"]]
                said = f"{verdict['status']}: {verdict['message']}"
                lines.append(f"    {entry['id']}: {entry['earned']}, expected {right}; {said}")
        outcome = _outcome(report)
        if outcome != wanted["outcome"]:
            lines.append(f"    {name} ended {outcome}, expected {wanted['outcome']}")
    lines += [f"{name}: a report nobody expected" for name in found]
    return len(expected), lines


def _outcome(report: dict[str, Any]) -> str:
    execution = report["execution"]
    if execution is None:
        return "unreadable"
    failed = any(cell["status"] == "error" for cell in execution["cells"])
    return "raised" if failed and execution["outcome"] == "completed" else str(execution["outcome"])


def main() -> int:
    """Print what differs."""
    count, lines = differences(Path(sys.argv[1]))
    print("\n".join(lines) if lines else f"All {count} submissions of the sample class are graded as labelled.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
