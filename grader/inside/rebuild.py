"""A trained classifier put together again from its tensors alone, to compute what the library's own class computes.

Runs inside; torch, numpy and transformers. In a student's kernel it only says whether a model can be rebuilt; what counts is
computed in a clean box. A layer in which something was wrapped is read as `W x + b + c * B (A x)`: the roles of its tensors and the
factor c are those that explain what the layer was seen to compute for some inputs.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from grader.inside.distilbert import HEAD, positions
from grader.inside.hooks import torch
from grader.inside.tensors import digest

__all__ = [
    "PROBES", "Checkpoint", "Layer", "Readers", "Rebuilt", "batches", "kinship", "members_of", "probe_inputs", "read_checkpoint", "rebuild",
    "seen_alike", "tensors_at_start",
]  # fmt: skip

PROBES = 16
"""Inputs that a wrapped layer is tried with, beside zero."""
_MOST_ALIKE = 10
"""Matrices, and vectors, of a layer that are tried in its roles: trying takes the cube of their number."""
_MOST_RANK = 1024
"""Highest rank of factors that are tried: above the width of a small model, as those of the real one may be."""
_NO_RANK = 1e-3
"""Singular values below this part of the largest are rounding."""
_TOLERANCE, _TOLERANCE_HALF = 1e-4, 3e-2
"""How large a part of a layer's output may stay unexplained, in single and in half precision."""
_CLEARLY = 1e-6
"""By so much of the output an explanation has to be better to take the place of one before it."""


class Checkpoint:
    """The pretrained model in a folder."""

    def __init__(self, folder: str) -> None:
        """Read it. Raises OSError or ValueError where it cannot be read."""
        from safetensors.torch import load_file

        loaded = load_file(str(Path(folder) / "model.safetensors"))
        self.folder = folder
        self.body = {
            name if name.startswith("distilbert.") else f"distilbert.{name}": tensor.float()
            for name, tensor in loaded.items()
            if not name.startswith(("vocab_", *HEAD)) and tensor.is_floating_point()
        }
        """Canonical name -> float32 tensor of the body."""
        self.by_digest = {digest(tensor): tensor for tensor in self.body.values()}
        """The same by digest."""

    @functools.cached_property
    def in_half_precision(self) -> dict[str, Any]:
        """What the tensors become in bfloat16 and float16, as float32, by digest."""
        kinds = (torch.bfloat16, torch.float16)
        rounded = [tensor.to(kind).float() for tensor in self.body.values() for kind in kinds]
        return {digest(tensor): tensor for tensor in rounded}

    @functools.cached_property
    def stock(self) -> Any:
        """The library's own class for two labels in eval mode, without values."""
        from transformers import DistilBertConfig, DistilBertForSequenceClassification

        content = json.loads((Path(self.folder) / "config.json").read_text(encoding="utf-8"))
        with torch.device("meta"):
            return DistilBertForSequenceClassification(DistilBertConfig(**{**content, "num_labels": 2})).eval()

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor of the classifier."""
        found = {name: tuple(tensor.shape) for name, tensor in self.body.items()}
        (dim,) = found["distilbert.embeddings.LayerNorm.weight"]
        for name, out in zip(HEAD, (dim, 2), strict=True):
            found[f"{name}.weight"], found[f"{name}.bias"] = (out, dim), (out,)
        return found


@functools.lru_cache(maxsize=1)
def read_checkpoint(folder: str) -> Checkpoint:
    """The checkpoint in a folder, read once."""
    return Checkpoint(folder)


@dataclass(frozen=True)
class Layer:
    """What a wrapped layer was found to compute, by the roles of its tensors; an empty name stands for none."""

    base: str
    """What stands for the pretrained weight; empty where the layer does not hold it."""
    base_flipped: bool
    """Whether that is transposed."""
    base_bias: str
    """What stands for the pretrained bias; empty where the layer does not hold it."""
    bias_given: bool
    """Whether the pretrained bias is used, though the layer does not hold it."""
    factors: tuple[str, bool, str, bool]
    """A, whether it is transposed, B, and whether that is."""
    extras: tuple[str, str]
    """Biases of A and of B."""
    scale: float
    """The factor c."""
    gap: float
    """What stays unexplained, as a part of what the layer computes."""

    def effective(self, members: Mapping[str, Any], pretrained: Sequence[Any]) -> tuple[Any, Any]:
        """Weight (out x in) and bias (out) with these tensors in the roles, float32. Raises KeyError where one is missing.

        A weight to which the factors add nothing is the very tensor.
        """
        weight = pretrained[0] if not self.base else _matrix(members[self.base])
        weight = weight.T if self.base_flipped else weight
        bias = torch.zeros(len(weight))
        if self.base_bias or self.bias_given:
            bias = members[self.base_bias].reshape(-1) if self.base_bias else pretrained[1]
        adds = [self.scale * members[self.extras[1]].reshape(-1)] if self.extras[1] else []
        if self.factors[0]:
            A, B = _matrix(members[self.factors[0]]), _matrix(members[self.factors[2]])
            A, B = A.T if self.factors[1] else A, B.T if self.factors[3] else B
            if self.extras[0]:
                adds.append(self.scale * (B @ members[self.extras[0]].reshape(-1)))
            change = self.scale * (B @ A)
            weight = weight + change if bool(change.any()) else weight
        return weight, sum((add for add in adds if bool(add.any())), bias)


@dataclass(frozen=True)
class Rebuilt:
    """What can be said of one model by its tensors."""

    tensors: Mapping[str, Any] = field(default_factory=dict)
    """Name in the library's class -> tensor, adapters merged; all of them where `why` is empty."""
    layers: Mapping[str, Layer] = field(default_factory=dict)
    """Position -> how a layer there is explained, where something was wrapped."""
    why: str = ""
    """Why it cannot be rebuilt; empty when it can."""
    unexplained: tuple[str, ...] = ()
    """Positions at which something else is computed than `W x + b + c * B (A x)` by tensors of the layer."""
    changed: tuple[str, ...] = ()
    """Names of pretrained tensors that the model does not hold where it uses them."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Changed weight of a layer that is or was wrapped -> rank of the change."""


