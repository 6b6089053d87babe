"""Attempts to get points without solving anything, through the whole pipeline and a real box.

An attempt must end in zeros: "needs review" would hand a person work for nothing. Where something else than the agent has answered,
staff is told. Only what might be said by a bug of ours goes to a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from grader.bundles.bundle import load_bundle
from grader.grading.pipeline import Grader, RunContext, report_for
from grader.reports import for_student, report_html
from grader.sandbox.contract import Limits, Outcome
from grader.serialization import dumps
from tests.pipeline.conftest import notebook_bytes, submission_of
from tests.toy import TOY

from .conftest import box_missing

pytestmark = [pytest.mark.box, pytest.mark.attack]

ADD = "def add(a, b):\n    return a + b"
SHOUT = "def shout(text):\n    return text.upper()"
WRONG = "def add(a, b):\n    return 0\ndef shout(text):\n    return text"
EVERYTHING = {"add/sum": 4, "add/negative": 2, "shout/upper": 3}
NOTHING = dict.fromkeys(EVERYTHING, 0)
REVIEW = dict.fromkeys(EVERYTHING)
SECRET = b"a secret for tests"


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    if why := box_missing():
        pytest.skip(why)
    with Grader(
        RunContext.create(TOY, load_bundle(None), SECRET),
        limits=Limits(cpu_seconds=10, wall_seconds=120, idle_seconds=4),
    ) as place:
        yield place


async def graded(grader, sources, companions=None, name="anna"):
    data = notebook_bytes(*sources)
    submission = submission_of(data, name)
    return report_for(grader.context, submission, await grader.run(submission, data, companions))


@pytest.fixture
def report_of(grader):
    return lambda *sources: asyncio.run(graded(grader, sources))


def earned(report) -> dict[str, int | None]:
    """Points by criterion; None is "needs review", which is not nothing."""
    return {criterion.id: criterion.earned for criterion in report.score.criteria}


def test_the_honest_notebook_passes(report_of):
    """Without this, a grader that gives nobody points would pass every test below."""
    assert earned(report_of(ADD, SHOUT)) == EVERYTHING


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
    assert earned(report_of(WRONG, PATCHES[patch])) == NOTHING


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
    assert earned(report_of(source)) == NOTHING


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
    assert earned(report) == NOTHING


@pytest.mark.parametrize("claim", ["0", "{'status': 'passed', 'earned': 9}", "None"])
def test_replies_signed_with_the_session_key_are_judged_alike(report_of, claim):
    """The key lies in the student's process. Three forged replies per question, and none is taken for that of a later one."""
    forge = f"""
def add(a, b):
    kernel = get_ipython().kernel
    ident = kernel._parent_ident["shell"]
    for kind in ("grader_reply", "execute_reply", "grader_reply", "grader_reply"):
        content = {{"status": "ok", "value": {claim}, "verdict": "passed", "earned": 9}}
        kernel.session.send(kernel.shell_stream, kind, content, kernel.get_parent("shell"), ident)
    return a + b
"""
    assert earned(report_of(forge, SHOUT)) == NOTHING | {"shout/upper": 3}  # the right answer came too late


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
    assert earned(report) == NOTHING
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


def test_neither_secret_nor_reference_is_in_the_box(grader):
    async def both():
        return await asyncio.gather(
            graded(grader, [ADD, SHOUT, "import time; time.sleep(4)"], {"victim.py": b"x = 1"}, "victim"),
            graded(grader, [WRONG, SEARCH], name="thief"),
        )

    victim, thief = asyncio.run(both())
    assert earned(victim) == EVERYTHING
    assert thief.execution.cells[1].output == "[]\n", thief.execution.cells[1].error
    assert earned(thief) == NOTHING


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
    assert earned(report) == NOTHING


def test_what_outlives_a_cell_outlives_no_submission(grader, report_of):
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
    assert earned(report) == NOTHING
    assert earned(report_of(ADD, SHOUT)) == EVERYTHING


