"""The question about training: what the witness saw of every run, and what each trained model answers to held-out reviews.

Runs inside, after the last cell. The reviews arrive with the question, without labels; only logits leave.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from grader.inside.agent import Context, describe_error
from grader.inside.distilbert import find_root
from grader.inside.witness import Run, states

_NO_RANK = 1e-3
"""Singular values below this part of the largest are rounding."""


def pretrained_tensors(model_dir: str) -> dict[str, Any]:
    """Load the checkpoint's body by canonical name; empty when it is not there."""
    from safetensors.torch import load_file

    path = Path(model_dir) / "model.safetensors"
    if not path.is_file():
        return {}
    return {
        name if name.startswith("distilbert.") else f"distilbert.{name}": tensor.float()
        for name, tensor in load_file(str(path)).items()
        if not name.startswith("vocab_")
    }


def distances(model: Any, body: dict[str, Any], wrapped: set[str]) -> tuple[dict[str, float], dict[str, int]]:
    """For every pretrained tensor the largest difference to the closest tensor of the layer that stands in its place.

    A layer may keep it under any name, and transposed; a tensor that its own place lacks is looked for everywhere, and one
    that is nowhere has no entry. Layers that merge their adapters in eval mode are put into train mode first.
    The second answer is the rank of the difference for weights of `wrapped` layers: adapters that were merged add little.
    """
    torch = sys.modules["torch"]
    torch.nn.Module.train(model)
    for module in torch.nn.Module.modules(model):
        module.train()
    root_name, _ = find_root(model)
    prefix = f"{root_name}." if root_name else ""
    members = dict(torch.nn.Module.named_parameters(model)) | dict(torch.nn.Module.named_buffers(model))
    by_shape: dict[tuple[int, ...], list[tuple[str, Any]]] = {}
    for name, tensor in members.items():
        if not tensor.is_meta:
            by_shape.setdefault(tuple(tensor.shape), []).append((name, tensor.detach()))
    found, ranks = {}, {}
    for name, wanted in body.items():
        place = prefix + name.rpartition(".")[0] + "."
        alike = by_shape.get(tuple(wanted.shape), [])
        if wanted.dim() == 2:
            alike = alike + [(n, t.t()) for n, t in by_shape.get((wanted.shape[1], wanted.shape[0]), [])]
        candidates = [t for n, t in alike if n == prefix + name] + [t for n, t in alike if n.startswith(place)]
        closest, best = _closest(wanted, candidates or [t for _, t in alike])
        if closest is not None:
            found[name] = best
            if best > 0 and wanted.dim() == 2 and name.rpartition(".")[0] in wrapped:
                change = closest.float().cpu() - wanted
                ranks[name] = int(torch.linalg.matrix_rank(change, rtol=_NO_RANK)) if change.isfinite().all() else -1
    return found, ranks


def _closest(wanted: Any, candidates: list[Any]) -> tuple[Any, float]:
    """Find the tensor with the least of the largest differences, and that difference."""
    closest, best = None, float("inf")
    for candidate in candidates:
        # Half precision holds the pretrained values as well as it can.
        gap = float((candidate.float().cpu() - wanted.to(candidate.dtype).float()).abs().max())
        if closest is None or not gap >= best:
            closest, best = candidate, gap
        if best == 0.0:
            break
    return closest, best


def _forward(model: Any, batch: dict[str, Any]) -> Any:
    """Logits of the model; those of the classifier in it, where a module around that gives none without labels."""
    _, root = find_root(model)
    try:
        logits = _logits(model(**batch), len(batch["input_ids"]))
    except Exception:
        if root is model:
            raise
        logits = None
    return logits if logits is not None or root is model else _logits(root(**batch), len(batch["input_ids"]))


def _logits(out: Any, rows: int) -> Any:
    """Find the logits in what a model returned: by name, or the matrix with a row for each review; None without."""
    torch = sys.modules["torch"]
    parts = [getattr(out, "logits", None), out]
    parts += out.values() if isinstance(out, dict) else out if isinstance(out, list | tuple) else []
    return next((p for p in parts if isinstance(p, torch.Tensor) and p.dim() == 2 and len(p) == rows), None)


def logits_for(model: Any, encoded: list[list[int]], batch_size: int) -> Any:
    """Logits (n x 2, float32) of the model in eval mode for token ids; sorted by length meanwhile, so that little is padded."""
    torch = sys.modules["torch"]
    torch.nn.Module.eval(model)
    for module in torch.nn.Module.modules(model):
        module.eval()
    device = next((p.device for p in torch.nn.Module.parameters(model)), torch.device("cpu"))
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    result = torch.zeros(len(encoded), 2)
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            width = max(len(encoded[i]) for i in chosen)
            ids = torch.zeros(len(chosen), width, dtype=torch.long)
            mask = torch.zeros(len(chosen), width, dtype=torch.long)
            for row, i in enumerate(chosen):
                ids[row, : len(encoded[i])] = torch.tensor(encoded[i])
                mask[row, : len(encoded[i])] = 1
            logits = _forward(model, {"input_ids": ids.to(device), "attention_mask": mask.to(device)})
            if logits is None:
                raise TypeError("it returned no logits, one row for each review")
            result[torch.tensor(chosen)] = logits.detach().float().cpu()[:, :2]
    return result


def _tensors(found: list[Any]) -> list[list[Any]]:
    return [[s.name, list(s.shape), s.trainable, s.digest] for s in found][:2000]


def _run(context: Context, run: Run, body: dict[str, Any], encoded: list[list[int]], batch: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "order": run.order,
        "cell": run.cell,
        "steps": run.steps,
        "rated": run.rated,
        "peak_rate": run.peak_rate,
        "lr_sum": run.lr_sum,
        "seconds": run.seconds,
        "optimizer": run.optimizer[:60],
        "layout": run.layout,
        "start": _tensors(run.start),
        "problem": run.problem,
        "model": type(run.model).__name__[:80],
    }
    try:
        model = context.witness.model_of(run)
        wrapped = {position for position, layer in run.layout.get("at", {}).items() if not layer["plain"]}
        answer["distances"], answer["ranks"] = distances(model, body, wrapped)
        answer["end"] = _tensors(states(model))
        answer["half"] = any(p.element_size() < 4 for p in sys.modules["torch"].nn.Module.parameters(model))
        answer["logits"] = logits_for(model, encoded, batch)
    except Exception as error:
        answer["raised"] = describe_error(error)[:300]
    return answer


def training(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    """Report all runs. `params`: texts (the held-out reviews), batch (reviews at a time)."""
    from transformers import AutoTokenizer

    context.witness.snapshot_models()
    body = pretrained_tensors(context.checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(context.checkpoint)
    encoded = tokenizer(params["texts"], truncation=True, max_length=512)["input_ids"]
    batch = int(params.get("batch", 64))
    return {"runs": [_run(context, run, body, encoded, batch) for run in context.witness.runs if run.model is not None]}
