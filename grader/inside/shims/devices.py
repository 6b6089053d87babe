"""Run code that asks for a GPU on a machine without one: `.cuda()`, `.to("cuda")`, `torch.cuda.*`, fp16, `torch.compile`.

Runs in the box. Only where something would be computed changes, never what: mixed precision, which needs the hardware, is
computed in full precision instead.
"""

from __future__ import annotations

import contextlib
import re
import time
import types
from typing import Any

from grader.inside.hooks import rescuing
from grader.inside.shims.adapting import adapts, answering, note, replaces

__all__ = ["GPU"]

_REASON = "no-gpu"
GPU = re.compile(r"(cuda|mps|xpu)(:\d+)?")
"""The name of a GPU."""

# What `torch.cuda` functions that raise without a GPU answer instead, where that is not nothing.
_ANSWERS: dict[str, Any] = {
    **dict.fromkeys(("current_device", "utilization", "memory_allocated", "max_memory_allocated"), 0),
    **dict.fromkeys(("memory_reserved", "max_memory_reserved"), 0),
    **dict.fromkeys(("get_device_capability", "mem_get_info"), (0, 0)),
    "get_device_name": "no GPU",
    "memory_summary": "",
    "memory_stats": {},
}
_PROPERTIES = types.SimpleNamespace(name="no GPU", total_memory=0, major=0, minor=0, multi_processor_count=0)


def _is_gpu(device: Any) -> bool:
    """Whether a device, by name, number or `torch.device`, is a GPU."""
    if type(device).__name__ == "device":
        device = str(device)
    return GPU.fullmatch(device) is not None if isinstance(device, str) else type(device) is int


def _moved(what: str, device: Any) -> str:
    note("device", f"{what}({str(device)!r})", "cpu", _REASON)
    return "cpu"


# Not the factories (`torch.zeros(device=...)`): `with torch.device("meta")` recognises them by identity. Names of devices in the
# student's source are adapted by `literals`.
@replaces("torch", "Tensor.to", "nn.Module.to")
def _to(real: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    if args and _is_gpu(args[0]):
        args = (_moved(".to", args[0]), *args[1:])
    elif "device" in kwargs and _is_gpu(kwargs["device"]):
        kwargs["device"] = _moved(".to", kwargs["device"])
    return real(self, *args, **kwargs)


@replaces("torch", "Tensor.cuda", "nn.Module.cuda")
def _stay(_real: Any, self: Any, *_args: Any, **_kwargs: Any) -> Any:
    _moved(".cuda", "cuda")
    return self


@replaces("torch", "load")
def _load(real: Any, *args: Any, **kwargs: Any) -> Any:
    if len(args) > 1 and _is_gpu(args[1]):
        args = (args[0], _moved("torch.load", args[1]), *args[2:])
    elif "map_location" not in kwargs or _is_gpu(kwargs["map_location"]):
        kwargs["map_location"] = "cpu"  # the file may have been saved on a GPU
    return real(*args, **kwargs)


@replaces("torch", "compile")
def _compile_nothing(_real: Any, model: Any = None, **_kwargs: Any) -> Any:
    if model is None:
        return lambda function: function
    note("device", "torch.compile", "", "no-compiler")
    return model


@adapts("torch")
def _no_gpu(torch: Any) -> None:
    torch.Tensor.pin_memory = lambda self, *_args, **_kwargs: self
    for name in torch.cuda.__all__:
        if isinstance(getattr(torch.cuda, name, None), types.FunctionType):
            answer = _ANSWERS.get(name)
            asked = answering("device", f"torch.cuda.{name}()", repr(answer), _REASON, answer)
            rescuing(torch.cuda, name, Exception)(asked)
    torch.cuda.get_device_properties = lambda *_args: _PROPERTIES
    torch.cuda.Event = _Event
    torch.cuda.device = lambda *_args: contextlib.nullcontext()


class _Event:
    """A CUDA event without CUDA: measures wall time."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        self.time = 0.0

    def record(self, *_args: Any) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        return None

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: _Event) -> float:
        """Milliseconds from this event to `end`."""
        return (end.time - self.time) * 1000


@replaces("transformers.modeling_utils", "PreTrainedModel.from_pretrained")
def _from_pretrained(real: Any, cls: Any, *args: Any, **kwargs: Any) -> Any:
    if kwargs.pop("device_map", None) is not None:
        note("device", "from_pretrained(device_map=...)", "", _REASON)
    for name in ("use_auth_token", "load_in_8bit", "load_in_4bit"):
        if name in kwargs:
            note("argument", f"from_pretrained({name}={kwargs.pop(name)!r})", "", "not-there")
    return real(cls, *args, **kwargs)


@replaces("transformers.pipelines", "pipeline")
def _pipeline(real: Any, *args: Any, **kwargs: Any) -> Any:
    device = kwargs.get("device")
    if device is not None and device != -1 and _is_gpu(device):
        kwargs["device"] = _moved("pipeline", device)
    return real(*args, **kwargs)
