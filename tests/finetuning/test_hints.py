"""Hints teach and never solve: no sentence for students holds a piece of a solution, and each criterion leads to a page.

A piece is an expression or a statement between the solution marks of the reference, or of another usual way to write the step, as
tokens in which every name of the student's own choice is `_`. What the task itself says before any hint is given to everybody.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from grader.assignments.finetuning import ASSIGNMENT
from grader.authoring import read_notebook

ROOT = Path(__file__).parents[2]
SOLUTION = re.compile(r"^[ \t]*### BEGIN SOLUTION\n(.*?)^[ \t]*### END SOLUTION", re.DOTALL | re.MULTILINE)
FOLDED = re.compile(r"<details>.*?</details>", re.DOTALL)
GRADED = ("count", "head", "layers", "lora", "lora-model")
"""Cells of the reference that hold what is judged; how data are read and drawn may be shown."""
OTHERWISE = """
for parameter in model.distilbert.parameters():
    parameter.requires_grad = False
for parameter in model.base_model.parameters():
    parameter.requires_grad_(False)
total += parameter.numel()
list(filter(lambda parameter: parameter.requires_grad, model.parameters()))
[parameter for name, parameter in model.named_parameters() if parameter.requires_grad]
np.prod(parameter.shape)
if isinstance(module, nn.Linear) and name.endswith("q_lin"):
    layers[name] = module
parts = name.split(".")
getattr(parent, parts[0])
setattr(parent, parts[-1], layer)
parent._modules[parts[-1]] = layer
setattr(parent, attribute, layer)
model.set_submodule(name, layer)
nn.Parameter(torch.randn(rank, pretrained.in_features))
nn.Parameter(torch.zeros(pretrained.out_features, rank))
nn.init.kaiming_uniform_(A.weight, a=math.sqrt(5))
pretrained(x) + scaling * (x @ A.T @ B.T)
pretrained.weight.requires_grad = False
"""
CONCEPTS = {
    "Linear", "Parameter", "nn", "torch", "zeros", "parameters", "requires_grad", "from_pretrained", "LoRA", "extract_qv_layers",
    "replace_layers", "weight", "bias", "shape", "split", "items",
}  # fmt: skip
"""Names that a message may use: they say what a step is about, and not how it is done."""
_TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|[^\w\s]")
_PLAIN = {*keyword.kwlist, *dir(builtins)}


def solutions() -> Iterator[str]:
    """The code between the marks of the graded cells, and other ways to write it."""
    cells = {cell.id: cell.source for cell in read_notebook(ROOT / "reference_solution" / "finetuning.ipynb").cells}
    for name in GRADED:
        yield from SOLUTION.findall(cells[name])
    yield OTHERWISE


def tree(code: str) -> ast.Module:
    return ast.parse("def _():\n" + "\n".join(f" {line}" for line in code.strip("\n").split("\n")))


TREES = [tree(code) for code in solutions()]
NODES = [node for each in TREES for statement in each.body[0].body for node in ast.walk(statement)]  # type: ignore[attr-defined]
OWN = {node.attr for node in NODES if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)} - CONCEPTS
KNOWN = (
    {node.attr for node in NODES if isinstance(node, ast.Attribute)}
    | {node.func.id for node in NODES if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
) - OWN
"""Names of libraries, of Python and of the task in the solutions."""


def tokens(text: str) -> str:
    """A text as tokens between spaces, with `_` for names of one's own choice."""
    found = (token if not token[0].isalpha() or token in KNOWN | _PLAIN else "_" for token in _TOKEN.findall(text))
    return f" {' '.join(found)} "


def unfolded() -> str:
    """What the template gives before any hint: its prose and its code."""
    cells = read_notebook(ROOT / "student_template" / "finetuning.ipynb").cells
    return "\n".join(FOLDED.sub("", cell.source) for cell in cells)


def names(text: str) -> set[str]:
    return {token for token in _TOKEN.findall(text) if token in KNOWN}


