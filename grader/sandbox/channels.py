"""The grader's ends of a kernel's channels: bounded in bytes, messages and size of one message; what is malformed is dropped.

Trusted code reading untrusted bytes: the session key lies in the student's process, so any message may be forged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from traitlets import Type
from zmq.constants import Event, SocketOption

from grader.sandbox.contract import EvidenceTooLarge, Limits

__all__ = ["BoundedClient", "Flow", "lost", "race"]

_MOST_HEADER = 64 << 10
_MOST_CONTENT = 16 << 20
_MOST_CONTAINERS = 400_000
"""Lists and dicts in one message: twenty times the bytes that they came in, once they are Python's. What is wider is not parsed."""
_TOO_WIDE = {"status": "error", "ename": "AnswerTooLarge", "evalue": "more than can be read", "traceback": []}


class Flow:
    """What has come in on one channel, and what may."""

    def __init__(self, most_bytes: int, most_messages: int) -> None:
        self.most_bytes, self.most_messages = most_bytes, most_messages
        self.bytes = self.messages = 0
        self.exceeded: Callable[[], None] = lambda: None
        """Called once, when either limit is passed."""
        self._stopped = False

    def count(self, frames: list[bytes]) -> bool:
        """Count one message; False when it is beyond the limits."""
        self.bytes += sum(len(frame) for frame in frames)
        self.messages += 1
        return self.bytes <= self.most_bytes and self.messages <= self.most_messages

    def stop(self) -> None:
        """Tell once that the flow has exceeded its limits."""
        if not self._stopped:
            self._stopped = True
            self.exceeded()


class BoundedChannel(AsyncZMQSocketChannel):
    """A channel that never raises on what the kernel sends and stops reading beyond its limits."""

    flow: Flow | None = None

    async def _recv(self, **options: Any) -> dict[str, Any]:
        while True:
            frames = await self.socket.recv_multipart(**options)
            if self.flow is not None and not self.flow.count(frames):
                self.flow.stop()
                continue
            try:
                _identities, parts = self.session.feed_identities(frames)
                if sum(len(part) for part in parts[1:4]) > _MOST_HEADER:
                    continue
                message = self.session.deserialize(parts, content=False)
                if _wide(message["content"]):
                    if self.flow is not None:
                        continue  # an output that nobody could have read
                    message["content"] = _TOO_WIDE  # of an answer it is told that it came
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
    """Whether nbclient can read the message without tripping over a wrong type."""
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
        client.output = Flow(limits.output_bytes, limits.output_messages)
        client.output.exceeded = flooded
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

    async def answer(self, message_id: str) -> dict[str, Any]:
        """The answer to one question; anything else that comes on the shell channel is dropped."""
        while True:
            message: dict[str, Any] = await self.shell_channel.get_msg()
            if message["parent_header"].get("msg_id") == message_id and message["msg_type"] == "grader_reply":
                if message["content"] is _TOO_WIDE:
                    raise EvidenceTooLarge("an answer of more values than can be read")
                return message

    async def drain(self) -> None:
        """Read and drop what is printed while a question is answered; it counts as output."""
        while True:
            await self.iopub_channel.get_msg()
