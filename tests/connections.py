"""An @connections endpoint over real HTTP that answers as a test tells it to, and keeps what it was posted."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

ERRORS = {
    400: "BadRequestException",
    403: "ForbiddenException",
    410: "GoneException",
    413: "PayloadTooLargeException",
    429: "LimitExceededException",
    500: "InternalServerError",
}


class Connections:
    """What was posted to each connection, in order, and which were closed; `status` says what each is answered, 200
    unless told otherwise.
    """

    def __init__(self) -> None:
        self.url = ""
        self.posts: dict[str, list[str]] = defaultdict(list)
        self.closed: list[str] = []
        self.status: dict[str, int] = {}
        self.requests = 0
        self.headers: list[dict[str, str]] = []
        self.hang = threading.Event()
        self.hang.set()

    def frames(self, connection_id: str) -> list[object]:
        """What was posted to that connection, as JSON values."""
        return [json.loads(text) for text in self.posts[connection_id]]


@contextmanager
def connections_endpoint() -> Iterator[Connections]:
    """Serves on a free loopback port until the block ends."""
    connections = Connections()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            connection_id = unquote(self.path.rsplit("/", 1)[1])
            connections.requests += 1
            connections.headers.append(dict(self.headers))
            connections.hang.wait(30)
            status = connections.status.get(connection_id, 200)
            if status == 200:
                connections.posts[connection_id].append(body)
            self.send_response(status)
            if status != 200:
                self.send_header("x-amzn-ErrorType", ERRORS[status])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_DELETE(self) -> None:
            connection_id = unquote(self.path.rsplit("/", 1)[1])
            status = connections.status.get(connection_id, 204)
            if status == 204:
                connections.closed.append(connection_id)
            self.send_response(status)
            if status != 204:
                self.send_header("x-amzn-ErrorType", ERRORS[status])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        connections.url = f"http://127.0.0.1:{server.server_port}/api"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield connections
        finally:
            connections.hang.set()
            server.shutdown()
