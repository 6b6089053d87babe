"""One connection to a socket of a kernel's, by ZeroMQ's own protocol (ZMTP 3.0, rfc.zeromq.org/spec/23), without its library.

Trusted code reading untrusted bytes. The library bounds a frame, not a message, and shows none before its last frame is there: a
kernel that goes on sending frames of one message fills the memory of whoever reads with it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Connection", "Overlong"]

_MORE, _LONG, _COMMAND = 1, 2, 4
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_MOST_FRAMES = 4_200
"""In one message, commands before it included: the arrays of an answer, as many as are read, and what stands around them."""
_RETRY_SECONDS = 0.1
_SEND_SECONDS = 5.0
"""How long a request waits for a connection that is made anew."""


class Overlong(Exception):  # noqa: N818 - it says what was met
    """A message is larger than may come, or there are more than may."""


class Connection:
    """A connection that reads ahead a few messages; it is made as soon as the other side is there, and once."""

    def __init__(
        self, info: Mapping[str, Any], channel: str, kind: bytes, *, most_bytes: int, most: int, most_waiting: int
    ) -> None:
        """Begin to connect to a channel of the kernel at `info`; `kind` is DEALER or SUB. Needs a running event loop.

        It is given up after a message of more than `most_bytes`, and after `most` messages; `most_waiting` are read ahead.
        """
        self._info, self._port = info, info[f"{channel}_port"]
        self._kind, self._most_bytes, self._most = kind, most_bytes, most
        self._waiting: asyncio.Queue[list[bytes]] = asyncio.Queue(most_waiting)
        self._opened: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the connection has dropped: True where that was because of more than may come."""
        self._task = asyncio.create_task(self._run())

    async def receive(self) -> list[bytes]:
        """The frames of the next message; waits for ever where none comes."""
        return await self._waiting.get()

    async def send(self, frames: Sequence[bytes], seconds: float | None = _SEND_SECONDS) -> None:
        """Send one message, once there is a connection. Raises OSError where there is none, or none in so many seconds."""
        writer = await asyncio.wait_for(asyncio.shield(self._opened), seconds)
        if writer.is_closing():
            raise ConnectionError("the connection was lost")
        for place, frame in enumerate(frames, 1):
            writer.write(_header(_MORE if place < len(frames) else 0, len(frame)))
            writer.write(frame)

    async def close(self) -> None:
        """Close it, without waiting for what was not sent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.lost.cancel()
        self._opened.cancel()

    async def _run(self) -> None:
        while not self._opened.done():
            try:
                reader, writer = await self._connect()
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                await self._shake_hands(reader, writer)
            except (OSError, EOFError, Overlong):
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                if not self._opened.done():
                    writer.transport.abort()
        overlong = False
        try:
            for _message in range(self._most):
                await self._waiting.put(await self._message(reader))
            overlong = True
        except Overlong:
            overlong = True
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()
        self.lost.set_result(overlong)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._info["transport"] == "tcp":
            return await asyncio.open_connection(self._info["ip"], self._port)
        return await asyncio.open_unix_connection(f"{self._info['ip']}-{self._port}")

    async def _shake_hands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Agree on the protocol. Raises OSError, EOFError or Overlong where the other side does not."""
        writer.write(_GREETING)
        await reader.readexactly(len(_GREETING))
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(self._kind)) + self._kind
        writer.write(_header(_COMMAND, len(ready)) + ready)
        await self._frame(reader, self._most_bytes)
        if self._kind == b"SUB":
            writer.write(_header(0, 1) + b"\x01")  # to all
        self._opened.set_result(writer)

    async def _message(self, reader: asyncio.StreamReader) -> list[bytes]:
        """The frames of one message; commands are dropped. Raises Overlong, OSError, or EOFError at the end."""
        frames: list[bytes] = []
        left = self._most_bytes
        for _frame in range(_MOST_FRAMES):
            flags, frame = await self._frame(reader, left)
            if not flags & _COMMAND:
                frames.append(frame)
                left -= len(frame)
                if not flags & _MORE:
                    return frames
        raise Overlong

    async def _frame(self, reader: asyncio.StreamReader, most_bytes: int) -> tuple[int, bytes]:
        (flags,) = await reader.readexactly(1)
        size = int.from_bytes(await reader.readexactly(8 if flags & _LONG else 1))
        if size > most_bytes:
            raise Overlong
        return flags, await reader.readexactly(size)


def _header(flags: int, size: int) -> bytes:
    return struct.pack(">BQ", flags | _LONG, size) if size > 255 else bytes((flags, size))
