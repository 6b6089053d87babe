"""Questions about the student's LoRA class. Runs inside; nothing is known here of the right outputs.

For each configuration a layer is wrapped, the two factors are found by their shapes among the tensors that are not the base
layer's, the grader's matrices are put into them, and outputs and gradients are returned. Attribute names are never read.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from typing import Any

from grader.inside.agent import Context, StudentRaised, guarded
from grader.inside.functions import brief

RANK_NAMES = ("rank", "r", "lora_r", "lora_rank", "rank_", "R", "k", "dim", "lora_dim", "low_rank", "rank_size")
ALPHA_NAMES = ("alpha", "lora_alpha", "alpha_", "a", "scale_alpha", "lora_scale_alpha")


def construct(cls: Any, base: Any, rank: int, alpha: int) -> Any:
    """Wrap `base`: rank and alpha by name where the signature has such names, else by position (layer, rank, alpha)."""
    try:
        names = list(inspect.signature(cls).parameters)
    except (TypeError, ValueError):
        names = []
    rank_name = next((n for n in names[1:] if n in RANK_NAMES), None)
    alpha_name = next((n for n in names[1:] if n in ALPHA_NAMES), None)
    if rank_name and alpha_name:
        return guarded(cls, base, **{rank_name: rank, alpha_name: alpha})
    return guarded(cls, base, rank, alpha)


def _is_class(thing: Any) -> bool:
    torch = sys.modules["torch"]
    return isinstance(thing, type) and issubclass(thing, torch.nn.Module)


def _base_layer(case: dict[str, Any]) -> Any:
    torch = sys.modules["torch"]
    W, b = torch.from_numpy(case["W"]), case.get("b")
    layer = torch.nn.Linear(W.shape[1], W.shape[0], bias=b is not None)
    with torch.no_grad():
        layer.weight.copy_(W)
        if b is not None:
            layer.bias.copy_(torch.from_numpy(b))
    return layer


def _same(tensor: Any, wanted: Any) -> bool:
    torch = sys.modules["torch"]
    return bool(tensor.shape == wanted.shape and torch.allclose(tensor.detach().float(), wanted, rtol=1e-6, atol=1e-6))


def _match(tensor: Any, W: Any, b: Any) -> str:
    if _same(tensor, W) or (tensor.dim() == 2 and _same(tensor.t(), W)):
        return "W"
    return "b" if b is not None and _same(tensor.reshape(-1), b.reshape(-1)) else ""


def _tensors(layer: Any, case: dict[str, Any]) -> list[tuple[str, Any, str, bool]]:
    """Every registered tensor as (name, tensor, 'W'/'b'/'' by content, is a parameter)."""
    torch = sys.modules["torch"]
    W = torch.from_numpy(case["W"])
    b = torch.from_numpy(case["b"]) if case.get("b") is not None else None
    members = [(n, t, True) for n, t in torch.nn.Module.named_parameters(layer)]
    members += [(n, t, False) for n, t in torch.nn.Module.named_buffers(layer)]
    return [(name, tensor, _match(tensor, W, b), is_parameter) for name, tensor, is_parameter in members]


def find_factors(layer: Any, case: dict[str, Any]) -> list[dict[str, Any]]:
    """Every way to read two tensors as A (r x in, either orientation) and B (out x r, either orientation).

    Returns [{"A", "B", "A_flipped", "B_flipped", "r"}] with the tensors themselves.
    """
    out_features, in_features = case["W"].shape
    free = [
        (n, t) for n, t, match, is_parameter in _tensors(layer, case) if not match and t.dim() == 2 and is_parameter
    ]
    if len(free) < 2:  # factors kept as buffers are found too, and judged by their gradients
        free = [(n, t) for n, t, match, _ in _tensors(layer, case) if not match and t.dim() == 2]
    readings = []
    for (name_a, A), (name_b, B) in itertools.permutations(free, 2):
        for flip_a, flip_b in itertools.product((False, True), repeat=2):
            rank_a, wide_a = (A.shape[1], A.shape[0]) if flip_a else (A.shape[0], A.shape[1])
            rank_b, wide_b = (B.shape[0], B.shape[1]) if flip_b else (B.shape[1], B.shape[0])
            if wide_a == in_features and wide_b == out_features and rank_a == rank_b:
                readings.append(
                    {
                        "A": A,
                        "B": B,
                        "A_flipped": flip_a,
                        "B_flipped": flip_b,
                        "r": int(rank_a),
                        "names": [name_a, name_b],
                    }
                )
    return readings[:16]


def _load(reading: dict[str, Any], A: Any, B: Any) -> None:
    torch = sys.modules["torch"]
    r = reading["r"]
    a, b = torch.from_numpy(A[:r, :].copy()), torch.from_numpy(B[:, :r].copy())
    with torch.no_grad():
        reading["A"].data.copy_(a.t() if reading["A_flipped"] else a)
        reading["B"].data.copy_(b.t() if reading["B_flipped"] else b)


def _output(layer: Any, x: Any) -> Any:
    torch = sys.modules["torch"]
    try:
        with torch.no_grad():
            y = guarded(layer, torch.from_numpy(x))
    except StudentRaised as error:
        return {"raised": str(error)[:300]}
    if not isinstance(y, torch.Tensor):
        return {"raised": f"returned {type(y).__name__[:60]}, not a tensor"}
    return y


def _grad_norm(tensor: Any) -> float | None:
    return None if tensor.grad is None else float(tensor.grad.detach().double().norm())


def _fresh(layer: Any, case: dict[str, Any]) -> dict[str, Any]:
    """Outputs of the untouched layer in eval and in train mode, and what it has registered."""
    torch = sys.modules["torch"]
    layer.eval()
    evaluated = [_output(layer, x) for x in case["x"]]
    layer.train()
    trained = [_output(layer, x) for x in case["x"]]
    saved = torch.nn.Module.state_dict(layer)
    stored = [tensor for tensor in saved.values() if isinstance(tensor, torch.Tensor) and tensor.numel() < 5000][:20]
    return {
        "eval": evaluated,
        "train": trained,
        "stored": stored,
        "shapes": [list(t.shape) for _, t, _, _ in _tensors(layer, case)][:40],
    }


def _fresh_gradients(layer: Any, readings: list[dict[str, Any]], x: Any) -> list[float | None]:
    """Gradient norms of the two factors of a layer as it was built: at least one must be able to start learning."""
    torch = sys.modules["torch"]
    layer.train()
    for parameter in layer.parameters():
        parameter.grad = None
    torch.manual_seed(0)
    y = guarded(layer, torch.from_numpy(x))
    if not y.requires_grad:
        return [None, None]
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    return [_grad_norm(readings[0]["A"]), _grad_norm(readings[0]["B"])]


def _loaded(cls: Any, case: dict[str, Any], number: int) -> dict[str, Any]:
    """A fresh layer with the grader's matrices in reading `number`: outputs, and gradients of A, B and the input."""
    torch = sys.modules["torch"]
    layer = construct(cls, _base_layer(case), int(case["rank"]), int(case["alpha"]))
    layer.train()
    reading = find_factors(layer, case)[number]
    _load(reading, case["A"] * 0, case["B"] * 0)
    layer.eval()
    zeroed = [_output(layer, x) for x in case["x"]]
    layer.train()
    _load(reading, case["A"], case["B"])
    answer: dict[str, Any] = {"r": reading["r"], "names": reading["names"], "zeroed": zeroed}
    layer.eval()
    answer["outputs"] = [_output(layer, x) for x in case["x"]]
    try:
        x = torch.from_numpy(case["x"][0]).requires_grad_(True)
        guarded(layer, x).backward(torch.from_numpy(case["g"]))
        answer["input_gradient"] = x.grad
        layer.train()
        _load(reading, case["A"], case["B"])
        for parameter in layer.parameters():
            parameter.grad = None
        x = torch.from_numpy(case["x"][0]).requires_grad_(True)
        y = guarded(layer, x)
        guarded(y.backward, torch.from_numpy(case["g"]))
        answer["gradients"] = [_grad_norm(reading["A"]), _grad_norm(reading["B"]), _grad_norm(x)]
    except StudentRaised as error:
        answer["gradients_raised"] = str(error)[:300]
    return answer


