"""What cells leave behind does not reach the questions; a function is asked as it was when the notebook called it."""

from __future__ import annotations

import pytest

COUNT = """
import numpy, os, sys, torch, warnings
def count(n):
    weight = torch.nn.Linear(n, 1).weight
    weight.sum().backward()
    warnings.warn("x")
    print("counted", numpy.float64(1) / numpy.float64(0))
    assert weight.grad is not None and weight.dtype is torch.float32 and not weight.is_inference()
    assert (weight @ weight.T).dtype is torch.float32
    assert os.path.exists("train.csv") and os.getcwd() == HOME
    def deep(k):
        return deep(k - 1) if k else list(range(len([p.numel() for p in [weight]])))
    return sum(p.numel() for p in [weight]) + max(deep(200))
HOME = os.getcwd()
assert count(3) == 3
"""


@pytest.mark.parametrize(
    "left",
    [
        "torch.set_grad_enabled(False)",
        "guard = torch.no_grad(); guard.__enter__()",
        "guard = torch.inference_mode(); guard.__enter__()",
        "torch.set_default_dtype(torch.float64)",
        "torch.set_default_device('meta')",
        "guard = torch.autocast('cpu', dtype=torch.bfloat16); guard.__enter__()",
        "sum = 0\nfor value in range(3):\n    sum += value",
        "for len in range(3): pass\nlist = [1]; range = 2",
        "def sum(a, b):\n    return a + b\ndef product(a, b):\n    return a * b",
        "print = None; max = 'x'",
        "import builtins; builtins.sum = None; builtins.print = lambda *a: 1 / 0",
        "os.makedirs('/elsewhere'); os.chdir('/elsewhere')",
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
        "warnings.simplefilter('error')",
        "numpy.seterr(all='raise')",
        "sys.setrecursionlimit(120)",
        "sys.stdout.close()",
        "sys.stdout = sys.stderr = object()",
    ],
)
def test_state_that_a_cell_leaves_reaches_no_question(notebook, left):
    ran = notebook(COUNT, left, calls=[("count", 3), ("count", 4)])
    assert ran.answers == [3, 4]


def test_names_that_functions_were_written_with_are_kept(notebook):
    ran = notebook(
        "def sum(numbers):\n    return 100\ndef total():\n    return sum([1])",
        "class Model:\n    def size(self):\n        return [abs(n) for n in [1]]\ndef abs(n):\n    return 7\n",
        "dir = 'runs'",
        "def where():\n    return dir",
        "def size():\n    return Model().size()",
        calls=[("total",), ("where",), ("size",)],
    )
    assert ran.answers == [100, "runs", [7]]


def test_what_a_traceback_holds_is_let_go(notebook):
    ran = notebook(
        "import gc, weakref\nclass Large: pass\nkept = []",
        "def train():\n    batch = Large()\n    kept.append(weakref.ref(batch))\n    raise MemoryError\ntrain()",
        "def alive():\n    gc.collect()\n    return kept[0]() is not None",
        fails=True,
        calls=[("alive",)],
    )
    assert ran.answers == [False]


WRITTEN = """
import math, functools
RANK = 12
def half(n):
    return n / 2
class Layer:
    @property
    def rank(self):
        return math.floor(half(RANK))
def size():
    return functools.reduce(max, [Layer().rank, 0])
"""


@pytest.mark.parametrize(
    "left",
    [
        "%reset -f",
        "import math\nmath = functools = half = 0.93",
        "del math, functools, half, RANK, Layer",
        "%reset -f\nsize = 3",
    ],
)
def test_what_functions_were_written_with_is_there_when_they_are_asked(notebook, left):
    assert notebook(WRITTEN, left, calls=[("size",), ("size",)]).answers == [6, 6]


def test_a_function_written_with_a_new_meaning_of_a_name_gets_that(notebook):
    cells = ("import math\ndef half(): return math.pi / 2", "math = 8", "def half(): return math / 2")
    assert notebook(*cells, calls=[("half",)]).answers == [4.0]


def test_what_a_failed_cell_would_have_set_without_computing_is_set(notebook):
    cell = """
import torch
losses = [1]
losses.append(2)
1 / 0
RANK, best = 12, losses.pop()
RANK = 12
losses = []
sum = 0
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
late = print("computed")
@torch.jit.script
def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x
size = lambda: [sum([RANK]), len(losses), double(torch.ones(2).to(device)).tolist(), "late" in globals(), "best" in globals()]
import functools
most = functools.partial(max, 5)
"""
    assert notebook(cell, fails=True, calls=[("size",), ("most", 3)]).answers == [
        [12, 2, [2.0, 2.0], False, False],
        5,
    ]
