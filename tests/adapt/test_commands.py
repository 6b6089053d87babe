"""Shell lines, magics and the syntax of cells as people write them, in real kernels: they do no harm, and each is listed."""

from __future__ import annotations

import pytest

INSTALLS = [
    "!pip install transformers",
    "!pip install -q 'transformers[torch]>=4.0' \\\n   datasets",
    "!pip3 install x",
    "!python -m pip install x",
    "!{sys.executable} -m pip install x",
    "!sudo apt-get install -y git-lfs",
    "!apt install x",
    "!conda install -y x",
    "! pip install x > /dev/null 2>&1",
    "!pip install x | tail -1",
    "!pip install a && pip install b; pip list",
    "!yes | pip uninstall x",
    "!PIP_QUIET=1 pip install x",
    "!!pip install x",
    "%pip install x",
    "%conda install x",
    "pip install x",
    "pip install -q transformers datasets==2.1 evaluate",
    "pip install transformers[torch] \\\n   datasets",
    "conda install -c conda-forge x",
    "python -m pip install x",
    "apt-get install x",
]
SETUP = "import sys"


def test_install_lines(notebook):
    cells = [SETUP]
    for line in INSTALLS:
        cells += [line, f"import os\n{line}\nprint('on')", "if 1:\n    " + line.replace("\n", "\n    ") + "\nx = 2"]
    ran = notebook(*cells)
    for index, source in enumerate(cells[1:], 1):
        rules = {change[1] for change in ran.changes if change[0] == index}
        assert rules == {"install"}, source


def test_install_lines_in_plain_mode(notebook):
    cells = [
        "!pip install x",
        "!python -m pip install x",
        "%pip install x",
        "import os\npip install x",
        "!wget x; echo on",
    ]
    ran = notebook(*cells, mode="none")
    assert ran.rules == ["install"] * 4 + ["network"]
    assert ran.cells[-1].output == "on\n"


def test_bare_install_lines_keep_line_numbers(notebook):
    ran = notebook("import os\npip install a \\\n  b\n\n1 / 0", fails=True)
    assert "----> 5 1 / 0" in ran.cells[0].error.traceback
    assert ran.records == [("install", "pip install a   b", "")]


def test_rest_of_a_shell_line_runs(notebook):
    ran = notebook(
        "!pip install x && mkdir made\n!mkdir also; pip install x; ls -d also",
        "import os\nassert os.path.isdir('made') and os.path.isdir('also')",
    )
    assert ran.cells[0].output == "also\n"
    assert ran.rules == ["install"]


def test_quoted_commands_are_only_text(notebook):
    ran = notebook("!echo 'pip install x; wget y'\nx = !echo pip\nprint(x)\n!echo a.txt | grep pip")
    assert ran.cells[0].output == "pip install x; wget y\n['pip']\n"
    assert ran.rules == []


def test_assigned_shell_output(notebook):
    notebook("x = !pip list\ny = %pip list\nz = !ls helper.py\nassert x == [] and y is None and z == ['helper.py']")


@pytest.mark.parametrize("magic", ["bash", "sh", "shell", "script bash"])
def test_shell_cells(notebook, magic):
    body = "set -e\npip install x \\\n  y\nif true; then\nwget z\nfi\nmkdir out\necho done"
    ran = notebook(f"%%{magic}\n{body}\n", "import os\nassert os.path.isdir('out')")
    assert ran.cells[0].output == "done\n"
    assert ran.records == [("install", "pip install x y", ""), ("network", "wget z", "")]


def test_processes_of_the_notebook(notebook):
    ran = notebook(
        """
import os, pip, subprocess, sys
assert subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'x']) == 0
assert subprocess.run('pip install x', shell=True, check=True).returncode == 0
assert subprocess.check_output(['nvidia-smi']) == b''
assert os.system('pip install x') == 0
assert subprocess.check_output(['echo', 'pip install x']) == b'pip install x\\n'
assert os.system('exit 3') != 0
assert pip.main(['install', 'y']) == 0
from pip._internal import main
assert main(['install', 'z']) == 0
"""
    )
    assert set(ran.records) == {
        ("install", "pip install x", ""), ("install", "pip install y", ""), ("install", "pip install z", ""),
        ("hardware", "nvidia-smi", ""),
    }  # fmt: skip


def test_signals_to_itself_are_no_restart(notebook):
    ran = notebook("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nos.kill(os.getpid(), 15)", "print('on')")
    assert ran.rules == ["restart", "restart"]
    assert ran.cells[1].output == "on\n"


