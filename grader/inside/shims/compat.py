"""Names and arguments that older versions of the libraries had: translated, or left out where they meant nothing to training.

Runs in the box. Only names that really existed are known here, so a student's typing error stays an error; and only those
that the running version lacks are touched, so nothing happens where nothing has to.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from grader.inside.hooks import provide, replacing
from grader.inside.shims.adapting import adapts, answering, note, replaces, rescues

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


def _for_gpu(optimizer: Any) -> bool:
    return any(word in str(getattr(optimizer, "value", optimizer)) for word in _GPU_OPTIMIZERS)


_NOT_SERVED: tuple[tuple[str, Callable[[Any], bool], str | None, str], ...] = (
    ("report_to", lambda value: value not in (None, "none", [], ["none"]), "none", _OFFLINE),
    ("push_to_hub", bool, None, _OFFLINE),
    ("optim", lambda value: value == "adamw_hf", "adamw_torch", _OLD),  # which was removed, and was AdamW
    *((name, bool, None, _DEVICE) for name in _ACCELERATED),
    ("optim", _for_gpu, "adamw_torch", _DEVICE),
)
"""Argument, which of its values cannot be served here, what takes their place (None: the default), and the reason."""

_DISTILBERT = "transformers.models.distilbert.modeling_distilbert"
_TODAY: Mapping[str, Mapping[str, str]] = {
    _DISTILBERT: dict.fromkeys(
        ("MultiHeadSelfAttention", "DistilBertSdpaAttention", "DistilBertFlashAttention2"), f"{_DISTILBERT}.DistilBertSelfAttention"
    ),
    "transformers": {"AdamW": "torch.optim.AdamW", "EvaluationStrategy": "transformers.IntervalStrategy"},
    "transformers.optimization": {"AdamW": "torch.optim.AdamW"},
    "datasets": {"load_metric": "evaluate.load"},
    "numpy": {
        "product": "numpy.prod", "cumproduct": "numpy.cumprod", "alltrue": "numpy.all", "sometrue": "numpy.any",
        "float_": "numpy.float64", "Inf": "numpy.inf", "NaN": "numpy.nan",
        **{name: f"builtins.{name}" for name in ("float", "int", "object", "str")},
    },
}  # fmt: skip
"""Names that modules had -> where the same is today."""


def _accepted_arguments(given: dict[str, Any], accepted: frozenset[str]) -> dict[str, Any]:
    """Keyword arguments of `TrainingArguments` that the running version accepts and this machine can serve.

    Unknown names that no version had are kept, and raise where they are used.
    """

    def changed(name: str, value: Any, after: str, reason: str = _OLD) -> None:
        note("argument", f"TrainingArguments({name}={value!r})", after, reason)

    kept: dict[str, Any] = {}
    for name, value in given.items():
        if name in accepted:
            kept[name] = value
        elif name in _RENAMED and _RENAMED[name] in accepted:
            if name == "warmup_ratio" and (not value or given.get("warmup_steps")):
                changed(name, value, "")  # steps went before the ratio, and still do
                continue
            kept.setdefault(_RENAMED[name], value)
            changed(name, value, f"{_RENAMED[name]}={value!r}")
        elif value and name in _CONVERTED and _CONVERTED[name][0] in accepted:
            new, setting = _CONVERTED[name]
            kept[new] = setting
            changed(name, value, f"{new}={setting!r}")
        elif name in _REMOVED:
            changed(name, value, "")
        else:
            kept[name] = value
    for name, not_served, instead, reason in _NOT_SERVED:
        if name in kept and not_served(kept[name]):
            changed(name, kept.pop(name), f"{name}={instead!r}" if instead else "", reason)
            kept |= {name: instead} if instead else {}
    return kept


@replaces("transformers.training_args_seq2seq", "Seq2SeqTrainingArguments.__init__")
@replaces("transformers.training_args", "TrainingArguments.__init__")
def _arguments(real: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    real(self, *args, **_accepted_arguments(kwargs, frozenset(inspect.signature(real).parameters)))


@replaces("transformers.trainer", "Trainer.__init__")
def _trainer(real: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    if "tokenizer" in kwargs and "tokenizer" not in inspect.signature(real).parameters:
        note("argument", "Trainer(tokenizer=...)", "processing_class=...", _OLD)
        tokenizer = kwargs.pop("tokenizer")
        kwargs.setdefault("processing_class", tokenizer)
    for name in ("compute_loss", "training_step"):
        _accept_item_count(self, name)
    real(self, *args, **kwargs)


def _accept_item_count(trainer: Any, name: str) -> None:
    """Let a student's override with the older signature be called without `num_items_in_batch`."""
    parameters = inspect.signature(getattr(trainer, name)).parameters
    if "num_items_in_batch" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    limit = 2 if name == "training_step" else len(parameters)

    @replacing(trainer, name)
    def older(method: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("num_items_in_batch", None)
        return method(*args[:limit], **kwargs)

    note("argument", f"{type(trainer).__name__}.{name}(num_items_in_batch=...)", "", _OLD)


@adapts("transformers.trainer")
def _trainers_tokenizer(module: Any) -> None:
    if not hasattr(module.Trainer, "tokenizer"):
        module.Trainer.tokenizer = property(lambda self: self.processing_class)


@replaces("transformers.trainer", "Trainer.push_to_hub")
@replaces("transformers.utils.hub", "PushToHubMixin.push_to_hub")
def _stay_here(*_args: Any, **_kwargs: Any) -> None:
    note("login", "push_to_hub()", "", _OFFLINE)


@replaces("transformers.tokenization_utils_base", "PreTrainedTokenizerBase.__call__")
def _tokenize(real: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    if "pad_to_max_length" in kwargs:
        padding = "max_length" if kwargs.pop("pad_to_max_length") else False
        kwargs.setdefault("padding", padding)
        note("argument", "tokenizer(pad_to_max_length=...)", f"padding={padding!r}", _OLD)
    return real(self, *args, **kwargs)


@adapts("transformers.tokenization_utils_base")
def _older_calls(module: Any) -> None:
    def encode(name: str, tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
        note("argument", f"tokenizer.{name}()", "tokenizer()", _OLD)
        if "batch_text_or_text_pairs" in kwargs:
            kwargs["text"] = kwargs.pop("batch_text_or_text_pairs")
        return tokenizer(*args, **kwargs)

    owner = module.PreTrainedTokenizerBase
    for name in ("encode_plus", "batch_encode_plus"):
        if not hasattr(owner, name):
            setattr(owner, name, functools.partialmethod(functools.partial(encode, name)))
    if not hasattr(owner, "as_target_tokenizer"):
        owner.as_target_tokenizer = lambda _self: contextlib.nullcontext()


def _older_names(module: Any) -> None:
    def get(old: str, new: str) -> Any:
        note("renamed", f"{module.__name__}.{old}", new, _OLD)
        found = pkgutil.resolve_name(new)
        return _older_adamw(found) if old == "AdamW" else found

    names = {old: new for old, new in _TODAY[module.__name__].items() if not hasattr(module, old)}
    provide(module, {old: functools.partial(get, old, new) for old, new in names.items()})


for _name in _TODAY:
    adapts(_name)(_older_names)


def _older_adamw(today: Any) -> Any:
    """PyTorch's AdamW with the defaults and arguments of the one that transformers had."""

    class AdamW(today):
        def __init__(
            self, params: Any, lr: float = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-6, **rest: Any
        ) -> None:
            for name in ("correct_bias", "no_deprecation_warning"):
                rest.pop(name, None)
            super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=rest.pop("weight_decay", 0.0), **rest)

    return AdamW


rescues("matplotlib", "use", ImportError)(answering("plot", "matplotlib.use({!r})", "", "no-screen"))
rescues("matplotlib.style", "use", OSError)(answering("plot", "plt.style.use({!r})", "", _OLD))
