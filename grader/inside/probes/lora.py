"""Questions about the student's LoRA class. Runs inside; nothing is known here of the right outputs.

For each configuration a layer is wrapped, the two factors are found by their shapes among the tensors that are not the base
layer's, the grader's matrices are put into them, and outputs and gradients are returned. Attribute names are never read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from grader.inside.agent import Context, StudentRaised, guarded
from grader.inside.hooks import torch
from grader.inside.probes.lora_class import find_class


def _base_layer(case: dict[str, Any]) -> Any:
    W, b = torch.from_numpy(case["W"]), case.get("b")
    layer = torch.nn.Linear(W.shape[1], W.shape[0], bias=b is not None)
    with torch.no_grad():
        layer.weight.copy_(W)
        if b is not None:
            layer.bias.copy_(torch.from_numpy(b))
    return layer


def _gap(tensor: Any, wanted: Any) -> float:
    """Largest difference of two tensors; infinite when the shapes differ or one is not finite."""
    if tensor.shape != wanted.shape:
        return float("inf")
    if tensor.dtype == wanted.dtype and torch.equal(tensor, wanted):
        return 0.0  # as it mostly is, and much cheaper to see
    gap = float((tensor.detach().double() - wanted.double()).abs().max())
    return gap if gap == gap else float("inf")


def _base_distance(tensors: list[Any], wanted: Any) -> float:
    """How far the closest of `tensors` is from `wanted`, transposed or reshaped as it may be."""
    least = float("inf")
    for tensor in tensors:
        if tensor.numel() == wanted.numel() and not tensor.is_complex():
            least = min(least, _gap(tensor.reshape(wanted.shape), wanted))
            if least > 0 and tensor.dim() == wanted.dim() == 2:
                least = min(least, _gap(tensor.t(), wanted))
            if least == 0:
                break
    return least


def _base_tensors(case: dict[str, Any]) -> list[Any]:
    return [torch.from_numpy(case[name]) for name in ("W", "b") if case.get(name) is not None]


def _hidden(layer: Any) -> list[Any]:
    """Tensors that modules keep where `parameters()` does not see them: plain attributes, lists, dicts."""
    found = []
    for module in torch.nn.Module.modules(layer):
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            parts = list(value.values()) if type(value) is dict else value
            parts = list(parts) if type(parts) in (list, tuple) else [parts]
            found += [part for part in parts if isinstance(part, torch.Tensor)]
            for part in parts:
                if isinstance(part, torch.nn.Module):
                    found += torch.nn.Module.parameters(part)
    return found


def _candidates(layer: Any, case: dict[str, Any]) -> tuple[list[Any], bool]:
    """Matrices that may be A or B, those of the base left out, and whether they are registered.

    Parameters are looked at first, then buffers, then what is hidden in plain attributes.
    """
    base = _base_tensors(case)
    parameters = list(torch.nn.Module.parameters(layer))
    buffers = list(torch.nn.Module.buffers(layer))

    def free(tensors: list[Any]) -> list[Any]:
        matrices = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.squeeze().dim() == 2]
        return [tensor for tensor in matrices if not any(_base_distance([tensor], wanted) <= 1e-6 for wanted in base)]

    for tensors in (parameters, parameters + buffers):
        if len(found := free(tensors)) >= 2:
            return found, True
    return free([*parameters, *buffers, *_hidden(layer)]), False


def find_factors(layer: Any, case: dict[str, Any]) -> list[dict[str, Any]]:
    """Every way to read two tensors as A (r x in, either orientation) and B (out x r, either orientation).

    Dimensions of size one (a convolution's, a batch's) make no difference.

    Returns [{"A", "B", "A_flipped", "B_flipped", "r", "registered"}] with the tensors themselves.
    """
    (out_features, in_features), most = case["W"].shape, len(case["A"])
    free, registered = _candidates(layer, case)
    factorizations = []
    for A, B in itertools.permutations(free, 2):
        for flip_a, flip_b in itertools.product((False, True), repeat=2):
            rank_a, wide_a = reversed(A.squeeze().shape) if flip_a else A.squeeze().shape
            rank_b, wide_b = B.squeeze().shape if flip_b else reversed(B.squeeze().shape)
            if wide_a == in_features and wide_b == out_features and rank_a == rank_b and 0 < rank_a <= most:
                factorization = {"A": A, "B": B, "A_flipped": flip_a, "B_flipped": flip_b, "r": int(rank_a)}
                factorizations.append({**factorization, "registered": registered})
    return factorizations[:16]


def _load(factorization: dict[str, Any], A: Any, B: Any) -> None:
    r = factorization["r"]
    a, b = torch.from_numpy(A[:r, :].copy()), torch.from_numpy(B[:, :r].copy())
    with torch.no_grad():
        factorization["A"].data.squeeze().copy_(a.t() if factorization["A_flipped"] else a)
        factorization["B"].data.squeeze().copy_(b.t() if factorization["B_flipped"] else b)


def _zero_biases(layer: Any, factorization: dict[str, Any], case: dict[str, Any]) -> bool:
    """Set the factors' own biases to zero, vectors that are no part of the base; returns whether there are any."""
    base = _base_tensors(case)
    found = False
    with torch.no_grad():
        for tensor in torch.nn.Module.parameters(layer):
            vector = tensor.dim() == 1 and tensor is not factorization["A"] and tensor is not factorization["B"]
            if vector and not any(_base_distance([tensor], wanted) <= 1e-6 for wanted in base):
                tensor.zero_()
                found = True
    return found


