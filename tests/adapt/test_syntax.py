"""F-strings and names of Python 3.12, where an older Python runs the notebook."""

from __future__ import annotations

import ast
import sys

import pytest

from grader.inside.shims.syntax import older

from .conftest import noted

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python reads them itself")

RIGHT = {
    'f"{d["a"]}"': "1",
    'f"{d["a"]:.2f} of {len(f"{w}")!r:>{w}} {{"': "1.00 of   1 {",
    'f\'{d[\'a\']}\' f"{d["b"]}" "{"': "12{",
    'f"{", ".join(f"{k}" for k in d)}"': "a, b",
    'f"{\n    d["a"]\n}" # "': "1",
    'f"{"\\n".join(map(str, d))}\\t{d["a"]}"': "a\nb\t1",
    "f'{chr(39).join(['\\'é', '\\x41'])}'": "'é'A",
    'rf"\\d{d["a"]}" + """f"{"""': '\\d1f"{',
}


@pytest.mark.parametrize("source", RIGHT)
def test_quotes_inside_of_f_strings(source):
    with noted() as changes:
        found = older(source)
    assert eval(compile(ast.parse(found, mode="eval"), "", "eval"), {"d": {"a": 1, "b": 2}, "w": 3}) == RIGHT[source]
    assert {(rule, reason) for rule, _, _, reason in changes} == {("syntax", "newer-python")}
    assert all(before in source for _, before, _, _ in changes)


@pytest.mark.parametrize("source", ['f"{d[\'a\']}" "', "f'{x", "def f(:", 'f"{', 'x = f"{a["b"}"', "f" * 9 + '"{"'])
def test_what_cannot_be_read_stays_as_it_is(source):
    with noted() as changes:
        assert older(source) == source
    assert not changes


def test_a_notebook_of_python_3_12(notebook):
    module = 'def shown(d):\n    return f"{d["a"]}"\n'
    ran = notebook(
        "from itertools import batched\nfrom typing import override\nassert [*batched('abc', 2)] == [('a', 'b'), ('c',)]",
        f"from pathlib import Path\nPath('helping.py').write_text({module!r})\nimport helping\nassert helping.shown(dict(a=3)) == '3'",
        'd = {"a": 1}\nprint(f"{d["a"]}")\nassert f"{d["a"]}" == "1"',
    )
    rules = [(index, rule) for index, rule, *_ in ran.changes]
    assert rules == [(0, "renamed"), (0, "renamed"), (1, "syntax"), (2, "syntax")]