def probe_inputs(drawn: int, width: int) -> Any:
    """Random inputs (PROBES + 1, width) for a layer, float64, the last of them zero."""
    inputs = np.random.default_rng([drawn, width]).standard_normal((PROBES + 1, width))
    inputs[-1] = 0.0
    return torch.from_numpy(inputs)


def _matrix(tensor: Any) -> Any:
    """A tensor without dimensions of size one beyond its two (a convolution's, a batch's)."""
    while tensor.dim() > 2 and 1 in tensor.shape:
        tensor = tensor.squeeze(list(tensor.shape).index(1))
    return tensor


def _bases(matrices: Mapping[str, Any], shape: tuple[int, ...]) -> list[tuple[str, bool, Any]]:
    """Matrices that have this shape as they are or transposed."""
    found = [(name, flip, m.T if flip else m) for flip in (False, True) for name, m in matrices.items()]
    return [base for base in found if tuple(base[2].shape) == shape]


def _pairs(matrices: Mapping[str, Any], shape: tuple[int, ...]) -> list[tuple[tuple[str, bool, str, bool], Any, Any]]:
    """Every way to read two matrices as A (r x in) and B (out x r)."""
    found = []
    for (name_a, a), (name_b, b) in itertools.permutations(matrices.items(), 2):
        for flip_a, flip_b in itertools.product((False, True), repeat=2):
            A, B = a.T if flip_a else a, b.T if flip_b else b
            if A.shape[1] == shape[1] and B.shape[0] == shape[0] and A.shape[0] == B.shape[1]:
                found.append(((name_a, flip_a, name_b, flip_b), A, B))
    return found


_NO_PAIR = (("", False, "", False), None, None)


