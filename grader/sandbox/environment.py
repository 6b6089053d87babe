"""The clean environment of a submission: nothing of the caller's is inherited.

Trusted. Several libraries read their paths when they are imported, so the zygote must have the same environment as its forks.
"""

from __future__ import annotations

import os
import sys

from grader.sandbox.contract import BOX

__all__ = ["environment"]

_PASSED_ON = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATHEXT", "COMSPEC", "WINDIR")
"""What a plain subprocess keeps of the caller's environment, since its interpreter may need it."""


def environment(work: str = BOX, *, isolated: bool = True) -> dict[str, str]:
    """The whole environment of a kernel whose work folder is `work`; values that start with `/box` follow it."""
    temporary = "/tmp" if isolated else f"{work}/.tmp"  # noqa: S108 - the box's own
    values = {
        "HOME": BOX,
        "USER": "student",
        "LOGNAME": "student",
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "TMPDIR": temporary,
        "IPYTHONDIR": f"{temporary}/.ipython",
        "MPLCONFIGDIR": f"{temporary}/.matplotlib",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        # read when libraries are imported: without helper threads of numpy and pyarrow a fork is safe
        "OPENBLAS_NUM_THREADS": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "PYTHONHASHSEED": "0",  # the same for every submission
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "HF_HOME": f"{BOX}/.hf",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        # seconds between two drawings of a progress bar: ten messages a second cost more CPU time here than all questions
        "TQDM_MININTERVAL": "30",
    }
    if not isolated:
        values.update({name: os.environ[name] for name in _PASSED_ON if name in os.environ})
        if sys.platform == "win32":
            values.update(TEMP=temporary, TMP=temporary, USERPROFILE=work)
    return {name: work + value[len(BOX) :] if value.startswith(BOX) else value for name, value in values.items()}
