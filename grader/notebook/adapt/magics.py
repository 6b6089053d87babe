"""IPython's own syntax: the transformation to Python, line for line, and what becomes of magics and shell lines.

Trusted code over untrusted text. IPython's `TransformerManager` does the transformation; what to do with its calls is
then decided on the syntax tree. Every number of lines stays, so that tracebacks point into the student's cell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from IPython.core.inputtransformer2 import TransformerManager

from grader.notebook.adapt.edits import Edit, parse, shorten
from grader.notebook.adapt.environment import Environment
from grader.notebook.adapt.shell import INSTALL, filter_command, filter_script, is_install
from grader.records import Adaptation

__all__ = ["REASONS", "magic_edits", "to_python"]

REASONS = {
    "install": "The libraries are installed already; nothing is installed while grading.",
    "network": "There is no network while grading.",
    "hardware": "The grading machine has no GPU to ask for.",
    "cell-magic": "The cell runs directly, so that its errors and line numbers are the cell's own.",
    "line-magic": "This command is for the notebook's window or machine; there is neither while grading.",
    "help": "A help request shows a window; there is none while grading.",
}
"""Rule -> the sentence in the report."""

_TRANSPARENT = frozenset({"time", "capture", "wandb", "memit", "mprun", "prun"})
_SHELL_CELLS = frozenset({"bash", "sh", "shell", "system", "sx", "!"})
_DROPPED = frozenset(
    {"cd", "pushd", "popd", "load_ext", "reload_ext", "tensorboard", "wandb", "tensorflow_version", "bigquery", "gui"}
    | {"pylab", "debug", "pdb", "connect_info", "qtconsole", "notebook", "memit", "prun", "lprun", "watermark", "kill"}
)
_HELP = frozenset({"pinfo", "pinfo2", "pdoc", "psource", "pdef", "pfile", "psearch"})
_CELL_MAGIC = re.compile(r"%%(\w+|!)[ \t]*([^\n]*)")


class _LineKeeper(TransformerManager):
    """IPython's transformations, except that a command over several lines leaves blank ones behind."""

    def do_one_token_transform(self, lines: list[str]) -> tuple[bool, list[str]]:
        changed, after = super().do_one_token_transform(lines)
        lost = len(lines) - len(after)
        if changed and lost > 0:
            first = next((i for i, (old, new) in enumerate(zip(lines, after, strict=False)) if old != new), 0)
            after = [*after[: first + 1], *["\n"] * lost, *after[first + 1 :]]
        return changed, after


def to_python(source: str, cell: int) -> tuple[str, list[Adaptation]]:
    """The cell as Python with as many lines, and the adaptations that had to be made on the text.

    A cell that is no Python afterwards either is given back as it stands, apart from its install lines.
    """
    body, done = _unwrap(source, cell)
    python = _transform(body)
    if parse(python) is None:
        python, more = _drop_bare_installs(python, cell)
        done += more
    return python, done


def _unwrap(source: str, cell: int) -> tuple[str, list[Adaptation]]:
    """The cell without leading `%%time` and `%%capture`, whose lines stay as blank ones."""
    lines = source.split("\n")
    done: list[Adaptation] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        found = _CELL_MAGIC.fullmatch(line.strip())
        if not found or found[1] not in _TRANSPARENT:
            break
        lines[number] = _captured(found[2]) if found[1] == "capture" else ""
        if found[1] == "time" and found[2].strip():
            lines[number] = found[2].strip()  # IPython runs a statement on that line as well
        done.append(Adaptation(cell, "cell-magic", shorten(line), lines[number], REASONS["cell-magic"]))
    return "\n".join(lines), done


def _captured(options: str) -> str:
    """A line that defines the name which `%%capture name` would have filled."""
    names = [word for word in options.split() if not word.startswith("-")]
    if names and names[0].isidentifier():
        return f"{names[0]} = __import__('IPython.utils.capture', fromlist=['capture']).CapturedIO(None, None)"
    return ""


def _transform(body: str) -> str:
    """`body` after IPython's rules, with the same lines."""
    try:
        python: str = _LineKeeper().transform_cell(body)
    except (SyntaxError, RuntimeError, ValueError, IndexError):
        return body
    if not body.endswith("\n"):
        python = python.removesuffix("\n")
    lost = body.count("\n") - python.count("\n")
    if lost > 0:
        # Only blank lines at the top and the body of a cell magic can be missing now.
        top = len(body) - len(body.lstrip(" \t\n"))
        blank = min(lost, body[:top].count("\n"))
        python = "\n" * blank + python + "\n" * (lost - blank)
    return python


