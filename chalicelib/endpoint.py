"""Keep-alive connections to one HTTP(S) endpoint, shared by many threads: one request out, one response in.

Knows HTTP's framing by http1.py, and no AWS. Its failures are botocore's exceptions, so that whoever knows boto3 knows
them; whether a request may be sent again is told by NotFullyWritten and by those that come before a request is written
(EndpointConnectionError, ConnectTimeoutError, SSLError).

A request is written once. Whoever wants to repeat one that was not fully written does so himself, after a pause.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import time
import weakref
from collections import deque
from urllib.parse import urlsplit

from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url

from .http1 import BadResponse, Response, read_response

IDLE_SECONDS = 30
"""A connection unused for longer is not trusted: in a Lambda that was frozen meanwhile, neither the other side's close
nor that of a NAT gateway (350 s) need have arrived. By the wall clock: the monotonic one may stand still meanwhile.
"""

UNCHECKED_SECONDS = 0.1
"""A connection used so shortly before is taken as it is: that spares a busy broadcast a look at each."""

SHORTEST_SECONDS = 0.001
"""A bound of less would be none: to the kernel, zero is forever."""

RECEIVED_AT_ONCE = 4_096
"""More than an answer of @connections has."""

WRITTEN_AT_ONCE = 16_384
"""What a record of TLS holds. OpenSSL writes many without a look at the time in between."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class NotFullyWritten(ConnectionClosedError):
    """The connection broke before the whole request had left: the other side cannot have acted on it."""

    fmt = 'The connection to "{endpoint_url}" broke before the request was fully written: {error}'


