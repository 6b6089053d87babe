"""The assignment as one course hands it out: its own fields filled into the reference notebook, and what is made of that.

Trusted: works on the course's own files only, executes nothing. The reference is a Jinja template whose marks leave it a notebook that
runs as it is: `@{ deadline }` stands for a value, `@[ if deadline ]...@[ endif ]` within a line and `#? if deadline` as a line of
its own choose. Points and minimum accuracies come from the assignment and the bundle, and are written down nowhere else.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError
from nbformat import NotebookNode

from grader.authoring.template import CODE_PLACEHOLDER, TEXT_PLACEHOLDER, canonical, dumps, make_template, read_notebook
from grader.bundles.bundle import Bundle, load_bundle
from grader.errors import DeclarationError, UsageError
from grader.grading.settings import Settings
from grader.rubric.assignment import Assignment
from grader.rubric.shown import FURTHER

__all__ = ["DATA", "PAGE", "RULES", "filled", "folder", "template_files", "values_of"]

DATA = ("train.csv", "eval.csv")
"""Files with reviews that students get."""
RULES = "grader.toml"
"""What the self-check goes by, beside the notebook."""
PAGE = "assignment.md"
"""The assignment as a page for a course's web site."""
_HINT = re.compile(r"\n*<details>.*?</details>", re.DOTALL)
_COLAB = "https://colab.research.google.com/"


def values_of(assignment: Assignment, bundle: Bundle, settings: Settings, data: Path | None = None) -> dict[str, Any]:
    """What the marks of a reference stand for; `data` is the folder with the reviews that are handed out, None where nobody knows.

    Raises UsageError for settings that do not fit the assignment, and for files of reviews that are none.
    """
    assignment, bundle = settings.apply(assignment, bundle)
    groups: dict[str, list[dict[str, Any]]] = {}
    for check in assignment.checks.values():
        part = check.id.partition("/")[0]
        title = FURTHER if check.show == "nothing" else check.title
        heading = assignment.groups.get(part, part)
        groups.setdefault(heading, []).append({"id": check.id, "title": title, "points": check.points})
    rules = _rules(bundle, settings) if data else ""
    known = {assignment.groups.get(name, name): found.accuracy for name, found in bundle.calibrations.items()}
    found = {name: _reviews(data / name, bundle.manifest["columns"]) for name in DATA} if data else {}
    return {
        **asdict(settings.handout),
        "title": assignment.title,
        "note": settings.note,
        "groups": tuple(groups.items()),
        "possible": assignment.possible,
        "minimums": ", ".join(f"*{name}* {100 * accuracy:.3g} %" for name, accuracy in known.items()),
        "range": f"{100 * bundle.linear_range:.3g} percentage points" if bundle.linear_range else "",
        "standin": bool(bundle.sizes),
        "colab": _colab(settings.handout.notebook),
        "files": DATA,
        "reviews": {name: f"{count:,}" for name, (count, _) in found.items()},
        "rules": rules,
        "sha256": {name: digest for name, (_, digest) in found.items()}
        | ({RULES: hashlib.sha256(rules.encode()).hexdigest()} if rules else {}),
        "synthetic": data is not None
        and data.resolve() == bundle.path
        and bundle.manifest["heldout"]["source"] == "generator",
        "wheel": "",
        "page": False,
    }


def filled(reference: NotebookNode, values: Mapping[str, Any]) -> NotebookNode:
    """The reference with its marks filled in; a cell of text that is empty then is left out.

    Raises:
        DeclarationError: a mark is misspelt or stands for nothing that there is.

    """
    made = canonical(reference)
    for cell in made.cells:
        try:
            cell.source = _marks().from_string(cell.source).render(values).strip("\n")
        except TemplateError as error:
            raise DeclarationError(f"cell {cell.id!r}: {error.message}") from error
    made.cells = [cell for cell in made.cells if cell.source or cell.cell_type == "code"]
    return made


