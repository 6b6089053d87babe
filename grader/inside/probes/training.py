"""The question about training: hands out the tensors of every trained model, and what else is known of its run.

Runs inside a student's kernel, after the last cell. No held-out review is read here, but for models that are not the library's
and cannot be put together again from their tensors: these are asked themselves (`texts`).
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from grader.inside.agent import Context, describe_error
from grader.inside.distilbert import HEAD, find_root, layout
from grader.inside.hooks import torch
from grader.inside.probes.rebuilt import beginning
from grader.inside.rebuild import Checkpoint, batches, probe_inputs, read_checkpoint, rebuild, seen_alike
from grader.inside.tensors import HANDED, TensorWriter, digest, read_tensors
from grader.inside.witness import MOST_TENSORS, Run, tensors_of


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
    parts = [getattr(out, "logits", None), out]
    parts += out.values() if isinstance(out, dict) else out if isinstance(out, list | tuple) else []
    return next((p for p in parts if isinstance(p, torch.Tensor) and p.dim() == 2 and len(p) == rows), None)


def logits_for(model: Any, encoded: list[list[int]], batch_size: int) -> Any:
    """Logits (n x 2, float32) of the model in eval mode for token ids."""
    _switch(model, training=False)
    device = next((p.device for p in torch.nn.Module.parameters(model)), torch.device("cpu"))
    result = torch.zeros(len(encoded), 2)
    with torch.no_grad():
        for chosen, inputs in batches(encoded, batch_size, device):
            logits = _forward(model, inputs)
            if logits is None:
                raise TypeError("it returned no logits, one row for each review")
            result[chosen] = logits.detach().float().cpu()[:, :2]
    return result


def _switch(model: Any, *, training: bool) -> None:
    """Put every module into train or eval mode; layers that merge their adapters in eval mode do it by their own methods."""
    torch.nn.Module.train(model, training)
    for module in torch.nn.Module.modules(model):
        module.train(training)


def _hand_out(run: Run, model: Any, writer: TensorWriter, known: set[str]) -> dict[str, Any]:
    """Write the run's tensors, those of its end and of its start that nobody else knows; what says where they belong."""
    _switch(model, training=True)
    rows = []
    for name, tensor in list(tensors_of(model).items())[:MOST_TENSORS]:
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        own = digest(tensor)
        rows.append([name, list(tensor.shape), bool(tensor.requires_grad), own])
        if own not in known:
            writer.add(tensor, own)
    for tensor in run.begun.values():
        writer.add(tensor, digest(tensor))
    half = any(tensor.is_floating_point() and tensor.element_size() < 4 for tensor in tensors_of(model).values())
    return {"root": find_root(model)[0], "end": rows, "half": half, "stock": _is_stock(find_root(model)[1])}


def _is_stock(root: Any) -> bool:
    """Whether the classifier is the library's own, and so has to compute what that computes."""
    places = [vars(kind) for kind in type(root).__mro__]
    forward = next((place["forward"] for place in places if "forward" in place), None)
    return str(getattr(forward, "__module__", "")).startswith("transformers.")


def _probe(model: Any, drawn: int, checkpoint: Checkpoint) -> dict[str, Any]:
    """What each layer that is no plain nn.Linear computes in eval mode for some inputs and for zero."""
    _, root = find_root(model)
    found: dict[str, Any] = {}
    wrapped = layout(model)["wrapped"]
    if wrapped:
        _switch(model, training=False)
    for position in wrapped:
        module = torch.nn.Module.get_submodule(root, position)
        try:
            width = checkpoint.shapes[f"{position}.weight"][1]
            kind = next((p.dtype for p in torch.nn.Module.parameters(module) if p.is_floating_point()), torch.float32)
            inputs = probe_inputs(drawn, width).to(kind)
            with torch.no_grad():  # in the body a layer is given (reviews, tokens, features)
                # a weight that is kept merged until the next training step may be of another epoch
                if position not in HEAD:
                    _switch(module, training=True)
                    module(inputs[None])
                    _switch(module, training=False)
                out = module(inputs if position in HEAD else inputs[None])
            found[position] = out.detach().reshape(len(inputs), -1).float().cpu().numpy()
        except Exception as error:
            found[position] = describe_error(error)[:200]
    return found


@contextlib.contextmanager
def _at_start(model: Any, entry: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[None]:
    """Put the values back that were trained in a run, as they were when it began. Raises KeyError where one is not known."""
    start = {name: known[state] for name, shape, trainable, state in entry["start"] if trainable and math.prod(shape)}
    _switch(model, training=True)  # where adapters are merged in eval mode, they are taken out again
    held = {name: tensor for name, tensor in tensors_of(model).items() if name in start}
    end = {name: tensor.detach().clone() for name, tensor in held.items()}
    try:
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(start[name].view_as(tensor))
        yield
    finally:
        _switch(model, training=True)
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(end[name])


def claims(run: Run) -> dict[str, Any]:
    """What is known of a run's course and of its model's start."""
    return {
        "order": run.order,
        "cell": run.cell,
        "steps": run.steps,
        "rated": run.rated,
        "peak_rate": run.peak_rate,
        "lr_sum": run.lr_sum,
        "seconds": run.seconds,
        "optimizer": run.optimizer[:60],
        "layout": run.layout,
        "start": run.start,
        "problem": run.problem,
    }


def training(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    """Hand out all runs: {"runs", "shapes"}, and the file of tensors beside it.

    `params`: `drawn` of the inputs of layers, `public` reviews on which models are compared, `batch` (reviews at a time), and `texts`
    for models that cannot be rebuilt, once it is known that there are any.
    """
    from transformers import AutoTokenizer

    context.witness.snapshot_models()
    checkpoint = read_checkpoint(context.checkpoint)
    runs = [run for run in context.witness.runs if run.model is not None]
    entries, models = [claims(run) for run in runs], []
    with TensorWriter(Path(context.home) / HANDED) as writer:
        for run, entry in reversed(list(zip(runs, entries, strict=True))):  # what was trained last goes first
            try:
                model = context.witness.model_of(run)
                entry.update(_hand_out(run, model, writer, set(checkpoint.by_digest)))
                models.append((model, entry))
            except Exception as error:
                entry["raised"] = describe_error(error)[:300]
    tensors = {**read_tensors(str(Path(context.home) / HANDED), writer.shapes), **checkpoint.by_digest}

    @functools.cache
    def encoded(name: str) -> list[list[int]]:
        tokenizer = AutoTokenizer.from_pretrained(context.checkpoint)
        found: list[list[int]] = tokenizer(params[name], truncation=True, max_length=512)["input_ids"]
        return found

    for model, entry in models:
        try:
            entry["probed"] = _probe(model, int(params["drawn"]), checkpoint)
            rebuilt = rebuild(checkpoint, entry, tensors, int(params["drawn"]))
            if rebuilt.tensors and (rebuilt.why or not entry["stock"]):  # of what is no DistilBERT nothing is asked
                entry["public"] = logits_for(model, encoded("public"), int(params["batch"]))
                entry["own"] = not seen_alike(checkpoint, rebuilt, entry["public"], encoded("public"))
                if entry["own"] and "texts" in params:
                    entry["logits"] = logits_for(model, encoded("texts"), int(params["batch"]))
                    with contextlib.suppress(Exception), _at_start(model, beginning(entry, entries), tensors):
                        entry["start_logits"] = logits_for(model, encoded("texts"), int(params["batch"]))
        except Exception as error:
            entry["raised"] = describe_error(error)[:300]
    return {"runs": entries, "shapes": writer.shapes}
