"""Open WebSocket connections: what waits to be sent to each, and how long it lasts.

Knows nothing of HTTP, Lambda or what a frame means. Everything here runs in the gateway's event loop.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from localaws.events import Identity, now_ms
from localaws.frames import Close, Frames
from localaws.limits import CLOSE_GOING_AWAY, CLOSE_POLICY, OUTGOING_BUFFER_BYTES

CLOSE_S = 1.0
"""How long a connection whose end is known may take to end: its client does not read, or does not close."""

GOING_AWAY = "Going away"


class BufferFull(Exception):
    """The client reads more slowly than it is sent to."""


class Connection:
    """One connection. `post` never waits, posts keep their order, and a client that does not read costs only itself.

    It closes itself with 1001 once no message was received or posted for `idle_s` seconds, and after `life_s` seconds
    in any case.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
    """

    def __init__(self, identity: Identity, transport: asyncio.Transport, *, idle_s: float, life_s: float) -> None:
        self.identity = identity
        self.last_active_at = identity.connected_at
        self._transport = transport
        self._frames = Frames()
        self._received: list[str] = []
        self._lost = False
        self._reader: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._idle_s = idle_s
        self._active_at = self._loop.time()
        self._ends_at = self._active_at + life_s
        self._ending = False
        self._frozen = False
        self._held = bytearray()
        """What would have been written meanwhile."""
        self._unread = bytearray()
        """What has come, and is not to be read meanwhile."""
        self._answered = 0
        """Bytes that were written in answer to what came, pongs mostly, since nothing waited any more."""
        self._timer = self._loop.call_later(min(idle_s, life_s), self._expire)

    @property
    def closed(self) -> Close | None:
        """Set when the end is known, which may be before the socket is closed."""
        return self._frames.closed

    def post(self, text: bytes) -> None:
        """Send a text, unless closed. Raises BufferFull if more than OUTGOING_BUFFER_BYTES would wait."""
        self.check_room(text)
        self.send(text)

    def check_room(self, text: bytes) -> None:
        """Raises BufferFull where `post` would."""
        if self._buffered() + len(text) > OUTGOING_BUFFER_BYTES:
            raise BufferFull

    def send(self, text: bytes) -> None:
        """Send a text, unless closed, however much waits already."""
        self._touch()
        self._frames.send(text)
        self._flush()

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame behind what was posted; the first close counts."""
        self._frames.close(code, reason)
        self._flush()

    def freeze(self) -> None:
        """Read and write nothing more, as if the client's machine slept, until `thaw`."""
        self._frozen = True
        self._transport.pause_reading()

    def thaw(self) -> None:
        """Go on where `freeze` stopped. Repeats do nothing."""
        self._frozen = False
        if self._held:
            self._transport.write(bytes(self._held))
            self._held.clear()
        if self._unread:
            unread, self._unread = bytes(self._unread), bytearray()
            self.feed_data(unread)
        if self._reader is not None:
            self._transport.resume_reading()

    def cut(self) -> None:
        """End the TCP connection without a close frame."""
        self._transport.abort()

    async def read(self) -> list[str]:
        """The texts that have come since the last call, at least one; none at the end, and `closed` is set then."""
        if not self._received and not self._lost:
            if not self._frozen:
                self._transport.resume_reading()
            self._reader = self._loop.create_future()
            await self._reader
            self._reader = None
        received, self._received = self._received, []
        return received

    def feed_data(self, data: bytes) -> tuple[Literal[False], bytes]:
        """Take what the client has sent. The answer says to aiohttp that all of it was taken, and more may come."""
        if self._frozen:
            # What came with the handshake comes in any case, and if it was much, aiohttp goes on reading behind it.
            self._unread += data
            self._transport.pause_reading()
            return False, b""
        if not self._buffered():
            self._answered = 0
        texts = self._frames.receive(data)
        self._answered += self._flush()
        # Of pongs alone: posts that were delayed and fall due together may fill it so far, and the plan wants them to.
        if min(self._answered, self._buffered()) > 2 * OUTGOING_BUFFER_BYTES:
            # A close frame would only wait behind them.
            self.close(CLOSE_POLICY, "Pings come, and their pongs are not read")
            self._transport.abort()
        if texts:
            self._touch()
            self._received += texts
            self._wake()
        return False, b""

    def feed_eof(self) -> None:
        """The socket is closed: no more comes, and nothing can be sent."""
        self._frames.receive_end()
        self._timer.cancel()
        self._held.clear()
        self._unread.clear()
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is None:  # it is not done with what came before
            self._transport.pause_reading()
        elif not self._reader.done():
            self._reader.set_result(None)

    def _buffered(self) -> int:
        return len(self._held) + self._transport.get_write_buffer_size()

    def _touch(self) -> None:
        self.last_active_at = now_ms()
        self._active_at = self._loop.time()

    def _flush(self) -> int:
        """Write what there is to send; how many bytes that were."""
        written = 0
        for data in self._frames.to_send():
            written += len(data)
            if self._frozen:
                self._held += data  # an end among it comes by itself, CLOSE_S after the close frame
            elif data:
                self._transport.write(data)
            else:
                self._transport.write_eof()
        if self.closed is not None and not self._ending:
            self._ending = True
            self._timer.cancel()
            self._timer = self._loop.call_later(CLOSE_S, self._transport.abort)
        return written

    def _expire(self) -> None:
        due = min(self._active_at + self._idle_s, self._ends_at)
        if due <= self._loop.time():
            self.close(CLOSE_GOING_AWAY, GOING_AWAY)
        else:
            self._timer = self._loop.call_at(due, self._expire)
