"""Endpoints for tests: opened at a scripted server, plain or over TLS, and closed behind the test; a clock to move."""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from chalicelib import endpoint
from chalicelib.endpoint import Endpoint

from .certificates import Authority
from .scripted import PATIENCE_SECONDS, Peer, Script, Server, scripted

REQUEST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


def request(body: str) -> bytes:
    return f"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@contextmanager
def opened(
    url: str,
    *,
    ca_file: str | None = None,
    connect_seconds: float = PATIENCE_SECONDS,
    answer_seconds: float = PATIENCE_SECONDS,
) -> Iterator[Endpoint]:
    """The endpoint at that URL, patient unless told otherwise; what is idle is closed when the block ends."""
    made = Endpoint(url, connect_seconds=connect_seconds, answer_seconds=answer_seconds, ca_file=ca_file)
    try:
        yield made
    finally:
        endpoint._close(made._idle)


def idle(of: Endpoint) -> int:
    """How many connections wait to be used again."""
    return len(of._idle)


def await_something_to_read(of: Endpoint) -> None:
    """Until each idle connection has something to read, be it the end of the stream."""
    for connection in of._idle:
        readable, _, _ = select.select([connection.socket], [], [], PATIENCE_SECONDS)
        assert readable, "nothing came"


class Serve:
    """Serves scripts and opens an endpoint for each, all plain or all over TLS."""

    def __init__(self, stack: ExitStack, authority: Authority | None) -> None:
        self.tls = authority is not None
        self._stack = stack
        self._context: ssl.SSLContext | None = authority.server() if authority else None
        self._ca_file = authority.ca_file if authority else None

    def __call__(
        self,
        script: Script | None = None,
        *,
        connect_seconds: float = PATIENCE_SECONDS,
        answer_seconds: float = PATIENCE_SECONDS,
    ) -> tuple[Server, Endpoint]:
        server = self._stack.enter_context(scripted(script, context=self._context))
        made = opened(server.url, ca_file=self._ca_file, connect_seconds=connect_seconds, answer_seconds=answer_seconds)
        return server, self._stack.enter_context(made)


class MovedClock:
    """Stands for the `time` module. The wall clock stands still but for `seconds`, by which a test sets it forward or
    back; each look at the monotonic clock moves that by `monotonic_step`.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.monotonic_step = 0.0
        self._monotonic_moved = 0.0

    def time(self) -> float:
        return 1_800_000_000 + self.seconds

    def monotonic(self) -> float:
        self._monotonic_moved += self.monotonic_step
        return time.monotonic() + self._monotonic_moved


def echo(peer: Peer) -> None:
    """Answers each request with its own body."""
    while True:
        body = peer.request().body
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
