"""The template is generated from the reference, holds nothing of the solution, and runs."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from grader.authoring import canonical, make_template, read_notebook
from grader.authoring.template import CODE_PLACEHOLDER, TEXT_PLACEHOLDER, dumps
from grader.cli.main import main
from grader.errors import DeclarationError

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "reference_solution" / "finetuning.ipynb"
TEMPLATE = ROOT / "student_template" / "finetuning.ipynb"


def one_cell(source, kind="code"):
    new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    notebook = nbformat.v4.new_notebook(cells=[new(source, id="a")])
    notebook.nbformat_minor = 5
    return notebook


def filled(source, kind="code"):
    (cell,) = make_template(one_cell(source, kind)).cells
    return cell.source


@pytest.fixture(scope="module")
def reference():
    return read_notebook(REFERENCE)


@pytest.fixture(scope="module")
def template():
    return read_notebook(TEMPLATE)


def test_files_are_in_step():
    assert main(["template", str(REFERENCE), str(TEMPLATE), "--check"]) == 0


def test_template_has_the_cells_of_the_reference(reference, template):
    assert [(c.id, c.cell_type) for c in template.cells] == [(c.id, c.cell_type) for c in reference.cells]
    nbformat.validate(template)


def test_template_holds_no_line_of_a_solution(reference, template):
    solution = re.compile(r"(?:### BEGIN SOLUTION|<!-- BEGIN SOLUTION -->)(.*?)END SOLUTION", re.DOTALL)
    source = "\n".join(cell.source for cell in reference.cells)
    allowed = {line.strip() for line in solution.sub("", source).split("\n")}
    secret = {line.strip() for text in solution.findall(source) for line in text.split("\n")} - allowed
    assert len(secret) > 50, "the reference should have this many lines of solution"
    shown = {line.strip() for cell in template.cells for line in cell.source.split("\n")}
    assert not secret & shown
    assert "SOLUTION" not in dumps(template)


def test_every_asked_name_is_there_to_fill_in(template):
    source = "\n".join(cell.source for cell in template.cells if cell.cell_type == "code")
    defined = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {"count_trainable_parameters", "extract_qv_layers", "replace_layers", "LoRA"} <= defined
    assert source.count(CODE_PLACEHOLDER) >= 12
    assert any(TEXT_PLACEHOLDER in cell.source for cell in template.cells)


def test_each_step_and_the_end_are_followed_by_a_check(template):
    code = [cell.source for cell in template.cells if cell.cell_type == "code"]
    calls = [line for source in code for line in source.split("\n") if line.startswith("check(")]
    assert calls == [
        "check(count_trainable_parameters)", 'check("full", trainers["full"])', 'check("head", trainers["head"])',
        "check(extract_qv_layers)", "check(replace_layers)", "check(LoRA)", 'check("lora", trainers["lora"])', "check()",
    ]  # fmt: skip
    assert code[-1] == "check()"


def test_it_is_deterministic_and_changes_nothing_in_the_reference(reference):
    before = dumps(reference)
    assert dumps(make_template(reference)) == dumps(make_template(reference))
    assert dumps(reference) == before == dumps(canonical(reference))


def test_body_of_a_function_becomes_an_ellipsis_and_keeps_its_docstring():
    source = 'def f(x):\n    """Say."""\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION'
    assert filled(source) == 'def f(x):\n    """Say."""\n    # YOUR CODE HERE\n    ...'


def test_names_that_given_code_reads_get_a_placeholder_and_others_stay_secret():
    source = "### BEGIN SOLUTION\nhelper = 1\na, b = helper, 2\n### END SOLUTION\nprint(a)"
    assert filled(source) == "# YOUR CODE HERE\na = ...\nprint(a)"


def test_names_of_functions_get_no_placeholder():
    source = "### BEGIN SOLUTION\ndef f():\n    return 1\n### END SOLUTION\nif 0:\n    f()"
    assert filled(source) == "# YOUR CODE HERE\n...\nif 0:\n    f()"


def test_names_that_are_read_in_later_cells_count_and_earlier_ones_do_not():
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("print(b)", id="before"),
            nbformat.v4.new_code_cell("### BEGIN SOLUTION\na = b = 1\n### END SOLUTION", id="solution"),
            nbformat.v4.new_code_cell("print(a)", id="after"),
        ]
    )
    notebook.nbformat_minor = 5
    assert make_template(notebook).cells[1].source == "# YOUR CODE HERE\na = ..."


def test_text_solutions_are_replaced():
    source = "Why?\n<!-- BEGIN SOLUTION -->\nBecause.\n<!-- END SOLUTION -->"
    assert filled(source, "markdown") == f"Why?\n{TEXT_PLACEHOLDER}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("### BEGIN SOLUTION\nx = 1", "without END"),
        ("### END SOLUTION", "line 1: this END"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", "line 2: this BEGIN"),
        ("## begin solution\nx = 1", "looks like a marker"),
        ("x = 1", "marks no solution"),
        ("### BEGIN SOLUTION\nx = = 1\n### END SOLUTION", "line 1: invalid syntax"),
        ("!ls\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION", "plain Python"),
    ],
)
def test_bad_markers_are_refused_with_their_place(source, message):
    with pytest.raises(DeclarationError, match=message):
        filled(source)


def test_command_says_what_is_out_of_step_and_repairs_it(tmp_path, capsys):
    reference, template = tmp_path / "reference.ipynb", tmp_path / "new" / "template.ipynb"
    reference.write_bytes(REFERENCE.read_bytes())
    where = ["template", str(reference), str(template)]
    assert main([*where, "--check"]) == 1
    assert f"{template} is out of step" in capsys.readouterr().out
    assert not template.exists()
    assert main(where) == 0
    assert template.read_bytes() == TEMPLATE.read_bytes()
    assert main([*where, "--check"]) == 0
    template.write_text(template.read_text(encoding="utf-8").replace("YOUR CODE", "your code"), encoding="utf-8")
    assert main([*where, "--check"]) == 1
    assert main(where) == 0
    reference.write_text(reference.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert main([*where, "--check"]) == 1
    assert f"{reference} is out of step" in capsys.readouterr().out
    assert main(["template", str(tmp_path / "none.ipynb")]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("installed", [True, False])
def test_template_runs_from_top_to_bottom(tmp_path, template, installed):
    import json
    import os
    import subprocess
    import sys

    # In a process of its own: nbclient's event loop and sockets are not this test's business.
    script = (
        "import sys, nbformat; from nbclient import NotebookClient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "NotebookClient(notebook, kernel_name='python3', timeout=300).execute()\n"
        "import json; print(json.dumps({c.id: c.outputs for c in notebook.cells if c.cell_type == 'code'}))\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "MPLBACKEND": "agg"}
    environment.pop("PYTHONSAFEPATH", None)  # a command that another test ran in this process has set it
    if not installed:
        (tmp_path / "grader.py").write_text("raise ImportError('not here')")
    command = [sys.executable, "-c", script, str(TEMPLATE)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = json.loads(done.stdout)
    assert "error" not in {output["output_type"] for cell in outputs.values() for output in cell}
    assert ("self-check is not installed" in str(outputs["setup"])) != installed
    for cell in ("count-try", "train-full", "layers-try", "lora-try", "self-check"):
        assert ("display_data" in {output["output_type"] for output in outputs[cell]}) == installed, cell
    assert "GPU" in str(outputs["device"]), "it says what it found"
    assert "train.csv is missing" in str(outputs["data-files"])
