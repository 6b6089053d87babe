"""Kernel sessions: what a pipeline relies on, in a box and as a plain subprocess."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import grader
from grader.errors import SandboxError
from grader.sandbox.conformance import traces
from grader.sandbox.contract import BoxSpec, EvidenceTooLarge, KernelGone, Limits, Outcome, QuestionTimedOut
from grader.sandbox.pool import KernelPool
from grader.sandbox.session import KernelSession

from .conftest import SMALL, box_missing, run_in

AGENT = "import importlib\nagent = importlib.import_module('grader.inside.agent')\n"


@pytest.fixture(params=["warm", "none"])
def pool(request, warm_pool):
    if request.param == "warm":
        yield warm_pool
    else:
        with KernelPool("none", preload=()) as plain:
            yield plain


def go(pool, cells, limits=SMALL, spec=None):
    return asyncio.run(run_in(pool, cells, limits, spec))


@pytest.mark.box
def test_state_lives_on_and_errors_are_told(pool):
    ran = go(
        pool,
        ["x = 20", "1 / 0", "print(x + 1)\nx * 2", "import os, time; os.system('echo from a child'); time.sleep(0.3)"],
    )
    assert [cell.status for cell in ran.cells] == ["ok", "error", "ok", "ok"]
    assert ran.cells[1].error.name == "ZeroDivisionError"
    assert "1 / 0" in ran.cells[1].error.traceback
    assert "\x1b" not in ran.cells[1].error.traceback
    assert ran.cells[2].output == "21\n40\n"
    assert "from a child" in ran.cells[3].output
    assert ran.outcome is Outcome.COMPLETED


@pytest.mark.box
def test_cells_may_await(pool):
    ran = go(pool, ["import asyncio\nawait asyncio.sleep(0)\nprint(3)", "async def f(): return 4\nawait f()"])
    assert [cell.output for cell in ran.cells] == ["3\n", "4\n"]


@pytest.mark.box
@pytest.mark.parametrize(
    "stream",
    [
        "None",
        "type('Tee', (), {'write': lambda self, text: None})()",
        "type('Slots', (), {'__slots__': (), 'write': lambda self, text: None})()",
        "type('Broken', (), {'write': lambda self, text: 1 / 0, 'flush': lambda self: 1 / 0})()",
        "(lambda file: file.close() or file)(open('log.txt', 'w'))",
    ],
    ids=["none", "tee", "slots", "broken", "closed"],
)
def test_cells_end_as_what_they_were_whatever_stands_for_the_streams(warm_pool, stream):
    replaced = f"import sys\nprint('before')\nsys.stdout = sys.stderr = {stream}"
    ran = go(
        warm_pool, [replaced, "x = 3\nx", "[][1]", "sys.stdout = sys.__stdout__\nsys.stderr = sys.__stderr__", "4"]
    )
    assert [cell.status for cell in ran.cells] == ["ok", "ok", "error", "ok", "ok"]
    assert ran.cells[2].error.name == "IndexError"
    assert ran.text == "before\n3\n4\n"
    assert ran.outcome is Outcome.COMPLETED


@pytest.mark.box
@pytest.mark.parametrize(
    ("cell", "later"),
    [
        ("import sys\nsys.stdout.close()", "ok"),
        ("import sys\ndel sys.stdout", "error"),
        ("import sys\nsys.displayhook = None", "ok"),
        ("import time\ntime.sleep = None", "ok"),
        ("get_ipython().displayhook = None", "error"),
        ("get_ipython().payload_manager = None", "error"),
        ("get_ipython().kernel.do_execute = None", "error"),
        ("get_ipython().kernel.session = None", "ok"),
        ("get_ipython().kernel.session.send = print", "ok"),
        ("get_ipython().kernel.iopub_socket = None", "ok"),
        ("get_ipython().kernel.shell_handlers.clear()", "ok"),
        ("import json\njson.dumps = json.loads = None", "ok"),
    ],
)
def test_a_reply_goes_out_whatever_a_cell_leaves_behind(warm_pool, cell, later):
    ran = go(warm_pool, [cell, "x = 3"], replace(SMALL, wall_seconds=30))
    assert ran.cells[1].status == later
    assert ran.outcome is Outcome.COMPLETED


@pytest.mark.box
@pytest.mark.parametrize(
    "call",
    [
        "def f(): return f()\nf()",
        "class A:\n    def __getattr__(self, name):\n        return getattr(self, name + '_')\nA().x",
    ],
)
def test_an_endless_recursion_is_shown_in_no_time(warm_pool, call):
    ran = go(warm_pool, [call, "4"], replace(SMALL, cpu_seconds=5))
    assert [cell.status for cell in ran.cells] == ["error", "ok"]
    assert ran.cells[0].error.name == "RecursionError"


@pytest.mark.box
@pytest.mark.parametrize("left", ["k._own_handlers['execute_request'] = print", "k._own_handlers.clear()"])
def test_a_kernel_that_rests_without_a_reply_has_failed_the_cell(warm_pool, monkeypatch, left):
    monkeypatch.setattr("grader.sandbox.channels._REPLY_SECONDS", 0.5)
    ran = go(warm_pool, [f"k = get_ipython().kernel\n{left}", "x = 3", "x = 4"], replace(SMALL, wall_seconds=30))
    assert [cell.status for cell in ran.cells] == ["ok", "error", "error"]
    assert ran.cells[1].error.name == "NoReply"
    assert ran.outcome is Outcome.COMPLETED


@pytest.mark.box
def test_a_report_shows_what_a_person_would_see_below_the_cell(pool):
    show = "from IPython.display import clear_output, display, update_display\n"
    ran = go(
        pool,
        [
            f"{show}print('a'); display('b', display_id='one'); update_display('c', display_id='one'); 'd'",
            f"{show}print('old'); clear_output(wait=True); print('new')",
            f"{show}print('old'); clear_output(); print('new')",
            f"{show}display('b', display_id='two'); clear_output(wait=True); display('x'); update_display('y', display_id='two')",
            "import sys; print('to stderr', file=sys.stderr); 1 / 0",
            f"{show}update_display('z', display_id='one')",
        ],
    )
    texts = [cell.output for cell in ran.cells]
    assert texts == ["a\n'c'\n'd'\n", "new\n", "new\n", "'x'\n", "to stderr\n", ""]
    assert ran.cells[4].error.name == "ZeroDivisionError"


@pytest.mark.box
def test_files_are_copied_and_writable(pool, tmp_path):
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("A")
    files = {"in": folder, "b/c.bin": b"\0" * 200_000, "helper.py": b"y = 3"}
    spec = BoxSpec(files=files)
    code = """