def _output(layer: Any, x: Any) -> Any:
    try:
        with torch.no_grad():
            y = guarded(layer, torch.from_numpy(x.copy()))
    except StudentRaised as error:
        return {"raised": str(error)[:300]}
    if not isinstance(y, torch.Tensor):
        return {"raised": "", "returned": type(y).__name__[:60]}
    return y.detach().as_subclass(torch.Tensor)


def _grad_norm(tensor: Any) -> float | None:
    return None if tensor.grad is None else float(tensor.grad.detach().double().norm())


def _fresh(layer: Any, case: dict[str, Any]) -> dict[str, Any]:
    """Outputs of the untouched layer in eval and in train mode, and how closely its `state_dict()` holds the base's tensors."""
    layer.eval()
    evaluated = [_output(layer, x) for x in case["x"]]
    layer.train()
    trained = [_output(layer, x) for x in case["x"]]
    saved = [t for t in torch.nn.Module.state_dict(layer).values() if isinstance(t, torch.Tensor)]
    return {
        "eval": evaluated,
        "train": trained,
        "base_distance": [_base_distance(saved, wanted) for wanted in _base_tensors(case)],
    }


def _norms(layer: Any, factorization: dict[str, Any], case: dict[str, Any]) -> list[float | None]:
    """Gradient norms of A, B and the input in train mode. Raises StudentRaised."""
    layer.train()
    for tensor in (factorization["A"], factorization["B"]):
        tensor.grad = None
    x = torch.from_numpy(case["x"][0].copy()).requires_grad_(True)
    y = guarded(layer, x)
    guarded(y.backward, torch.from_numpy(case["g"]))
    return [_grad_norm(factorization["A"]), _grad_norm(factorization["B"]), _grad_norm(x)]


def _loaded(construct: Callable[..., Any], case: dict[str, Any], number: int) -> dict[str, Any]:
    """A fresh layer with the grader's matrices in factorization `number`: outputs, and gradients of A, B and the input."""
    layer = construct(_base_layer(case), int(case["rank"]), int(case["alpha"]))
    layer.train()
    factorization = find_factors(layer, case)[number]
    answer: dict[str, Any] = {name: factorization[name] for name in ("r", "registered")}
    try:
        answer["start"] = _norms(layer, factorization, case)[:2]  # can the layer, as it was built, start to learn?
    except StudentRaised:
        answer["start"] = [None, None]
    _with_matrices(layer, factorization, case, answer, "")
    try:
        x = torch.from_numpy(case["x"][0].copy()).requires_grad_(True)
        y = guarded(layer, x)
        guarded(y.backward, torch.from_numpy(case["g"]))
        answer["input_gradient"] = x.grad
    except StudentRaised:  # in eval mode only, perhaps
        answer["input_gradient"] = None
    try:
        answer["gradients"] = _norms(layer, factorization, case)
    except StudentRaised as error:
        answer["gradients_raised"] = str(error)[:300]
    layer.train()
    if _zero_biases(layer, factorization, case):
        _with_matrices(layer, factorization, case, answer, "no_bias_")
    return answer


def _with_matrices(
    layer: Any, factorization: dict[str, Any], case: dict[str, Any], answer: dict[str, Any], prefix: str
) -> None:
    """Add the outputs in eval mode with zero matrices and with the grader's to `answer`."""
    for key, scale in (("zeroed", 0), ("outputs", 1)):
        layer.train()
        _load(factorization, case["A"] * scale, case["B"] * scale)
        # as between two evaluations of a training: a weight that was kept merged for one is forgotten
        _output(layer, case["x"][0])
        layer.eval()
        answer[prefix + key] = [_output(layer, x) for x in case["x"]]


def lora(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    """Put the student's class through all configurations; one answer per configuration, in order, and how it was called.

    Each case has W (out x in), b (out) or None, rank, alpha, A (many x in), B (out x many), x (inputs, 2-D and 3-D), g.
    """
    made = find_class(context, list(params["names"]))
    construct = made.construct
    answers = []
    for case in params["cases"]:
        answer: dict[str, Any] = {"raised": "", "fresh": None, "factorizations": []}
        try:
            layer = construct(_base_layer(case), int(case["rank"]), int(case["alpha"]))
            if not isinstance(layer, torch.nn.Module):
                answers.append({**answer, "made": type(layer).__name__[:60]})
                continue
            answer["fresh"] = guarded(_fresh, layer, case)
            factorizations = guarded(find_factors, layer, case)
            answer["factorizations"] = [
                guarded(_loaded, construct, case, number) for number in range(len(factorizations))
            ]
        except StudentRaised as error:
            answer["raised"] = str(error)[:300]
        answers.append(answer)
    return {"cases": answers, "call": made.call}