@pytest.mark.parametrize(
    "leave",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "raise KeyboardInterrupt",
        "quit()",
        "import atexit, os; atexit.register(os._exit, 0); get_ipython().kernel.io_loop.stop(); return 0",
    ],
)
def test_leaving_when_asked_is_no_answer(report_of, leave):
    assert earned(report_of(f"def add(a, b):\n    {leave}\ndef shout(text):\n    {leave}")) == NOTHING


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
def test_a_replaced_agent_without_the_answer_gets_nothing(report_of, answer):
    assert earned(report_of(REPLACED.replace("ANSWER", answer))) == NOTHING


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("{'status': 'ok'}", NOTHING),
        ("{'status': 'ok', 'value': {'kind': 'secret'}}", NOTHING),
        ("{'status': 'missing'}", NOTHING),
        ("{'status': 'passed'}", NOTHING),
        ("{'status': 'ok', 'value': 10 ** 60}", NOTHING),
        ("{'status': 'ok', 'value': 3, 'renamed': '', 'cpu_seconds': float('inf')}", NOTHING),
        ("{'status': 'raised', 'error': ['x'], 'renamed': '', 'cpu_seconds': 0.0}", NOTHING),
        ("{'status': 'missing', 'names': ['x' * 90], 'renamed': '', 'cpu_seconds': 0.0}", NOTHING),
        ("{'status': 'ok', 'value': nested}", REVIEW),  # this the kernel itself says, which may be a bug of ours
        ("[]", REVIEW),
        ("None", REVIEW),
    ],
)
def test_a_replaced_agent_that_answers_nonsense_earns_nothing(report_of, reply, wanted):
    """Review for everything is no gain: there is no total, and a person who opens this notebook sees why."""
    nested = "nested = []\nfor _ in range(100_000): nested = [nested]\n"
    source = f"import importlib\nimportlib.import_module('grader.inside.agent').handle = lambda *a: ({reply}, [])"
    report = report_of(nested + source)
    assert earned(report) == wanted
    assert (report.score.total is None) == (wanted is REVIEW)
    told = [notice for notice in report.notices if notice.kind == "staff-forged"]
    assert len(told) == (0 if wanted is REVIEW else 3)
    assert "staff-forged" not in repr(for_student(report))


ARRAYS = """
import importlib, numpy
def answer(content):
    return {"status": "ok", "value": VALUE, "renamed": "", "cpu_seconds": 0.0}, BUFFERS
agent = importlib.import_module("grader.inside.agent")
true = agent.handle
agent.handle = lambda kernel, content, buffers: answer(content) if content["op"] == "call" else true(kernel, content, buffers)
"""


@pytest.mark.parametrize(
    ("value", "buffers"),
    [
        ("[{'__nd__': [0, '<f4', [1 << 18]]}] * 60_000", "[bytes(1 << 20)]"),
        ("{'__nd__': [0, '<f4', [2 ** 30, 2 ** 30, 2 ** 30, 0]]}", "[b'']"),
        ("{'__nd__': [0, ['<f4'], [1]]}", "[bytes(4)]"),
        ("0", "[bytes(8)] * 3"),
        ("{'__ndarray__': ['<f4', [1], 'AAAAAA==']}", "[]"),
    ],
    ids=[
        "one array sixty thousand times",
        "a shape beyond numpy",
        "a list for a dtype",
        "arrays for nothing",
        "as in the store",
    ],
)
def test_arrays_that_no_agent_sends_are_refused(report_of, value, buffers):
    report = report_of(ADD, SHOUT, ARRAYS.replace("VALUE", value).replace("BUFFERS", buffers))
    assert earned(report) == NOTHING
    assert {notice.kind for notice in report.notices} == {"staff-forged"}


@pytest.mark.parametrize("key", ["__nd__", "__float__", "__ndarray__", "__object__"])
def test_a_dict_with_a_key_of_ours_is_a_wrong_answer_like_any(report_of, key):
    report = report_of(ADD, f"def shout(text):\n    return {{{key!r}: 3}}")
    assert earned(report) == EVERYTHING | {"shout/upper": 0}
    assert report.notices == ()


FLOOD = """
import importlib
agent = importlib.import_module("grader.inside.agent")
true = agent.handle
def handle(kernel, content, buffers):
    if content["op"] == "adaptations":
        rows = [[-5, "a", "b", "c", "d"], [10 ** 30, "a", "b", "c", "d"], [None, "general", "b", "c", "d"]]
        return {"status": "ok", "value": rows + [[1, f"{n}", "b" * 900, "c", "d"] for n in range(5_000)]}, []
    return true(kernel, content, buffers)
agent.handle = handle
"""


def test_claimed_adaptations_do_not_swell_a_report(report_of):
    report = report_of(ADD, SHOUT, FLOOD)
    assert earned(report) == EVERYTHING
    assert {item.cell for item in report.adaptations} == {None, 1}
    assert len(report.adaptations) <= 500
    assert {item.rule for item in report.adaptations} == {"other"}
    assert {item.reason for item in report.adaptations} == {"It was changed so that the notebook runs here."}
    assert len(dumps(report)) < 1_000_000