import os, helper
print(open('in/deep/a.txt').read(), os.path.getsize('b/c.bin'), helper.y)
print(os.environ['HOME'] == os.getcwd())
open('in/deep/a.txt', 'w').write('changed')
open('new.txt', 'w').close()
"""
    ran = go(pool, [code], spec=spec)
    assert ran.cells[0].status == "ok", ran.cells[0].error
    assert "A 200000 3\nTrue" in ran.text
    assert (folder / "deep" / "a.txt").read_text() == "A"


@pytest.mark.box
def test_many_small_files_take_few_descriptors(pool):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/proc/self/fd").iterdir()]) + 200, hard))
    try:
        files = {f"part_{n}.py": f"n = {n}".encode() for n in range(900)} | {"zipfile.py": b"1 / 0"}
        code = "import os, part_899; print(part_899.n, sum(n.endswith('.py') for n in os.listdir()), os.path.exists('.handed-in.zip'))"
        ran = go(pool, [code], spec=BoxSpec(files))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ran.cells[0].status == "ok", ran.cells[0].error
    assert "899 901 False" in ran.text


@pytest.mark.box
def test_a_missing_file_is_our_failure(pool, tmp_path):
    with pytest.raises(SandboxError):
        go(pool, ["1"], spec=BoxSpec(files={"x": tmp_path / "nowhere"}))


@pytest.mark.box
def test_questions_go_to_the_agent_and_errors_come_back(pool):
    async def talk():
        async with KernelSession(pool, limits=SMALL) as session:
            await session.run_cell(
                AGENT + "agent.handle = lambda kernel, content, buffers: ({'got': content}, [buffers[0] * 2])", 0
            )
            first = await session.ask({"n": 1}, [b"ab"], cpu_seconds=5)
            second = await session.ask({"n": 2}, [], cpu_seconds=5)
            await session.run_cell("def leave(kernel, content, buffers): raise SystemExit(3)\nagent.handle = leave", 1)
            third = await session.ask({}, cpu_seconds=5)
            after = await session.run_cell("print('here')", 2)
            return first, second, third, after

    first, second, third, after = asyncio.run(talk())
    assert first == ({"got": {"n": 1}}, [b"abab"])
    assert second[0]["status"] == "error"
    assert second[0]["error"]["name"] == "IndexError"
    assert third[0]["error"]["name"] == "SystemExit"
    assert after.output == "here\n"


@pytest.mark.box
def test_a_question_that_never_ends_leaves_the_kernel_alive(pool):
    async def talk():
        async with KernelSession(pool, limits=SMALL) as session:
            await session.run_cell(AGENT + "def spin(*a):\n    while True: pass\nagent.handle = spin", 0)
            with pytest.raises(QuestionTimedOut):
                await session.ask({}, cpu_seconds=0.5)
            return session.alive, session.outcome, (await session.run_cell("print('here')", 1)).output

    assert asyncio.run(talk()) == (True, Outcome.COMPLETED, "here\n")


@pytest.mark.box
def test_asking_a_dead_kernel_says_why(pool):
    async def talk():
        async with KernelSession(pool, limits=SMALL) as session:
            await session.run_cell("import os; os._exit(3)", 0)
            with pytest.raises(KernelGone) as gone:
                await session.ask({}, cpu_seconds=1)
            return gone.value.outcome, (await session.run_cell("1", 1)).status

    assert asyncio.run(talk()) == (Outcome.KERNEL_DIED, "killed")


@pytest.mark.box
def test_after_its_cpu_time_a_kernel_can_still_be_asked(pool):
    async def talk():
        async with KernelSession(pool, limits=replace(SMALL, cpu_seconds=1)) as session:
            await session.run_cell(AGENT + "agent.handle = lambda *a: ({'x': x}, [])\nx = 5", 0)
            run = await session.run_cell("while True: pass", 1)
            later = await session.run_cell("x = 6", 2)
            return run.status, later.status, session.outcome, (await session.ask({}, cpu_seconds=2))[0]

    assert asyncio.run(talk()) == ("killed", "killed", Outcome.TIMED_OUT, {"x": 5})


@pytest.mark.box
def test_asking_for_input_is_refused(pool):
    ran = go(pool, ["input('name?')", "print('on')"])
    assert ran.cells[0].error.name == "StdinNotImplementedError"
    assert ran.cells[1].output == "on\n"


@pytest.mark.box
@pytest.mark.attack
@pytest.mark.parametrize(
    "forged",
    [
        "k.session.send(k.iopub_socket, 'stream', {'wrong': 1}, parent=k.get_parent())",
        "k.session.send(k.iopub_socket, 'stream', [1, 2], parent=k.get_parent())",
        "k.session.send(k.iopub_socket, 'error', {'ename': {}, 'evalue': 3}, parent=k.get_parent())",
        "k.session.send(k.iopub_socket, 'comm_open', {'comm_id': 3, 'data': {'state': 1}}, parent=k.get_parent())",
        "k.session.send(k.iopub_socket, 'display_data', {'data': 1, 'transient': {'display_id': []}}, parent=k.get_parent())",
        "k.session.key = b'other'; print('unsigned'); k.session.key = key",
        "k.iopub_socket.send_multipart([b'x', b'<IDS|MSG>', b'', b'[' * 100000, b'{}', b'{}', b'{}'])",
    ],
)
def test_forged_messages_do_not_trip_the_reader(forged, warm_pool):
    ran = go(warm_pool, ["k = get_ipython().kernel\nkey = k.session.key", forged, "print('fine')"])
    assert ran.cells[-1].output == "fine\n"
    assert ran.outcome is Outcome.COMPLETED


SET_UP = """
import json
wide = b"[" + b"[]," * 900_000 + b"[]]"
k = get_ipython().kernel
p, ident, send = k.get_parent("shell"), k._parent_ident["shell"], k.session.send
"""
WIDE = {
    "an output": """_ = send(k.iopub_socket, "display_data", b'{"data": {"text/plain": "x", "y": ' + wide + b"}}", parent=p)""",
    "a header": """
