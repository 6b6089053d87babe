"""Notebooks are composed from named fragments."""

import pytest

from grader.errors import DeclarationError
from tests.corpus.handwriting import Fragment, compose, fragments_of, read_fragments

GOOD = """# Title

## first
Why it is
special.

```python
x = 1

y = 2
```

## second-one
````markdown
```python
quoted
```
````
"""


@pytest.fixture
def base():
    return {name: Fragment(name, f"{name} = 1") for name in ("a", "b", "c")}


def sources(notebook):
    return [(cell.id, cell.source) for cell in notebook.cells]


def read(tmp_path, text):
    path = tmp_path / "hand.md"
    path.write_text(text, encoding="utf-8")
    return read_fragments(path)


def test_fragments_are_read_in_order_with_kind_and_reason(tmp_path):
    first, second = read(tmp_path, GOOD).values()
    assert first == Fragment("first", "x = 1\n\ny = 2", True, "Why it is special.")
    assert second == Fragment("second-one", "```python\nquoted\n```", False, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("## a\n```python\n1\n```\n## a\n```python\n2\n```\n", "twice"),
        ("## a\nno cell\n", "no cell under the heading 'a'"),
        ("## a\nno cell\n\n## b\n```python\n2\n```\n", "no cell under the heading 'a'"),
        ("## Big Name\n```python\n2\n```\n", "no cell under the heading 'Big Name'"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    with pytest.raises(DeclarationError, match=message):
        read(tmp_path, text)


def test_cells_are_replaced_dropped_and_added(base):
    made = compose(base, {"b": "b = 2"}, after={"a": Fragment("x", "more", code=False)}, drop=["c"])
    assert sources(made) == [("a", "a = 1"), ("a-more", "more"), ("b", "b = 2")]
    assert [cell.cell_type for cell in made.cells] == ["code", "markdown", "code"]
    assert sources(compose(base)) == [("a", "a = 1"), ("b", "b = 1"), ("c", "c = 1")], "the base must not change"


@pytest.mark.parametrize("how", [{"replace": {"z": ""}}, {"after": {"z": ""}}, {"drop": ["z"]}])
def test_unknown_cells_are_refused(base, how):
    with pytest.raises(DeclarationError, match="no cell 'z'; it has a, b, c"):
        compose(base, **how)


def test_a_cell_is_not_dropped_and_replaced(base):
    with pytest.raises(DeclarationError, match="dropped and changed"):
        compose(base, {"a": "1"}, drop=["a"])


def test_a_notebook_is_a_handwriting_too(base):
    assert fragments_of(compose(base)) == base