def _drop_bare_installs(source: str, cell: int) -> tuple[str, list[Adaptation]]:
    """`source` without the lines like `pip install x` at which parsing stops; other syntax errors stay."""
    lines = source.split("\n")
    done: list[Adaptation] = []
    while True:
        try:
            compile("\n".join(lines), "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            number = (error.lineno or 0) - 1
        except (ValueError, RecursionError, MemoryError):
            break
        else:
            break
        if not 0 <= number < len(lines) or not is_install(lines[number]):
            break
        line = lines[number]
        while lines[number].endswith("\\") and number + 1 < len(lines):
            lines[number] = ""
            number += 1
            line += lines[number]
        lines[number] = line[: len(line) - len(line.lstrip())] + "pass"
        done.append(Adaptation(cell, "install", shorten(line), "", REASONS["install"]))
    return "\n".join(lines), done


def magic_edits(tree: ast.Module, environment: Environment, adapt_text: Callable[[str], str]) -> Iterator[Edit]:
    """Edits for IPython's calls in `tree`; `adapt_text` adapts Python that is written to a file or timed."""
    statements = {id(node.value): node for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if not (isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "get_ipython"):
            continue
        values = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        words = [value for value in values if isinstance(value, str)]
        if len(words) != len(node.args) or not words:
            continue
        target: ast.expr | ast.stmt = statements.get(id(node), node)
        nothing = "pass" if isinstance(target, ast.stmt) else "None"
        if node.func.attr in ("system", "getoutput"):
            yield from _shell_line(node, target, words[0])
        elif node.func.attr == "run_line_magic":
            yield from _line_magic(target, nothing, words[0], " ".join(words[1:]), environment)
        elif node.func.attr == "run_cell_magic" and len(words) == 3:
            yield from _cell_magic(node, words, adapt_text)


def _shell_line(node: ast.Call, target: ast.expr | ast.stmt, command: str) -> Iterator[Edit]:
    """Edits for `!command` and `name = !command`."""
    assert isinstance(node.func, ast.Attribute)
    kept, removed = filter_command(command)
    if not removed:
        return
    rule = removed[0][0]
    if kept:
        yield Edit(node.args[0], repr(kept), rule, REASONS[rule], f"!{command}", f"!{kept}")
    elif isinstance(target, ast.stmt):
        yield Edit(target, "pass", rule, REASONS[rule], f"!{command}", "")
    else:
        yield Edit(target, "[]" if node.func.attr == "getoutput" else "None", rule, REASONS[rule], f"!{command}")


def _line_magic(
    target: ast.expr | ast.stmt, nothing: str, name: str, line: str, environment: Environment
) -> Iterator[Edit]:
    """Edits for `%name line`."""
    shown = f"%{name} {line}".strip()
    if name in INSTALL or name == "pip":
        yield Edit(target, nothing, "install", REASONS["install"], shown, "")
    elif name in _HELP:
        yield Edit(target, nothing, "help", REASONS["help"], f"{line}?", "")
    elif name == "time" and isinstance(target, ast.stmt) and line and "\n" not in line and parse(line) is not None:
        yield Edit(target, line, "line-magic", REASONS["cell-magic"], shown)
    elif name == "matplotlib" and line.strip() != "inline":
        yield Edit(
            target, "get_ipython().run_line_magic('matplotlib', 'inline')", "line-magic", REASONS["line-magic"], shown
        )
    elif name == "run" and (local := _local_script(line, environment)):
        text = f"get_ipython().run_line_magic('run', {local!r})"
        yield Edit(target, text, "line-magic", "The file lies beside the notebook while grading.", shown)
    elif name in _DROPPED and line.strip() != "autoreload":
        yield Edit(target, nothing, "line-magic", REASONS["line-magic"], shown, "")
    elif name.startswith("%") and name[1:] in _TRANSPARENT:  # `%%time` below the first line of a cell
        yield Edit(target, nothing, "cell-magic", REASONS["cell-magic"], shown, "")


def _local_script(line: str, environment: Environment) -> str:
    """`line` of a `%run` with its path shortened to the name of a file that was handed in; empty when it is right."""
    path, _, rest = line.strip().partition(" ")
    name = re.split(r"[/\\]", path.strip("'\""))[-1]
    return f"{name} {rest}".strip() if name in environment.companions and name != path else ""


def _cell_magic(node: ast.Call, words: list[str], adapt_text: Callable[[str], str]) -> Iterator[Edit]:
    """Edits for a cell magic that IPython runs: shell scripts and written files."""
    name, line, body = words
    if name in _SHELL_CELLS or (name == "script" and line.split()[:1] in (["bash"], ["sh"])):
        kept, removed = filter_script(body)
        if removed:
            rule = removed[0][0]
            yield Edit(node.args[2], repr(kept), rule, REASONS[rule], "; ".join(text for _, text in removed), "")
    elif name in ("writefile", "file"):
        options, _, path = line.strip().rpartition(" ")
        plain = path.strip("'\"")
        base = re.split(r"[/\\]", plain)[-1]
        if base and re.match(r"/(?!tmp/)|~|[A-Za-z]:[\\/]|\.\./", plain):
            text = f"{options} {base}".strip()
            reason = "The file is written beside the notebook, where an import finds it."
            yield Edit(node.args[1], repr(text), "path", reason, line, text)
        if base.endswith(".py"):
            adapted = adapt_text(body)
            if adapted != body:
                yield Edit(node.args[2], repr(adapted), "written-file", "See the changes listed beside this one.", base)