SMUGGLED = """
import sys
def add(*numbers):
    agent = sys.modules["grader.inside.agent"]
    agent._state["adapted"] = {(1, "path", f"xyzzy {numbers}", str(numbers), f"xyzzy {numbers}"): None}
    agent._state["witness"].current_cell = 1
    add.__name__ = add.__qualname__ = "xyzzy_" + "_".join(map(str, numbers))
    return sum(numbers)
"""
RENAMED = """
def plus(*numbers):
    plus.__name__ = "xyzzy_" + "_".join(map(str, numbers))
    return sum(numbers)
names = importlib.import_module("grader.inside.agent")
names.Context.find = lambda self, names, *rest: setattr(self, "renamed", "told") or plus
def handle(kernel, content, buffers, true=names.handle):
    reply, out = true(kernel, content, buffers)
    if content["op"] == "call": reply["renamed"] = plus.__name__
    return reply, out
names.handle = handle
"""
TOLD = {
    "an exception": "def add(*numbers): raise ValueError(f'xyzzy {numbers}')",
    "an exception's own name": "def add(*numbers): raise type(f'xyzzy_{numbers}', (Exception,), {})",
    "an adaptation": SMUGGLED,
    "the name of a function": "import importlib" + RENAMED,
    "what is printed while it is asked": "def add(*numbers):\n    print(f'xyzzy {numbers}', flush=True)\n    return sum(numbers)",
    "a thread that prints": """
import threading, time
seen = []
def late():
    while True:
        time.sleep(0.05)
        print(seen, flush=True)
threading.Thread(target=late, daemon=True).start()
def add(*numbers):
    seen.append(f'xyzzy {numbers}')
    return sum(numbers)""",
}


@pytest.mark.parametrize("way", TOLD)
def test_what_was_asked_is_told_by_no_way_beside_the_answer(report_of, way):
    report = report_of(SHOUT, TOLD[way])
    assert "xyzzy" not in dumps(report) + report_html(report, "instructor")


ANSWERS = {
    "lists nested deeply": "x = []\n    for _ in range(100_000): x = [x]\n    return x",
    "dicts nested deeply": "x = {}\n    for _ in range(100_000): x = {'a': x}\n    return x",
    "a list that holds itself ten times": "x = []\n    x += [x] * 10\n    return x",
    "a million values": "return list(range(1_000_000))",
    "more arrays than are read": "import numpy\n    return [numpy.zeros(1)] * 5000",
    "an array above the limit": "import numpy\n    return numpy.zeros(80 << 20, dtype='u1')",
    "an integer of sixty digits": "return 10 ** 60",
    "an integer of six thousand digits": "return 10 ** 6000",
    "a key of thirty thousand letters": "return {'k' * 30_000: 1}",
    "half a letter": "return chr(0xD800)",
    "an error of half a letter": "raise ValueError(chr(0xD800))",
    "an error without a text": "raise type('E', (BaseException,), {'__str__': lambda self: 1 / 0})",
}


@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS)
def test_a_deep_or_huge_answer_costs_its_own_criterion(report_of, body):
    assert earned(report_of(f"def add(a, b):\n    {body}", SHOUT)) == NOTHING | {"shout/upper": 3}


def test_a_function_that_sleeps_costs_its_own_criterion(report_of):
    report = report_of("import time\ndef add(a, b):\n    time.sleep(3600)\n    return a + b", SHOUT)
    assert earned(report) == NOTHING | {"shout/upper": 3}
    assert "slept" in report.score.criteria[0].verdict.message


@pytest.mark.slow
def test_a_function_that_sleeps_on_ends_the_kernel(report_of):
    stubborn = "    while True:\n        try: time.sleep(3600)\n        except BaseException: pass"
    report = report_of(f"import time\ndef add(a, b):\n{stubborn}", SHOUT)
    assert earned(report) == NOTHING
    assert report.execution.outcome is Outcome.TIMED_OUT


@pytest.mark.xfail(
    strict=True,
    reason="agent and student share one interpreter: a replaced agent that computes the right answer itself gets the points; whoever"
    " can write it has solved what is asked, and the questions differ for every submission",
)
def test_a_replaced_agent_that_computes_the_answer_gets_nothing(report_of):
    assert earned(report_of(REPLACED.replace("ANSWER", "sum(args['args']) if 'args' in args else None"))) == NOTHING
