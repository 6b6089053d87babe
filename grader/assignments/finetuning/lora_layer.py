"""Criteria on the LoRA class alone: judged by outputs and gradients for matrices that the grader drew (Hu et al. 2021).

A layer computes `W x + b + c B(A x)` with W (out x in), A (r x in), B (out x r) and scaling c = alpha / r.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from grader.assignments.finetuning.lora_case import Case, ask_lora
from grader.assignments.finetuning.rubric import ASSIGNMENT, ON_LINEAR, ON_LORA, ON_PARAMETERS
from grader.records import Observation, Status, Verdict
from grader.rubric.compare import close, failed, passed, skipped
from grader.rubric.questions import Draw, Question

_MOST = 64  # columns drawn for B and rows for A: more than any rank that a wrong class may choose
_REAL = 768  # DistilBERT's own hidden size: a class with that size written into it works there, and only there
_ADDS_INPUT = "the fresh layer adds its input to what it gives, as a residual connection does"
_NO_EFFECT = 1e-4  # a scaling below this is none


@ASSIGNMENT.question("lora")
def _lora(draw: Draw) -> Question:
    rng = draw.rng
    dim = int(draw.facts.dim) if draw.facts is not None else 16
    plans = [
        (13, 19, True, 4, 8),
        (23, 17, False, 8, 4),
        (14, 14, True, 5, 3),
        (11, 29, True, 3, 10),
        *((n, n, True, 12, 24) for n in sorted({dim, _REAL})),
    ]
    cases: list[dict[str, Any]] = []
    for inside, outside, bias, rank, alpha in plans:
        if inside != outside and inside < 40:
            inside, outside = inside + 10 * int(rng.integers(3)), outside + 10 * int(rng.integers(3))
        cases.append(
            {
                "W": _weight(rng, outside, inside),
                "b": _normal(rng, outside) if bias else None,
                "rank": rank,
                "alpha": alpha,
                "A": (np.abs(_normal(rng, _MOST, inside)) + 0.05) / inside**0.5,
                "B": _normal(rng, outside, _MOST),
                "x": [
                    _normal(rng, 5, inside),
                    _normal(rng, 2, 3, inside),
                    0.001 + 0.001 * np.abs(_normal(rng, 4, inside)),
                    5.0 + np.abs(_normal(rng, 4, inside)),
                ],
                "g": _normal(rng, 5, outside),
            }
        )
    return ask_lora(["LoRA", "LoRALayer", "Lora", "LoRALinear", "LoraLayer"], cases)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape, dtype=np.float32)


def _weight(rng: np.random.Generator, outside: int, inside: int) -> np.ndarray[Any, Any]:
    """Uniform, as nn.Linear draws its own: for 768 x 768 a normal draw takes several times as long."""
    drawn = rng.random((outside, inside), dtype=np.float32)
    drawn -= 0.5
    drawn *= 2 * (3 / inside) ** 0.5
    return drawn


def _arrays(outputs: Any) -> list[Any]:
    """The outputs, None for a call that raised. Raises TypeError for what is neither: such evidence is forged."""
    if not all(isinstance(y, np.ndarray | dict) for y in outputs):
        raise TypeError("an output that is neither an array nor an error")
    return [None if isinstance(y, dict) else y for y in outputs]


def _problem(outputs: Any) -> str:
    """What the first call did that gave no output, to be read after "it"; empty where all gave one."""
    odd = next((y for y in outputs if isinstance(y, dict)), None)
    if odd is None:
        return ""
    return (
        f"raised {odd['raised'][:200]}"
        if odd.get("raised")
        else f"returned {odd.get('returned', 'object')}, not a tensor"
    )


def _other_shape(case: Case, x: Any, wanted: Any, y: Any) -> str:
    return f"For {case} and input {x.shape} the output has shape {y.shape}, not {wanted.shape}."


def _works(answer: Any) -> bool:
    """Whether a fresh layer gives an output for every input."""
    return answer["fresh"] is not None and not _problem(answer["fresh"]["eval"])


def _adds_input(case: Case, answer: Any) -> bool:
    """Whether a fresh layer adds its own input, beside or in place of the wrapped layer's output; only square ones can."""
    y, base, x = _arrays(answer["fresh"]["eval"])[0], case.base[0], case.x[0]
    return (
        y is not None and y.shape == x.shape == base.shape and any(close(y, x + rest, rtol=1e-5) for rest in (0, base))
    )


def _unwrapped(answer: Any) -> str:
    """What the class did that made no layer, to be read after "it"; empty where it made one."""
    if "made" in answer:
        return f"made an object of type {answer['made']}, not a module"
    return f"raised {answer['raised']}" if answer["raised"] and answer["fresh"] is None else ""


