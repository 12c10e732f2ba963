"""WebSocket clients that may do anything: raw sockets, and the bytes of requests and frames, right and wrong.

What a server sends is read by the websockets library; what it refuses to send is put together here.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from types import TracebackType

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

FRAME_BYTES = 32 * 1024
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
WAIT_S = 20.0
"""The bound of every wait for what the server must do."""

HEADERS = {
    "Host": "x",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


def in_frames(text: str) -> Iterator[str]:
    """A text in pieces for a client to send, none of which is larger than a frame may be."""
    most = FRAME_BYTES // 4  # the bytes of a character
    for start in range(0, len(text), most):
        yield text[start : start + most]


def upgrade(
    line: str = "GET / HTTP/1.1", *, without: Collection[str] = (), more: Mapping[str, str] | None = None
) -> bytes:
    """A handshake's bytes: a right one's, but for what is told."""
    headers = [(name, value) for name, value in HEADERS.items() if name not in without]
    lines = [line, *(f"{name}: {value}" for name, value in (*headers, *(more or {}).items())), "", ""]
    return "\r\n".join(lines).encode()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True, length: int = -1
) -> bytes:
    """A client's frame. `reserved` are the three reserved bits as a number; `length` stands in for the true one."""
    size = len(payload) if length < 0 else length
    first, mask = fin << 7 | reserved << 4 | opcode, masked << 7
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + bytes(4 * masked) + payload  # masked with zeros, it reads as it is


def closing(code: int, reason: bytes = b"") -> bytes:
    """A close frame's bytes."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


class Reader:
    """Reads what a server sends: whole frames, and nothing that is no frame."""

    def __init__(self) -> None:
        self._protocol = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)

    def read(self, data: bytes) -> list[Frame]:
        """The frames that are complete with `data`."""
        if data and self._protocol.close_rcvd is None:  # it may send nothing after its close frame
            self._protocol.receive_data(data)
        elif data:
            raise AssertionError(data)
        assert self._protocol.parser_exc is None, self._protocol.parser_exc
        return [each for each in self._protocol.events_received() if isinstance(each, Frame)]


class Raw:
    """A connection after its handshake, of a client that does nothing by itself."""

    def __init__(self, port: int, *, path: str = "/", early: bytes = b"") -> None:
        """`early` is sent with the handshake, before it is answered."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self._reader = Reader()
        self.socket.sendall(upgrade(f"GET {path} HTTP/1.1") + early)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(65_536)
        self.head, _, rest = answer.partition(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101 "), answer
        self._received = self._reader.read(rest)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end(self) -> None:
        """Send nothing more; what comes can still be read."""
        with contextlib.suppress(OSError):  # the server was sooner
            self.socket.shutdown(socket.SHUT_WR)

    def frame(self) -> Frame | None:
        """The next frame; None where the server has ended the connection."""
        while not self._received:
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._received = self._reader.read(data)
        return self._received.pop(0)

    def text(self) -> str:
        """The next frame, which is a text."""
        received = self.frame()
        assert received is not None and received.opcode is Opcode.TEXT, received
        return bytes(received.data).decode()

    def close_at_the_end(self) -> Close | None:
        """The close frame that the server ends with; None where it ended without one. Other frames are left out."""
        last = None
        while received := self.frame():
            last = received
        return Close.parse(bytes(last.data)) if last is not None and last.opcode is Opcode.CLOSE else None
