"""`python -m grader`: the same as the command `grader`, which is the better one: see docs/sandbox.md."""

import sys

from grader.imports import leave_out

leave_out()  # before anything is imported that could lie in the current folder

from grader.cli.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
