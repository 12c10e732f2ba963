"""Open WebSocket connections, and what waits to be sent to each.

Knows nothing of HTTP, Lambda or what a frame means. Everything here runs in the gateway's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from aiohttp import WebSocketError, WSMsgType, web

from localaws.events import Identity, now_ms
from localaws.limits import (
    CLOSE_ABNORMAL,
    CLOSE_NO_STATUS,
    CLOSE_TOO_BIG,
    CLOSE_UNSUPPORTED_DATA,
    MESSAGE_BYTES,
    OUTGOING_BUFFER_BYTES,
)

CLOSE_S = 1.0
"""How long a client that does not read keeps its socket once it is to be closed."""


class BufferFull(Exception):
    """The client reads more slowly than it is sent to."""


@dataclass(frozen=True)
class Close:
    """Why a connection ended: RFC 6455's code, and a reason."""

    code: int
    reason: str = ""


class Connection:
    """One connection. `post` never waits, posts keep their order, and a client that does not read costs only itself."""

    def __init__(self, identity: Identity, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.identity = identity
        self.last_active_at = identity.connected_at
        self.closed: Close | None = None
        """Set when the end is known, which may be before the socket is closed."""
        self._socket = socket
        self._transport = transport
        self._outgoing: asyncio.Queue[bytes | Close] = asyncio.Queue()
        self._buffered = 0
        self._flowing = asyncio.Event()
        self._flowing.set()

    def post(self, text: bytes) -> None:
        """Queue a text frame. Raises BufferFull if more than OUTGOING_BUFFER_BYTES would wait."""
        if self._buffered + len(text) > OUTGOING_BUFFER_BYTES:
            raise BufferFull
        self.last_active_at = now_ms()
        self._buffered += len(text)
        self._outgoing.put_nowait(text)

    def close(self, code: int, reason: str = "") -> None:
        """Queue a close frame behind what was posted; the first close counts."""
        if self.closed is None:
            self.closed = Close(code, reason)
            self._outgoing.put_nowait(self.closed)
            if self._transport is not None:
                asyncio.get_running_loop().call_later(CLOSE_S, self.cut)

    def freeze(self) -> None:
        """Read and write nothing more, as if the client's machine slept, until `thaw`."""
        self._flowing.clear()
        if self._transport is not None:
            self._transport.pause_reading()

    def thaw(self) -> None:
        """Go on where `freeze` stopped. Repeats do nothing."""
        if not self._flowing.is_set():
            self._flowing.set()
            if self._transport is not None:
                self._transport.resume_reading()

    def cut(self) -> None:
        """End the TCP connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    async def write(self) -> None:
        """Send what is queued, up to the close frame. Runs as a task of its own."""
        with contextlib.suppress(ConnectionError):  # the reader sees the socket's end, too
            while isinstance(item := await self._outgoing.get(), bytes):
                await self._flowing.wait()
                await self._socket.send_frame(item, WSMsgType.TEXT)
                self._buffered -= len(item)
            await self._flowing.wait()
            await self._socket.close(code=item.code, message=item.reason.encode())

    async def read(self) -> str | None:
        """The next text message; None at the end, and `closed` then says which end it was."""
        while True:
            received = await self._socket.receive()
            if received.type is WSMsgType.BINARY:
                self.close(CLOSE_UNSUPPORTED_DATA)
            elif received.type is not WSMsgType.TEXT:
                self.closed = self.closed or self._end(received.type, received.data, received.extra)
                return None
            elif len(received.data.encode()) > MESSAGE_BYTES:
                self.close(CLOSE_TOO_BIG)
            elif self.closed is None:
                self.last_active_at = now_ms()
                return str(received.data)

    def _end(self, kind: WSMsgType, data: object, extra: object) -> Close:
        if kind is WSMsgType.CLOSE:
            # aiohttp says 0 where the close frame carries no code; the reason is API Gateway's.
            return Close(int(str(data)), str(extra)) if data else Close(CLOSE_NO_STATUS, _NO_STATUS)
        if isinstance(data, WebSocketError):  # too big, not UTF-8, no frame at all: aiohttp has closed it
            return Close(data.code, str(data))
        return Close(CLOSE_ABNORMAL)


_NO_STATUS = "Client-side close frame status not set"