@pytest.mark.parametrize(
    "end",
    [
        "exit()", "exit", "quit()", "quit", "exit(keep_kernel=True)", "get_ipython().ask_exit()",
        "!kill -9 -1", "import os\nif True:\n    !kill -9 {os.getpid()}", "!sudo kill $PPID", "import signal; signal.raise_signal(15)",
        "import os; os._exit(00)", "import os; os.killpg(0, 9)", "import os; os.kill(-1, 1)",
        "import os; os.system(f'kill -9 {os.getpid()}')", "%%bash\nkill -9 $PPID", "import os\npid = os.getpid()\n!kill {pid}; echo",
        "import os, subprocess\nsubprocess.run(['kill', '-KILL', str(os.getpid())])", "import os, sys; os.execv(sys.executable, sys.argv)",
        "import signal, threading; signal.pthread_kill(threading.main_thread().ident, 9)",
        "import asyncio; asyncio.get_event_loop().stop()",
        "import IPython; IPython.Application.instance().kernel.do_shutdown(True)", "get_ipython().kernel.do_shutdown(restart=True)",
        "import asyncio\nawait asyncio.sleep(0); exit()",
    ],
)  # fmt: skip
def test_a_kernel_that_a_cell_ends_of_its_own_accord_goes_on(notebook, end):
    """In the cell, in the next one, and in the one after it: `exit` ends a kernel a tenth of a second later."""
    ran = notebook(end, "import time; time.sleep(0.3)", "print('on')")
    assert ran.rules == ([] if "keep" in end else ["restart"])
    assert ran.cells[2].output == "on\n"


def test_no_signal_from_the_box_ends_the_kernel(notebook):
    """Also those that no Python function of ours sees on their way."""
    ran = notebook(
        """
import ctypes, os, subprocess, sys, threading
libc, own = ctypes.CDLL(None), os.getpid()
for number in (1, 3, 9, 15, 19, 20):
    for whom in (own, 0, -1):
        assert libc.kill(whom, number) == 0
    if os.uname().machine == 'x86_64':
        assert libc.syscall(234, own, own, number) == 0 and libc.syscall(200, own, number) == 0
code = f'import os; os.kill({own}, 9); os.kill(-1, 9); os.kill(0, 15); os.killpg({own}, 9)'
assert subprocess.run([sys.executable, '-c', code]).returncode == 0
assert libc.kill(own, 0) == 0 and libc.kill(own, 28) == 0
child = subprocess.Popen(['sleep', '9'])
child.terminate()
assert child.wait() == -15
""",
        "print('on')",
    )
    assert ran.cells[1].output == "on\n"


def test_other_processes_can_be_killed(notebook):
    ran = notebook("!sleep 9 & kill -9 $!; echo done\n!echo '!kill -9 -1'\nx = !kill -l 9\nprint(x)")
    assert ran.cells[0].output == "done\n!kill -9 -1\n['KILL']\n"
    assert ran.rules == []


def test_children_of_a_notebook_end_as_they_like(notebook):
    child = "if os.fork() == 0:\n    {}\n    os._exit(4)\nprint(os.wait()[1])"
    ran = notebook("import os\n" + child.format("os._exit(0)"), child.format("os.kill(os.getpid(), 9)"))
    assert [cell.output for cell in ran.cells] == ["0\n", "9\n"]
    assert ran.rules == []


@pytest.mark.parametrize(
    ("source", "rules", "line"),
    [
        ("%%time\n1 / 0", ["cell-magic"], 2),
        ("%%capture\n!pip install x\n1 / 0", ["cell-magic", "install"], 3),
        ("%%capture out --no-stderr\n%%time\n\nout.show()\n1 / 0", ["cell-magic", "cell-magic"], 5),
        ("import os\n%%time\n1 / 0", ["cell-magic"], 3),
        ("%%wandb\n1 / 0", ["cell-magic"], 2),
    ],
)
def test_cells_below_a_magic_fail_as_themselves(notebook, source, rules, line):
    ran = notebook(source + "\ndef f(): pass", "f()", fails=True)
    assert ran.cells[0].error.name == "ZeroDivisionError"
    assert f"----> {line} 1 / 0" in ran.cells[0].error.traceback
    assert ran.cells[1].status == "ok", "its definitions are there"
    assert sorted(ran.rules) == sorted(rules)


def test_definitions_of_a_failed_cell_are_adapted(notebook):
    ran = notebook("%%time\n1 / 0\n!pip install x\ndef f(d=768): return d", "assert f() == 64", fails=True)
    assert [cell.status for cell in ran.cells] == ["error", "ok"]
    assert [tuple(change[:2]) for change in ran.changes] == [(0, "cell-magic"), (0, "size")]