parent = {"header": {**p["header"], "x": json.loads(wide)}}
_ = send(k.iopub_socket, "stream", {"name": "stdout", "text": "x"}, parent=parent)""",
    "a cell's reply": """_ = send(k.shell_stream, "execute_reply", b'{"status": "ok", "y": ' + wide + b"}", p, ident)""",
}


@pytest.mark.box
@pytest.mark.attack
@pytest.mark.parametrize("forged", WIDE.values(), ids=WIDE)
def test_a_message_of_a_million_empty_lists_fills_no_memory(forged, warm_pool):
    """Each of its three bytes would become a thousand here: parsed once, and copied by those who read it."""
    go(warm_pool, ["1"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ran = go(warm_pool, [SET_UP + forged, "print('fine')"])
    assert ran.cells[-1].output == "fine\n"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


@pytest.mark.box
@pytest.mark.attack
def test_an_answer_of_a_million_empty_lists_is_refused(warm_pool):
    code = "def handle(k, content, buffers): return ({'x': [[]] * content['n']}, [])\nagent.handle = handle"

    async def talk():
        async with KernelSession(warm_pool, limits=SMALL) as session:
            await session.run_cell(AGENT + code, 0)
            with pytest.raises(EvidenceTooLarge):
                await session.ask({"n": 1_200_000}, cpu_seconds=10)
            return (await session.ask({"n": 2}, cpu_seconds=5))[0]

    assert asyncio.run(talk()) == {"x": [[], []]}


@pytest.mark.box
@pytest.mark.attack
def test_a_huge_message_that_comes_unasked_holds_nobody_up(warm_pool):
    """It cuts the connection between two requests: the next one was sent to nobody, and blocked all sessions for 5 s."""
    code = f"""
