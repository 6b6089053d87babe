"""Criteria on `count_trainable_parameters`: judged by its answers only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from grader.assignments.finetuning.rubric import ASSIGNMENT, ON_FREEZING, ON_MODULES, ON_TENSORS
from grader.records import Observation, Verdict
from grader.rubric.answers import ODD, Float, Kind, OneOf, Raised
from grader.rubric.compare import failed, passed, skipped
from grader.rubric.questions import Draw, Question

FULL, HEAD = 66_955_010, 592_130
_HOW = "A module gives its parameters one by one, each once: add up how many numbers they hold."
_SAME = "It gives the same for whatever model: count what the model that is passed in has when the function is called."
_SIZE = "A weight matrix of 3 x 5 holds 15 numbers: ask each parameter how many it holds."
_ANY = "Count what every PyTorch module gives of itself, whatever its layers are called and of whatever kind they are."

Spec = dict[str, Any]
ENTRY = {"kind": Kind(), "number": OneOf(None, int, Float(), bool, ODD), "raised?": Raised()}
"""What the function gave back for a model."""


def _sizes(layer: list[Any]) -> list[int]:
    """Sizes of the tensors of a described layer, the weight first."""
    kind, *n = layer
    match kind:
        case "linear":
            return [n[0] * n[1], n[1]] if n[2] else [n[0] * n[1]]
        case "embedding":
            return [n[0] * n[1]]
        case "conv":
            return [n[0] * n[1] * n[2], n[1]]
        case "scalar":
            return [1]
    return [n[0], n[0]]  # a norm


def true_count(spec: Spec) -> int:
    """Count the trainable numbers of a described module (see `grader.inside.probes.functions.build`), shared tensors once."""
    sizes = [_sizes(layer) for layer in spec["layers"]]
    frozen, biases, shared = (spec.get(name, []) for name in ("frozen", "frozen_bias", "shared"))
    total = sum(sum(found) for i, found in enumerate(sizes) if i not in frozen)
    twice = sum(sizes[second][0] for _, second in shared)
    return int(total - twice - sum(sizes[i][1] for i in biases))


def _buffer_count(spec: Spec) -> int:
    tables = sum(math.prod(shape) for shape in spec.get("buffers", []))
    return int(tables + sum(2 * n[0] + 1 for kind, *n in spec["layers"] if kind == "batch"))


_MISTAKES: dict[str, Callable[[Spec], int]] = {
    "tensors": lambda spec: sum(len(_sizes(layer)) for layer in spec["layers"]) - len(spec.get("shared", [])),
    "first": lambda spec: _sizes(spec["layers"][0])[0],
    "buffers": lambda spec: true_count(spec) + _buffer_count(spec),
    "state_dict": lambda spec: sum(sum(_sizes(layer)) for layer in spec["layers"]) + _buffer_count(spec),
}
"""What is counted by mistake -> how many that are in a described module; of shared tensors a `state_dict()` holds both."""


@ASSIGNMENT.question("count")
def _count(draw: Draw) -> Question:
    def n() -> int:
        return int(draw.rng.integers(3, 12))

    a, b, c = n(), n(), n()
    modules: list[Spec] = [
        {"layers": [["linear", a, b, True], ["linear", b, c, False], ["norm", c]]},
        {"layers": [["embedding", n(), n()], ["conv", n(), n(), 3], ["batch", n()]], "buffers": [[n(), n()]]},
        {"layers": [["linear", a, a, True], ["linear", a, a, True]], "shared": [[0, 1]]},
        {"layers": [["scalar"], ["linear", n(), n(), True], ["embedding", n(), n()]]},
    ]
    pairs: list[list[Spec]] = []
    for _ in range(2):
        kept = [["linear", n(), n(), True], ["norm", n()]]
        body = [["linear", n(), n(), True], ["embedding", n(), n()]]
        whole = {"layers": [body[0], kept[0], body[1], kept[1]], "frozen": [0, 2]}
        pairs.append([whole, {"layers": kept}])
    i, o = n(), n()
    pairs.append([{"layers": [["linear", i, o, True]], "frozen_bias": [0]}, {"layers": [["linear", i, o, False]]}])
    still = [["linear", n(), n(), True], ["norm", n()]]
    pairs.append([{"layers": still, "frozen": [0, 1]}, {"layers": []}])
    names = ["count_trainable_parameters", "count_trainable_params", "count_parameters", "count_params"]
    secret = {
        "modules": [true_count(m) for m in modules],
        "pairs": [true_count(part) for _, part in pairs],
        "mistakes": {name: [wrong(m) for m in modules] for name, wrong in _MISTAKES.items()},
    }
    answer = {
        "distilbert": ENTRY,
        "frozen": ENTRY,
        "modules": (ENTRY,) * len(modules),
        "pairs": ((ENTRY, ENTRY),) * len(pairs),
    }
    params = {"names": names, "modules": modules, "pairs": pairs}
    return Question("grader.inside.probes.functions:count", params, secret, answer=answer)


def _number(entry: Any) -> int | None:
    """Read an answer as an integer: int, numpy integer, 0-dim tensor, integral float. None otherwise."""
    number = entry["number"]
    if type(number) is int:
        return number
    if type(number) is float and np.isfinite(number) and number == int(number):
        return int(number)
    return None


def _same_for_all(seen: Any) -> bool:
    """Whether it gave one number for whatever module it was asked about."""
    pairs = [entry for pair in seen["pairs"] for entry in pair]
    found = {_number(entry) for entry in (seen["distilbert"], *seen["modules"], *pairs)}
    return len(found) == 1 and found != {None}


_HINTS = {
    "first": "That is the size of the first tensor alone: is `return` inside of the loop?",
    "buffers": "Buffers are saved with a model, but nobody trains them: only parameters count.",
    "state_dict": "A `state_dict()` is what is saved: frozen tensors and buffers, too, and shared tensors twice. Count what is trained.",
}
"""What to try where a known mistake was made."""


def _mistake(asked: Question, seen: Any) -> str:
    """Name of the known mistake that explains what it gave for all modules; empty for none."""
    found = [_number(entry) for entry in seen["modules"]]
    return next((name for name, wrong in asked.secret["mistakes"].items() if found == wrong), "")


def _hint(asked: Question, seen: Any, usual: str) -> str:
    """What to try: by the mistake that was made where it is known, else as usual."""
    return _SAME if _same_for_all(seen) else _HINTS.get(_mistake(asked, seen), usual)


def _answer_text(entry: Any) -> str:
    if entry.get("raised"):
        return f"it raised {entry['raised']}"
    if entry["number"] is None:
        return "it returned None" if entry["kind"] == "None" else f"it returned a {entry['kind']}"
    return f"it returned {entry['number']}"


def _never_a_number(seen: Any) -> bool:
    entries = [seen["distilbert"], seen["frozen"], *seen["modules"]]
    return all(_number(entry) is None for entry in entries)


@ASSIGNMENT.check("count/distilbert", points=8, asks="count", read=ON_MODULES)
def counts_distilbert(asked: Question, seen: Observation) -> Verdict:
    """`count_trainable_parameters` gives 66955010 for DistilBERT with a two-label head."""
    entry = seen.value["distilbert"]
    if _number(entry) == FULL:
        return passed(f"For DistilBERT with a two-label head it returned {FULL}.")
    if _mistake(asked, seen.value) == "tensors":
        return skipped(
            "count/any-module", f"For DistilBERT {_answer_text(entry)}: the number of tensors, see `count/any-module`."
        )
    hint = "A function that prints the number must also return it." if entry["kind"] == "None" else _HOW
    return failed(
        f"For DistilBERT with a two-label head {_answer_text(entry)}; {FULL} is right.", _hint(asked, seen.value, hint)
    )


@ASSIGNMENT.check("count/frozen", points=6, asks="count", read=ON_FREEZING)
def leaves_out_frozen(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """Frozen parameters are not counted: 592130 when the body is frozen."""
    if _never_a_number(seen.value):
        return skipped("count/distilbert", "It gave no number for any model.")
    entry = seen.value["frozen"]
    pairs = [(_number(whole), _number(part)) for whole, part in seen.value["pairs"]]
    hint = "A parameter says of itself whether it is trained: count only those that are."
    if earlier["count/distilbert"].status == "passed":
        if _number(entry) != HEAD:
            hint = _hint(asked, seen.value, hint)
            return failed(f"With the body frozen {_answer_text(entry)}; {HEAD} is right.", hint)
        if not any(part for _, part in pairs):
            return passed(f"With the body frozen it returned {HEAD}.")  # other modules are judged by `count/any-module`
        if pairs[-1][0] != 0:
            return failed(
                f"For a module with nothing trainable {_answer_text(seen.value['pairs'][-1][0])}; 0 is right.", hint
            )
        weight = asked.secret["pairs"][-2]
        if pairs[-2][1] == weight != pairs[-2][0]:
            return failed(
                f"For a linear layer with a frozen bias {_answer_text(seen.value['pairs'][-2][0])}; {weight} is right.",
                hint,
            )
        return passed(f"With the body frozen it returned {HEAD}.")
    if len({part for _, part in pairs}) == 1:
        return skipped("count/distilbert", "It gave the same for every module, so frozen parts cannot be told.")
    if _mistake(asked, seen.value) == "first" or any(whole is None for whole, _ in pairs):
        return skipped("count/distilbert", "What it counts are no parameters, so frozen parts cannot be told.")
    # The count itself is wrong and has cost its points: here only frozen parts must make no difference.
    for whole, part in pairs[:-1]:
        if whole is None or whole != part:
            return failed(f"With frozen layers added to a module it returned {whole}, without them {part}.", hint)
    return passed("Frozen layers added to a module do not change the count.")


@ASSIGNMENT.check("count/any-module", points=6, asks="count", read=ON_TENSORS)
def counts_any_module(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """It works for any module, and counts numbers, not tensors."""
    if _never_a_number(seen.value):
        return skipped("count/distilbert", "It gave no number for any model.")
    if _mistake(asked, seen.value) == "tensors":
        return failed("It counts tensors: a weight matrix counts as one, not as its number of entries.", _SIZE)
    lost = [id_ for id_ in ("count/distilbert", "count/frozen") if earlier[id_].status == "failed"]
    if lost and _same_for_all(seen.value):
        return skipped(lost[0], "It gave the same number for every module.")
    if lost and _mistake(asked, seen.value):
        return skipped(lost[0], "It counts the same things too many or too few in every module.")
    if "count/distilbert" in lost and _number(seen.value["modules"][0]) != asked.secret["modules"][0]:
        # made of what DistilBERT is made of: nothing here says that another kind of layer is to blame
        return skipped(lost[0], "The count is wrong for layers like DistilBERT's in another module, too.")
    kinds = (
        "linear layers and a norm",
        "an embedding, a convolution and buffers",
        "two layers sharing a weight",
        "a scalar parameter",
    )
    for entry, right, kind in zip(seen.value["modules"], asked.secret["modules"], kinds, strict=True):
        if _number(entry) != right:
            return failed(
                f"For a module with {kind} {_answer_text(entry)}; {right} is right.",
                f"{_HOW} {_ANY}",
            )
    return passed("Right for modules of several kinds.")
