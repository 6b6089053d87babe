"""Attempts to get points without solving anything, through the whole pipeline and a real box."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from grader.bundles import load_bundle
from grader.pipeline import Ground, Workplace, report_for
from grader.sandbox.contract import Limits
from tests.pipeline.conftest import notebook_bytes, submission_of
from tests.toy import TOY

from .conftest import box_missing

pytestmark = [pytest.mark.box, pytest.mark.attack]

ADD = "def add(a, b):\n    return a + b"
SHOUT = "def shout(text):\n    return text.upper()"
WRONG = "def add(a, b):\n    return 0\ndef shout(text):\n    return text"
SECRET = b"a secret for tests"


@pytest.fixture(scope="module")
def workplace() -> Iterator[Workplace]:
    if why := box_missing():
        pytest.skip(why)
    with Workplace(
        Ground.lay(TOY, load_bundle(None), SECRET), limits=Limits(cpu_seconds=10, wall_seconds=120)
    ) as place:
        yield place


async def graded(workplace, sources, companions=None, name="anna"):
    data = notebook_bytes(*sources)
    submission = submission_of(data, name)
    return report_for(workplace.ground, submission, await workplace.run(submission, data, companions))


@pytest.fixture
def report_of(workplace):
    return lambda *sources: asyncio.run(graded(workplace, sources))


def points(report) -> int:
    return sum(criterion.earned or 0 for criterion in report.score.criteria)


def test_the_honest_notebook_passes(report_of):
    """Without this, a grader that gives nobody points would pass every test below."""
    assert points(report_of(ADD, SHOUT)) == 9


PATCHES = {
    "comparisons of libraries": """
import math, operator, unittest, builtins
import numpy, numpy.testing, torch
torch.allclose = torch.equal = numpy.allclose = numpy.array_equal = lambda *a, **k: True
for name in dir(numpy.testing):
    if name.startswith("assert_"): setattr(numpy.testing, name, lambda *a, **k: None)
operator.eq = math.isclose = lambda *a, **k: True
builtins.all = lambda *a: True
unittest.TestCase.assertEqual = lambda *a, **k: None
""",
    "what IPython tells of errors": """
shell = get_ipython()
shell.showtraceback = shell.showsyntaxerror = shell._showtraceback = lambda *a, **k: None
type(shell).run_cell = lambda *a, **k: None
""",
    "json and the session": """
import json
session = get_ipython().kernel.session
send = session.send
def forged(stream, kind, content=None, *args, **kwargs):
    if kind == "grader_reply":
        content = {"status": "ok", "value": "HEJ", "verdict": "passed", "earned": 9, "points": 9}
        kwargs["buffers"] = []
    return send(stream, kind, content, *args, **kwargs)
session.send = forged
""",
    "the witness": """
import sys
for name, module in list(sys.modules.items()):
    if name.startswith("grader.inside.") and "agent" not in name:
        for attribute in ("pack", "unpack", "Witness"):
            if hasattr(module, attribute): setattr(module, attribute, lambda *a, **k: ({"passed": True}, []))
""",
}


@pytest.mark.parametrize("patch", PATCHES)
def test_patching_what_might_judge_changes_nothing(report_of, patch):
    wrong = "def add(a, b):\n    return 0\ndef shout(text):\n    return text"
    report = report_of(wrong, PATCHES[patch])
    earned = {c.id: c.earned or 0 for c in report.score.criteria}
    assert earned["add/sum"] == earned["add/negative"] == 0
    if (
        patch != "json and the session"
    ):  # there the constant answer of `shout` is forged, which its author must have known
        assert earned["shout/upper"] == 0


CHAMELEON = """
class Any(BASE):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = BASE.__hash__
    __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True
    def __bool__(self): return True
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __array__(self, *a, **k): raise RuntimeError
    def __reduce__(self): return (print, ("unpickled",))
def add(a, b): return Any()
def shout(text): return Any()
"""


@pytest.mark.parametrize("base", ["object", "int", "float", "str", "dict", "list"])
def test_an_object_that_equals_everything_equals_nothing(report_of, base):
    source = (
        CHAMELEON.replace("BASE", base).replace("__hash__ = list.__hash__", "").replace("__hash__ = dict.__hash__", "")
    )
    assert points(report_of(source)) == 0


def test_forged_reports_are_only_output(report_of):
    report = report_of(
        WRONG,
        """
import json
from IPython.display import display, publish_display_data
verdict = {"status": "passed", "score": {"total": 9, "possible": 9}, "criteria": [{"id": "add/sum", "earned": 4}]}
print(json.dumps(verdict))
publish_display_data({"application/json": verdict, "application/vnd.grader+json": verdict, "text/plain": "9/9"})
kernel = get_ipython().kernel
for channel in ("iopub_socket",):
    for kind in ("grader_reply", "execute_reply", "report", "error"):
        kernel.session.send(kernel.iopub_socket, kind, {"status": "ok", **verdict}, parent=kernel.get_parent())
""",
    )
    assert report.score.total == 0


def test_files_named_like_results_are_not_read(report_of):
    report = report_of(
        WRONG,
        """