def lora(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    """Put the student's class through all configurations; one answer per configuration, in order.

    Each case has W (out x in), b (out) or None, rank, alpha, A (many x in), B (out x many), x (inputs, 2-D and 3-D), g.
    """
    torch = sys.modules["torch"]

    def plausible(cls: Any) -> bool:
        with brief(2.0):
            layer = construct(cls, torch.nn.Linear(5, 7), 3, 6)
            y = layer(torch.zeros(2, 5))
        return tuple(y.shape) == (2, 7) and len(list(layer.parameters())) >= 2

    cls = context.find(list(params["names"]), _is_class, plausible)
    answers = []
    for case in params["cases"]:
        answer: dict[str, Any] = {"raised": "", "fresh": None, "readings": []}
        try:
            layer = construct(cls, _base_layer(case), int(case["rank"]), int(case["alpha"]))
            if not isinstance(layer, torch.nn.Module):
                raise StudentRaised(f"the class made an object of type {type(layer).__name__[:60]}, not a module")
            answer["fresh"] = guarded(_fresh, layer, case)
            readings = guarded(find_factors, layer, case)
            if readings:
                try:
                    answer["fresh_gradients"] = guarded(_fresh_gradients, layer, readings, case["x"][0])
                except StudentRaised as error:
                    answer["fresh_gradients_raised"] = str(error)[:300]
            answer["readings"] = [guarded(_loaded, cls, case, number) for number in range(len(readings))]
        except StudentRaised as error:
            answer["raised"] = str(error)[:300]
        answers.append(answer)
    return {"cases": answers}
