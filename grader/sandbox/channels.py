"""The grader's ends of a kernel's channels: bounded in bytes, messages and size of one message; what is malformed is dropped.

Trusted code reading untrusted bytes: the session key lies in the student's process, so any message may be forged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from traitlets import Type
from zmq.constants import Event, SocketOption

from grader.sandbox.contract import Limits

__all__ = ["TOO_WIDE", "BoundedClient", "Flow", "Take", "lost", "race"]

_MOST_HEADER = 64 << 10
_MOST_CONTENT = 16 << 20
_MOST_CONTAINERS = 400_000
"""Lists and dicts in one message: twenty times the bytes that they came in, once they are Python's. What is wider is not parsed."""
TOO_WIDE = {"status": "error", "ename": "AnswerTooLarge", "evalue": "more than can be read", "traceback": []}
"""The content of a reply that was too wide to be read."""
_REPLY_SECONDS = 10.0
"""How long after a kernel's word that it is at rest its reply may take; it was sent before, on another socket. Wall time."""
_REST_SECONDS = 4.0
"""How long after the reply that word, and outputs before it, may take."""

Take = Callable[[str, dict[str, Any]], None]
"""Takes kind and content of a message on the output channel."""


@dataclass(slots=True)
class Flow:
    """What has come in on one channel, and what may."""

    most_bytes: int
    """Bytes of all messages together."""
    most_messages: int
    """Number of messages."""
    exceeded: Callable[[], None]
    """Called with each message beyond these limits, none of which is read."""
    bytes: int = 0
    """So many have come."""
    messages: int = 0
    """So many have come."""

    def count(self, size: int) -> bool:
        """Count one message of so many bytes; False when it is beyond the limits."""
        self.bytes += size
        self.messages += 1
        return self.bytes <= self.most_bytes and self.messages <= self.most_messages


class BoundedChannel(AsyncZMQSocketChannel):
    """A channel that never raises on what the kernel sends and stops reading beyond its limits."""

    flow: Flow | None = None

    async def _recv(self, **options: Any) -> dict[str, Any]:
        while True:
            frames = await self.socket.recv_multipart(**options)
            if self.flow is not None and not self.flow.count(sum(map(len, frames))):
                self.flow.exceeded()
                continue
            try:
                _identities, parts = self.session.feed_identities(frames)
                if sum(len(part) for part in parts[1:4]) > _MOST_HEADER:
                    continue
                message = self.session.deserialize(parts, content=False)
                if _wide(message["content"]):
                    if self.flow is not None:
                        continue  # an output that nobody could have read
                    message["content"] = TOO_WIDE  # of an answer it is told that it came
                else:
                    message["content"] = self.session.unpack(message["content"])
            except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
                continue
            if _well_formed(message):
                return message


def _wide(packed: bytes) -> bool:
    """Whether parsing this JSON could fill our memory."""
    return len(packed) > _MOST_CONTENT or packed.count(b"[") + packed.count(b"{") > _MOST_CONTAINERS


def _well_formed(message: Any) -> bool:
    """Whether what is read of every message has the right type."""
    return (
        isinstance(message, dict)
        and isinstance(message.get("header"), dict)
        and isinstance(message.get("msg_type"), str)
        and isinstance(message.get("parent_header"), dict)
        and isinstance(message.get("content"), dict)
        and isinstance(message.get("metadata"), dict)
    )


async def lost(channel: Any, ended: asyncio.Event) -> bool:
    """Wait until the channel's connection drops or the kernel has `ended`; True when a message above the size limit was the reason.

    After such a message ZeroMQ gives up; after any other loss it tries to connect again, which can be seen.
    """
    monitor = channel.socket.get_monitor_socket(Event.DISCONNECTED | Event.CONNECT_RETRIED)
    await monitor.recv_multipart()
    retried = asyncio.ensure_future(monitor.poll(300))
    return await race(retried, None, ended) and not ended.is_set() and not retried.result()


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


class BoundedClient(AsyncKernelClient):
    """Shell and output channel of one kernel, that refuse single messages above a size before they are in memory."""

    shell_channel_class = Type(BoundedChannel)
    iopub_channel_class = Type(BoundedChannel)
    limits: Limits
    output: Flow

    @classmethod
    def connected(cls, info: Mapping[str, Any], limits: Limits, flooded: Callable[[], None]) -> Self:
        """Connect to the kernel at `info`; `flooded` is called when it has sent more than it may."""
        client = cls()
        client.load_connection_info(info)
        client.limits = limits
        client.output = Flow(limits.output_bytes, limits.output_messages, flooded)
        client.allow_stdin = False
        client.start_channels(shell=True, iopub=True, stdin=False, hb=False, control=False)  # noqa: S604 - a channel's name
        client.iopub_channel.flow = client.output
        return client

    def close(self) -> None:
        """Close both channels and the context they came from."""
        for channel in (self.shell_channel, self.iopub_channel):
            if channel.socket is not None:
                channel.socket.disable_monitor()
        self.context.destroy(linger=0)

    def _create_connected_socket(self, channel: str, identity: bytes | None = None, **options: Any) -> Any:
        # set on the context, where sockets take their defaults from: a limit set after `connect` has no effect
        most = self.limits.output_bytes if channel == "iopub" else self.limits.message_bytes
        self.context.setsockopt(SocketOption.MAXMSGSIZE, most)
        self.context.setsockopt(SocketOption.RCVHWM, 64 if channel == "iopub" else 4)
        self.context.setsockopt(SocketOption.SNDTIMEO, 5_000)  # sending blocks this process: not for long
        # the sockets wait for a kernel that may import libraries for minutes: else ZeroMQ gives up after half a one
        self.context.setsockopt(SocketOption.HANDSHAKE_IVL, 0)
        return super()._create_connected_socket(channel, identity=identity, **options)

    def reopen_shell(self) -> None:
        """Connect the shell channel anew: ZeroMQ gives a connection up for good after a message above the limit."""
        self.shell_channel.socket.disable_monitor()
        self.shell_channel.close()
        self._shell_channel = None

    async def request(
        self, kind: str, content: dict[str, Any], buffers: Sequence[bytes] = (), take: Take | None = None
    ) -> dict[str, Any] | None:
        """Send a request, such as `execute`, and read until its reply has come, which is returned.

        What is printed meanwhile counts as output, and is given to `take`; where it is taken, None is returned for a kernel that comes to
        rest without a reply. Raises ZMQError: the kernel takes nothing any more.
        """
        sent = self.session.send(self.shell_channel.socket, f"{kind}_request", content, buffers=list(buffers))
        message_id = sent["header"]["msg_id"]
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
            message: dict[str, Any] = await self.shell_channel.get_msg()
            if message["parent_header"].get("msg_id") == message_id and message["msg_type"] == kind:
                return message

    async def _rest(self, message_id: str, take: Take | None) -> None:
        """Read outputs until the kernel says that it has come to rest after one request; what is malformed is dropped."""
        while True:
            message: dict[str, Any] = await self.iopub_channel.get_msg()
            if message["parent_header"].get("msg_id") == message_id:
                kind, content = message["msg_type"], message["content"]
                if kind == "status" and content.get("execution_state") == "idle":
                    return
                if take is not None:
                    with contextlib.suppress(TypeError, KeyError, AttributeError):
                        take(kind, content)
