from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grader.errors import EvidenceError, StoreError
from grader.grading.wire import WireLimits, decode, encode
from grader.inside.packing import pack, unpack
from grader.records import Attempt, Evidence, Notebook, Observation
from grader.serialization import dumps, loads

arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(max_size=30)
    | arrays,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def same(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@given(values)
def test_what_is_packed_inside_is_decoded_outside(value) -> None:
    tree, buffers = pack(value)
    assert same(decode(json.loads(json.dumps(tree)), buffers), value)


@given(values)
def test_what_is_encoded_outside_is_unpacked_inside(value) -> None:
    tree, buffers = encode(value)
    assert same(unpack(json.loads(json.dumps(tree)), buffers), value)


@given(values)
def test_stored_evidence_comes_back_the_same(value) -> None:
    evidence = Evidence("aa", {"q": Observation(Attempt.VALUE, value)})
    text = dumps(evidence)
    again = loads(text, Evidence)
    assert same(again.observations["q"].value, value)
    assert dumps(again) == text


json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["__nd__", "__float__", "a", "b"]) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_trees, st.lists(st.binary(max_size=40), max_size=3))
def test_any_answer_gives_plain_data_or_an_evidence_error(tree, buffers) -> None:
    try:
        found = decode(tree, buffers)
    except EvidenceError:
        return
    assert type(found) in (type(None), bool, int, float, str, list, dict, np.ndarray)


def nested(depth):
    tree: object = 1
    for _ in range(depth):
        tree = [tree]
    return tree


@pytest.mark.parametrize(
    ("tree", "buffers"),
    [
        (nested(40), []),
        ([0] * 300_000, []),
        ("x" * 50_000, []),
        (10**60, []),
        ({"__nd__": [0, "|O", [1]]}, [b"12345678"]),
        ({"__nd__": [0, "<f4", [2]]}, [b"123"]),
        ({"__nd__": [0, "<f4", [-1]]}, [b""]),
        ({"__nd__": [5, "<f4", [0]]}, []),
        ({"__nd__": [True, "<f4", [0]]}, [b"", b""]),
        ({"__nd__": [0, "<f4", [2**30, 2**30, 2**30, 0]]}, [b"1234"]),
        ({"__nd__": 3}, []),
        ({"__float__": "1e9"}, []),
        ({"__ndarray__": "as if it came from the store"}, []),
        ({1: 2}, []),
        (object(), []),
        (None, [b""] * 5000),
        (None, [b"x" * (65 << 20)]),
    ],
)
def test_hostile_answers_are_refused(tree, buffers) -> None:
    with pytest.raises(EvidenceError):
        decode(tree, buffers)


def test_limits_can_be_set() -> None:
    assert decode([1, 2], limits=WireLimits(items=3)) == [1, 2]
    with pytest.raises(EvidenceError):
        decode([1, 2, 3], limits=WireLimits(items=3))


def test_objects_that_equal_everything_arrive_as_their_type() -> None:
    class Chameleon(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

    tree, buffers = pack([Chameleon(3), Chameleon, object()])
    assert decode(tree, buffers) == [{"__object__": "Chameleon"}, {"__object__": "type"}, {"__object__": "object"}]


def test_floats_that_are_not_finite_survive_and_are_told_apart() -> None:
    tree, buffers = pack([math.nan, math.inf])
    found = decode(json.loads(json.dumps(tree)), buffers)
    assert math.isnan(found[0])
    assert found[1] == math.inf


def test_damaged_records_are_refused() -> None:
    for text in ("", "{", "[]", '{"seed": 1, "observations": {}}', '{"seed": "a"}'):
        with pytest.raises(StoreError):
            loads(text, Evidence)
    with pytest.raises(StoreError):
        loads('{"cells": 3, "cell_count": 1}', Notebook)
    with pytest.raises(StoreError):
        dumps({"x": object()})


@pytest.mark.parametrize("array", ["3", "[1, 2]", '["|O", [1], "AAAA"]', '["<f4", [2], "AAAA"]', '["<f4", [1], "A"]'])
def test_damaged_arrays_are_refused(array) -> None:
    text = '{"seed": "a", "observations": {"q": {"attempt": "value", "value": {"__ndarray__": ARRAY}}}}'
    with pytest.raises(StoreError, match="damaged array"):
        loads(text.replace("ARRAY", array), Evidence)
    assert loads(text.replace("ARRAY", '["<f4", [1], "AAAAAA=="]'), Evidence).observations["q"].value == 0
