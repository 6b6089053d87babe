"""Whatever objects a student's functions give back, the answer is one that its question declares, and nobody has to look."""

from __future__ import annotations

import pytest

from grader.records import Attempt, Evidence, Status
from grader.rubric.judge import judge
from tests.corpus.base import PARTS
from tests.corpus.functions import ASSIGNMENT, ask, drawn

ODD = {
    "nothing": "None",
    "a boolean": "True",
    "a numpy boolean": "np.bool_(True)",
    "half a float that is no number": "np.float16('nan')",
    "infinity": "float('inf')",
    "a long double": "np.longdouble(3)",
    "a complex number": "3j",
    "a huge integer": "10 ** 60",
    "a decimal": "__import__('decimal').Decimal(3)",
    "a text": "'66955010'",
    "half a letter": "chr(0xD800)",
    "a complex array": "np.array(3j)",
    "an array of objects": "np.array([object()])",
    "an array of texts": "np.array('x')",
    "an array of times": "np.array('2020', 'M8[s]')",
    "an array of nine dimensions": "np.zeros((1,) * 9)",
    "a masked array": "np.ma.masked_array([1.0], [True])",
    "a complex tensor": "torch.tensor(3j)",
    "a boolean tensor": "torch.tensor(True)",
    "an empty tensor": "torch.zeros(0)",
    "a tensor without data": "torch.zeros(3, 5, device='meta')",
    "a sparse tensor": "torch.eye(3).to_sparse()",
    "a quantized tensor": "torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8)",
    "a tensor of ten dimensions": "torch.zeros((1,) * 10)",
    "half precision": "torch.ones(3, 5, dtype=torch.bfloat16)",
    "a large tensor": "torch.zeros(5 << 20)",
    "a dict of our own keys": "{'__nd__': [0, '<f4', [1]], '__ndarray__': 3, '__object__': 1}",
    "a dict of other keys": "{1: 2, None: 3, 'q_lin': object()}",
    "a list that holds itself": "(lambda x: x.append(x) or x)([])",
    "a million values": "list(range(1_000_000))",
    "a generator": "(x for x in [1])",
    "a module": "nn.Linear(2, 2)",
    "a class": "int",
    "an object of a class of odd name": "type('x' * 5000, (), {})()",
    "an object that says it is an integer": "type('I', (), {'__class__': int})()",
}
FUNCTIONS = {
    "count": "def count_trainable_parameters(model): return {}",
    "extract": "def extract_qv_layers(model): return {}",
    "replace": "def replace_layers(model, layers): return {}",
    "lora": PARTS["lora"].partition("        return")[0] + "        return {}",
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_odd_object_is_a_declared_answer(name, what) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    source = PARTS["imports"] + FUNCTIONS[name].replace("return {}", f"return {ODD[what]}")
    exec(compile(source, "<case>", "exec"), namespace)
    question = drawn("ab")[name]
    seen = ask(namespace, question)
    assert seen.attempt in (Attempt.VALUE, Attempt.RAISED, Attempt.MISSING), seen.error
    found = judge(ASSIGNMENT, Evidence("ab", {name: seen}), {name: question})
    concerned = [found[check.id] for check in ASSIGNMENT.checks.values() if check.asks == name]
    assert Status.ERROR not in {verdict.status for verdict in concerned}, concerned