import threading
big = [*ident, bytes({2 * SMALL.message_bytes})]
threading.Timer(0.3, lambda: k.shell_stream.socket.send_multipart(big)).start()"""

    async def talk():
        async with KernelSession(warm_pool, limits=SMALL) as session:
            await session.run_cell(SET_UP + code, 0)
            await asyncio.wait_for(session._lost.wait(), 30)
            return (await session.run_cell("print('fine')", 1)).output, session.outcome

    assert asyncio.run(talk()) == ("fine\n", Outcome.COMPLETED)


FRAMES = """
import os, select, socket, struct
def connection(port):
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
            if str(found.getsockname()).endswith(f"-{port}") and found.getpeername() is not None:
                return found
        except OSError:
            pass
def send(port, data, times):
    peer = connection(port)
    for _ in range(times):
        left = memoryview(data)
        while left:
            select.select([], [peer], [])
            left = left[peer.send(left):]
info = get_ipython().kernel.parent.info
"""
ENDLESS = {
    "frames without a last one": "b'\\3' + struct.pack('>Q', 1 << 20) + bytes(1 << 20), 200",
    "tiny frames without a last one": "b'\\1\\0' * (1 << 19), 200",
    "commands": "b'\\4\\0' * (1 << 19), 200",
    "messages": "b'\\0\\0' * (1 << 19), 200",
}


@pytest.mark.box
@pytest.mark.attack
@pytest.mark.parametrize("sent", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("channel", ["shell_port", "iopub_port"])
def test_a_connection_that_never_comes_to_an_end_fills_no_memory(warm_pool, channel, sent):
    """ZeroMQ's own limit is one frame's: of a message that went on for ever it kept all."""
    go(warm_pool, ["1"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ran = go(warm_pool, [FRAMES, f"send(info['{channel}'], {sent})", "print('here')"])
    assert (ran.outcome, ran.text) == (Outcome.OUTPUT_LIMIT, "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10  # KiB


@pytest.mark.box
@pytest.mark.attack
def test_a_kernel_that_closes_its_sockets_is_dead(warm_pool):
    ran = go(
        warm_pool, ["import zmq\nget_ipython().kernel.shell_stream.socket.close(linger=0)\nimport time; time.sleep(30)"]
    )
    assert ran.outcome is Outcome.KERNEL_DIED


@pytest.mark.box
def test_a_dead_zygote_is_replaced():
    if why := box_missing():
        pytest.skip(why)
    with KernelPool("warm", preload=()) as pool:
        pool.warm_up()
        os.kill(pool.zygote.pid, signal.SIGKILL)
        pool.zygote._process.wait()
        ran = go(pool, ["print(1)"])
        assert (ran.mode, ran.text) == ("warm", "1\n")
        assert pool.zygote.failure == ""


@pytest.mark.box
@pytest.mark.parametrize("dies", [False, True])
def test_a_kernel_that_does_not_come_up_says_why(pool, monkeypatch, dies):
    made = []

    async def never(client):
        made.append(session)
        if dies:
            session.kernel.end()
        await asyncio.Event().wait()

    monkeypatch.setattr("grader.sandbox.session._READY_SECONDS", 0.2)
    monkeypatch.setattr("grader.sandbox.channels.Channel.receive", never)
    session = KernelSession(pool, BoxSpec(), SMALL)

    async def start():
        async with session:
            pass

    with pytest.raises(SandboxError, match="ended while it started" if dies else r"gave no answer within 0\.2 s"):
        asyncio.run(start())
    assert made
    assert session.outcome is Outcome.SANDBOX_FAILED
    assert not traces(session)


@pytest.mark.slow
def test_a_kernel_may_come_up_after_zeromqs_handshake_limit(monkeypatch):
    """On busy cores a cold start imports libraries for minutes; ZeroMQ's own limit is half a minute."""
    ready, beside = KernelSession._ready, []

    async def held_up(session):
        pid = session.kernel.pid
        os.kill(pid, signal.SIGSTOP)
        beside.append(asyncio.get_running_loop().call_later(32, os.kill, pid, signal.SIGCONT))
        await ready(session)

    monkeypatch.setattr(KernelSession, "_ready", held_up)
    with KernelPool("none", preload=()) as plain:
        began = time.monotonic()
        # the time it takes to come up is not the submission's
        ran = go(plain, ["print(1)"], replace(SMALL, wall_seconds=20))
    assert time.monotonic() - began > 32, "it was held up"
    assert (ran.outcome, ran.cells[0].output) == (Outcome.COMPLETED, "1\n")


