"""Which shell commands are left out: those that install, need the network, or ask for hardware. The rest really runs."""

from __future__ import annotations

import re
import shlex

__all__ = ["INSTALL", "LEFT_OUT", "classify", "filter_command", "filter_script", "is_install"]

INSTALL = frozenset(
    {"pip", "pip3", "pipenv", "conda", "mamba", "micromamba", "uv", "poetry", "easy_install", "npm", "brew"}
    | {"apt", "apt-get", "apt-key", "add-apt-repository", "aptitude", "dpkg", "yum", "dnf", "ensurepip"}
)
"""Commands that install software."""

_NETWORK = frozenset(
    {"wget", "curl", "gdown", "kaggle", "git", "huggingface-cli", "hf", "wandb", "ssh", "scp", "rsync", "gsutil", "aws"}
    | {"aria2c", "ngrok", "tensorboard", "mlflow", "ping", "nbconvert", "jupyter"}
)
_HARDWARE = frozenset({"nvidia-smi", "nvcc", "rocm-smi", "nvidia-detector"})
LEFT_OUT = INSTALL | _NETWORK | _HARDWARE
"""All commands that are left out."""

_PREFIXES = frozenset({"sudo", "time", "nohup", "yes", "exec", "command", "then", "do", "{", "("})
_ASSIGNMENT = re.compile(r"\w+=")
_PYTHON = re.compile(r"(?:\{?\$?\{?(?:sys\.)?executable\}?\}?|.*python[\d.]*|py|\$PYTHON)", re.IGNORECASE)


def classify(segment: str) -> str | None:
    """The rule (`install`, `network`, `hardware`) that leaves out one simple command, or None when it runs."""
    try:
        words = shlex.split(segment, comments=True)
    except ValueError:
        words = segment.split()
    while words and (words[0] in _PREFIXES or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    if not words:
        return None
    name = words[0].strip("'\"").rsplit("/", 1)[-1]
    if _PYTHON.fullmatch(words[0]) and "-m" in words[1:3]:
        after = words[words.index("-m") + 1 :]
        name = after[0] if after else ""
    if name in INSTALL or re.fullmatch(r"pip3?(\.\d+)?", name):
        return "install"
    if name in _NETWORK:
        return "network"
    return "hardware" if name in _HARDWARE else None


def is_install(line: str) -> bool:
    """Whether a line without `!` is an install command as people type it: `pip install ...`, `conda install ...`."""
    words = line.strip().lstrip("!%").split()
    verbs = {"install", "uninstall", "update", "upgrade", "list", "show", "freeze", "pip", "-m"}
    return classify(line.strip().lstrip("!%")) == "install" and any(word in verbs for word in words[1:4])


def filter_command(command: str) -> tuple[str, list[tuple[str, str]]]:
    """What remains of a shell line, and the (rule, text) of each part that was left out.

    Parts are joined by `;`, `&&`, `||` or newlines; of a pipe that contains one such command nothing remains.
    """
    kept: list[str] = []
    removed: list[tuple[str, str]] = []
    for operator, pipeline in _split(command):
        rules = [rule for rule in map(classify, _pipes(pipeline)) if rule]
        if rules:
            removed.append((rules[0], pipeline.strip()))
        else:
            kept.append((operator if kept else "") + pipeline)
    return ("".join(kept).strip() if removed else command), removed


def filter_script(body: str) -> tuple[str, list[tuple[str, str]]]:
    """What remains of a shell script, line for line; lines joined by a backslash count as one."""
    lines: list[str] = []
    removed: list[tuple[str, str]] = []
    pending = ""
    for line in body.split("\n"):
        if line.endswith("\\"):
            pending += line + "\n"
            continue
        whole = pending + line
        kept, gone = filter_command(whole)
        removed += gone
        # A line that is gone leaves `:`, so that an `if` or a loop around it keeps a body.
        lines.append((kept or ":") + "\n" * whole.count("\n") if gone else whole)
        pending = ""
    if pending:
        lines.append(pending.removesuffix("\n"))
    return "\n".join(lines), removed


def _split(command: str) -> list[tuple[str, str]]:
    """(operator before it, text) of each part of a command list; quotes and `>&` are respected."""
    return _scan(command, re.compile(r"&&|\|\||;|\n"))


def _pipes(command: str) -> list[str]:
    """The parts of one pipeline."""
    return [text for _, text in _scan(command, re.compile(r"\|&?"))]


def _scan(text: str, separator: re.Pattern[str]) -> list[tuple[str, str]]:
    """`text` cut at each separator that stands outside of quotes and is not escaped."""
    parts: list[tuple[str, str]] = []
    operator, current, quote, position = "", "", "", 0
    while position < len(text):
        character = text[position]
        found = None if quote else separator.match(text, position)
        if found:
            parts.append((operator, current))
            operator, current, position = found[0], "", found.end()
            continue
        if character == "\\" and quote != "'":
            current += text[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        current += character
        position += 1
    return [*parts, (operator, current)]
