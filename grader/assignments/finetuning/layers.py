"""Criteria on `extract_qv_layers` and `replace_layers`. The grader's own dict is used for the second."""

from __future__ import annotations

from grader.assignments.finetuning.facts import QV_LAYERS
from grader.assignments.finetuning.rubric import ASSIGNMENT, ON_LAYERS, ON_SUBMODULES
from grader.records import Observation, Verdict
from grader.rubric.answers import Count, Kind, Many, Raised, Text
from grader.rubric.compare import failed, passed
from grader.rubric.questions import Draw, Question

_NO_LAYERS = {"Parameter", "Tensor", "str", "int", "tuple", "list", "dict"}
"""Types that are given in place of layers."""
_IN_LOOP = " Does the loop end after its first layer, by a `return` or `break` inside of it?"


@ASSIGNMENT.question("extract")
def _extract(_draw: Draw) -> Question:
    names = ["extract_qv_layers", "extract_qv", "extract_layers", "get_qv_layers"]
    answer = {"type": Kind(), "entries": Many((Text(200), Text(100), Kind(), bool), 200)}
    return Question("grader.inside.probes.functions:extract", {"names": names}, answer=answer, public=True)


@ASSIGNMENT.check("layers/extract", points=6, asks="extract", read=ON_LAYERS)
def extracts_query_and_value(asked: Question, seen: Observation) -> Verdict:
    """`extract_qv_layers` returns the 12 query and value layers by their dotted names."""
    if seen.value["type"] != "dict":
        return failed(f"It returned a {seen.value['type']}.", "Return a dict: dotted name -> the layer.")
    entries = seen.value["entries"]
    true = [name for _, name, _, _ in entries]
    if not entries:
        return failed(
            "It returned an empty dict.",
            "Print the model: `q_lin` and `v_lin` are in each of its blocks. PyTorch can also list all layers with their names.",
        )
    kinds = {kind for _, _, kind, _ in entries}
    if not any(true) and kinds <= _NO_LAYERS:
        return failed(
            f"What it maps to is no layer but of type `{min(kinds)}`.",
            "Dotted name -> the layer itself: not its name, not its weight.",
        )
    others = [(key, kind) for key, name, kind, _ in entries if name not in QV_LAYERS]
    if others:
        key, kind = others[0]
        copied = kind == "Linear" and any(key.endswith(end) for end in ("q_lin", "v_lin"))
        if copied and not any(true):
            return failed(
                f"`{key}` is not the model's own layer but another object.", "Return the very layer, not a copy."
            )
        return failed(
            f"{len(entries)} entries, among them `{key}`, which is no query or value layer.",
            "Only `q_lin` and `v_lin`.",
        )
    if len(set(true)) < len(QV_LAYERS):
        hint = "Six blocks, two layers each."
        if all("." not in key for key, _, _, _ in entries):
            hint += (
                f" A name such as `{entries[0][0]}` is there in each block: of layers under one key the last one stays."
            )
        elif len(entries) == 1:
            hint += _IN_LOOP
        return failed(f"{len(set(true))} of the 12 query and value layers were found.", hint)
    wrong = [(key, name) for key, name, _, reached in entries if not reached]
    if wrong and wrong[0][0] in QV_LAYERS:
        return failed(
            f"Under `{wrong[0][0]}` stands the layer `{wrong[0][1]}`.",
            "Each layer stands under the name that leads to it.",
        )
    if wrong and wrong[0][0] in ("int", "tuple"):
        return failed(f"Its keys are of type `{wrong[0][0]}`.", "Dotted name -> the layer: the names are strings.")
    if wrong:
        return failed(
            f"`model.get_submodule({wrong[0][0]!r})` does not give that layer.",
            "Names start at the whole model: `distilbert.transformer.layer.0.attention.q_lin`.",
        )
    return passed("The 12 query and value layers, each under the name that leads to it.")


@ASSIGNMENT.question("replace")
def _replace(draw: Draw) -> Question:
    order = [str(name) for name in draw.rng.permutation(list(QV_LAYERS))]
    cases = [
        {"kind": "distilbert", "names": order},
        {"kind": "distilbert", "names": [*order[:3], "classifier", "distilbert.transformer.layer.2.ffn.lin1"]},
        {"kind": "plain", "names": ["encoder.0", "encoder.2.1", "blocks.1.proj"]},
        {"kind": "plain", "names": ["head"]},
    ]
    names = ["replace_layers", "replace_layer", "replace_modules"]
    params = {"names": names, "cases": cases, "seed": int(draw.rng.integers(2**31))}
    answer = {"placed": Many(bool, len(order)), "others": Count(), "copied": bool, "raised": Raised()}
    return Question("grader.inside.probes.functions:replace", params, answer=(answer,) * len(cases))


@ASSIGNMENT.check("layers/replace", points=6, asks="replace", read=ON_SUBMODULES)
def replaces_layers(asked: Question, seen: Observation) -> Verdict:
    """`replace_layers` puts layers in place by dotted name and touches nothing else."""
    hint = (
        "A layer is an attribute of the module that holds it: what stands before the name's last dot leads to that module, what stands"
        " behind it is the attribute. A name without a dot belongs to the model itself."
    )
    for case, answer in zip(asked.params["cases"], seen.value, strict=True):
        kind = "DistilBERT" if case["kind"] == "distilbert" else "a model with Sequential, ModuleList and ModuleDict"
        odd = next((name for name in case["names"] if name not in QV_LAYERS), case["names"][0])
        what = f"{kind} and names like `{odd}`"
        if answer["raised"]:
            return failed(f"For {what} it raised {answer['raised']}.", hint)
        if answer["copied"] is True and not any(answer["placed"]):
            return failed(
                f"For {what} the model that was given is as it was: another one was changed and returned.",
                "Change the very model that is given, not a copy of it.",
            )
        if not all(placed is True for placed in answer["placed"]) or len(answer["placed"]) != len(case["names"]):
            right = sum(1 for placed in answer["placed"] if placed is True)
            hint += _IN_LOOP if right == 1 and answer["placed"][0] is True else ""
            return failed(f"For {what} {right} of {len(case['names'])} layers are where their names say.", hint)
        if answer["others"] != 0:
            return failed(
                f"For {what} something else changed, too.", "Only the named layers of the model itself may change."
            )
    return passed("Right for DistilBERT and for nested models with Sequential indices.")
