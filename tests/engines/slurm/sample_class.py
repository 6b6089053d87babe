"""The whole sample class through a real Slurm: four workers, one job cancelled in the middle, equal to the run on this machine.

`python -m tests.engines.slurm.sample_class [--keep DIR]` takes half an hour of CPU (sixteen notebooks that train, twice), so that
it is not part of the test suite. With `--keep` the runs stay in DIR, and what is finished there is not run again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.engines.slurm.cluster import ROOT, becomes, jobs_of, no_jobs_of, profile, slurm
from tests.pipeline.chaos import Batch, assert_equal

JOBS = 4
CLASS = ROOT / "data" / "sample_class"
OPTIONS = ("--roster", str(CLASS / "gradebook.csv"), "--cpu-seconds", "150")
"""As scripts/sample-class.sh has them; one notebook loops for ever."""
LIFE_SECONDS = 3600.0


def main() -> int:
    """Grade twice, compare; 0 when the outcomes are equal and as labelled."""
    parser = argparse.ArgumentParser(description="The sample class through Slurm; see the module's first lines.")
    parser.add_argument("--keep", type=Path, help="folder for both runs; what is finished there is not run again")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="sample-"))
    folder.mkdir(exist_ok=True)
    (folder / "secret").write_text("a secret of the sample class")
    source = CLASS / "submissions.zip"
    here = Batch(folder, 16, 2, "here", OPTIONS, "finetuning", source)
    began = time.monotonic()
    code = here.end_of(here.start(), LIFE_SECONDS)
    print(f"on this machine: {time.monotonic() - began:.0f} s, exit code {code}", flush=True)
    with slurm(JOBS) as cluster:
        os.environ["SLURM_CONF"], os.environ["PYTHONPATH"] = str(cluster / "slurm.conf"), str(ROOT)
        engine = profile(cluster, "sample", jobs=JOBS, walltime="00:50:00")
        there = Batch(folder, 16, JOBS, "there", (*OPTIONS, "--executor", engine), "finetuning", source)
        began = time.monotonic()
        process = there.start()
        while process.poll() is None and len(there.done()) < 5:
            time.sleep(0.5)
        running = jobs_of("sample", "R")
        assert len(running) == JOBS, running
        subprocess.run(["scancel", running[0]], check=True)
        print(f"job {running[0]} cancelled with {len(there.done())} done", flush=True)
        assert becomes(lambda: running[0] not in jobs_of("sample", "R"))
        assert there.end_of(process, LIFE_SECONDS) == code, there.said()
        print(f"on {JOBS} Slurm jobs: {time.monotonic() - began:.0f} s", flush=True)
        assert no_jobs_of("sample")
    assert_equal(here, there)
    labelled = subprocess.run([sys.executable, str(CLASS / "compare.py"), str(there.run)], check=False)
    print("equal to the run on this machine")
    if options.keep is None:
        shutil.rmtree(folder)
    return labelled.returncode


if __name__ == "__main__":
    sys.exit(main())
