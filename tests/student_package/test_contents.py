"""What is in the wheel for students: what it imports, nothing for staff, no line of a solution, nothing that their machines lack."""

from __future__ import annotations

import ast
import email
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.student_package.conftest import ROOT, run
from tests.student_package.solutions import IDIOMS, found_in, pieces

pytestmark = pytest.mark.slow
FOR_STAFF = re.compile(
    r"reference|solution|template|corpus|handwriting|heldout|held_out|reviews|calibration|sandbox|intake|lms|canvas|runs/|reports|"
    r"authoring|engines|shims|zygote|kernel|pipeline|tests?/|\.ipynb|\.csv|\.safetensors|\.pyc"
)


WHOLE_ROOMS = ("grader.assignments.", "grader.inside.probes.", "grader.rubric.", "grader.selfcheck.")


def modules(folder: Path) -> dict[str, Path]:
    """The package's modules below a folder, by name."""
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.glob("grader/**/*.py")}
    return {name.replace("/", ".").removesuffix(".__init__"): path for name, path in paths.items()}


def imported(path: Path) -> Iterator[str]:
    """Names of modules that a module imports, wherever in it, or names as `module:function`; not what only type checkers read."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            yield from [str(node.module), *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.Constant) and (named := re.fullmatch(r"(grader\.[\w.]+):\w+", str(node.value))):
            yield named[1]
        todo += ast.iter_child_nodes(node)


def test_wheel_holds_what_it_imports_and_nothing_else(unpacked) -> None:
    of_tree = modules(ROOT)
    found, todo = {"grader.__main__"}, list(imported(unpacked / "grader" / "__main__.py"))
    while todo:
        name = todo.pop()
        if name in of_tree and name not in found:
            found.add(name)
            todo += [name.rpartition(".")[0], *imported(of_tree[name])]
    there = set(modules(unpacked))
    assert found - there == set(), "add them to packages/dat450-check/pyproject.toml, or do without"
    assert {name for name in there - found if not name.startswith(WHOLE_ROOMS)} == set()


def test_modules_are_those_of_the_tree(unpacked) -> None:
    of_tree = modules(ROOT)
    for name, path in modules(unpacked).items():
        source = ROOT / "packages" / "dat450-check" / "main.py" if name == "grader.__main__" else of_tree[name]
        assert path.read_bytes() == source.read_bytes(), name


def test_nothing_for_staff_is_in_it(wheel) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if "/_data/" not in name]
    assert [name for name in names if FOR_STAFF.search(name)] == []
    data = {name for name in zipfile.ZipFile(wheel).namelist() if "/_data/" in name}
    assert data == {"grader/_data/standin/bundle.json", "grader/_data/standin/thresholds.json"}


def test_no_line_of_a_solution_is_in_it(unpacked) -> None:
    assert len(pieces()) > 60
    files = [path for path in unpacked.rglob("*") if path.is_file()]
    told = {path.name: found_in(path.read_text("utf-8"), python=path.suffix == ".py") for path in files}
    assert {name: found for name, found in told.items() if found} == {}


@pytest.mark.parametrize(
    "text",
    [
        "# sum(p.numel() for p in net.parameters() if p.requires_grad)",
        "HINT = 'Write `sum(x.numel() for x in m.parameters() ' 'if x.requires_grad)`.'",
        '"""Then `setattr(net.get_submodule(where), last, new)`."""',
        "def f(net):\n    net.distilbert.requires_grad_(False)",
        "'''Use {k: LoRA(v) for k, v in extract_qv_layers(net).items()}.'''",
        "hint = 'try `name.rpartition(\".\")`'",
        "self.scaling = alpha / rank",
        "# Full fine-tuning and LoRA end close together, while the head alone usually stays behind: the body's features were learnt for",
    ],
)
def test_lines_of_solutions_are_found(text) -> None:
    assert found_in(text, python=True)


def test_excepted_idioms_are_lines_of_the_reference() -> None:
    text = (ROOT / "reference_solution" / "finetuning.ipynb").read_text("utf-8")
    assert all(idiom.replace('"', '\\"') in text for idiom in IDIOMS)


def test_wheel_is_for_every_machine_and_leaves_torch_alone(wheel) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    told = email.message_from_bytes(archive.read(name))
    needs = [text for text in told.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert wheel.name.endswith("-py3-none-any.whl")
    assert told["Requires-Python"] == ">=3.10"
    assert {re.split(r"\W", text)[0] for text in needs} == {"msgspec", "numpy", "safetensors", "tomli"}


@pytest.mark.parametrize(("platform", "version"), [("win32", "3.10"), ("darwin", "3.14")])
def test_standard_library_has_all_that_it_uses(platform, version, unpacked) -> None:
    """The type checker knows what Python's library has on each system and in each version."""
    done = run(
        sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--no-incremental", "--ignore-missing-imports",
        "--disable-error-code", "no-any-return", "--no-warn-unreachable", "--platform", platform, "--python-version", version,
        unpacked / "grader", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