def _tells(found: set[str]) -> bool:
    return bool(found - CONCEPTS) or len(found) > 1


@cache
def pieces() -> dict[str, str]:
    """Tokens -> code of every piece that gives something away: four tokens at least, a known name, not in the task's own words."""
    given, found = tokens(unfolded()), {}
    for node in NODES:
        if isinstance(node, ast.expr | ast.stmt) and not isinstance(node, ast.Name | ast.Constant):
            code = ast.unparse(node)
            if len(tokens(code).split()) >= 4 and _tells(names(code)) and tokens(code) not in given:
                found[tokens(code)] = code
    return found


@cache
def messages() -> tuple[tuple[str, str], ...]:
    """Where and what: every text in the package that may be shown (all strings but docstrings), all titles, and the pages for students."""
    return tuple(_messages())


def _messages() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "grader").rglob("*.py")):
        if "inside" in path.parts:  # what runs in the box and is never shown
            continue
        module = ast.parse(path.read_text(encoding="utf-8"))
        quiet = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(module):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "_" for part in node.values)
                yield f"{path.name}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in quiet:
                yield f"{path.name}:{node.lineno}", node.value
    for check in ASSIGNMENT.checks.values():
        yield check.id, check.title
    for path in [*(ROOT / "grader").rglob("*.md"), ROOT / "docs" / "messages.md", *(ROOT / "docs").glob("students.md")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            yield f"{path.name}:{number}", re.sub(r"^\| `[a-z-]+` ", "", line)  # without the name of the corpus's case


def solving(text: str, found: dict[str, str]) -> list[str]:
    """The pieces that a text holds."""
    said = tokens(text)
    return [code for piece, code in found.items() if piece in said]


def test_there_is_something_to_compare_with() -> None:
    found = pieces()
    assert len(found) > 60
    for code in (
        "parameter.numel()",
        "model.named_modules()",
        "setattr(parent, parts[-1], layer)",
        "nn.init.zeros_(self.B.weight)",
    ):
        assert tokens(code) in found, code
    assert {"numel", "named_modules", "setattr", "in_features", "zeros_"} <= KNOWN


@pytest.mark.parametrize(
    "hint",
    [
        "`sum(p.numel() for p in model.parameters() if p.requires_grad)` is all it takes.",
        "freeze: `for p in model.distilbert.parameters(): p.requires_grad = False`.",
        "use setattr(module, last, layer) for it",
        "Print `model.named_modules()`.",
        "`x @ A.T @ B.T` works for any dimensions",
        "take `isinstance(m, nn.Linear)`",
        "`layer.requires_grad_(False)`",
    ],
)
def test_a_solving_hint_is_found(hint: str) -> None:
    assert solving(hint, pieces())


def test_no_message_holds_a_piece_of_a_solution() -> None:
    found = pieces()
    assert [(where, text, solving(text, found)) for where, text in messages() if solving(text, found)] == []


def test_no_message_names_what_does_the_step() -> None:
    telling = KNOWN - names(unfolded()) - CONCEPTS - _PLAIN - {"T"}
    assert {"numel", "named_modules", "in_features", "zeros_", "requires_grad_"} <= telling
    telling |= {"setattr", "isinstance"}
    codes = ((where, code) for where, text in messages() for code in re.findall(r"`([^`\n]+)`", text))
    assert [(where, code) for where, code in codes if telling & set(_TOKEN.findall(code))] == []


def test_no_folded_hint_of_the_template_solves() -> None:
    cells = read_notebook(ROOT / "student_template" / "finetuning.ipynb").cells
    hints = [hint for cell in cells for hint in FOLDED.findall(cell.source)]
    assert len(hints) > 10
    assert [(hint, solving(hint, pieces())) for hint in hints if solving(hint, pieces())] == []


def test_every_criterion_leads_to_a_page() -> None:
    pages = [check.read for check in ASSIGNMENT.checks.values()]
    assert all(page is not None and page.title and page.url.startswith("https://") for page in pages)
    assert not [page for page in pages if page and solving(page.title, pieces())]
