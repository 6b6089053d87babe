"""One submission: run, ask, judge, report."""