def _pairs(asked: Question, seen: Observation) -> Iterator[tuple[Case, Any]]:
    yield from zip(asked.secret["cases"], seen.value["cases"], strict=True)


def _outputs(factorization: Any, prefix: str) -> tuple[Any, Any]:
    """Outputs with the drawn matrices and with zero ones; `no_bias_` ones are there where the factors have biases."""
    there = prefix if f"{prefix}outputs" in factorization else ""
    return factorization[f"{there}outputs"], factorization[f"{there}zeroed"]


def _changes(case: Case, factorization: Any, prefix: str = "") -> list[tuple[Any, Any, Any] | None]:
    """For each input the output with zero matrices, with the drawn ones, and `B(A x)`; None where one is missing or of another shape."""
    found: list[tuple[Any, Any, Any] | None] = []
    # as many as were asked for, whatever has come back
    for which, (_, full, zero) in enumerate(zip(case.x, *_outputs(factorization, prefix), strict=True)):
        wanted = case.adapter(factorization["r"], which) if 0 < factorization["r"] <= _MOST else None
        fits = wanted is not None and all(isinstance(y, np.ndarray) and y.shape == wanted.shape for y in (full, zero))
        found.append((zero.astype(np.float64), full.astype(np.float64), wanted) if fits else None)
    return found


def _scaling(change: tuple[Any, Any, Any] | None) -> float | None:
    """Scaling c by least squares from the output with the drawn matrices minus the output with zero matrices."""
    if change is None:
        return None
    zero, full, wanted = change
    c = float(((full - zero) * wanted).sum() / (wanted * wanted).sum())
    return c if np.isfinite(c) else None


def _follows(case: Case, factorization: Any, prefix: str = "") -> float | None:
    """Return c when all outputs follow zeroed + c B(A x) for one c (0 when the adapter has no effect), else None."""
    changes = _changes(case, factorization, prefix)
    c = _scaling(changes[0])
    if c is None:
        return None
    for change in changes:
        if change is None or not close(change[1], change[0] + c * change[2], rtol=1e-4, atol=1e-5):
            return None
    return 0.0 if abs(c) < _NO_EFFECT else c


@ASSIGNMENT.check("lora/identity", points=4, asks="lora", read=ON_LORA)
def starts_as_identity(asked: Question, seen: Observation) -> Verdict:
    """A fresh LoRA layer equals the layer it wraps, and keeps its weights."""
    worked = 0
    for case, answer in _pairs(asked, seen):
        fresh = answer["fresh"]
        if fresh is None:
            continue
        for mode in ("eval", "train"):
            given = [y for y in zip(case.x, case.base, _arrays(fresh[mode]), strict=True) if y[2] is not None]
            fitting = [(wanted, y) for _, wanted, y in given if y.shape == wanted.shape]
            if given and not fitting:  # of some inputs only: that is judged by `lora/forward`
                return failed(_other_shape(case, *given[0]), "The output has the shape of the wrapped layer's.")
            for wanted, y in fitting:
                if not close(y, wanted, rtol=1e-5, atol=1e-6):
                    if _adds_input(case, answer):
                        return failed(
                            f"For {case} {_ADDS_INPUT}.", "What A and B compute is added to the wrapped layer's output."
                        )
                    gap = float(np.abs(y - wanted).max())
                    what = (
                        f"differs from the wrapped layer's by up to {gap:.3g}" if np.isfinite(gap) else "is not finite"
                    )
                    return failed(
                        f"For {case} the fresh layer's output {what}.",
                        "B starts at zero, and the wrapped layer itself (weights and bias) computes `W x + b`.",
                    )
                worked += 1
        if not (fresh["base_distance"] and all(type(gap) is float and gap <= 1e-6 for gap in fresh["base_distance"])):
            return failed(
                f"For {case} the wrapped layer's weights are not in the LoRA layer's `state_dict()`.",
                "Keep the given layer as an attribute of the module; do not make a new `nn.Linear`, and do not hide it in a list.",
            )
    if not worked:
        answers = [answer for _, answer in _pairs(asked, seen)]
        call = ", ".join("..." if role == "other" else role for role, _ in seen.value["call"])
        unwrapped = next(filter(None, map(_unwrapped, answers)), "")
        used = _problem(answers[0]["fresh"]["eval"] if answers[0]["fresh"] else []) or "gave no output"
        return failed(
            f"No layer could be wrapped: called as `LoRA({call})` it {unwrapped}."
            if unwrapped
            else f"A layer could be wrapped, but not used: its `forward` {used}.",
            f"{'Does `forward` end with a `return`? ' if 'NoneType' in used else ''}Try `LoRA(nn.Linear(3, 5), 2, 4)(torch.zeros(1, 3))`.",
        )
    return passed("The fresh layer gives the wrapped layer's outputs and holds its weights.")