def explain(
    own: Mapping[str, Any], outputs: Any, inputs: Any, pretrained: Sequence[Any], tolerance: float
) -> Layer | None:
    """Find the roles of a layer's tensors (matrices and vectors) by what it computes; None where no matrix has its shape.

    `outputs` (PROBES + 1, out) for `inputs` (PROBES + 1, in), the last of them zero; `pretrained`: weight and bias, or empty.
    What the layer holds itself comes before the pretrained.
    """
    shape = (outputs.shape[1], inputs.shape[1])
    matrices = {name: tensor.double() for name, tensor in own.items() if tensor.dim() == 2}
    zero, x = outputs[-1], inputs[:-1]
    y = outputs[:-1] - zero
    size = float(y.norm()) or 1.0
    held = _bases(matrices, shape)
    if pretrained:
        held.sort(key=lambda base: not torch.equal(base[2], pretrained[0].double()))
    best: tuple[float, Any, Any, float] | None = None
    for bases in (held, [("", False, tensor.double()) for tensor in pretrained[:1]]):
        for base in bases if best is None or best[0] > tolerance else ():
            rest = y - x @ base[2].T
            for pair in [*_pairs({n: m for n, m in matrices.items() if n != base[0]}, shape), _NO_PAIR]:
                adds = x @ pair[1].T @ pair[2].T if pair[1] is not None else torch.zeros_like(rest)
                square = float(adds.square().sum())
                scale = float((adds * rest).sum()) / square if square > 0 else 0.0
                gap = float((rest - scale * adds).norm()) / size
                if best is None or gap + _CLEARLY < best[0]:
                    best = (gap, base, pair, scale)
    if best is None:
        return None
    gap, base, pair, scale = best
    vectors = {name: tensor.double().reshape(-1) for name, tensor in own.items() if tensor.dim() <= 1}
    floor = max(float(zero.norm()), size / PROBES**0.5)
    bias, given, extras, left = _explain_bias(vectors, zero, pair, scale, pretrained[1:], tolerance * floor)
    return Layer(base[0], base[1], bias, given, pair[0], extras, scale, max(gap, left / floor))


def _explain_bias(
    vectors: Mapping[str, Any], zero: Any, pair: Any, scale: float, pretrained: Sequence[Any], enough: float
) -> tuple[str, bool, tuple[str, str], float]:
    """The base's bias, whether it is the pretrained one that the layer does not hold, biases of A and of B, and what is left."""
    nothing = ("", torch.zeros_like(zero))
    outer = [(name, vector) for name, vector in vectors.items() if vector.shape == zero.shape]
    if pretrained:
        outer.sort(key=lambda item: not torch.equal(item[1], pretrained[0].double()))
    inner = [nothing]
    if pair[1] is not None:
        inner += [(name, pair[2] @ vector) for name, vector in vectors.items() if len(vector) == len(pair[1])]
    best: tuple[float, str, bool, tuple[str, str]] | None = None
    for given, bases in ((False, [*outer, nothing]), (True, [("", tensor.double()) for tensor in pretrained])):
        for base, of_a, of_b in itertools.product(
            bases if best is None or best[0] > enough else (), inner, [nothing, *outer]
        ):
            if of_b[0] and of_b[0] in (base[0], of_a[0]):
                continue
            left = float((zero - base[1] - scale * (of_a[1] + of_b[1])).norm())
            if best is None or left + _CLEARLY * (1.0 + float(zero.norm())) < best[0]:
                best = (left, base[0], given, (of_a[0], of_b[0]))
    assert best is not None
    return best[1], best[2], best[3], best[0]


def members_of(checkpoint: Checkpoint, entry: Mapping[str, Any], rows: str, pool: Mapping[str, Any]) -> dict[str, Any]:
    """Name from the root of the classifier -> tensor, of those that are in the pool; `rows` is `start` or `end`."""
    where = entry["root"] if rows == "end" else entry["layout"]["root"]
    root, found = f"{where}." if where else "", {}
    for name, _shape, _trainable, state in entry[rows]:
        tensor = pool.get(state)
        if tensor is None and entry["half"]:
            tensor = checkpoint.in_half_precision.get(state)
        if tensor is not None and name.startswith(root):
            found[name.removeprefix(root)] = tensor
    return found


def rebuild(checkpoint: Checkpoint, entry: Mapping[str, Any], pool: Mapping[str, Any], drawn: int) -> Rebuilt:
    """Put a model together: `entry` says where its tensors belong (see `probes.training`), `pool` has them by digest."""
    members = members_of(checkpoint, entry, "end", pool)
    probed, tolerance = entry["probed"], _TOLERANCE_HALF if entry["half"] else _TOLERANCE
    tensors: dict[str, Any] = {}
    layers: dict[str, Layer] = {}
    why, unexplained = "", []
    for position in positions():
        if position in probed:
            pretrained = _pretrained(checkpoint, position)
            own = {n: t for n, t in members.items() if n.startswith(f"{position}.")}
            shape = checkpoint.shapes[f"{position}.weight"]
            layer = _probed(own, probed[position], drawn, shape, pretrained, tolerance)
            if layer is None or not layer.gap <= tolerance:
                what = "no matrix of its shape" if layer is None else f"{layer.gap:.2g} of its output unexplained"
                unexplained.append(position)
                why = why or f"`{position}` is no `W x + b + c B(A x)`: {what}"
            if layer is not None:
                layers[position] = layer
                tensors[f"{position}.weight"], tensors[f"{position}.bias"] = layer.effective(own, pretrained)
    for name, shape in checkpoint.shapes.items():
        if name.rpartition(".")[0] in probed:
            continue
        tensor = members.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            seen = "is not there" if tensor is None else f"has the shape {tuple(tensor.shape)}, not {shape}"
            why = why or f"`{name}` {seen}"
        else:
            tensors[name] = tensor
    changed, ranks = _changed(
        checkpoint, members, layers, set(probed), {*entry["layout"]["wrapped"], *probed}, tolerance
    )
    return Rebuilt(tensors, layers, why, tuple(unexplained), changed, ranks)


