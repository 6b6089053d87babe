"""Random kills of every process of a batch: the run directory ends up as if nothing had happened (see `tests.pipeline.chaos`)."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.pipeline.chaos import KINDS, PDF_IS_ZERO, Batch, assert_equal, hand_in, schedule

KILLS = 16
SUBMISSIONS = 40


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_random_kills_leave_no_trace() -> None:
    """Other kills every time; the seed is printed: `python -m tests.pipeline.chaos --kills 16 --seed N` deals them again."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))  # kept when something is wrong
    hand_in(folder / "in", SUBMISSIONS, pause=0.3)
    (folder / "secret").write_text("a secret of chaos")
    calm, batch = (Batch(folder, SUBMISSIONS, 2, name, PDF_IS_ZERO) for name in ("calm", "chaos"))
    assert calm.finish() == 0, calm.output()
    rng = random.Random(seed)
    batch.disturb(schedule(KILLS, SUBMISSIONS, rng), rng)
    dealt = Counter(batch.dealt)
    assert all(dealt[kind] >= 2 for kind in KINDS), dealt
    assert dealt.total() >= KILLS - 1, dealt
    assert batch.leftovers() == []
    assert_equal(calm, batch)
    shutil.rmtree(folder)