def _best(case: Case, factorizations: Any, prefix: str = "") -> tuple[Any, float | None]:
    """The factorization that follows the formula, one with an effect first, and its c; else the first factorization and None."""
    found = [(factorization, _follows(case, factorization, prefix)) for factorization in factorizations]
    right = [(factorization, c) for factorization, c in found if c is not None]
    return next(iter([*((r, c) for r, c in right if c), *right, (factorizations[0], None)]))


def _usable(asked: Question, seen: Observation) -> list[tuple[Case, Any, float | None]]:
    """Each case that has factors, with its best factorization and the c of that (None when it does not follow the formula)."""
    return [
        (case, *_best(case, answer["factorizations"]))
        for case, answer in _pairs(asked, seen)
        if answer["factorizations"]
    ]


@ASSIGNMENT.check("lora/forward", points=6, asks="lora", read=ON_LINEAR)
def computes_forward(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """The layer computes `W x + b + c B(A x)` for any layer and input shape."""
    hint = (
        "The layer that is wrapped tells both its sizes, which may differ; an input has any number of dimensions before the last one;"
        " and a layer may come without a bias."
    )
    answers, effects = list(_pairs(asked, seen)), []
    nothing = all(
        answer["fresh"] is None or not any(y is not None for y in _arrays(answer["fresh"]["eval"]))
        for _, answer in answers
    )
    if nothing and earlier["lora/identity"].status is Status.FAILED:
        return skipped("lora/identity", "No layer could be wrapped and used.")
    displaced = earlier["lora/identity"].status is Status.FAILED
    square = [(case, answer) for case, answer in answers if case.is_square]
    if displaced and all(_works(answer) == case.is_square for case, answer in answers):
        answers = (
            square  # what stands in place of the wrapped layer (its input, its weight untransposed) fits these only
        )
    for case, answer in answers:
        if unwrapped := _unwrapped(answer):
            return failed(f"For {case} the class {unwrapped}.", hint)
        problem = _problem(answer["fresh"]["eval"])
        if problem:
            mode = "" if _problem(answer["fresh"]["train"]) else " in eval mode"
            return failed(f"For {case} the forward pass{mode} {problem}.", hint)
        outputs = zip(case.x, case.base, _arrays(answer["fresh"]["eval"]), strict=True)
        odd = next((_other_shape(case, *output) for output in outputs if output[2].shape != output[1].shape), "")
        if odd and earlier["lora/identity"].message != odd:
            return failed(odd, hint)
        if answer["raised"]:
            return failed(f"For {case} the class raised {answer['raised']}.", hint)
        if not answer["factorizations"]:
            return failed(
                f"For {case} no two factors of sizes (r x in) and (out x r) were found among the layer's parameters.",
                "A has shape r x in and B out x r (or the other way round); register both as `nn.Parameter` or `nn.Linear`.",
            )
        _, c = _best(case, answer["factorizations"])
        if c is None and displaced:  # biases of A and B have cost their points there
            _, c = _best(case, answer["factorizations"], "no_bias_")
        if c is None:
            if displaced:
                return skipped(
                    "lora/identity",
                    "What the layer gives without an adapter is not right yet, so the adapter's part cannot be told.",
                )
            problem = _problem(answer["factorizations"][0]["outputs"])
            if problem:
                return failed(f"For {case} the forward pass {problem}.", hint)
            return failed(
                f"For {case} the output does not follow `W x + b + c B(A x)` for any c.",
                "Nothing else stands on the way through A and B, no dropout that is on in eval mode either; neither has a bias, and both"
                " are used.",
            )
        effects.append(c)
    if not any(effects):
        return failed(
            "A and B make no difference to the output.", "The output is the wrapped layer's plus the adapter's."
        )
    return passed("Right for square and other layers, with and without bias, and for 2-D and 3-D inputs.")


@ASSIGNMENT.check("lora/rank-scaling", points=4, asks="lora", read=ON_LORA)
def uses_rank_and_scaling(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """The rank is the inner size of A and B, and `c = alpha / rank`."""
    usable = _usable(asked, seen)
    if not usable:
        return _follows_from("lora/forward", earlier, "No factors were found to measure.")
    measured = 0
    broken = earlier["lora/forward"].status is not Status.PASSED
    for case, factorization, follows in usable:
        if factorization["r"] != case.rank:
            return failed(f"For rank {case.rank} the inner size is {factorization['r']}.", "A is r x in, B is out x r.")
        right = case.alpha / case.rank
        # What stands wrongly between A and B has cost its points: most activations are harmless for tiny or large inputs.
        prefix = "no_bias_" if follows is None else ""
        tries = [c for change in _changes(case, factorization, prefix) if (c := _scaling(change)) is not None]
        if not tries:
            continue
        measured += 1
        # where the output is not linear c is a fit, which must not depend on the draw; `//` is off by a tenth and more
        tolerance = 1e-3 if follows is not None else 5e-2
        if any(abs(c - right) <= tolerance * right for c in tries):
            continue
        if broken and follows is None:
            return _follows_from(
                "lora/forward", earlier, "The output is not linear in B(A x), so its scaling cannot be measured."
            )
        if broken and not follows:
            return _follows_from(
                "lora/forward", earlier, "The adapter has no effect on the output, so its scaling cannot be measured."
            )
        return failed(
            f"For rank {case.rank} and alpha {case.alpha} the adapter is scaled by {tries[0]:.4g}, not by {right:.4g}.",
            "The scaling is the fraction in the formula, which need not be a whole number.",
        )
    if not measured:
        return _follows_from("lora/forward", earlier, "The outputs do not allow the scaling to be measured.")
    return passed("The inner size is the rank, and the scaling alpha / rank, for several pairs.")


@ASSIGNMENT.check("lora/gradients", points=2, asks="lora", read=ON_PARAMETERS)
def passes_gradients(asked: Question, seen: Observation, earlier: dict[str, Verdict]) -> Verdict:
    """A, B and the input get gradients."""
    usable = _usable(asked, seen)
    if not usable:
        return _follows_from("lora/forward", earlier, "No factors were found to measure.")
    verdict = _gradients(usable, earlier)
    if verdict.status is Status.FAILED and not any(c for _, _, c in usable):
        return _follows_from("lora/forward", earlier, f"{verdict.message} The forward pass is not right yet.")
    return verdict


def _gradients(usable: list[tuple[Case, Any, float | None]], earlier: dict[str, Verdict]) -> Verdict:
    """Judge the gradients of layers that have factors."""
    hint = "A and B require a gradient, and `forward` has no `torch.no_grad()`, `.detach()`, `.data` or `torch.tensor(...)`."
    judged = 0
    for case, factorization, c in usable:
        if factorization["registered"] is not True:
            return failed(
                f"For {case} the module does not know its A and B: `parameters()` does not give them.",
                "Make them `nn.Parameter` or `nn.Linear`, in lists `nn.ParameterList` or `nn.ModuleList`.",
            )
        if factorization.get("gradients_raised"):
            if _problem(factorization["outputs"]):
                continue  # a layer that does not work at all is judged by `lora/forward`
            return failed(f"For {case} going backwards raised {factorization['gradients_raised']}.", hint)
        judged += 1
        without_effect = c == 0.0 or _scaling(_changes(case, factorization)[0]) == 0.0
        for name, norm in zip(("A", "B", "the input"), factorization["gradients"], strict=True):
            if _positive(norm) or (without_effect and name != "the input"):
                continue  # a scaling of zero has cost its points already
            return failed(f"For {case} {name} gets no gradient.", hint)
        if not without_effect and not any(_positive(norm) for norm in factorization["start"]):
            return failed(
                f"For {case} a fresh layer gives neither A nor B a gradient.",
                "If both start at zero neither can learn: B alone starts there.",
            )
        if (
            c is not None
            and earlier["lora/identity"].status == "passed"
            and not _input_gradient_right(case, factorization, c)
        ):
            return failed(f"For {case} the input's gradient is not that of `W x + b + c B(A x)`.", hint)
    if judged and all(c == 0.0 for _, _, c in usable):
        return _follows_from(
            "lora/forward", earlier, "The adapter has no effect on the output, so it gets no gradient."
        )
    return (
        passed("A, B and the input get gradients.")
        if judged
        else _follows_from("lora/forward", earlier, "No layer gave an output to go backwards from.")
    )


def _follows_from(root: str, earlier: Mapping[str, Verdict], message: str) -> Verdict:
    """Skip what follows from a criterion that was lost; where it was not, nothing else has cost these points."""
    lost = earlier[root].status in (Status.FAILED, Status.SKIPPED)
    return skipped(earlier[root].because or root, message) if lost else failed(message)


def _positive(norm: Any) -> bool:
    return isinstance(norm, float) and bool(np.isfinite(norm)) and norm > 0


def _input_gradient_right(case: Case, factorization: Any, c: float) -> bool:
    A, B = case.factors(factorization["r"])
    g = case.g.astype(np.float64)
    return close(factorization.get("input_gradient"), g @ case.weight + c * (g @ B) @ A, rtol=1e-3)
