"""The second half of the question about training: models rebuilt from the tensors that another kernel handed out.

Runs in a clean box, in which no code of a student's ever ran: what is computed here is no claim of theirs. What a run says of its
course (steps, rates, what was trainable) is passed on as it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grader.inside.agent import Context, StudentRaised, describe_error
from grader.inside.rebuild import (
    Checkpoint,
    Readers,
    kinship,
    members_of,
    read_checkpoint,
    rebuild,
    seen_alike,
    tensors_at_start,
)
from grader.inside.tensors import read_tensors

_FOR_US = ("root", "stock", "probed", "public", "own", "logits", "start_logits", "raised")
"""What is said of a model only that it can be rebuilt; the rest is passed on."""


def _start(checkpoint: Checkpoint, entry: Mapping[str, Any], pool: Mapping[str, Any]) -> list[list[Any]]:
    """Rows of the start, of which one that nobody has seen counts as the end, so that it does not look like a change."""
    known = set(pool) | (set(checkpoint.in_half_precision) if entry["half"] else set())
    ends = {row[0]: row[3] for row in entry["end"]}
    other = next(iter(ends.values()), "")
    return [
        [name, shape, trainable, state if state in known else ends.get(name, other)]
        for name, shape, trainable, state in entry["start"]
    ]


def beginning(entry: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The run in which this training began: a new optimizer for each epoch makes a run of each, which goes on where another ended."""
    for _ in runs:
        trained = {name: state for name, _, trainable, state in entry["start"] if trainable}
        before = (run for run in runs if run["order"] < entry["order"] and trained.keys() == _trainable(run))
        found = next(
            (run for run in before if trained.items() <= {row[0]: row[3] for row in run.get("end", [])}.items()), None
        )
        if found is None:
            break
        entry = found
    return entry


def _trainable(run: Mapping[str, Any]) -> set[str]:
    return {name for name, _, trainable, _ in run["start"] if trainable}


def _judged(
    checkpoint: Checkpoint,
    entry: Mapping[str, Any],
    pool: Mapping[str, Any],
    params: Mapping[str, Any],
    readers: Mapping[str, Any],
) -> dict[str, Any]:
    """What is found out about a run by its tensors."""
    root = f"{entry['root']}." if entry["root"] else ""
    members = members_of(checkpoint, entry, "end", pool)
    lost = [name for name, *_ in entry["end"] if name.startswith(root) and name.removeprefix(root) not in members]
    if lost:
        return {"raised": f"{len(lost)} of its tensors were not handed out, e.g. `{lost[0][:100]}`"}
    rebuilt = rebuild(checkpoint, entry, pool, params["drawn"])
    answer: dict[str, Any] = {
        "start": _start(checkpoint, entry, pool),
        "end": entry["end"],
        "changed": list(rebuilt.changed),
        "ranks": dict(rebuilt.ranks),
        "kinship": kinship(checkpoint.body, rebuilt.tensors),
        "unexplained": list(rebuilt.unexplained),
    }
    if not rebuilt.tensors:
        return {**answer, "raised": "it is no DistilBERT"}
    own = bool(rebuilt.why)
    if not own and entry["stock"] is not True:
        own = not seen_alike(checkpoint, rebuilt, entry.get("public"), readers["public"])
    if own:
        answer["own"] = (rebuilt.why or "its class computes something else from its tensors")[:300]
        return {**answer, "logits": entry.get("logits")} | {n: entry[n] for n in ("start_logits",) if n in entry}
    answer["logits"] = readers["texts"].logits(rebuilt.tensors)
    start = tensors_at_start(checkpoint, beginning(entry, params["handed"]["runs"]), rebuilt, pool)
    if start is not None:
        answer["start_logits"] = readers["texts"].logits(start)
    return answer


def _one(
    checkpoint: Checkpoint,
    entry: Mapping[str, Any],
    pool: Mapping[str, Any],
    params: Mapping[str, Any],
    readers: Mapping[str, Any],
) -> dict[str, Any]:
    """Judge a run; whatever is odd about it is no fault of ours and concerns no other run."""
    answer = {name: value for name, value in entry.items() if name not in _FOR_US} | {"end": []}
    raised = {"raised": str(entry["raised"])[:300]} if entry.get("raised") else {}
    if raised and "probed" not in entry:
        return answer | raised
    try:
        judged = _judged(checkpoint, entry, pool, params, readers)
    except Exception as error:
        return {**answer, "raised": describe_error(error)[:300]}
    return answer | judged | (raised if judged.get("own") else {})


def rebuilt(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    """Judge all runs that were handed out.

    `params`: `handed` (the answer of `probes.training`), `texts` (held-out reviews), `public` (reviews on which models are compared),
    `drawn`, `batch` (reviews at a time), `device`. Raises StudentRaised for what our own hand-out would never say.
    """
    from transformers import AutoTokenizer

    checkpoint = read_checkpoint(context.checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(context.checkpoint)
    encoded = {
        name: tokenizer(params[name], truncation=True, max_length=512)["input_ids"] for name in ("texts", "public")
    }
    readers = {
        "texts": Readers(checkpoint, encoded["texts"], params["batch"], params["device"]),
        "public": encoded["public"],
    }
    try:
        handed = params["handed"]
        pool = {**read_tensors(context.handed, handed["shapes"]), **checkpoint.by_digest}
        return {"runs": [_one(checkpoint, entry, pool, params, readers) for entry in handed["runs"]]}
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise StudentRaised(f"the models could not be read: {describe_error(error)}") from None
