"""Bodies that cannot be read, wherever a body is read: nobody's error but the sender's."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.localaws.faulty import faulty
from tests.localaws.raw import WAIT_S
from tests.localaws.test_pages import request
from tests.localaws.tiny import RECORDER, Tiny

HANDLERS = (
    RECORDER
    + """
@app.route("/takes", methods=["POST"])
def takes():
    return app.current_request.raw_body.decode()

@app.route("/store")
def store():
    return os.environ["AWS_ENDPOINT_URL_DYNAMODB"]
"""
)
PLACES = [
    "POST /@connections/AAAAAAAAAAAAAAA=",
    "POST /2015-03-31/functions/any/invocations",
    "PUT /_faults",
    "POST /takes",
    "the store",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with faulty(tmp_path_factory.mktemp("tiny"), HANDLERS) as running:
        yield running


def connected(tiny: Tiny, place: str) -> tuple[socket.socket, str]:
    """A socket to what reads bodies at that place, and the request line."""
    if place == "the store":
        port, line = urlsplit(request(tiny, "GET", "/store").body.decode()).port, "POST /"
    else:
        port, line = tiny.server.port, place
    return socket.create_connection(("127.0.0.1", port or 0), timeout=WAIT_S), f"{line} HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("place", PLACES)
def test_a_client_that_leaves_within_its_body_is_no_news(tiny: Tiny, place: str) -> None:
    leaving, head = connected(tiny, place)
    with leaving:
        leaving.sendall(f"{head}Content-Length: 10\r\n\r\nhalf".encode())
        assert request(tiny, "POST", "/takes", "whole").body == b"whole"
    for _ in range(3):
        assert request(tiny, "POST", "/takes", "whole").body == b"whole"
    assert "Traceback" not in tiny.server.log()


@pytest.mark.parametrize("place", PLACES)
def test_a_body_that_is_not_encoded_as_it_says_is_a_bad_request(tiny: Tiny, place: str) -> None:
    asking, head = connected(tiny, place)
    with asking:
        asking.sendall(f"{head}Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\nno gzip...".encode())
        answer = b""
        while received := asking.recv(65_536):
            answer += received
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"message": "The body cannot be read."}
    assert "Traceback" not in tiny.server.log()