@pytest.mark.box
def test_sessions_start_cold_when_a_zygote_keeps_dying():
    if why := box_missing():
        pytest.skip(why)
    with KernelPool("warm", preload=()) as pool:
        for _death in range(4):
            assert pool.zygote.ready()
            os.kill(pool.zygote.pid, signal.SIGKILL)
            pool.zygote._process.wait()
        assert pool.zygote.ready() is None
        ran = go(pool, ["print(1)"])
        assert (ran.mode, ran.text) == ("cold", "1\n")
        assert "died" in pool.zygote.failure


@pytest.mark.box
@pytest.mark.slow
@pytest.mark.parametrize("control_groups", [True, False])
def test_a_cold_box_has_imported_before_its_memory_is_counted(control_groups):
    if why := box_missing():
        pytest.skip(why)
    with KernelPool("cold", control_groups=control_groups) as pool:
        cells = [
            "import sys; print({'torch', 'transformers', 'peft'} <= set(sys.modules))",
            "x = bytearray(300 << 20)",  # the imports hold 400 MiB; the mapped libraries alone are larger than the limit
            f"y = bytearray({2 * SMALL.memory_bytes})",
            "print('on')",
        ]
        ran = go(pool, cells)
    assert ran.text == "True\non\n"
    assert [cell.status for cell in ran.cells] == ["ok", "ok", "error", "ok"]
    assert ran.cells[2].error.name == "MemoryError"
    assert ran.outcome is Outcome.OUT_OF_MEMORY


