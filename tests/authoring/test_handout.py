"""The folder that a course hands out: its own dates, points and data, nothing of the solution, and it runs."""

from __future__ import annotations

import ast
import hashlib
import io
import keyword
import re
import shutil
import sys
import tokenize
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest

from grader.assignments import load_assignment
from grader.authoring import filled, make_template, read_notebook, values_of
from grader.bundles.bundle import load_bundle
from grader.cli.main import main
from grader.errors import DeclarationError
from grader.grading.settings import Handout, Settings, read_settings

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "reference_solution" / "finetuning.ipynb"
FIELDS = {
    "course": "DAT450, autumn of 2026",
    "deadline": "4 December, 23:59 (Stockholm)",
    "canvas": "https://canvas.example/courses/1/assignments/2",
    "contact": "Ask in the [forum](https://canvas.example/forum).",
    "notebook": "https://github.com/course/dat450/blob/main/lab4/finetuning.ipynb",
    "data": "https://course.example/lab4/",
    "check": "dat450-check",
}
ALL = (
    'note = "Late hand-ins lose 10 % a day."\n[points]\n"lora/accuracy" = 4\n[accuracy]\nfull = 0.855\nlinear_range = 0.05\n'
    '[show]\n"lora/gradients" = "nothing"\n[handout]\n'
    + "".join(f'{name} = "{value}"\n' for name, value in FIELDS.items())
)
BADGE = "https://colab.research.google.com/github/course/dat450/blob/main/lab4/finetuning.ipynb"


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """A course's own files of reviews."""
    folder = tmp_path_factory.mktemp("reviews")
    for name, rows in (("train.csv", 1200), ("eval.csv", 30)):
        lines = "".join(f'{i},"a film, seen {i} times",{i % 2}\n' for i in range(rows))
        (folder / name).write_text(f"index,review,label\n{lines}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, reviews):
    """The folder with every field set and a course's own reviews (`all`), and with nothing set (`none`)."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "grader.toml").write_text(ALL, encoding="utf-8")
    wheel = folder / "dat450_check-1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    whole = ["--config", str(folder / "grader.toml"), "--data", str(reviews), "--wheel", str(wheel)]
    with redirect_stdout(io.StringIO()):
        assert main(["template", "--out", str(folder / "all"), *whole]) == 0
        assert main(["template", "--out", str(folder / "none")]) == 0
    return folder


def text(path: Path) -> str:
    """What people read of a notebook or a page."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "markdown")


def test_a_folder_with_every_field_says_them(made):
    assert {path.name for path in (made / "all").iterdir()} == {
        "README.md", "assignment.md", "dat450_check-1.0-py3-none-any.whl", "eval.csv", "finetuning.ipynb", "grader.toml",
        "train.csv",
    }  # fmt: skip
    for name in ("finetuning.ipynb", "assignment.md", "README.md"):
        found = text(made / "all" / name)
        for value in (FIELDS["deadline"], FIELDS["canvas"], FIELDS["contact"], BADGE, "1,200"):
            assert value in found, (name, value)
    for name in ("finetuning.ipynb", "assignment.md"):
        found = text(made / "all" / name)
        assert FIELDS["course"] in found
        assert "Late hand-ins lose 10 % a day." in found
        assert "Maas" in found and "Marco Kuhlmann" in found
        assert "*Full fine-tuning* 85.5 %" in found and "5 percentage points" in found
        assert "A, B and the input get gradients" not in found, "nothing of this criterion is shown"
    assert "pip install ./dat450_check-1.0-py3-none-any.whl" in text(made / "all" / "README.md")


def test_the_self_check_gets_the_rules_of_the_course(made):
    told = read_settings(made / "all" / "grader.toml")
    course = read_settings(made / "grader.toml")
    assert (told.points, told.show) == (course.points, course.show)
    _, bundle = course.apply(load_assignment(), load_bundle())
    asked = {name: known.accuracy for name, known in bundle.calibrations.items()}
    assert told.accuracy == {**asked, "linear_range": 0.05}
    assert told.handout == Handout() and not told.note
    assert not (made / "none" / "grader.toml").exists(), "the shipped rules are known to it"


def test_a_folder_without_fields_leaves_no_gap(made):
    for name in ("finetuning.ipynb", "assignment.md", "README.md"):
        found = re.sub("```.*?```", "(code)", text(made / "none" / name), flags=re.DOTALL)
        assert not re.search(r"\]\(\)|\*\*\*\*| (by|in) [.,;]|None|undefined|\S  \w|badge|\n\n\n", found), name
        assert "synthetic" in found or name == "README.md"
        assert "Maas" not in found, "the stand-in's reviews are not of that data set"


@pytest.mark.parametrize("which", ["all", "none"])
def test_no_mark_or_solution_is_left(made, which):
    for path in (made / which).glob("*.*"):
        if path.suffix != ".whl":
            assert not re.search(r"@[{\[(]|#\?|SOLUTION", path.read_text(encoding="utf-8")), path
    for cell in read_notebook(made / which / "finetuning.ipynb").cells:
        assert cell.source
        assert cell.cell_type != "code" or (cell.outputs, cell.execution_count) == ([], None)
    assert "YOUR ANSWER" not in text(made / which / "assignment.md")
    assert "<details>" not in text(made / which / "assignment.md")


@pytest.mark.parametrize("which", ["all", "none"])
def test_points_and_minimums_are_those_that_are_judged(made, which):
    settings = Settings(points={"lora/accuracy": 4}, accuracy={"full": 0.855}) if which == "all" else Settings()
    assignment, bundle = settings.apply(load_assignment(), load_bundle())
    for name in ("finetuning.ipynb", "assignment.md"):
        found = text(made / which / name)
        rows = re.findall(r"^\| (.*) \| (.*) \| (\d+) \|$", found, re.MULTILINE)
        checks = list(assignment.checks.values())
        assert [int(points) for *_, points in rows] == [check.points for check in checks]
        titles = [check.title for check in checks if which == "none" or check.id != "lora/gradients"]
        assert [title for _, title, _ in rows if title != "A further criterion."] == titles
        assert [heading for heading, *_ in rows if heading] == list(assignment.groups.values())
        assert f"**{assignment.possible}**" in found
        for known in bundle.calibrations.values():
            assert f" {100 * known.accuracy:.3g} %" in found


def test_every_asked_name_is_on_the_page(made):
    page = text(made / "none" / "assignment.md")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    defined = {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {"count_trainable_parameters", "extract_qv_layers", "replace_layers", "LoRA", "fine_tune"} <= defined


def run_cell(folder: Path, cell_id: str) -> str:
    """What a cell of the notebook prints when it is run in its folder."""
    cell = next(cell for cell in read_notebook(folder / "finetuning.ipynb").cells if cell.id == cell_id)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(cell.source, cell_id, "exec"), {})
    return printed.getvalue()


@pytest.mark.parametrize("which", ["all", "none"])
def test_only_colab_installs_and_gets_the_self_check(made, monkeypatch, which):
    asked = []
    monkeypatch.setattr("subprocess.run", lambda command, **_options: asked.append(command))
    run_cell(made / which, "install")
    assert not asked
    monkeypatch.setitem(sys.modules, "google.colab", object())
    run_cell(made / which, "install")
    ((python, *pip),) = asked
    assert (python, *pip[:3]) == (sys.executable, "-m", "pip", "install")
    assert {"transformers", "datasets", "evaluate", "accelerate"} < set(pip)
    assert ("dat450-check" in pip) == (which == "all")


def test_changed_and_missing_data_is_told(made, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(made / "none", tmp_path / "mine"))
    assert run_cell(Path(), "data-files") == "train.csv is there.\neval.csv is there.\n"
    train = Path("train.csv")
    train.write_bytes(train.read_bytes().replace(b"\n", b"\r\n"))
    Path("eval.csv").unlink()
    first, second = run_cell(Path(), "data-files").splitlines()
    assert "train.csv is not as it was handed out" in first
    assert "eval.csv is missing" in second


def test_data_on_the_web_is_fetched_and_compared(made, tmp_path, monkeypatch, reviews):
    folder = shutil.copytree(made / "all", tmp_path / "mine")
    notebook = folder / "finetuning.ipynb"
    served = tmp_path / "web"
    shutil.copytree(reviews, served)
    (served / "eval.csv").write_bytes(b"something else")
    source = notebook.read_text(encoding="utf-8").replace("https://course.example/lab4/", f"{served.as_uri()}/")
    notebook.write_text(source, encoding="utf-8")
    for name in ("train.csv", "eval.csv"):
        (folder / name).unlink()
    monkeypatch.chdir(folder)
    first, second, third = run_cell(folder, "data-files").splitlines()
    assert (first, third) == ("train.csv is there.", "grader.toml is there.")
    assert hashlib.sha256((folder / "train.csv").read_bytes()).hexdigest() in source
    assert "eval.csv is not as it was handed out" in second
    (folder / "train.csv").unlink()
    shutil.rmtree(served)
    assert "train.csv could not be fetched" in run_cell(folder, "data-files")


def tokens(source: str) -> list[str]:
    """The words and signs of Python code; what is no code ends it."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.string.strip() and token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE):
                found.append(token.string)
    except (tokenize.TokenError, SyntaxError):
        pass
    return found


def runs(words: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def test_prose_gives_no_piece_of_a_solution_away(made):
    length = 5
    marked = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)
    code = [cell.source for cell in read_notebook(REFERENCE).cells if cell.cell_type == "code"]
    lines = [line for source in code for part in marked.findall(source) for line in part.splitlines()]
    secret = set().union(*(runs(tokens(line.strip()), length) for line in lines))
    given = set().union(
        *(runs(tokens(line.strip()), length) for source in code for line in marked.sub("", source).splitlines())
    )
    secret = {run for run in secret - given if sum(w.isidentifier() and not keyword.iskeyword(w) for w in run) > 1}
    assert len(secret) > 200
    for name in ("all/finetuning.ipynb", "all/assignment.md", "all/README.md"):
        prose = text(made / name)
        spans = [*re.findall(r"`([^`\n]+)`", prose), *re.sub(r"[*_`]", "", prose).splitlines()]
        told = set().union(*(runs(tokens(span.strip()), length) for span in spans))
        found = secret & told
        assert not found, name
    leaky = "`{name: LoRA(layer) for name, layer in extract_qv_layers(model).items()}`"
    assert secret & runs(tokens(leaky.strip("`")), length), "the search finds what was once in a hint"


def test_a_misspelt_mark_is_refused_with_its_cell():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("Due @{ dead_line }", id="title")])
    values = values_of(load_assignment(), load_bundle(), Settings())
    with pytest.raises(DeclarationError, match=r"cell 'title'.*dead_line"):
        filled(notebook, values)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('dead_line = "x"', "dead_line; there are course, deadline"),
        ('canvas = "canvas.example"', "handout.canvas"),
        ('notebook = "https://x/\\") or 1 (\\""', "handout.notebook"),
        ('check = "a\\nb"', "handout.check"),
        ("deadline = 2026-12-04", "handout.deadline"),
    ],
)
def test_fields_that_cannot_be_are_refused(tmp_path, capsys, line, message):
    (tmp_path / "grader.toml").write_text(f"[handout]\n{line}\n", encoding="utf-8")
    assert main(["template", "--out", str(tmp_path / "out"), "--config", str(tmp_path / "grader.toml")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"review\nx\n", "needs a review and a label"),
        (b"review,label\nx,2\n", "which is 0 or 1"),
    ],
)
def test_data_that_is_none_is_refused(tmp_path, capsys, reviews, content, message):
    shutil.copytree(reviews, tmp_path / "data")
    (tmp_path / "data" / "eval.csv").unlink()
    if content is not None:
        (tmp_path / "data" / "eval.csv").write_bytes(content)
    assert main(["template", "--out", str(tmp_path / "out"), "--data", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert "eval.csv" in said and message in said
    assert not (tmp_path / "out").exists()


def test_pages_show_settings_that_are_read_and_every_field(tmp_path):
    shown = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("handout.md", "settings.md")]
    blocks = [block for page in shown for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    for block in blocks:
        (tmp_path / "grader.toml").write_text(block, encoding="utf-8")
        read_settings(tmp_path / "grader.toml")
    assert len(blocks) >= 2
    for field in fields(Handout):
        assert f"\n{field.name} = " in shown[0]


def test_options_of_the_folder_need_it(tmp_path, capsys, reviews):
    assert main(["template", "--data", str(reviews)]) == 2
    assert "add --out FOLDER" in capsys.readouterr().err
    assert main(["template", "--check", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_damaged_bundle_is_not_handed_out(tmp_path, capsys):
    bundle = shutil.copytree(load_bundle().path, tmp_path / "bundle")
    with (bundle / "train.csv").open("a", encoding="utf-8") as file:
        file.write("2000,one more,1\n")
    assert main(["template", "--out", str(tmp_path / "out"), "--bundle", str(bundle)]) != 0
    assert "train.csv has changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("notebook", "colab"),
    [
        (FIELDS["notebook"], BADGE),
        ("https://colab.research.google.com/drive/1", "https://colab.research.google.com/drive/1"),
        ("https://gitlab.com/course/finetuning.ipynb", ""),
        ("", ""),
    ],
)
def test_a_badge_stands_only_where_colab_can_open(notebook, colab):
    settings = Settings(handout=Handout(notebook=notebook))
    assert values_of(load_assignment(), load_bundle(), settings)["colab"] == colab


def test_all_branches_leave_plain_python():
    reference = read_notebook(REFERENCE)
    for handout in (Handout(), Handout(**FIELDS)):
        values = values_of(load_assignment(), load_bundle(), Settings(handout=handout))
        make_template(filled(reference, values))  # parses every cell
