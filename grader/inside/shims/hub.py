"""The hub and the size of the data as a notebook knows them: caches elsewhere, and rows that the files of the box do not have.

Runs in the box. The models and metrics of the bundle lie in one cache, whatever folder a notebook names for it; the data is smaller
than what is on the hub.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from grader.inside.hooks import replacing
from grader.inside.shims.adapting import adapts, note, replaces

__all__ = ["fitting"]

_CACHE = "one-cache"
_ROWS = "fewer-rows"
_KEPT = re.compile(
    r"HF_HOME|XDG_CACHE_HOME|(HF_(HUB|DATASETS|EVALUATE|METRICS|MODULES)|HUGGINGFACE_HUB|TRANSFORMERS)_(CACHE|OFFLINE)"
)
"""Variables that say where the hub's files lie, and that there is no network."""
_FETCHING = ("hf_hub_download", "snapshot_download", "try_to_load_from_cache")
_OF_WORKERS = frozenset({"num_workers", "persistent_workers", "prefetch_factor", "multiprocessing_context", "timeout"})


@adapts("os")
def _keep_variables(module: Any) -> None:
    first = frozenset(module.environ)

    @replacing(type(module.environ), "__setitem__")
    def assign(real: Any, self: Any, name: str, value: str) -> None:
        # one of the first that is not there is being put back, by `mock.patch.dict` say
        if self is os.environ and _KEPT.fullmatch(name) and (name in self or name not in first):
            if value != os.environ.get(name):
                note("path", f"os.environ[{name!r}] = {value!r}", "", _CACHE)
        else:
            real(self, name, value)


@replaces("transformers.utils.hub", *_FETCHING)
@replaces("huggingface_hub.file_download", *_FETCHING)
@replaces("huggingface_hub", *_FETCHING)
def _one_cache(real: Any, *args: Any, **kwargs: Any) -> Any:
    folder = kwargs.pop("cache_dir", None)
    if folder is not None and str(folder) != sys.modules["huggingface_hub.constants"].HF_HUB_CACHE:
        note("path", f"cache_dir={str(folder)!r}", "", _CACHE)
    if kwargs.pop("force_download", False):
        note("path", "force_download=True", "", _CACHE)
    copy = kwargs.pop("local_dir", None)
    found = real(*args, **kwargs)
    if copy is None:
        return found
    note("path", f"local_dir={str(copy)!r}", "", _CACHE)
    if os.path.isdir(found):  # noqa: PTH112
        return shutil.copytree(found, copy, dirs_exist_ok=True)
    target = Path(copy, kwargs.get("filename") or args[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    return str(shutil.copyfile(found, target))


@replaces("torch.utils.data", "DataLoader.__init__")
def _load_here(real: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    if kwargs.get("num_workers"):
        note("argument", f"DataLoader(num_workers={kwargs['num_workers']!r})", "num_workers=0", "no-loader-processes")
        kwargs = {name: value for name, value in kwargs.items() if name not in _OF_WORKERS}
    real(self, *args, **kwargs)


def fitting(indices: Any, rows: int) -> list[int] | None:
    """Row numbers for `rows` rows in place of `indices`; None where those are all there.

    Those that are there are kept; where that is less than half of what could be, all are scaled down, so that the last fifth of a
    data set, or a random tenth of it, stays one.
    """
    wanted = [int(index) for index in indices]
    if not rows or not wanted or max(wanted) < rows:
        return None
    there = [index for index in wanted if index < rows]
    if 2 * len(there) >= min(len(wanted), rows):
        return there
    return list(dict.fromkeys(index * rows // (max(wanted) + 1) if index >= 0 else index for index in wanted))


@replaces("datasets", "Dataset.select")
def _select(real: Any, self: Any, indices: Any, *args: Any, **kwargs: Any) -> Any:
    fitted = fitting(indices, len(self)) if hasattr(indices, "__len__") else None
    if fitted is not None:
        note("rows", f"select() of {len(indices)} rows up to {max(indices) + 1}", f"{len(fitted)} rows", _ROWS)
        indices = fitted
    return real(self, indices, *args, **kwargs)


@replaces("datasets", "Dataset.train_test_split")
def _split(real: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    sizes = {name: kwargs[name] for name in ("train_size", "test_size") if type(kwargs.get(name)) is int}
    if sum(sizes.values()) > len(self) or any(size >= len(self) for size in sizes.values()):
        whole = sum(sizes.values()) if len(sizes) == 2 else 5 * sum(sizes.values())
        fitted = {name: max(1, size * len(self) // whole) for name, size in sizes.items()}
        note("rows", f"train_test_split({sizes})", str(fitted), _ROWS)
        kwargs |= fitted
    return real(self, *args, **kwargs)


@replaces("pandas", "DataFrame.sample", "Series.sample")
def _sample(real: Any, self: Any, n: Any = None, *args: Any, **kwargs: Any) -> Any:
    if type(n) is int and n > len(self) and not kwargs.get("replace"):
        note("rows", f"sample({n})", f"sample({len(self)})", _ROWS)
        n = len(self)
    return real(self, n, *args, **kwargs)