def template_files(reference_path: Path, template_path: Path, values: Mapping[str, Any]) -> dict[Path, bytes]:
    """What both files should hold: the reference in its canonical form, and the template made of it.

    Raises:
        UsageError: the reference cannot be read as a notebook.
        DeclarationError: see `filled` and `make_template`.

    """
    reference = canonical(read_notebook(reference_path))
    template = make_template(filled(reference, values))
    return {reference_path: dumps(reference).encode(), template_path: dumps(template).encode()}


def folder(reference_path: Path, values: Mapping[str, Any], data: Path, wheel: Path | None = None) -> dict[str, bytes]:
    """The files of the folder to hand out, by name: notebook, reviews, `README.md`, the page, and the self-check where it was built.

    Raises UsageError and DeclarationError as `template_files` does.
    """
    reference = read_notebook(reference_path)
    values = {**values, "wheel": wheel.name if wheel else "", "file": reference_path.name}
    readme = files("grader.authoring").joinpath("handout.md").read_text(encoding="utf-8")
    made = {
        reference_path.name: dumps(make_template(filled(reference, values))).encode(),
        "README.md": _marks().from_string(readme).render(values).encode(),
        PAGE: _page(make_template(filled(reference, {**values, "page": True}))).encode(),
    }
    if values["rules"]:
        made[RULES] = values["rules"].encode()
    return made | {file.name: file.read_bytes() for file in (*(data / name for name in DATA), wheel) if file}


def _page(template: NotebookNode) -> str:
    """The notebook's text without its hints, and the functions and classes that have to be written."""
    parts = []
    for cell in template.cells:
        if cell.cell_type != "code":
            parts.append(_HINT.sub("", cell.source).replace(f"\n\n{TEXT_PLACEHOLDER}", ""))
        elif CODE_PLACEHOLDER in cell.source:
            asked = (node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef | ast.ClassDef))
            shown = [str(ast.get_source_segment(cell.source, node)) for node in asked]
            parts += ["```python\n" + "\n\n\n".join(shown) + "\n```"] if shown else []
    return "\n\n".join(parts) + "\n"


@cache
def _marks() -> Environment:
    return Environment(  # noqa: S701 - Markdown and Python, written by the course itself
        variable_start_string="@{",
        variable_end_string="}",
        block_start_string="@[",
        block_end_string="]",
        comment_start_string="@(",
        comment_end_string=")@",
        line_statement_prefix="#?",
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def _rules(bundle: Bundle, settings: Settings) -> str:
    """The settings that a student's self-check needs to say what the grading will; empty where it knows them."""
    if bundle.path == load_bundle().path and not (settings.points or settings.accuracy or settings.show):
        return ""
    accuracy = {name: known.accuracy for name, known in bundle.calibrations.items()}
    accuracy |= {"linear_range": bundle.linear_range} if bundle.linear_range else {}
    lines = ["# What the self-check in the notebook goes by; the grading has a copy of its own."]
    for table, entries in (("points", settings.points), ("accuracy", accuracy), ("show", settings.show)):
        entry = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in entries.items()]
        lines += ["", f"[{table}]", *entry] if entry else []
    return "\n".join(lines) + "\n"


def _reviews(file: Path, columns: Mapping[str, str]) -> tuple[int, str]:
    """Number of reviews in a file, and its SHA-256. Raises UsageError where it is no file of reviews."""
    try:
        content = file.read_bytes()
        rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines(keepends=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if not rows or not all(row.get(columns["text"]) and row.get(columns["label"]) in ("0", "1") for row in rows):
        raise UsageError(f"{file}: every row needs a {columns['text']} and a {columns['label']}, which is 0 or 1")
    return len(rows), hashlib.sha256(content).hexdigest()


def _colab(notebook: str) -> str:
    """Where Colab opens a notebook that lies on GitHub; empty where it lies elsewhere."""
    if notebook.startswith(_COLAB):
        return notebook
    place = notebook.removeprefix("https://github.com/")
    return f"{_COLAB}github/{place}" if place != notebook else ""
