"""Notebooks as tools and hands leave them: each is read by the grader, and its annotated copy has to open in Jupyter."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

WIDGETS = "application/vnd.jupyter.widget-state+json"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "abc", "version_major": 2, "version_minor": 0}}
STATE = {
    "model_module": "@jupyter-widgets/controls",
    "model_name": "HBoxModel",
    "model_module_version": "2.0.0",
    "state": {},
}
SAID: dict[str, Any] = {"output_type": "stream", "name": "stdout", "text": ["0.94\n", "0.90\n"]}


def code(source: Any = "x = 1", *outputs: Any, **more: Any) -> dict[str, Any]:
    cell = {"cell_type": "code", "metadata": {}, "execution_count": 1, "source": source, "outputs": list(outputs)}
    return cell | more


def text(source: Any = "# Lab", **more: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source, **more}


def notebook(*cells: Any, **more: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": list(cells), **more}


def shown(data: Any = None, **more: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": data, **more}


def without(value: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key not in keys}


def joined(lines: Any) -> Any:
    """Lines as one text: the format has both."""
    return "".join(lines) if isinstance(lines, list) else lines


def said(cells: Iterable[Any]) -> list[Any]:
    """What the outputs of cells show."""
    outputs = [one for cell in cells if isinstance(cell, dict) for one in cell.get("outputs") or ()]
    shown = [one.get("text") or one.get("data") or one.get("traceback") for one in outputs if isinstance(one, dict)]
    return [joined(one) for one in shown if one]


_OLD = [
    {"cell_type": "heading", "level": 2, "metadata": {}, "source": ["Title"]},
    {
        "cell_type": "code", "collapsed": False, "input": ["x = 1\n", "x"], "language": "python", "metadata": {}, "prompt_number": 3,
        "outputs": [
            {"output_type": "pyout", "prompt_number": 3, "text": ["1"], "metadata": {}},
            {"output_type": "pyerr", "ename": "E", "evalue": "v", "traceback": ["tb"]},
            {"output_type": "display_data", "png": PNG, "metadata": {}},
        ],
    },
]  # fmt: skip
_DOCUMENTS: dict[str, dict[str, Any]] = {
    "plain": notebook(text(), code("x = 1", SAID)),
    "empty": notebook(),
    "format-3": {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": "x"}, "worksheets": [{"cells": _OLD}, {"cells": _OLD[1:]}]},
    "format-3-bare": {"nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1", "y"]}]}]},
    "metadata-null": notebook(code(), metadata=None),
    "metadata-missing": without(notebook(code("x", SAID)), "metadata"),
    "kernelspec-broken": notebook(code(), metadata={"kernelspec": {"language": "python"}, "language_info": None}),
    "kernel-unknown": notebook(code(), metadata={"kernelspec": {"name": "conda-x", "display_name": "Python [x]", "language": "python"}}),
    "cell-metadata-missing": notebook(without(code("x", SAID), "metadata"), {"cell_type": "markdown", "source": "b"}),
    "tags-broken": notebook(code(metadata={"tags": ["a", "a"], "name": 3, "collapsed": "yes"})),
    "outputs-missing": notebook({"cell_type": "code", "source": "x", "metadata": {}}),
    "output-without-name": notebook(code("x", {"output_type": "stream", "text": ["a\n", "b"]})),
    "output-without-metadata": notebook(code("x", {"output_type": "execute_result", "data": {"text/plain": "3"}})),
    "output-with-more": notebook(code("x", {**SAID, "extra": 1}, extra=2)),
    "error-without-traceback": notebook(code("x", {"output_type": "error", "ename": "E", "evalue": "v"})),
    "output-of-no-kind": notebook(code("x", {"output_type": "weird"}, 3, None, SAID)),
    "output-without-data": notebook(code("x", shown(None))),
    "text-with-outputs": notebook(text(outputs=[], execution_count=None), code()),
    "count-is-text": notebook(code(execution_count="3"), code(execution_count=-1)),
    "ids-missing": notebook(text(), code(), nbformat_minor=5),
    "ids-twice": notebook(text(id="a"), code(id="a"), nbformat_minor=5),
    "ids-broken": notebook(text(id="a b!"), code(id=""), code(id=7), nbformat_minor=5),
    "ids-of-ours": notebook(text(id="grader-summary"), code(id="grader-below-1"), nbformat_minor=5),
    "ids-before-their-time": notebook(text(id="aa"), code(id="bb")),
    "minor-of-the-future": notebook(code(id="a"), nbformat_minor=99),
    "minor-missing": without(notebook(code()), "nbformat_minor"),
    "format-missing": without(notebook(code()), "nbformat", "nbformat_minor"),
    "format-is-text": notebook(code(), nbformat="4", nbformat_minor="4"),
    "type-missing": notebook(without(code(), "cell_type"), {"source": "text"}),
    "type-in-capitals": notebook(code(cell_type="Code")),
    "type-unknown": notebook({"cell_type": "sql", "source": "T", "metadata": {}}, code()),
    "no-cells-among-them": notebook(3, code(), "x", None),
    "source-missing": notebook(without(code(), "source"), code(None), code(["a\n", 3])),
    "raw": notebook({"cell_type": "raw", "metadata": {"format": "text/latex"}, "source": "\\x"}, code()),
    "attachments": notebook(text("![p](attachment:a.png)", attachments={"a.png": {"image/png": PNG}}), code()),
    "attachments-broken": notebook(text("![p](attachment:a.png)", attachments=None), code()),
    "widgets": notebook(
        code("x", shown(WIDGET)),
        metadata={"widgets": {WIDGETS: {"version_major": 2, "version_minor": 0, "state": {"abc": STATE}}}},
    ),
    "widgets-of-colab": notebook(code("x", shown(WIDGET)), metadata={"widgets": {WIDGETS: {"abc": STATE}}}),
    "long-output": notebook(code("x", {**SAID, "text": ("x" * 99 + "\n") * 30_000})),
    "many-outputs": notebook(code("x", *[{**SAID, "text": f"{n}\n"} for n in range(500)])),
    "script-in-output": notebook(code("x", shown({"text/html": "<script>document.title = 'gone'</script><b>b</b>"}))),
    "colours-in-output": notebook(code("x", {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m"]})),
    "picture": notebook(code("x", shown({"image/png": f"{PNG}\n", "application/json": {"a": [1]}}))),
    "nan-in-output": notebook(code("x", shown({"application/json": {"a": float("nan")}, "text/plain": "a"}))),
    "no-characters": notebook(code("x = '\ud800'"), text("\udfff"), code("y = 1\x00")),
    "windows-lines": notebook(code("x = 1\r\ny = 2\r\n")),
}  # fmt: skip
_PLAIN = json.dumps(notebook(text("åäö"), code("x = 1", SAID)), ensure_ascii=False)
ODD: dict[str, bytes] = {
    "utf-16": _PLAIN.encode("utf-16"),
    "byte-order-mark": _PLAIN.encode("utf-8-sig"),
    "windows-1252": _PLAIN.encode("cp1252"),
    "text-after-it": _PLAIN.encode() + b"\n<<<",
    "json-in-json": json.dumps(_PLAIN).encode(),
    "envelope": json.dumps({"type": "notebook", "content": notebook(text(), code())}).encode(),
    **{name: json.dumps(document).encode() for name, document in _DOCUMENTS.items()},
}
"""File by name."""
