"""RFC 6455 as API Gateway speaks it, without I/O: a handshake in, its answer out; bytes in, texts and bytes out.

Knows which handshakes, frames and messages are taken, and with which code one that is not ends the connection. Reading
and writing frames is the websockets library's. Knows nothing of sockets, time, Lambda or what a text means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from localaws.limits import (
    CLOSE_ABNORMAL,
    CLOSE_INVALID_TEXT,
    CLOSE_NO_STATUS,
    CLOSE_UNSUPPORTED_DATA,
    FRAME_BYTES,
    MESSAGE_BYTES,
)

_HANDSHAKE = {"connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol"}
_NOT_PRINTABLE = re.compile(r"[^\t\x20-\x7e]")
_OF_TEXT = {Opcode.TEXT, Opcode.CONT}
_NO_STATUS = "Client-side close frame status not set"


@dataclass(frozen=True)
class Close:
    """Why a connection ended: RFC 6455's code, and a reason."""

    code: int
    reason: str = ""


def handshake(path: str, headers: Iterable[tuple[str, str]]) -> Response:
    """The answer to an upgrade by GET: 101 with the headers to send, or a refusal that says what is wrong.

    Takes no extension, so no frame is ever compressed, and no subprotocol: that is for the $connect handler to pick.
    """
    # The library takes values for printable ASCII; where they are not, a question mark is just as wrong.
    ours = Headers((name, _NOT_PRINTABLE.sub("?", value)) for name, value in headers if name.lower() in _HANDSHAKE)
    return ServerProtocol().accept(Request(path, ours))


class Frames:
    """One connection after its handshake.

    After each call, `to_send` has what is to be written. The first end counts, whoever began it: `closed` says which it
    was, and nothing is received or sent any more.
    """

    def __init__(self) -> None:
        self.closed: Close | None = None
        self._protocol = ServerProtocol(state=State.OPEN, max_size=(MESSAGE_BYTES, FRAME_BYTES))
        self._message = bytearray()
        """What has come of a message that is not complete."""

    def receive(self, data: bytes) -> list[str]:
        """The texts that are complete with `data`, in order. Pings are answered; what is not allowed ends it.

        Where `data` has several faults, the code may be that of a later one.
        """
        self._protocol.receive_data(data)
        frames = self._protocol.events_received()
        if self.closed is not None:
            return []
        texts = []
        for frame in frames:
            assert isinstance(frame, Frame)  # noqa: S101  for mypy: requests come before a protocol is open
            try:
                if (text := self._take(frame)) is not None:
                    texts.append(text)
            except _Refused as refused:
                self._protocol.fail(refused.code, refused.reason)
                break
        self._note_end()
        return texts

    def receive_end(self) -> None:
        """The client sends nothing more: it closed, or was lost."""
        self._protocol.receive_eof()
        self._note_end()

    def send(self, text: bytes) -> None:
        """Send a text, in frames of at most FRAME_BYTES."""
        if self.closed is None:
            last = max(0, (len(text) - 1) // FRAME_BYTES)
            self._protocol.send_text(text[:FRAME_BYTES], fin=last == 0)
            for number in range(1, last + 1):
                piece = text[number * FRAME_BYTES : (number + 1) * FRAME_BYTES]
                self._protocol.send_continuation(piece, fin=number == last)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, behind what was sent."""
        if self.closed is None:
            self._protocol.send_close(code, reason)
            self._note_end()

    def to_send(self) -> list[bytes]:
        """What is to be written now. Empty bytes stand for the end: no more is to come."""
        return self._protocol.data_to_send()

    def _take(self, frame: Frame) -> str | None:
        """The text that is complete with a frame. Raises _Refused."""
        if frame.opcode is Opcode.BINARY:
            raise _Refused(CLOSE_UNSUPPORTED_DATA)
        if frame.opcode not in _OF_TEXT:
            return None
        self._message += frame.data
        if not frame.fin:
            return None
        message, self._message = self._message, bytearray()
        try:
            return message.decode()
        except UnicodeDecodeError as error:
            raise _Refused(CLOSE_INVALID_TEXT, f"{error.reason} at position {error.start}") from error

    def _note_end(self) -> None:
        if self._protocol.state is State.OPEN:
            return
        end = self._protocol.close_sent  # a client's own close frame is sent back
        if end is None:
            self.closed = Close(CLOSE_ABNORMAL)
        elif end.code == CLOSE_NO_STATUS:
            self.closed = Close(CLOSE_NO_STATUS, _NO_STATUS)
        else:
            self.closed = Close(int(end.code), end.reason)


class _Refused(Exception):
    """A message that RFC 6455 allows, or leaves to the receiver to check, and API Gateway does not take."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
