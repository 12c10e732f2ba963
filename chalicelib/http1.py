"""One HTTP/1.1 response out of bytes that come in pieces of any size (RFC 9112).

Knows no socket: it is handed a function that returns more bytes. What is not a response, is cut off or has no end is
refused with BadResponse; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

MOST_BYTES = 1_048_576
"""More than that is not received, whatever it is: @connections answers in hundreds of bytes."""

SWITCHING_PROTOCOLS, NO_CONTENT, NOT_MODIFIED = 101, 204, 304

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n\0]*)?")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{1,8}")

Receive: TypeAlias = Callable[[], bytes]
"""Returns the next bytes, or none at the end of the stream."""


class BadResponse(Exception):
    """What came is not a response, or only the beginning of one."""


class Response(NamedTuple):
    """`headers` have lower-case names, and values joined by a comma where a name was repeated. `reusable` is whether
    the connection may carry another request.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    reusable: bool


def read_response(receive: Receive) -> Response:
    """Reads one response to a GET, POST or DELETE. Raises BadResponse, and whatever `receive` raises."""
    stream = _Stream(receive)
    status, headers, reusable = _head(stream)
    while status < 200:  # noqa: PLR2004  100 Continue and its kind: the answer is still to come
        if status == SWITCHING_PROTOCOLS:
            raise BadResponse("101 Switching Protocols, which was not asked for")
        status, headers, reusable = _head(stream)
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if status in (NO_CONTENT, NOT_MODIFIED):
        body = b""
    elif coding is not None:
        if coding.lower() != "chunked":
            raise BadResponse("a transfer coding other than chunked")
        body = _chunks(stream)
        reusable = reusable and length is None  # with both, someone on the way has been fooled
    elif length is not None:
        if not (length.isdecimal() and len(length) <= len(str(MOST_BYTES))):
            raise BadResponse("a Content-Length that is no length")
        body = stream.exactly(int(length))
    else:
        body, reusable = stream.rest(), False
    return Response(status, headers, body, reusable and not stream.buffer)


class _Stream:
    """What has been received and not been read yet."""

    def __init__(self, receive: Receive) -> None:
        self.buffer = b""
        self._receive = receive
        self._received = 0

    def until(self, end: bytes) -> bytes:
        """All before the next `end`, which is taken as well."""
        while (at := self.buffer.find(end)) < 0:
            self._more()
        taken, self.buffer = self.buffer[:at], self.buffer[at + len(end) :]
        return taken

    def exactly(self, length: int) -> bytes:
        while len(self.buffer) < length:
            self._more()
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    def rest(self) -> bytes:
        """All that comes until the end of the stream."""
        while data := self._next():
            self.buffer += data
        taken, self.buffer = self.buffer, b""
        return taken

    def _more(self) -> None:
        data = self._next()
        if not data:
            raise BadResponse("the connection was closed before the response was complete")
        self.buffer += data

    def _next(self) -> bytes:
        data = self._receive()
        self._received += len(data)
        if self._received > MOST_BYTES:
            raise BadResponse(f"more than {MOST_BYTES:,} bytes")
        return data


def _head(stream: _Stream) -> tuple[int, dict[str, str], bool]:
    first, *lines = stream.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
    status, old = _status(first)
    fields = [_field(line) for line in lines]
    headers = dict(fields)
    if len(headers) < len(fields):
        headers = {name: ", ".join(value for other, value in fields if other == name) for name in headers}
    return status, headers, not old and "close" not in headers.get("connection", "").lower()


# Most lines of an answer stand in the one before it as well.


@lru_cache(maxsize=16)
def _status(line: str) -> tuple[int, bool]:
    """The status, and whether this is HTTP/1.0."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise BadResponse("no HTTP/1.1 status line")
    return int(found[2]), found[1] == "0"


@lru_cache(maxsize=64)
def _field(line: str) -> tuple[str, str]:
    found = _FIELD.fullmatch(line)
    if found is None:
        raise BadResponse("a header line that is none")
    return found[1].lower(), found[2].rstrip(" \t")


def _chunks(stream: _Stream) -> bytes:
    body = b""
    while True:
        size = stream.until(b"\r\n").partition(b";")[0].strip(b" \t")
        if not _HEXADECIMAL.fullmatch(size):
            raise BadResponse("a chunk without a size")
        if size.strip(b"0") == b"":
            while stream.until(b"\r\n"):  # trailers
                pass
            return body
        body += stream.exactly(int(size, 16))
        if stream.exactly(2) != b"\r\n":
            raise BadResponse("a chunk that does not end where it says")
