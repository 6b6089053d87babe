from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grader.errors import EvidenceError, StoreError
from grader.grading.wire import decode, encode, fit
from grader.inside.packing import TooMuch, pack, unpack
from grader.records import Attempt, Evidence, Notebook, Observation
from grader.rubric.answers import ANYTHING, ODD, Array, Count, Float, Kind, Many, Named, OneOf, Raised, Text
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
        ({"__nd__": [0, "|u1", [17 << 20]]}, [b"x" * (17 << 20)]),
        ([{"__nd__": [0, "<f4", [1]]}] * 2, [b"1234"]),
        ([{"__nd__": [0, "<f4", [2**30, 2**30, 2**30, 0]]}], [b""]),
        ([{"__nd__": [0, ["<f4"], [1]]}], [b"1234"]),
        ({"__nd__": [0, "<f4", [0] * 9]}, [b""]),
        (["x" * 20_000] * 1_000, []),
        (1, [b"1234"]),
    ],
)
def test_hostile_answers_are_refused(tree, buffers) -> None:
    with pytest.raises(EvidenceError):
        decode(tree, buffers)


def test_what_is_referred_to_twice_counts_twice() -> None:
    text = "x" * (1 << 14)
    assert decode([text] * 1024) == [text] * 1024
    with pytest.raises(EvidenceError):
        decode([text] * 1025)


@pytest.mark.parametrize(
    "value",
    [
        [0] * 190_001, [np.zeros(1)] * 4_002, np.zeros(16 << 20, "u1"), ["x" * 20_000] * 800,
        [np.zeros(2 << 20, "u1")] * 8, [object()] * 189_000, {str(n): "y" * 200 for n in range(90_000)},
    ],
)  # fmt: skip
def test_the_agent_sends_nothing_that_would_be_refused(value) -> None:
    try:
        tree, buffers = pack(value)
    except TooMuch:
        return
    decode(json.loads(json.dumps(tree)), buffers)


FIT = [
    (int, 3), (float, 0.5), (bool, True), (str, "x" * 20_000), (None, None), ("word", "word"),
    (ANYTHING, {"a": [np.zeros(2)]}),
    ({"a": int, "b?": str}, {"a": 1}), ({"a": int, "b?": str}, {"a": 1, "b": ""}),
    ((int, str), [1, "x"]), ((bool,) * 2, [True, False]), (Many(int, 2), []), (Many(int, 2), [1, 2]),
    (Named(Count(), 2), {"x": 1, "y": 2}), (OneOf(None, int), None), (OneOf(None, int), 3), (OneOf("a", "b"), "b"),
    (Count(5, least=-1), -1), (Float(), math.inf), (Text(3), "abc"), (ODD, {"__object__": "module"}),
    (Array(), np.zeros((2, 0))), (Array("f", (None, 2)), np.full((3, 2), np.nan)), (Array("f", finite=True), np.zeros(3)),
    (Array("i", ()), np.array(3)), (Raised(), ""), (Kind(), "int"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "value"), FIT)
def test_what_is_declared_comes_through_as_it_is(answer, value) -> None:
    assert same(fit(answer, value), value) or math.isinf(value)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (int, True), (int, 3.0), (float, 3), (float, math.nan), (float, math.inf), (bool, 1), (str, None), (None, 0),
        ("word", "words"), ("word", None),
        ({"a": int}, {}), ({"a": int}, {"a": 1, "b": 2}), ({"a": int}, {"a": "x"}), ({"a": int}, [1]), ({}, {"a": 1}),
        ((int, str), [1]), ((int, str), [1, "x", 2]), ((int,), {"0": 1}), (Many(int, 2), [1, 2, 3]), (Many(int, 2), [None]),
        (Named(int, 1), {"a": 1, "b": 2}), (Named(int, 1), {"a": ""}), (Named(int, 1), []),
        (OneOf(None, int), "x"), (OneOf({"a": int}, {"b": int}), {"c": 1}),
        (Count(5), 6), (Count(5), -1), (Count(5), True), (Float(), 1), (Text(3), "abcd"), (Text(3), 1),
        (Array(), [1.0]), (Array("f"), np.zeros(2, int)), (Array(shape=(None, 2)), np.zeros((2, 3))),
        (Array(shape=(2,)), np.zeros((2, 1))), (Array("f", finite=True), np.array([1, np.nan])),
        (Array("f", finite=True), np.array([np.inf])),
        (Raised(), None), (Raised(), 3), (Kind(), 3),
    ],
)  # fmt: skip
def test_what_is_not_declared_is_refused(answer, value) -> None:
    with pytest.raises(EvidenceError, match="the answer"):
        fit(answer, value)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("NameError: name 'secret' is not defined", "NameError"),
        ("KeyError", "KeyError"),
        ("a review of a film: bad", "an exception of its own"),
        ("NameError of a review", "an exception of its own"),
        ("", ""),
    ],
)
def test_what_was_raised_is_told_by_name_only(raised, told) -> None:
    assert fit({"x": Raised()}, {"x": raised}) == {"x": told}
    assert fit(Raised(), raised, public=True) == raised


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("NoneType", "NoneType"),
        ("tensor of shape [3, 4]", "tensor of shape [3, 4]"),
        ("Secret", "object"),
        ("int x" * 20, "object"),
    ],
)
def test_types_are_told_where_they_are_known(kind, told) -> None:
    assert fit(Kind(), kind) == told
    assert fit(Kind(), kind, public=True) == kind


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