def descriptors_and_threads():
    """How many this process has; the pool's own few threads, which wait for the next session, do not count."""
    ours = sum(thread.name.startswith("box") for thread in threading.enumerate())
    assert ours < 20
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir())) - ours


@pytest.mark.box
def test_sessions_leave_no_descriptor_and_no_thread(pool):
    go(pool, ["1"])
    before = descriptors_and_threads()
    for _session in range(3):
        go(pool, ["1"])
    end = time.monotonic() + 5  # a thread that has ended stays listed until the system has got round to it
    while any(now > then for now, then in zip(descriptors_and_threads(), before, strict=True)):
        assert time.monotonic() < end, (before, descriptors_and_threads())
        time.sleep(0.05)


def descendants_and_traces(pool_folder):
    commands = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                commands.append((folder / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return [command for command in commands if pool_folder in command]


@pytest.mark.box
@pytest.mark.attack
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_grader_is_killed(signum):
    if why := box_missing():
        pytest.skip(why)
    code = """
import asyncio, sys
from grader.sandbox.conformance import host_processes, traces
from grader.sandbox.session import KernelSession
from grader.sandbox.pool import KernelPool
async def main():
    with KernelPool('warm', preload=()) as pool:
        pool.warm_up()
        async with KernelSession(pool) as session:
            print(pool.folder, *host_processes(session), pool.zygote.pid, *traces(session), flush=True)
            await session.run_cell("import time\\nwhile True: time.sleep(1)", 0)
asyncio.run(main())
"""
    root = str(Path(grader.__file__).parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as worker:
        words = worker.stdout.readline().split()
        assert len(words) > 3
        time.sleep(0.3)
        worker.send_signal(signum)
        worker.wait()
    pids = [Path("/proc", word) for word in words if word.isdigit()]
    folders = [Path(word) for word in words if not word.isdigit()]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(path.exists() for path in (*pids, *folders)):
        time.sleep(0.1)
    assert [path for path in (*pids, *folders) if path.exists()] == []
    assert descendants_and_traces(words[0]) == []


@pytest.mark.box
def test_a_start_that_fails_says_why(warm_pool, monkeypatch):
    monkeypatch.setattr(
        "grader.sandbox.provisioner.python_command",
        lambda *_command: [sys.executable, "-c", "raise SystemExit('no torch')"],
    )
    with KernelPool("none") as pool, pytest.raises(SandboxError, match="no torch"):
        go(pool, ["1"], Limits())


@pytest.mark.box
def test_a_child_before_exec_does_not_count_its_parents_memory():
    """Until a child runs its own program it shows its parent's memory as its own: a moment in which nobody may be blamed."""
    cells = ["import os\nx = bytearray(400 << 20)", *["for _ in range(20): os.system('true')"] * 10]
    with KernelPool("none") as plain:
        ran = go(plain, cells, replace(SMALL, memory_bytes=800 << 20))
    assert {cell.status for cell in ran.cells} == {"ok"}
    assert ran.outcome is Outcome.COMPLETED
    assert 400 << 20 < ran.usage.peak_bytes < 700 << 20


def test_progress_bars_are_drawn_at_their_ends_only(warm_pool):
    """Every drawing is a message, whose way to the grader costs more than the step it tells of."""
    bar = "import time\nfrom tqdm.auto import tqdm\nfor _ in tqdm(range(40)):\n    time.sleep(0.05)"
    ran = go(warm_pool, [bar])
    drawn = re.findall(r"(\d+)%\|", ran.cells[0].output)
    assert drawn == ["0", "100"]