def tensors_at_start(
    checkpoint: Checkpoint, entry: Mapping[str, Any], rebuilt: Rebuilt, pool: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Tensors of the model when its training began, in the roles they have at its end; None where one is not known."""
    members, tensors = members_of(checkpoint, entry, "start", pool), {}
    try:
        for name in checkpoint.shapes:
            position = name.rpartition(".")[0]
            if position in rebuilt.layers:
                pretrained = _pretrained(checkpoint, position)
                both = rebuilt.layers[position].effective(members, pretrained)
                tensors[f"{position}.weight"], tensors[f"{position}.bias"] = both
            else:  # what was wrapped and is not any more began as the pretrained
                tensors[name] = members[name] if name in members else checkpoint.body[name]
    except (KeyError, RuntimeError):
        return None
    return tensors if all(tuple(tensors[name].shape) == shape for name, shape in checkpoint.shapes.items()) else None


def kinship(pretrained: Mapping[str, Any], tensors: Mapping[str, Any]) -> float:
    """Cosine of a body's matrices with the pretrained ones, both by name: near 0 for one that began from random numbers."""
    product = ours = theirs = 0.0
    for name, wanted in pretrained.items():
        found = tensors.get(name)
        if wanted.dim() == 2 and found is not None and found.shape == wanted.shape:
            product += float(torch.dot(found.reshape(-1), wanted.reshape(-1)))
            ours, theirs = ours + float(found.norm()) ** 2, theirs + float(wanted.norm()) ** 2
    return product / (ours * theirs) ** 0.5 if ours > 0 and theirs > 0 else 0.0


def seen_alike(checkpoint: Checkpoint, rebuilt: Rebuilt, own: Any, encoded: Sequence[Sequence[int]]) -> bool:
    """Whether a rebuilt model answers as the model itself did to some reviews; False for one that could not be rebuilt."""
    if rebuilt.why:
        return False
    theirs, ours = np.asarray(own, dtype=np.float64), Readers(checkpoint, encoded, 64).logits(rebuilt.tensors).numpy()
    return theirs.shape == ours.shape and bool(np.abs(theirs - ours).max() <= 0.02 + 0.05 * np.abs(ours).max())


def _pretrained(checkpoint: Checkpoint, position: str) -> list[Any]:
    """Weight and bias of a layer of the pretrained body; empty for one of the head."""
    return [checkpoint.body[n] for n in (f"{position}.weight", f"{position}.bias") if n in checkpoint.body]


def _probed(
    own: Mapping[str, Any], outputs: Any, drawn: int, shape: tuple[int, ...], pretrained: list[Any], tolerance: float
) -> Layer | None:
    if not isinstance(outputs, np.ndarray) or outputs.shape != (PROBES + 1, shape[0]) or outputs.dtype.kind != "f":
        return None
    most = max(shape) * max(_MOST_RANK, *shape)
    small = {n: _matrix(t) for n, t in own.items() if t.is_floating_point() and t.numel() <= most}
    tried = [
        (n, t)
        for dims in ((2,), (0, 1))
        for n, t in [(n, t) for n, t in small.items() if t.dim() in dims][:_MOST_ALIKE]
    ]
    if not np.isfinite(outputs).all() or not all(bool(tensor.isfinite().all()) for _, tensor in tried):
        return None
    inputs = probe_inputs(drawn, shape[1])
    return explain(dict(tried), torch.from_numpy(outputs.astype(np.float64)), inputs, pretrained, tolerance)


def _changed(
    checkpoint: Checkpoint,
    members: Mapping[str, Any],
    layers: Mapping[str, Layer],
    probed: set[str],
    wrapped: set[str],
    tolerance: float,
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of pretrained tensors that are not in their place, and ranks of the changes of wrapped layers' weights."""
    changed, ranks = [], {}
    for name, wanted in checkpoint.body.items():
        position, _, kind = name.rpartition(".")
        layer = layers.get(position)
        if position not in probed:
            found = members.get(name)
        elif layer is not None and layer.gap <= tolerance:
            found = members.get(layer.base if kind == "weight" else layer.base_bias)
            if found is not None and kind == "weight":
                found = _matrix(found).T if layer.base_flipped else _matrix(found)
            elif found is not None:
                found = found.reshape(-1)
        else:  # what it computes is no help: whatever comes closest may be the one
            found = _closest(members, position, wanted)
        if found is None or found.shape != wanted.shape:
            changed.append(name)
        elif not _same(found.float(), wanted):
            changed.append(name)
            if position in wrapped and wanted.dim() == 2:
                change = found.float() - wanted
                ranks[name] = int(torch.linalg.matrix_rank(change, rtol=_NO_RANK)) if change.isfinite().all() else -1
    return tuple(changed), ranks


def _closest(members: Mapping[str, Any], position: str, wanted: Any) -> Any:
    own = {n: t for n, t in members.items() if n.startswith(f"{position}.") and t.is_floating_point()}
    alike = [t for t in own.values() if t.shape == wanted.shape]
    if wanted.dim() == 2:
        alike += [t.T for t in own.values() if t.shape == wanted.T.shape]
    return min(alike[:_MOST_ALIKE], key=lambda t: float((t.float() - wanted).abs().max()), default=None)


def _same(found: Any, wanted: Any) -> bool:
    """Whether a tensor is the pretrained one, up to the rounding of a merge and unmerge or of half precision."""
    if found is wanted or torch.equal(found, wanted):
        return True
    if float((found - wanted).abs().max()) <= 4e-6 * max(1.0, float(wanted.abs().max())):
        return True
    return any(torch.equal(found, wanted.to(kind).float()) for kind in (torch.bfloat16, torch.float16))


class Readers:
    """Logits of rebuilt models for the same reviews; what bodies have in common is computed once."""

    def __init__(
        self, checkpoint: Checkpoint, encoded: Sequence[Sequence[int]], batch: int, device: str = "cpu"
    ) -> None:
        self._checkpoint, self._encoded, self._batch, self._device = checkpoint, encoded, batch, device
        self._pooled: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def logits(self, tensors: Mapping[str, Any]) -> Any:
        """Logits (reviews, 2) of a classifier with these tensors."""
        body = {name: tensor for name, tensor in tensors.items() if name.startswith("distilbert.")}
        key = tuple(tensor.data_ptr() for tensor in body.values())
        if key not in self._pooled:
            self._pooled[key] = (body, self._pool(body))  # with the tensors, whose places must not be used again
        first, second = (
            (tensors[f"{name}.weight"].to(self._device), tensors[f"{name}.bias"].to(self._device)) for name in HEAD
        )
        with torch.no_grad():
            hidden = torch.relu(torch.nn.functional.linear(self._pooled[key][1], *first))
            return torch.nn.functional.linear(hidden, *second).float().cpu()

    def _pool(self, body: Mapping[str, Any]) -> Any:
        """What the head reads of every review (reviews, dim)."""
        model = self._checkpoint.stock.distilbert
        own = {name.removeprefix("distilbert."): tensor.to(self._device) for name, tensor in body.items()}
        longest = self._checkpoint.stock.config.max_position_embeddings
        model.load_state_dict(own, strict=False, assign=True)
        model.embeddings.position_ids = torch.arange(longest, device=self._device)[None]
        width = self._checkpoint.shapes["classifier.weight"][1]
        pooled = torch.zeros(len(self._encoded), width, device=self._device)
        with torch.no_grad():
            for chosen, inputs in batches(self._encoded, self._batch, self._device):
                pooled[chosen] = model(**inputs)[0][:, 0]
        return pooled


def batches(encoded: Sequence[Sequence[int]], size: int, device: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Numbers of reviews and the inputs of a model for them, as many at a time; sorted by length, so that little is padded."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    for start in range(0, len(order), size):
        rows = [encoded[i] for i in order[start : start + size]]
        ids = torch.tensor([[*row, *[0] * (len(rows[-1]) - len(row))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (len(rows[-1]) - len(row)) for row in rows], device=device)
        yield torch.tensor(order[start : start + size]), {"input_ids": ids, "attention_mask": mask}
