"""Names and arguments that older versions of the libraries had: translated, or left out where they meant nothing to training.

Runs in the box. Only names that really existed are known here, so a student's typing error stays an error; and only those
that the running version lacks are touched, so nothing happens where nothing has to.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from grader.inside.hooks import Record, provide, replacing, rescuing, when_imported

__all__ = ["clean_arguments", "install"]

_OLD = "other-version"
_OFFLINE = "no-account"
_DEVICE = "no-half-precision"

_RENAMED = {
    "evaluation_strategy": "eval_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "no_cuda": "use_cpu",
    "warmup_ratio": "warmup_steps",  # which takes a fraction since
    "logging_first": "logging_first_step",
}
_CONVERTED: dict[str, tuple[str, Any]] = {
    "group_by_length": ("train_sampling_strategy", "group_by_length"),
    "adafactor": ("optim", "adafactor"),
    "include_inputs_for_metrics": ("include_for_metrics", ["inputs"]),
}
"""Switch that is now a value of another argument."""
_REMOVED = {
    "adafactor", "debug", "deepspeed_plugin", "dispatch_batches", "eval_use_gather_object",
    "evaluate_during_training", "fp16_backend", "fp16_opt_level", "fsdp_min_num_params",
    "fsdp_transformer_layer_cls_to_wrap", "gradient_checkpointing_ratio", "group_by_length",
    "half_precision_backend", "hub_token", "include_inputs_for_metrics", "include_tokens_per_second",
    "jit_mode_eval", "logging_dir", "mp_parameters", "no_cuda", "overwrite_output_dir", "past_index",
    "prediction_loss", "push_to_hub_model_id", "push_to_hub_organization", "push_to_hub_token", "ray_scope",
    "report_to", "save_safetensors", "sharded_ddp", "split_batches", "torchdynamo", "tpu_metrics_debug",
    "tpu_num_cores", "use_ipex", "use_legacy_prediction_loop", "use_mps_device", "use_seedable_sampler",
    "xpu_backend",
}  # fmt: skip
_ACCELERATED = ("fp16", "bf16", "tf32", "fp16_full_eval", "bf16_full_eval", "torch_compile")
_GPU_OPTIMIZERS = ("bnb", "paged", "8bit", "apex", "npu", "xla", "galore", "lomo")


def clean_arguments(given: dict[str, Any], accepted: frozenset[str], gpu: bool, record: Record) -> dict[str, Any]:
    """Keyword arguments of `TrainingArguments` that the running version accepts and this machine can serve.

    Unknown names that no version had are kept, and raise where they are used.
    """

    def note(name: str, value: Any, after: str, reason: str) -> None:
        record("argument", f"TrainingArguments({name}={value!r})", after, reason)

    kept: dict[str, Any] = {}
    for name, value in given.items():
        if name in accepted:
            kept[name] = value
        elif name in _RENAMED and _RENAMED[name] in accepted:
            if name == "warmup_ratio" and (not value or given.get("warmup_steps")):
                note(name, value, "", _OLD)  # steps went before the ratio, and still do
                continue
            kept.setdefault(_RENAMED[name], value)
            note(name, value, f"{_RENAMED[name]}={value!r}", _OLD)
        elif value and name in _CONVERTED and _CONVERTED[name][0] in accepted:
            new, setting = _CONVERTED[name]
            kept[new] = setting
            note(name, value, f"{new}={setting!r}", _OLD)
        elif name in _REMOVED:
            note(name, value, "", _OLD)
        else:
            kept[name] = value
    if kept.get("report_to") not in (None, "none", [], ["none"]):
        note("report_to", kept["report_to"], "report_to='none'", _OFFLINE)
        kept["report_to"] = "none"
    if kept.get("push_to_hub"):
        note("push_to_hub", kept.pop("push_to_hub"), "", _OFFLINE)
    if kept.get("optim") == "adamw_hf":  # which was removed, and was AdamW
        note("optim", kept["optim"], "optim='adamw_torch'", _OLD)
        kept["optim"] = "adamw_torch"
    if not gpu:
        for name in _ACCELERATED:
            if kept.get(name):
                note(name, kept.pop(name), "", _DEVICE)
        optimizer = str(getattr(kept.get("optim"), "value", kept.get("optim", "")))
        if any(word in optimizer for word in _GPU_OPTIMIZERS):
            note("optim", kept.pop("optim"), "optim='adamw_torch'", _DEVICE)
            kept["optim"] = "adamw_torch"
    return kept


def install(record: Record, config: Mapping[str, Any]) -> None:
    """Accept older names and arguments in transformers, datasets, numpy and matplotlib. `config`: `gpu`."""
    gpu = bool(config.get("gpu"))
    when_imported("transformers.training_args", _patch_arguments, "TrainingArguments", gpu, record)
    when_imported("transformers.training_args_seq2seq", _patch_arguments, "Seq2SeqTrainingArguments", gpu, record)
    when_imported("transformers.trainer", _patch_trainer, record)
    when_imported("transformers.tokenization_utils_base", _patch_tokenizer, record)
    when_imported("transformers.utils.hub", lambda module: _no_push(module.PushToHubMixin, record))
    when_imported("transformers", _old_names, record)
    when_imported("transformers.optimization", provide, {"AdamW": lambda: _adamw(record)})
    when_imported("datasets", provide, {"load_metric": lambda: _load_metric(record)})
    when_imported("numpy", _old_numpy, record)
    when_imported("matplotlib", _patch_backend, record)
    when_imported("matplotlib.style", _patch_style, record)


def _patch_arguments(module: Any, name: str, gpu: bool, record: Record) -> None:
    owner = getattr(module, name)
    accepted = frozenset(inspect.signature(owner.__init__).parameters)

    @replacing(owner, "__init__")
    def init(real: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **clean_arguments(kwargs, accepted, gpu, record))


def _patch_trainer(module: Any, record: Record) -> None:
    owner = module.Trainer
    accepted = inspect.signature(owner.__init__).parameters

    @replacing(owner, "__init__")
    def init(real: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        if "tokenizer" in kwargs and "tokenizer" not in accepted:
            record("argument", "Trainer(tokenizer=...)", "processing_class=...", _OLD)
            tokenizer = kwargs.pop("tokenizer")
            kwargs.setdefault("processing_class", tokenizer)
        for name in ("compute_loss", "training_step"):
            _accept_item_count(self, name, record)
        real(self, *args, **kwargs)

    if not hasattr(owner, "tokenizer"):
        owner.tokenizer = property(lambda self: self.processing_class)
    _no_push(owner, record)


def _accept_item_count(trainer: Any, name: str, record: Record) -> None:
    """Let a student's override with the older signature be called without `num_items_in_batch`."""
    parameters = inspect.signature(getattr(trainer, name)).parameters
    if "num_items_in_batch" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    limit = 2 if name == "training_step" else len(parameters)

    @replacing(trainer, name)
    def older(method: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("num_items_in_batch", None)
        return method(*args[:limit], **kwargs)

    record("argument", f"{type(trainer).__name__}.{name}(num_items_in_batch=...)", "", _OLD)


def _no_push(owner: Any, record: Record) -> None:
    def push_to_hub(_self: Any, *_args: Any, **_kwargs: Any) -> None:
        record("login", "push_to_hub()", "", _OFFLINE)

    owner.push_to_hub = push_to_hub


def _patch_tokenizer(module: Any, record: Record) -> None:
    owner = module.PreTrainedTokenizerBase

    @replacing(owner, "__call__")
    def call(real: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        if "pad_to_max_length" in kwargs:
            padding = "max_length" if kwargs.pop("pad_to_max_length") else False
            kwargs.setdefault("padding", padding)
            record("argument", "tokenizer(pad_to_max_length=...)", f"padding={padding!r}", _OLD)
        return real(self, *args, **kwargs)

    for name in ("encode_plus", "batch_encode_plus"):
        if not hasattr(owner, name):
            setattr(owner, name, _older_call(name, record))
    if not hasattr(owner, "as_target_tokenizer"):
        owner.as_target_tokenizer = lambda _self: contextlib.nullcontext()


def _older_call(name: str, record: Record) -> Callable[..., Any]:
    def older(self: Any, *args: Any, **kwargs: Any) -> Any:
        record("argument", f"tokenizer.{name}()", "tokenizer()", _OLD)
        if "batch_text_or_text_pairs" in kwargs:
            kwargs["text"] = kwargs.pop("batch_text_or_text_pairs")
        return self(*args, **kwargs)

    return older


def _old_names(module: Any, record: Record) -> None:
    """`from transformers import AdamW` and the like; the lazy module's own class answers, since the package makes several."""

    @rescuing(type(module), "__getattr__", AttributeError)
    def missing(lazy: Any, name: str) -> Any:
        if lazy.__name__ == "transformers" and name == "AdamW":
            return _adamw(record)
        if lazy.__name__ == "transformers" and name == "EvaluationStrategy":
            record("renamed", "transformers.EvaluationStrategy", "transformers.IntervalStrategy", _OLD)
            return lazy.IntervalStrategy
        raise  # the error, while it is being handled


def _adamw(record: Record) -> Any:
    """`torch.optim.AdamW` with the defaults and arguments of the one that transformers had."""
    import torch

    record("renamed", "transformers.AdamW", "torch.optim.AdamW", _OLD)

    class AdamW(torch.optim.AdamW):
        def __init__(
            self, params: Any, lr: float = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-6, **rest: Any
        ) -> None:
            for name in ("correct_bias", "no_deprecation_warning"):
                rest.pop(name, None)
            super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=rest.pop("weight_decay", 0.0), **rest)

    return AdamW


def _load_metric(record: Record) -> Any:
    import evaluate

    record("renamed", "datasets.load_metric", "evaluate.load", _OLD)
    return evaluate.load


def _old_numpy(module: Any, record: Record) -> None:
    names = {
        "product": "prod", "cumproduct": "cumprod", "alltrue": "all", "sometrue": "any", "float_": "float64", "Inf": "inf",
        "NaN": "nan",
    }  # fmt: skip
    plain = {"float": float, "int": int, "object": object, "str": str}

    def older(name: str, new: str) -> Callable[[], Any]:
        def get() -> Any:
            record("renamed", f"numpy.{name}", new, _OLD)
            return plain[name] if name in plain else getattr(module, new)

        return get

    wanted = names | {name: name for name in plain}
    provide(module, {name: older(name, new) for name, new in wanted.items() if name not in vars(module)})


def _patch_backend(module: Any, record: Record) -> None:
    @rescuing(module, "use", ImportError)
    def use(backend: Any, *_args: Any, **_kwargs: Any) -> None:
        record("plot", f"matplotlib.use({backend!r})", "", "no-screen")


def _patch_style(module: Any, record: Record) -> None:
    @rescuing(module, "use", OSError)
    def use(style: Any) -> None:
        record("plot", f"plt.style.use({style!r})", "", _OLD)
