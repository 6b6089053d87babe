"""`python -m grader.sandbox.conformance [mode] [--no-control-groups]`: the findings as a plain table; 0 when all promises hold."""

from __future__ import annotations

import sys

from grader.sandbox.conformance.suite import conform


def main() -> int:
    """Print each finding as it comes; the exit status."""
    mode = sys.argv[1] if len(sys.argv) > 1 else "auto"
    groups = "--no-control-groups" not in sys.argv
    findings = conform(
        mode,
        lambda f: print(
            f"{'ok  ' if f.ok else 'FAIL'} {f.name:16} {f.seconds:5.1f} s  {f.why or f.promise}", flush=True
        ),
        control_groups=groups,
    )
    return 0 if all(finding.ok for finding in findings) else 1


if __name__ == "__main__":
    raise SystemExit(main())
