"""What the documents show runs as it stands there: modules are written and loaded, notebooks graded in real kernels."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

import pytest

from grader.assignments import load_assignment
from grader.bundles.bundle import load_bundle
from grader.cli.main import main
from grader.grading.pipeline import Grader, RunContext, report_for
from grader.records import Status
from grader.sandbox.contract import Limits
from tests.pipeline.conftest import notebook_bytes, submission_of

DOCUMENTS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python (file|notebook)=(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(name):
    return [found.groups() for found in BLOCK.finditer((DOCUMENTS / name).read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """(document, wanted points, earned points, report) of every notebook shown."""
    folder = tmp_path_factory.mktemp("documents")
    before, results = set(sys.modules), []
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for document in ("new-assignment.md", "new-check.md"):
            shown = blocks(document)
            for kind, name, text in shown:
                if kind == "file":
                    (folder / name).write_text(text, encoding="utf-8")
                    __import__(Path(name).stem)
            context = RunContext.create(load_assignment("quiz:QUIZ"), load_bundle(None), b"a secret for tests")
            with Grader(context, limits=Limits(cpu_seconds=20, wall_seconds=300)) as place:
                for kind, name, text in shown:
                    if kind == "notebook":
                        data = notebook_bytes(text)
                        submission = submission_of(data)
                        report = report_for(context, submission, asyncio.run(place.run(submission, data, None)))
                        results.append((document, int(name), report))
        for module in set(sys.modules) - before:
            if module.startswith("quiz"):
                del sys.modules[module]
    return results


def test_the_notebooks_shown_get_the_points_they_are_said_to_get(graded):
    assert [document for document, _, _ in graded] == ["new-assignment.md"] * 2 + ["new-check.md"] * 2
    for document, wanted, report in graded:
        assert report.score.earned == wanted, f"{document}: {report.score}"


def test_a_wrong_answer_is_told_with_the_check_s_own_hint(graded):
    document, _, report = graded[-1]
    (verdict,) = (result.verdict for result in report.score.criteria if result.id == "median/even")
    assert verdict.status is Status.FAILED, document
    assert "in the middle" in verdict.hint


def test_a_check_takes_less_than_15_lines():
    (text,) = (text for kind, _, text in blocks("new-check.md") if kind == "file")
    lines = [line for line in text.splitlines() if line and not line.startswith(("from ", "import "))]
    assert len(lines) < 15


EXAMPLE = re.compile(r"^```(python|sh) example(?:=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_examples_of_the_api_page_run(tmp_path, monkeypatch, capsys):
    examples = EXAMPLE.findall((DOCUMENTS / "api.md").read_text(encoding="utf-8"))
    assert len(examples) == 6
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {}
    for language, file, text in examples:
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif language == "sh":
            command, *arguments = shlex.split(text)
            assert command == "grader"
            assert main(arguments) == 0, capsys.readouterr().err
        else:
            exec(compile(text, "docs/api.md", "exec"), names)
    sys.modules.pop("quiz", None)