def test_magics_below_a_magic(notebook):
    ran = notebook("%%time\n%%bash\necho a", "%%time\nimport asyncio\nawait asyncio.sleep(0)\n%time x = 2\nprint(x)")
    assert ran.cells[0].output == "a\n"
    assert ran.cells[1].output.endswith("2\n")
    assert notebook("%%time print('timed')").cells[0].output == "timed\n"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("%cd /content/nowhere", "folder"),
        ("%load_ext tensorboard", "line-magic"),
        ("%tensorboard --logdir logs", "line-magic"),
        ("%wandb me/project", "line-magic"),
        ("%tensorflow_version 2.x", "line-magic"),
        ("%matplotlib notebook", "line-magic"),
        ("!nvidia-smi", "hardware"),
        ("!nvidia-smi -L | head", "hardware"),
        ("!wget https://x.org/train.csv", "network"),
        ("!gdown --id 1", "network"),
        ("!git clone https://x.org/y", "network"),
        ("!huggingface-cli login", "network"),
    ],
)
def test_lines_that_are_left_out(notebook, line, rule):
    ran = notebook(line, f"for i in range(2):\n    {line}\n    print(i)")
    assert rule in ran.rules
    assert set(ran.rules) <= {rule, "path"}
    assert ran.cells[1].output.replace("/box\n", "") == "0\n1\n"


def test_the_self_check_does_nothing(notebook):
    def check(*lines):
        ran = notebook("from grader import check\n" + "\n".join(lines), "import grader\ngrader.check()\nprint(6)")
        assert set(ran.rules) <= {"line-magic"}
        assert [change[4] for change in ran.changes].count("judged-already") <= 1, "it is told once"
        assert [cell.output for cell in ran.cells] == ["", "6\n"]

    check()
    check("def f(): ...", "assert check(f) is None", "check('head', object(), accuracy=1)", "check()")
    check("%load_ext grader", "%reload_ext grader", "%check", "%check lora", "for i in range(2):\n    %check $i")
    check("import grader", "grader.check(lambda: 1)", "grader.load_ipython_extension(get_ipython())")
    assert notebook("%%check lora\n1 / 0", preloaded=False).rules == ["line-magic"]


def test_lines_that_run(notebook):
    ran = notebook(
        "!ls > listed\n!cp listed copy 2>&1\n%env A=1\n%matplotlib inline\n%load_ext autoreload\n%autoreload 2\n%who",
        "import os\nassert 'copy' in os.listdir() and os.environ['A'] == '1'\n!rm -rf copy\nassert 'copy' not in os.listdir()",
        "len?\n?len\nlen??\nunknown?",
        "open('mine.py', 'w').write('print(2)')\n!python mine.py",
        "import os\nos.mkdir('sub')\n%cd sub\nimport helper\nprint(helper.x)",
    )
    assert ran.rules == []
    assert ran.cells[3].output == "2\n"
    assert ran.cells[4].output == "/box/sub\n1\n"


def test_written_files_lie_beside_the_notebook_and_are_adapted(notebook):
    text = "import wandb\nsize = 768\nx = torch.zeros(1, device='cuda')\n"
    ran = notebook(
        f"%%writefile /content/drive/MyDrive/lora.py\nimport torch\n{text}",
        "import lora\nassert lora.size == 64 and lora.x.device.type == 'cpu'",
        "%%writefile ../other.py\nsize = 3072",
        "%run other.py\nassert size == 256",
        "%%writefile notes.txt\nsize = 768",
        "assert open('notes.txt').read() == 'size = 768\\n'",
        "%run /content/drive/MyDrive/helper.py\nassert x == 1",
        "%%writefile broken.py\ndef f(:",
        "try:\n    import broken\nexcept SyntaxError:\n    print('broken')",
    )
    first = [rule for cell, rule, *_ in ran.changes if cell < 4]
    assert first == ["path", "size", "device", "stub-module", "path", "size"]
    assert ran.cells[-1].output == "broken\n"


def test_companions_are_adapted_when_they_are_imported(notebook):
    ran = notebook("import helper\nassert helper.size == 64", files={"helper.py": b"size = 768\n"})
    assert ran.changes == [[0, "size", "768", "64", ran.changes[0][4]]]


def test_syntax_errors_stay_the_students(notebook):
    sources = ("def f(:", "x = (1", "print 'x'", "if x:\npass", "pip install x\ndef f(:", "pip = 3\npipeline install")
    ran = notebook(*sources, fails=True)
    assert all(cell.status == "error" for cell in ran.cells)
    assert set(ran.rules) <= {"install"}
    assert "----> " in ran.cells[4].error.traceback or "line 2" in ran.cells[4].error.traceback


def test_tracebacks_show_what_the_student_wrote(notebook):
    ran = notebook("n = 5\nassert n == 66_955_010  # as in the text", "x = n + 768\n1 / 0", fails=True)
    assert "assert n == 66_955_010  # as in the text" in ran.cells[0].error.traceback
    assert "x = n + 768" in ran.cells[1].error.traceback
    assert ran.records == [("size", "66955010", "160000"), ("size", "768", "64")]


def test_changes_are_listed_once_for_each_cell(notebook):
    ran = notebook("x = 768\ny = 768", "def f():\n    !nvidia-smi\nf()\nf()", "f()\nz = 768")
    assert [tuple(change[:2]) for change in ran.changes] == [(0, "size"), (1, "hardware"), (2, "size"), (2, "hardware")]
