"""Stand-ins for packages that log or talk to a service, and for Colab's own functions: they absorb every call.

Runs in the box. A stand-in answers only imports by the student's own code: libraries that look for an optional package must go on
without it. What a course's notebooks compute with is installed (the extra `students`); where a stand-in takes the place of something
that computes, or an error comes of one, that is recorded, and no point is lost for it without a person.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import operator
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grader.inside.hooks import running_shell, when_imported
from grader.inside.shims.adapting import adapts, note

__all__ = ["Absorber", "install"]

_SERVICES = frozenset((
    "wandb", "mlflow", "comet_ml", "neptune", "clearml", "dvclive", "aim", "trackio", "kaggle", "kaggle_secrets", "kagglehub", "gdown",
    "opendatasets", "pyngrok", "gradio", "streamlit", "codecarbon", "pynvml", "GPUtil", "nvidia_smi", "bitsandbytes",
))  # fmt: skip
"""Packages that talk to a service or to a GPU: a stand-in takes their place even where they are installed."""

_SHOWING = frozenset((
    "bokeh", "bertviz", "graphviz", "torchviz", "netron", "cartopy", "japanize_matplotlib", "scienceplots", "tensorboard",
    "tensorboardX", "tensorboardcolab", "torchsummaryX", "watermark", "line_profiler", "memory_profiler",
))  # fmt: skip
"""Packages that show or measure something; a stand-in takes their place where they are missing."""

_COMPUTING = frozenset((
    "torchvision", "torchaudio", "torchtext", "tensorflow", "keras", "spacy", "gensim", "textblob", "sentence_transformers",
    "statsmodels", "imblearn", "xgboost", "lightgbm", "optuna",
))  # fmt: skip
"""Large packages that are left out; a notebook that only imports them, or sets their seed, does without."""

_LIBRARIES = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def _took_part(package: str) -> None:
    """Record that what a stand-in gave instead of `package` may have decided something."""
    note("stand-in", package, "", "stand-in-took-part")


class Absorber:
    """Any object of a missing package: every attribute and call gives another one; it is empty, false and zero."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def __repr__(self) -> str:
        return f"<stub of {self._name}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("__", "_repr_", "_ipython_")):
            raise AttributeError(name)
        return _member(f"{self.__dict__['_name']}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102 - like every other special method here
        package = self._name.split(".")[0]
        if package in _COMPUTING and "seed" not in self._name:
            _took_part(package)
        if len(args) == 1 and not kwargs and isinstance(args[0], types.FunctionType | type):
            return args[0]  # used as a decorator: the function stays what it is
        return Absorber(f"{self._name}()")

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __getitem__(self, key: Any) -> Absorber:
        return Absorber(f"{self._name}[]")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Absorber, (self._name,))


_ANSWERS: dict[str, Any] = {
    "bool": False, "len": 0, "int": 0, "index": 0, "round": 0, "float": 0.0, "str": "", "format": "", "fspath": ".",
    "instancecheck": False, "mro_entries": (), "exit": None, "setitem": None,
}  # fmt: skip
_GIVES_ITSELF = (
    "enter", "deepcopy", "neg", "pos", "abs", "mul", "rmul", "matmul", "rmatmul", "truediv", "floordiv", "mod", "pow",
)  # fmt: skip
_GIVES_THE_OTHER = ("add", "radd", "sub", "rsub", "rtruediv", "rfloordiv", "rmod", "rpow", "or", "ror", "and")
_COMPARES_ZERO = {"lt": operator.gt, "gt": operator.lt, "le": operator.ge, "ge": operator.le}
"""What an absorber answers in its special methods, by their names."""

for _name, _answer in _ANSWERS.items():
    setattr(Absorber, f"__{_name}__", lambda _self, *_given, answer=_answer, **_named: answer)
for _name in _GIVES_ITSELF:
    setattr(Absorber, f"__{_name}__", lambda self, *_given: self)
