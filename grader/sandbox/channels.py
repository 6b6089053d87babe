"""The grader's ends of a kernel's channels: bounded in bytes, messages and size of one message; what is malformed is dropped.

Trusted code reading untrusted bytes: the session key lies in the student's process, so any message may be forged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_client.session import Session

from grader.sandbox.contract import Limits
from grader.sandbox.zmtp import Connection

__all__ = ["TOO_WIDE", "Channel", "Client", "Take", "race"]

_MOST_HEADER = 64 << 10
_MOST_CONTENT = 16 << 20
_MOST_CONTAINERS = 400_000
"""Lists and dicts in one message: twenty times the bytes that they came in, once they are Python's. What is wider is not parsed."""
TOO_WIDE = {"status": "error", "ename": "AnswerTooLarge", "evalue": "more than can be read", "traceback": []}
"""The content of a reply that was too wide to be read."""
_PARTS = {"header": dict, "msg_type": str, "parent_header": dict, "content": dict, "metadata": dict}
"""What is read of every message."""
_REPLY_SECONDS = 10.0
"""How long after a kernel's word that it is at rest its reply may take; it was sent before, on another socket. Wall time."""
_REST_SECONDS = 4.0
"""How long after the reply that word, and outputs before it, may take."""

Take = Callable[[str, dict[str, Any]], None]
"""Takes kind and content of a message on the output channel."""


@dataclass(slots=True)
class Channel:
    """The grader's end of one channel: never raises on what the kernel sends, and stops reading beyond its limits."""

    session: Session
    """Packs and signs messages."""
    connection: Connection
    """To the kernel's socket."""
    limits: Limits
    """What may come of outputs; of replies each one alone is limited."""
    flooded: Callable[[], None] | None = None
    """Called with each output beyond the limits, none of which is read. None for the channel of replies."""
    bytes: int = 0
    """So many have come."""
    messages: int = 0
    """So many have come."""

    async def receive(self) -> dict[str, Any]:
        """The next message that can be read."""
        while True:
            frames = await self.connection.receive()
            self.bytes += sum(map(len, frames))
            self.messages += 1
            if self.flooded and (self.bytes > self.limits.output_bytes or self.messages > self.limits.output_messages):
                self.flooded()
                continue
            try:
                _identities, parts = self.session.feed_identities(frames)
                if sum(len(part) for part in parts[1:4]) > _MOST_HEADER:
                    continue
                message = self.session.deserialize(parts, content=False)
                if not _wide(message["content"]):
                    message["content"] = self.session.unpack(message["content"])
                elif self.flooded:
                    continue  # an output that nobody could have read
                else:
                    message["content"] = TOO_WIDE  # of an answer it is told that it came
            except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
                continue
            if all(isinstance(message.get(part), kind) for part, kind in _PARTS.items()):
                return message


def _wide(packed: bytes) -> bool:
    """Whether parsing this JSON could fill our memory."""
    return len(packed) > _MOST_CONTENT or packed.count(b"[") + packed.count(b"{") > _MOST_CONTAINERS


async def race(work: Awaitable[Any], seconds: float | None, *events: asyncio.Event) -> bool:
    """Wait for `work`, one of the events, or the time; True when `work` came first. Cancels it else."""
    future = asyncio.ensure_future(work)
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait([future, *waits], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if future.done() and not future.cancelled():
            future.exception()  # whoever asked for the work reads it there
        return future.done()
    finally:
        for task in waits:
            task.cancel()
        if not future.done():
            future.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await future


class Client:
    """Shell and output channel of one kernel, that refuse single messages above a size before they are in memory."""

    def __init__(self, info: Mapping[str, Any], limits: Limits, flooded: Callable[[], None]) -> None:
        """Connect to the kernel at `info`; `flooded` is called when it has sent more than it may."""
        self._info, self._limits = info, limits
        self._session = Session(key=info["key"].encode(), signature_scheme=info["signature_scheme"])
        output = Connection(
            info, "iopub", b"SUB", most_bytes=limits.output_bytes, most=limits.output_messages + 2, most_waiting=16
        )
        self.output = Channel(self._session, output, limits, flooded)
        self.open_shell()

    def open_shell(self) -> None:
        """Connect the shell channel, also anew: a connection is given up after a message above the limit."""
        most = self._limits.output_messages  # far more than there are requests
        connection = Connection(
            self._info, "shell", b"DEALER", most_bytes=self._limits.message_bytes, most=most, most_waiting=4
        )
        self.shell = Channel(self._session, connection, self._limits)

    async def close(self) -> None:
        """Close both channels."""
        await self.shell.connection.close()
        await self.output.connection.close()

    async def _send(self, kind: str, content: dict[str, Any], buffers: Sequence[bytes] = (), **options: Any) -> str:
        """Send a request on the shell channel; its id. Raises OSError: the kernel takes nothing any more."""
        message = self._session.msg(f"{kind}_request", content)
        await self.shell.connection.send([*self._session.serialize(message), *buffers], **options)
        return str(message["header"]["msg_id"])

    async def greet(self) -> None:
        """Ask the kernel who it is, until an answer has come on the shell channel and any message on the output channel."""
        asked = self._send("kernel_info", {}, seconds=None)
        await asyncio.gather(asked, self.shell.receive(), self.output.receive())

    async def request(
        self, kind: str, content: dict[str, Any], buffers: Sequence[bytes] = (), take: Take | None = None
    ) -> dict[str, Any] | None:
        """Send a request, such as `execute`, and read until its reply has come, which is returned.

        What is printed meanwhile counts as output, and is given to `take`; where it is taken, None is returned for a kernel that comes to
        rest without a reply. Raises OSError: the kernel takes nothing any more.
        """
        message_id = await self._send(kind, content, buffers)
        reply = asyncio.create_task(self._reply(message_id, f"{kind}_reply"))
        rest = asyncio.create_task(self._rest(message_id, take))
        try:
            await asyncio.wait([reply, rest], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([reply], timeout=None if take is None else _REPLY_SECONDS)
            if reply.done() and take is not None:
                await asyncio.wait([rest], timeout=_REST_SECONDS)
            return reply.result() if reply.done() else None
        finally:
            reply.cancel()
            rest.cancel()
            await asyncio.gather(reply, rest, return_exceptions=True)

    async def _reply(self, message_id: str, kind: str) -> dict[str, Any]:
        """The reply to one request; anything else that comes on the shell channel is dropped."""
        while True:
            message: dict[str, Any] = await self.shell.receive()
            if message["parent_header"].get("msg_id") == message_id and message["msg_type"] == kind:
                return message

    async def _rest(self, message_id: str, take: Take | None) -> None:
        """Read outputs until the kernel says that it has come to rest after one request; what is malformed is dropped."""
        while True:
            message: dict[str, Any] = await self.output.receive()
            if message["parent_header"].get("msg_id") == message_id:
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content.get("execution_state") == "idle":
                    return
                if take is not None:
                    with contextlib.suppress(TypeError, KeyError, AttributeError):
                        take(kind, content)
