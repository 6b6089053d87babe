"""Commands that install, fetch or ask for hardware, and magics for the notebook's window: they succeed without effect.

Runs in the box. Programs are left out by stubs, first on the `PATH` (and a stub of the package `pip`), so that the shell itself
takes its lines apart, whoever starts it; the stubs note what they were asked for. Magics and the syntax of cells are changed on
the IPython shell. Everything else really runs.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from grader.inside.hooks import replacing, running_shell
from grader.inside.shims.adapting import answering, note

__all__ = ["install"]

_INSTALL = frozenset(
    {"pip", "pip3", "pipenv", "conda", "mamba", "micromamba", "uv", "poetry", "easy_install", "npm", "brew"}
    | {"apt", "apt-get", "apt-key", "add-apt-repository", "aptitude", "dpkg", "yum", "dnf", "ensurepip"}
)
_NETWORK = frozenset(
    {"wget", "curl", "gdown", "kaggle", "git", "huggingface-cli", "hf", "wandb", "ssh", "scp", "rsync", "gsutil", "aws"}
    | {"aria2c", "ngrok", "tensorboard", "mlflow", "ping", "nbconvert", "jupyter"}
)
_HARDWARE = frozenset({"nvidia-smi", "nvcc", "rocm-smi", "nvidia-detector"})
_RULES = {
    **dict.fromkeys(_INSTALL, ("install", "installed-already")),
    **dict.fromkeys(_NETWORK, ("network", "no-network")),
    **dict.fromkeys(_HARDWARE, ("hardware", "no-gpu-to-ask-for")),
}
_LEFT_OUT = ("line-magic", "no-window")
_DIRECT = ("cell-magic", "runs-directly")

_SKIPPED_MAGICS = (
    "reload_ext", "tensorboard", "wandb", "tensorflow_version", "bigquery", "gui", "pylab", "debug", "pdb", "connect_info",
    "qtconsole", "notebook", "memit", "prun", "lprun", "watermark", "kill", "dotenv",
)  # fmt: skip
_TRANSPARENT = re.compile(r"%%(time|capture|wandb|memit|mprun|prun)\b[ \t]*(.*)")
_BARE_INSTALL = re.compile(
    rf"\s*[!%]?(sudo\s+)?(python[\d.]*\s+-m\s+)?({'|'.join(sorted(_INSTALL))})\s+(\S+\s+){{0,2}}"
    r"(install|uninstall|update|upgrade|list|show|freeze)\b"
)
_LONGEST_LOG = 1 << 20
_MOST_PARSED = 2_000_000
"""Characters that are parsed in all to find the bare installs of a cell, which takes once more for each of them."""

_SKIP = """#!/bin/sh
printf '%s\\0' "${{0##*/}} $*" >> {log}
"""
_SUDO = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""
_PYTHON = """#!/bin/sh
exec {python} "$@"
"""
_WINDOWS_SKIP = '@echo off\r\n<nul set /p="%~n0 %*" >> {log}\r\n'
_PIP = '''"""A stub of pip: notes what it was asked for, and installs nothing."""
import sys

def main(args=None):
    with open({log!r}, "a") as file:
        file.write(" ".join(["pip", *map(str, sys.argv[1:] if args is None else args)]) + "\\0")
    return 0

if __name__ == "__main__":
    sys.exit(main())
'''


def install() -> None:
    """Put the stubs on the `PATH`, change the magics, and let no cell restart the kernel."""
    folder = Path(tempfile.mkdtemp(prefix="stubs-"))
    log = folder / "skipped"
    log.touch()
    _write_stubs(folder, log)
    os.environ["PATH"] = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath)])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder / "lib"), os.environ.get("PYTHONPATH")]))
    sys.path.insert(1, str(folder / "lib"))
    shell = running_shell()
    _patch_ends(shell)
    shell.events.register("post_run_cell", lambda *_result: _report_skipped(log))
    shell.input_transformers_cleanup.append(_unwrap)
    shell.input_transformers_post.append(_drop_bare_installs)
    _patch_magics(shell)


def _write_stubs(folder: Path, log: Path) -> None:
    """Write `bin`, with a program for each command, and `lib`, with the package `pip`."""
    programs, package = folder / "bin", folder / "lib" / "pip"
    programs.mkdir()
    package.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py", "_internal.py"):
        (package / name).write_text(_PIP.format(log=str(log)))
    if os.name == "nt":
        for name in _RULES:
            (programs / f"{name}.bat").write_text(_WINDOWS_SKIP.format(log=f'"{log}"'))
        return
    scripts = {"skip": _SKIP.format(log=shlex.quote(str(log)))}
    scripts |= {"sudo": _SUDO, "python": _PYTHON.format(python=shlex.quote(sys.executable))}
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for name in _RULES:
        (programs / name).symlink_to("skip")
    (programs / "python3").symlink_to("python")


def _report_skipped(log: Path) -> None:
    """Record what the stubs have noted since the last cell."""
    with contextlib.suppress(OSError), log.open("r+b") as file:
        lines = file.read(_LONGEST_LOG).decode(errors="replace").split("\0")
        file.truncate(0)
        for line in filter(None, lines):
            rule, reason = _RULES.get(line.split(" ")[0], _RULES["pip"])
            note(rule, line.strip(), "", reason)


def _patch_ends(shell: Any) -> None:
    """Let the kernel live on where a cell ends it of its own accord; its children end as they like, and a crash is one.

    A signal from a shell line or a child has no effect either (`grader.inside.seccomp`); what is replaced here lists it.
    """
    own, main = os.getpid(), threading.get_ident()
    whom_it_names = rf"\b{own}\b|PPID|ppid|\s-1\b|\{{[^}}]*pid[^}}]*\}}|\$\w*pid\b|python|ipykernel|jupyter"
    kills = re.compile(rf"(?m:^|[;&|(]|\bsudo\b|-c\b)\s*(?P<line>(p?kill|killall)\b[^\n]*({whom_it_names}))")
    signals = {
        getattr(signal, f"SIG{name}", signal.SIGTERM) for name in ("HUP", "QUIT", "KILL", "TERM", "STOP", "TSTP")
    }

    def lives_on(call: str) -> bool:
        """Whether it is the kernel that would end; that is noted."""
        if os.getpid() == own:
            note("restart", call, "", "no-restart")
        return os.getpid() == own

    for owner, name, call in (
        (os, "kill", "os.kill(os.getpid(), {})"),
        (os, "killpg", "os.killpg(os.getpgrp(), {})"),
        (signal, "pthread_kill", "signal.pthread_kill(..., {})"),
        (signal, "raise_signal", "signal.raise_signal({})"),
    ):
        if hasattr(owner, name):

            @replacing(owner, name)
            def send(real: Any, *given: int, call: str = call) -> None:
                *whom, number = given  # a process, thread or group, where not this one
                meant = number in signals and (not whom or whom[0] in (own, -own, 0, -1, main))
                if not (meant and lives_on(call.format(int(number)))):
                    real(*given)

    @replacing(os, "_exit")
    def leave(real: Any, status: int) -> None:
        if status != 0 or not lives_on("os._exit(0)"):
            real(status)

    for name in ("execv", "execve"):  # which the other ones call

        @replacing(os, name)
        def become(real: Any, *args: Any) -> None:
            if not lives_on("os.exec...()"):
                real(*args)

    def noted(text: str) -> str:
        if found := kills.search(text):
            lives_on(found["line"])
        return text

    def started(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.system":
            noted(os.fsdecode(args[0]))
        elif event == "subprocess.Popen":
            noted(args[1] if isinstance(args[1], str) else " ".join(map(os.fsdecode, args[1])))

    sys.addaudithook(started)

    @replacing(shell, "system")
    def system(real: Any, command: str) -> None:
        real(noted(command))

    @replacing(shell.magics_manager.registry["ScriptMagics"], "shebang")
    def script(real: Any, line: str, cell: str) -> None:
        real(line, noted(cell))

    def stay(change: Any) -> None:
        if change["new"]:
            lives_on("exit(), quit() or kernel.do_shutdown()")
            shell.exit_now = False

    shell.unobserve_all("exit_now")  # what would stop the kernel a tenth of a second later, in another cell
    shell.observe(stay, "exit_now")
    shell.kernel.io_loop.asyncio_loop.stop = lambda: lives_on("asyncio.get_event_loop().stop()")


def _unwrap(lines: list[str]) -> list[str]:
    """A cell without leading `%%time`, `%%capture` and the like, whose lines stay as blank ones."""
    blank: list[str] = []
    while len(blank) < len(lines) and (found := _TRANSPARENT.fullmatch(lines[len(blank)].rstrip())):
        note("cell-magic", found[0], "", _DIRECT[1])
        blank.append(_first_line(found[1], found[2]))
    rest = lines[len(blank) :]
    return rest if rest and rest[0].startswith("%%") else [*blank, *rest]  # another magic has to come first


def _first_line(magic: str, options: str) -> str:
    """A line for that of a magic: the statement that `%%time` runs, or the name that `%%capture` would have filled."""
    words = [word for word in options.split() if not word.startswith("-")]
    if magic == "time" and words:
        return options + "\n"
    if magic == "capture" and words and words[0].isidentifier():
        return f"{words[0]} = __import__('IPython.utils.capture', fromlist=['capture']).CapturedIO(None, None)\n"
    return "\n"


def _drop_bare_installs(lines: list[str]) -> list[str]:
    """A cell without the lines like `pip install x` at which parsing stops; other syntax errors stay."""
    for _line in range(_MOST_PARSED // (1 + sum(map(len, lines)))):
        if (number := _stops_at(lines)) is None or not _BARE_INSTALL.match(lines[number]):
            break
        line = lines[number]
        lines[number] = line[: len(line) - len(line.lstrip())] + "pass\n"
        while line.endswith("\\\n") and number + 1 < len(lines):
            number += 1
            line = line[:-2] + lines[number]
            lines[number] = "\n"
        note("install", line.strip(), "", _RULES["pip"][1])
    return lines


def _stops_at(lines: list[str]) -> int | None:
    """Index of the line at which a cell stops to be Python; None when it does not."""
    try:
        compile("".join(lines), "<cell>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        number = (error.lineno or 0) - 1
        return number if 0 <= number < len(lines) else None
    except (ValueError, RecursionError, MemoryError):
        pass
    return None


def _patch_magics(shell: Any) -> None:
    """Skip magics that install or open windows; give others what they need here."""
    skipped = {
        **{name: _RULES[name] for name in _INSTALL},
        **dict.fromkeys(_SKIPPED_MAGICS, _LEFT_OUT),
        **dict.fromkeys(("%time", "%capture"), _DIRECT),  # below the first line of a cell
    }
    for name, (rule, reason) in skipped.items():
        shell.register_magic_function(answering(rule, f"%{name} {{}}", "", reason), "line", name)
    load, plot = shell.find_line_magic("load_ext"), shell.find_line_magic("matplotlib")
    write = shell.find_cell_magic("writefile")

    left_out = answering(_LEFT_OUT[0], "%load_ext {}", "", _LEFT_OUT[1])

    def load_ext(line: str) -> Any:
        return load(line) if line.strip() == "autoreload" else left_out(line)

    def matplotlib(line: str) -> Any:
        if line.strip() != "inline":
            note("line-magic", f"%matplotlib {line}".strip(), "%matplotlib inline", _LEFT_OUT[1])
        return plot("inline")

    def writefile(line: str, cell: str) -> Any:
        options, _, path = line.strip().rpartition(" ")
        plain = path.strip("'\"")
        if re.match(r"/(?!tmp/)|~|[A-Za-z]:[\\/]|\.\./", plain):
            path = re.split(r"[/\\]", plain)[-1]
            note("path", line, path, "written-beside")
        return write(f"{options} {path}".strip(), cell)

    @functools.cache
    def told() -> None:  # once in a notebook, since the template has such a line after each step
        note("line-magic", "check", "", "judged-already")

    def check(*_args: Any, **_options: Any) -> None:
        told()

    for kind, name, magic in (
        ("line", "load_ext", load_ext),
        ("line", "matplotlib", matplotlib),
        ("cell", "writefile", writefile),
        ("cell", "file", writefile),
        ("cell", "shell", shell.find_cell_magic("bash")),  # Colab's name
        ("line_cell", "check", check),  # the self-check: the notebook is being judged already
    ):
        shell.register_magic_function(magic, kind, name)
    vars(sys.modules["grader"]).update(check=check, load_ipython_extension=lambda _shell: None)
