"""A server over real sockets, plain or TLS, that plays a script on each connection and keeps what it was sent.

The script is a function: it is given the server's side of a connection and reads, answers, stalls or cuts as it likes.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

PATIENCE_SECONDS = 30
"""After so long a test has failed by hanging."""


class Gone(Exception):
    """The client closed the connection before the request was complete."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


class Peer:
    """The server's side of one connection, the `number`th, counted from 0."""

    def __init__(self, connection: socket.socket, number: int, server: Server) -> None:
        self.connection = connection
        self.number = number
        self.received = bytearray()
        """All that came, once decrypted."""
        self._server = server
        self._unread = bytearray()

    def request(self) -> Request:
        """The next whole request. Raises Gone."""
        head, _, self._unread = self._up_to(b"\r\n\r\n").partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._unread) < length:
            self._receive()
        body, self._unread = bytes(self._unread[:length]), self._unread[length:]
        method, path, _version = first.split(" ")
        request = Request(method, path, headers, body)
        self._server.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def close(self) -> None:
        """Ends the stream, and nothing more is read."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def reset(self) -> None:
        """Closes the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def drain(self) -> None:
        """Reads until the client closes."""
        with suppress(Gone, OSError):
            while True:
                self._receive()

    def pause(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Does nothing for so long, or until the server ends."""
        self._server.ending.wait(seconds)

    def _up_to(self, end: bytes) -> bytearray:
        while end not in self._unread:
            self._receive()
        return self._unread

    def _receive(self) -> None:
        data = self.connection.recv(65_536)
        if not data:
            raise Gone
        self.received += data
        self._unread += data


Script: TypeAlias = Callable[[Peer], None]


def answers(*responses: bytes) -> Script:
    """Answers each request on each connection with the responses in turn, the last of them again and again."""

    def play(peer: Peer) -> None:
        waiting = list(responses)
        while True:
            peer.request()
            peer.send(waiting.pop(0) if len(waiting) > 1 else waiting[0])

    return play


class Server:
    """What the server saw. `script` may be changed, for the connections that come."""

    def __init__(self, script: Script, host: str, context: ssl.SSLContext | None) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.peers: list[Peer] = []
        self._context = context
        self._listener = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.ending = threading.Event()
        self._failures: list[Exception] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def end(self) -> None:
        """Closes everything; raises what a script has failed with."""
        self.ending.set()
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname()[:2]).close()  # which wakes it
        self._accepting.join()
        self._listener.close()
        for peer in self.peers:
            with suppress(OSError):
                peer.connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "a script hangs"
        for failure in self._failures:
            raise failure

    def _accept(self) -> None:
        while True:
            connection, _address = self._listener.accept()
            if self.ending.is_set():
                connection.close()
                return
            connection.settimeout(PATIENCE_SECONDS)
            peer = Peer(connection, len(self.peers), self)
            self.peers.append(peer)
            thread = threading.Thread(target=self._play, args=(peer,))
            self._threads.append(thread)
            thread.start()

    def _play(self, peer: Peer) -> None:
        try:
            connection = peer.connection
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                peer.connection = connection
            self.script(peer)
        except (Gone, OSError):
            pass  # the client is through with it, or the test is
        except Exception as failure:  # noqa: BLE001  the test is told, when the server ends
            self._failures.append(failure)
        finally:
            peer.connection.close()


@contextmanager
def scripted(
    script: Script | None = None, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Serves on a free loopback port until the block ends; without a script, answers every request with OK."""
    server = Server(script or answers(OK), host, context)
    try:
        yield server
    finally:
        server.end()
