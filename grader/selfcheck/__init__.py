"""The self-check in a student's running kernel: `check(LoRA)`, `check("head", trainer)`, `check()`, `%check`.

Judged by the questions, probes and criteria of the grading, drawn anew each time and asked in this process, which stays as it was:
random states, gradients, settings, output. Trainings are seen from the import on (`grader.selfcheck.watching`). Imports nothing that
Windows, macOS, Colab's IPython 7.34 or Python 3.10 lack, and none of what runs or stores submissions.
"""

from __future__ import annotations

from grader.inside.hooks import running_shell
from grader.selfcheck.asking import set_up
from grader.selfcheck.calls import check, load_ipython_extension

if running_shell():
    set_up()

__all__ = ["check", "load_ipython_extension"]