for _name in _GIVES_THE_OTHER:
    setattr(Absorber, f"__{_name}__", lambda _self, other: other)
for _name, _compare in _COMPARES_ZERO.items():
    setattr(Absorber, f"__{_name}__", lambda self, other, compare=_compare: bool(compare(other, 0)))  # noqa: ARG005 - `_blame` looks for it


def _member(name: str) -> Any:
    """What a stub answers for one of its names: an exception class for exceptions, else an absorber."""
    last = name.rsplit(".", 1)[-1]
    if last.endswith(("Error", "Exception")) and last[:1].isupper():
        return type(last, (Exception,), {})
    return Absorber(name)


class _StubModule(types.ModuleType):
    """A module that has every name."""

    __spec__: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self.__name__}.{name}"
        value = importlib.import_module(full) if full in self.__spec__.loader.contents else _member(full)
        self.__dict__[name] = value
        return value


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers the student's imports of packages that the box lacks."""

    def __init__(self, contents: Mapping[str, Callable[[], Mapping[str, Any]]]) -> None:
        self.contents = contents

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self._answers(fullname) or not _student_imports():
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        spec.submodule_search_locations = []
        return spec

    def _answers(self, fullname: str) -> bool:
        top = fullname.split(".")[0]
        if fullname == "google.colab" or fullname.startswith("google.colab."):
            return True
        if fullname.startswith("torch.utils.tensorboard"):
            top = "tensorboard"
        return top in _SERVICES or ((top in _SHOWING | _COMPUTING or fullname == "google") and _is_missing(top))

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        module.__dict__.update(self.contents.get(name, dict)())
        module.__dict__.setdefault("__version__", "0.0")
        module.__dict__.setdefault("__all__", [])
        if name.startswith("google.colab"):
            note("colab", "import google.colab", "", "no-colab")
        elif name != "google":
            shown = "torch.utils.tensorboard" if name.startswith("torch.") else name.split(".")[0]
            note("stub-module", f"import {shown}", "", "stand-in-for-package")


def _is_missing(package: str) -> bool:
    """Whether neither the box nor the student has a module of that name."""
    return importlib.machinery.PathFinder.find_spec(package) is None


def _student_imports() -> bool:
    """Whether the code that imports is not a library's: the first frame outside of the import system decides."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        machinery = file.startswith("<frozen importlib") or "importlib" in Path(file).parts
        if not machinery and file not in (__file__, _hooks_file):
            return not file.startswith((*_LIBRARIES, "<frozen"))
        frame = frame.f_back
    return False


_hooks_file = str(getattr(sys.modules[when_imported.__module__], "__file__", ""))


def install(contents: Mapping[str, Callable[[], Mapping[str, Any]]]) -> None:
    """Make stand-ins importable; `contents`: full name of a module -> what makes those of its names that do more than nothing."""
    sys.meta_path.insert(0, _Finder(contents))
    running_shell().events.register("post_run_cell", _blame)


def _blame(result: Any) -> None:
    """Record a stand-in that the error of a cell comes of."""
    error = getattr(result, "error_in_exec", None)
    trace = getattr(error, "__traceback__", None)
    if isinstance(error, TypeError | ValueError) and Absorber.__name__ in str(error):
        _took_part("a package that is missing")
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_code.co_filename == __file__ and isinstance(stood_in := frame.f_locals.get("self"), Absorber):
            _took_part(stood_in._name.split(".")[0])


@adapts("tqdm.notebook")
def _plain_progress(module: Any) -> None:
    """`tqdm.notebook` draws widgets in a window; the plain bar takes its place."""
    plain = sys.modules["tqdm.std"]
    module.tqdm = module.tqdm_notebook = plain.__dict__["tqdm"]
    module.trange = module.tnrange = plain.__dict__["trange"]
    note("stub-module", "tqdm.notebook", "tqdm", "plain-bar")
