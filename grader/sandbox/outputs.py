"""One cell through nbclient, and what a report keeps of it.

Trusted code that reads untrusted bytes: replies and outputs are the student's and may have any shape.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Self

import nbformat
from jupyter_client.asynchronous import AsyncKernelClient
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from zmq.error import ZMQError

from grader.records import CellError
from grader.sandbox.contract import Outcome

__all__ = ["CellClient", "completed", "error_of", "plain", "printed", "symptom"]

_TEXT, _TRACEBACK, _SHORT = 20_000, 8_000, 1_000
_MOST_PLACES = 20
"""Outputs of a cell that a message updates, should it have displayed them all under one id."""
_REPLY_SECONDS = 10.0
"""How long after a kernel's word that it is idle its reply may take; it was sent before, on another socket. Wall time."""
_NO_REPLY = {
    "status": "error", "ename": "NoReply", "evalue": "The kernel came to rest without an answer.", "traceback": [],
}  # fmt: skip
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")
_SYMPTOMS = (
    (Outcome.OUT_OF_MEMORY, re.compile(r"^MemoryError|[Cc](an't|annot) allocate memory|not enough memory|bad_alloc")),
    (Outcome.DISK_LIMIT, re.compile(r"No space left on device|File too large")),
    (
        Outcome.PROCESS_LIMIT,
        re.compile(r"can't start new thread|^BlockingIOError: \[Errno 11\]|[Cc]an't start .*thread"),
    ),
)
"""Errors a cell ends with when it met a limit; whoever raises them without need harms only the own report."""


def symptom(error: CellError) -> Outcome | None:
    """The limit that an error speaks of, or None."""
    text = f"{error.name}: {error.message}"
    return next((outcome for outcome, pattern in _SYMPTOMS if pattern.search(text)), None)


class CellClient(NotebookClient):
    """nbclient on a kernel that somebody else starts, watches and ends."""

    ended: asyncio.Event
    clear_before_next_output: bool

    @classmethod
    def of(cls, client: AsyncKernelClient, ended: asyncio.Event) -> Self:
        """On the channels of `client`, of a kernel whose end `ended` tells."""
        notebook = cls(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("")]), timeout=None, allow_errors=True,
            coalesce_streams=False, record_timing=False, store_widget_state=False,
        )  # fmt: skip
        notebook.kc, notebook.ended = client, ended
        return notebook

    async def run(self, cell: Any) -> None:
        """Run one cell, and collect its outputs in it; what it displays can be updated by itself alone."""
        self.nb["cells"][0] = cell
        self._display_id_map.clear()
        await self.async_execute_cell(cell, 0)

    async def _async_poll_kernel_alive(self) -> None:
        # the process itself is watched: a death is noticed at once, not at the next second
        await self.ended.wait()
        await asyncio.sleep(0.05)  # a reply sent just before the end is still read
        if self.task_poll_for_reply is not None:
            self.task_poll_for_reply.cancel()

    async def _async_poll_for_reply(
        self, msg_id: str, cell: Any, timeout: int | None, output: asyncio.Future[Any], alive: asyncio.Future[Any]
    ) -> dict[str, Any]:
        # a kernel that is idle without having replied never will
        reply = asyncio.ensure_future(super()._async_poll_for_reply(msg_id, cell, timeout, output, alive))
        try:
            await asyncio.wait([reply, output], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([reply], timeout=_REPLY_SECONDS)
            if reply.done():
                return reply.result()
            alive.cancel()
            return {"content": _NO_REPLY}
        finally:
            reply.cancel()

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take what a report shows; widgets are not among it, and what is forged badly is dropped."""
        try:
            content = _shown(msg["msg_type"], msg["content"])
            return super().process_message({**msg, "content": content}, cell, cell_index) if content else None
        except CellControlSignal:
            raise
        except Exception:
            return None

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        """Keep one output; `_shown` has made it, so nbformat's check against its schema, a millisecond for each, tells nothing."""
        if self.clear_before_next_output:
            outs[:] = []
            self.clear_display_id_mapping(cell_index)
            self.clear_before_next_output = False
        if display_id:
            places = self._display_id_map.setdefault(display_id, {}).setdefault(cell_index, [])
            if len(places) < _MOST_PLACES:  # each message with this id changes all of them
                places.append(len(outs))
        fields = {name: value for name, value in msg["content"].items() if name != "transient"}
        outs.append(NotebookNode(output_type=msg["msg_type"], **fields))
        return outs[-1]


def _shown(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """What of a message a report shows; empty when that is nothing. The rest would be copied many times over by nbclient."""
    if kind == "status":
        return {"execution_state": str(content.get("execution_state"))}
    if kind == "stream":
        return {"name": str(content["name"])[:_SHORT], "text": _string(content["text"])}
    if kind in ("display_data", "execute_result", "update_display_data"):
        shown = {"text/plain": _string(content["data"]["text/plain"])} if "text/plain" in content["data"] else {}
        name = (content.get("transient") or {}).get("display_id")
        transient = {"display_id": name} if type(name) is str else {}
        return {"data": shown, "metadata": {}, "transient": transient, "execution_count": None}
    if kind == "error":
        return {"ename": _string(content["ename"]), "evalue": _string(content["evalue"]), "traceback": []}
    return {"wait": bool(content.get("wait"))} if kind == "clear_output" else {}


def _string(value: Any) -> str:
    """A text as it is. Raises TypeError for anything else, whose text would be made here."""
    if type(value) is not str:
        raise TypeError(type(value).__name__)
    return value


async def completed(task: asyncio.Future[Any]) -> bool:
    """Wait for nbclient; False when the kernel died under it, or cannot be reached."""
    try:
        await task
    except asyncio.CancelledError:
        if not task.done():
            raise  # it is we who are cancelled
        return False
    except (DeadKernelError, ZMQError):
        return False
    return True


def plain(text: Any, most: int) -> str:
    """Text without terminal escapes, its middle cut out when it is long."""
    clean = _ESCAPES.sub("", str(text))
    if len(clean) <= most:
        return clean
    half = most // 2
    return f"{clean[:half]}\n... ({len(clean) - most} characters left out) ...\n{clean[-half:]}"


def error_of(reply: dict[str, Any]) -> CellError | None:
    """The exception a cell ended with, from its reply."""
    content = reply.get("content")
    if not isinstance(content, dict) or content.get("status") != "error":
        return None
    lines = content.get("traceback")
    text = "\n".join(str(line) for line in lines[:200]) if isinstance(lines, list) else ""
    return CellError(
        plain(content.get("ename", "Exception"), 200),
        plain(content.get("evalue", ""), _SHORT),
        plain(text, _TRACEBACK),
    )


def printed(cell: Any) -> str:
    """What a person would read below the cell."""
    parts: list[str] = []
    for output in cell.get("outputs", []):
        if output.get("output_type") == "stream":
            parts.append(str(output.get("text", "")))
        elif isinstance(output.get("data"), dict):
            parts.append(f"{output['data'].get('text/plain', '(a figure or widget)')}\n")
    return plain("".join(parts), _TEXT)
