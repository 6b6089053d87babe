"""The whole corpus, case by case with its verdicts: what `grader verify` prints its matrix of."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.corpus.matrix import Judged


def functions(wanted: str = "", every: int = 1) -> Iterator[Judged]:
    """Judge the cases of the functions and the class whose name holds `wanted`; no training."""
    from tests.corpus import CASES
    from tests.corpus.functions import verdicts_of

    for case in [case for case in CASES.values() if wanted in case.name][::every]:
        yield Judged(case.name, "functions", case.loses, verdicts_of(case))


def trainings(wanted: str = "", every: int = 1) -> Iterator[Judged]:
    """Judge the cases of the three trainings whose name holds `wanted`, on a tiny model."""
    from tests.corpus import finding, learning, public, roots, runs, unseen_runs  # noqa: F401 - declare the cases
    from tests.corpus.training import TRAININGS, tiny_world, verdicts

    with tempfile.TemporaryDirectory(prefix="corpus-") as name, tiny_world(folder := Path(name)) as facts:
        for case in [case for case in TRAININGS.values() if wanted in case.name][::every]:
            yield Judged(case.name, "trainings", case.loses, verdicts(case, folder, facts))


def judged(wanted: str = "", every: int = 1, threads: int = 1) -> Iterator[Judged]:
    """Judge every case (or every so many) whose name holds `wanted`; more threads than one cost more than they bring."""
    import torch
    from transformers.utils import logging

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of code that is wrong on purpose
            yield from functions(wanted, every)
            yield from trainings(wanted, every)
    finally:
        logging.enable_progress_bar()
        logging.set_verbosity(verbosity)
        torch.set_num_threads(before)