import json, pathlib
for folder in (".", "results", "reports", "evidence", ".grader", "/tmp"):
    pathlib.Path(folder).mkdir(exist_ok=True)
    for name in ("report.json", "evidence.json", "score.json", "grades.csv", "anna.json", "conftest.py", "sitecustomize.py"):
        pathlib.Path(folder, name).write_text(json.dumps({"total": 9, "possible": 9, "status": "passed"}))
""",
    )
    assert report.score.total == 0
    assert report.execution.cells[1].status == "ok"


SEARCH = """
import gc, os, pathlib, sys
needle = bytes(reversed(b"stset rof terces a"))
found = []
for top in ("/box", "/tmp", "/dev/shm", "/home", "/root", "/etc", "/run", "/var", "/srv", "/mnt"):
    for folder, _folders, names in os.walk(top):
        if folder.startswith((sys.prefix, sys.base_prefix)):
            continue
        for name in names:
            path = pathlib.Path(folder, name)
            try:
                data = path.read_bytes() if path.is_file() and path.stat().st_size < 50_000_000 else b""
            except OSError:
                continue
            if needle in data or name.endswith(".ipynb") or any(w in name for w in ("secret", "heldout", "reference", "victim")):
                found.append(str(path))
found += [name for name in sys.modules if name.startswith("grader.") and not name.startswith("grader.inside")]
import grader
found += [n for n in os.listdir(os.path.dirname(grader.__file__)) if n not in ("__init__.py", "inside", "__pycache__")]
found += [k for k, v in os.environ.items() if needle.decode() in v or "SECRET" in k]
for thing in gc.get_objects():
    if type(thing) is dict and "expected" in thing and "params" in thing: found.append("a question's secret")
print(found)
"""


def test_neither_secret_nor_reference_nor_other_submissions_are_in_the_box(workplace):
    async def both():
        return await asyncio.gather(
            graded(workplace, [ADD, SHOUT, "import time; time.sleep(4)"], {"victim.py": b"x = 1"}, "victim"),
            graded(workplace, [WRONG, SEARCH], name="thief"),
        )

    victim, thief = asyncio.run(both())
    assert victim.score.total == 9
    assert thief.execution.cells[1].output == "[]\n", thief.execution.cells[1].error
    assert thief.score.total == 0


def test_the_expected_value_is_not_on_the_stack_either(report_of):
    report = report_of(
        """
import gc, sys
def add(*args):
    frame, seen = sys._getframe(), []
    while frame:
        seen += [v for k, v in frame.f_locals.items() if "expected" in k or "secret" in k]
        for value in list(frame.f_locals.values()):
            if isinstance(value, dict): seen += [v for k, v in value.items() if k in ("expected", "secret", "answer")]
        frame = frame.f_back
    return seen[0] if seen else 0
shout = add
"""
    )
    assert points(report) == 0


def test_what_outlives_a_cell_outlives_no_submission(workplace, report_of):
    report = report_of(
        WRONG,
        """
import atexit, os, threading, time
atexit.register(lambda: print('{"total": 9}'))
def late():
    while True:
        time.sleep(0.05)
        open("report.json", "w").write('{"total": 9}')
threading.Thread(target=late, daemon=False).start()
if os.fork() == 0:
    os.setsid()
    while True: time.sleep(1)
""",
    )
    assert points(report) == 0
    assert points(report_of(ADD, SHOUT)) == 9


@pytest.mark.parametrize(
    "leave", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise KeyboardInterrupt", "quit()"]
)
def test_leaving_when_asked_is_no_answer(report_of, leave):
    report = report_of(f"def add(a, b):\n    {leave}\ndef shout(text):\n    {leave}")
    assert points(report) == 0


REPLACED = """
import importlib
agent, packing = importlib.import_module("grader.inside.agent"), importlib.import_module("grader.inside.packing")
def handle(kernel, content, buffers):
    args = packing.unpack(content.get("params", {}), buffers)
    tree, out = packing.pack(ANSWER)
    return {"status": "ok", "value": tree, "renamed": "", "cpu_seconds": 0.0, "passed": True, "earned": 9}, out
agent.handle = handle
"""


@pytest.mark.parametrize(
    "answer",
    [
        "None",
        "True",
        "0",
        "float('nan')",
        "float('inf')",
        "args",
        "{'status': 'passed', 'earned': 9}",
        "list(range(1000))",
        "''",
    ],
)
def test_a_replaced_agent_that_does_not_know_the_answer_gets_nothing(report_of, answer):
    assert points(report_of(REPLACED.replace("ANSWER", answer))) == 0


@pytest.mark.parametrize(
    "reply", ["{'status': 'passed'}", "{'status': 'ok'}", "{'status': 'ok', 'value': {'kind': 'secret'}}", "[]", "None"]
)
def test_a_replaced_agent_that_answers_nonsense_gets_nothing(report_of, reply):
    source = f"import importlib\nimportlib.import_module('grader.inside.agent').handle = lambda *a: ({reply}, [])"
    assert points(report_of(source)) == 0


@pytest.mark.xfail(
    strict=True,
    reason="agent and student share one interpreter: a replaced agent that computes the right answer itself gets the points; whoever"
    " can write it has solved what is asked, and the questions differ for every submission",
)
def test_a_replaced_agent_that_computes_the_answer_gets_nothing(report_of):
    assert points(report_of(REPLACED.replace("ANSWER", "sum(args['args']) if 'args' in args else None"))) == 0