class Endpoint:
    """The endpoint at `url`, a scheme, host and port; raises ValueError for a URL that is none.

    `connect_seconds` bounds TCP's handshake with each of the host's addresses in turn, and again TLS's;
    `answer_seconds` the time that writing the request takes, and again the time from its last byte to the response's.
    (Within a record of TLS the kernel alone looks at the time, at each read and write of it: there the bound is for
    a peer that stops, not for one that creeps.) Certificates are verified against `ca_file`, always. Safe to use from
    several threads; there are never more connections than requests were under way at once.
    """

    def __init__(self, url: str, *, connect_seconds: float, answer_seconds: float, ca_file: str | None) -> None:
        parts = urlsplit(url)
        valid = is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not valid:
            raise ValueError(f"an endpoint is a URL like https://host/stage, not {url!r}")
        self.url = url
        self._host = parts.hostname
        default = _DEFAULT_PORTS[parts.scheme]
        self._port = default if parts.port is None else parts.port
        name = f"[{self._host}]" if ":" in self._host else self._host
        self.host = name if self._port == default else f"{name}:{self._port}"
        self._connect_seconds = connect_seconds
        self._answer_seconds = answer_seconds
        # One for all connections: loading the certificates costs as much as twenty handshakes.
        self._context = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._idle: deque[_Connection] = deque()
        weakref.finalize(self, _close, self._idle)  # an endpoint that nobody uses any more

    def exchange(self, request: bytes) -> Response:
        """Writes the request and reads its response.

        Raises NotFullyWritten, EndpointConnectionError, ConnectTimeoutError or SSLError if the request has certainly
        not been acted on; ReadTimeoutError or ConnectionClosedError if it may have been.
        """
        connection = self._connection()
        reusable = False
        try:
            try:
                connection.write(request)
            except OSError as error:
                raise NotFullyWritten(endpoint_url=self.url, error=error) from error
            try:
                response = connection.read_response()
            except TimeoutError as error:
                raise ReadTimeoutError(endpoint_url=self.url, error=error) from error
            except (OSError, BadResponse) as error:
                raise ConnectionClosedError(endpoint_url=self.url, error=error) from error
            reusable = response.reusable
            return response
        finally:
            if reusable:
                connection.used_at = time.time()
                self._idle.append(connection)
            else:
                connection.socket.close()

    def _connection(self) -> _Connection:
        """The connection that was used last, if it is alive: the others may rest."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.is_alive():
                return connection
            connection.socket.close()
        return self._connect()

    def _connect(self) -> _Connection:
        try:
            plain = socket.create_connection((self._host, self._port), self._connect_seconds)
        except TimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=self.url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self.url, error=error) from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                return _Connection(plain, self._answer_seconds)
            return _Connection(self._context.wrap_socket(plain, server_hostname=self._host), self._answer_seconds)
        except BaseException as error:
            plain.close()
            if isinstance(error, TimeoutError):
                raise ConnectTimeoutError(endpoint_url=self.url, error=error) from error
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                raise SSLError(endpoint_url=self.url, error=error) from error
            if isinstance(error, OSError):
                raise EndpointConnectionError(endpoint_url=self.url, error=error) from error
            raise


def _close(connections: deque[_Connection]) -> None:
    while connections:
        connections.pop().socket.close()


class _Connection:
    """A connected socket whose reads and writes block in the kernel, for `seconds` at most.

    To Python it is non-blocking: with a timeout of Python's own each read and write would poll first and give up the
    interpreter's lock twice as often, which among a hundred threads is half of what a post costs.
    """

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self.socket = connected
        self.used_at = 0.0
        self._seconds = seconds
        connected.settimeout(0)
        os.set_blocking(connected.fileno(), True)
        self._bound(socket.SO_SNDTIMEO, seconds)
        self._bound(socket.SO_RCVTIMEO, seconds)

    def is_alive(self) -> bool:
        """Whether it may be used: neither closed by the other side nor idle for too long."""
        idle = time.time() - self.used_at
        if 0 <= idle < UNCHECKED_SECONDS:
            return True
        if not 0 <= idle <= IDLE_SECONDS:
            return False
        os.set_blocking(self.socket.fileno(), False)
        try:
            self.socket.recv(1)  # the end of the stream, or an answer that nobody asked for
        except (BlockingIOError, ssl.SSLWantReadError):
            os.set_blocking(self.socket.fileno(), True)
            return True
        except OSError:
            pass
        return False

    def write(self, data: bytes) -> None:
        """Raises OSError unless all has left."""
        deadline = time.monotonic() + self._seconds
        for start in range(0, len(data), WRITTEN_AT_ONCE):
            if start:
                self._bound_by(deadline, socket.SO_SNDTIMEO)
            piece = data[start : start + WRITTEN_AT_ONCE]
            if self.socket.send(piece) < len(piece):  # the kernel stops in the middle only when the time is up
                raise TimeoutError("not written in time")
        if len(data) > WRITTEN_AT_ONCE:
            self._bound(socket.SO_SNDTIMEO, self._seconds)

    def read_response(self) -> Response:
        """Raises OSError and BadResponse; after `seconds`, TimeoutError."""
        deadline = time.monotonic() + self._seconds
        pieces = 0

        def receive() -> bytes:
            nonlocal pieces
            if pieces:  # nearly every answer comes in one, which spares it this
                self._bound_by(deadline, socket.SO_RCVTIMEO)
            pieces += 1
            try:
                return self.socket.recv(RECEIVED_AT_ONCE)
            except (BlockingIOError, ssl.SSLWantReadError) as error:
                raise TimeoutError("no answer in time") from error

        response = read_response(receive)
        if pieces > 1:
            self._bound(socket.SO_RCVTIMEO, self._seconds)
        return response

    def _bound_by(self, deadline: float, option: int) -> None:
        remaining = deadline - time.monotonic()
        if remaining < SHORTEST_SECONDS:
            raise TimeoutError("the time is up")
        self._bound(option, remaining)

    def _bound(self, option: int, seconds: float) -> None:
        whole, part = divmod(round(seconds * 1_000_000), 1_000_000)
        self.socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, part))
