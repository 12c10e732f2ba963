"""The @connections API, as boto3 calls it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

from tests.localaws.tiny import Tiny, served, until

HANDLERS = """
@app.on_ws_connect()
def websocket_connect(event):
    record(event)
    if "wait" in event.to_dict().get("queryStringParameters", {}):
        wait_for("go")

@app.on_ws_disconnect()
def websocket_disconnect(event):
    record(event)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS) as running:
        yield running


def own_id(tiny: Tiny) -> str:
    """The connection id of the client that has just connected."""
    return str(tiny.event("CONNECT")["requestContext"]["connectionId"])


@pytest.mark.parametrize("path", ["/api", ""])
def test_a_post_reaches_the_client_with_and_without_the_stage(tiny: Tiny, path: str) -> None:
    with connect(tiny.url) as client:
        tiny.management(path).post_to_connection(ConnectionId=own_id(tiny), Data="ünïcödé".encode())
        assert client.recv(timeout=20) == "ünïcödé"


def test_posts_to_one_connection_keep_their_order(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        management, connection_id = tiny.management(), own_id(tiny)
        for number in range(200):
            management.post_to_connection(ConnectionId=connection_id, Data=str(number).encode())
        assert [client.recv(timeout=20) for _ in range(200)] == [str(number) for number in range(200)]


def test_get_tells_when_and_from_where_the_client_connected(tiny: Tiny) -> None:
    with connect(tiny.url, user_agent_header="a browser") as client:
        context = tiny.event("CONNECT")["requestContext"]
        management = tiny.management()
        before = management.get_connection(ConnectionId=context["connectionId"])
        assert before["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "a browser"}
        connected_at = datetime.fromtimestamp(context["connectedAt"] / 1000, timezone.utc)
        assert before["ConnectedAt"] == before["LastActiveAt"]
        assert abs(before["ConnectedAt"] - connected_at) < timedelta(milliseconds=1)
        management.post_to_connection(ConnectionId=context["connectionId"], Data=b"active")
        client.recv(timeout=20)
        after = management.get_connection(ConnectionId=context["connectionId"])
        assert after["ConnectedAt"] == before["ConnectedAt"] < after["LastActiveAt"]


def test_delete_closes_with_1000_behind_what_was_posted(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        management, connection_id = tiny.management(), own_id(tiny)
        management.post_to_connection(ConnectionId=connection_id, Data=b"last words")
        answer = management.delete_connection(ConnectionId=connection_id)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        with pytest.raises(management.exceptions.GoneException):
            management.post_to_connection(ConnectionId=connection_id, Data=b"too late")
        assert client.recv(timeout=20) == "last words"
        with pytest.raises(ConnectionClosedOK) as closed:
            client.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    assert tiny.event("DISCONNECT", connection_id)["requestContext"]["disconnectStatusCode"] == 1000


def test_a_connection_that_is_gone_is_gone_for_every_method(tiny: Tiny) -> None:
    with connect(tiny.url):
        connection_id = own_id(tiny)
    tiny.event("DISCONNECT", connection_id)
    management = tiny.management()
    calls: list[Callable[[], object]] = [
        lambda: management.post_to_connection(ConnectionId=connection_id, Data=b"x"),
        lambda: management.get_connection(ConnectionId=connection_id),
        lambda: management.delete_connection(ConnectionId=connection_id),
        lambda: management.post_to_connection(ConnectionId="never-was-one", Data=b"x"),
    ]
    for call in calls:
        with pytest.raises(management.exceptions.GoneException) as gone:
            call()
        assert gone.value.response["ResponseMetadata"]["HTTPStatusCode"] == 410


def test_a_connection_is_gone_until_its_connect_has_returned(tiny: Tiny) -> None:
    raw = socket.create_connection(("127.0.0.1", tiny.server.port), timeout=20)
    with raw:
        raw.sendall(
            b"GET /?wait=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        waiting = until(lambda: [each for each in tiny.seen() if "queryStringParameters" in each] or None, "$connect")
        context = waiting[0]["requestContext"]
        management = tiny.management()
        with pytest.raises(management.exceptions.GoneException):
            management.post_to_connection(ConnectionId=context["connectionId"], Data=b"early")
        tiny.touch("go")
        assert raw.recv(4096).startswith(b"HTTP/1.1 101 ")
        management.post_to_connection(ConnectionId=context["connectionId"], Data=b"in time")
        assert raw.recv(100) == b"\x81\x07in time"


def test_128_kb_pass_and_one_byte_more_is_too_large(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        management, connection_id = tiny.management(), own_id(tiny)
        management.post_to_connection(ConnectionId=connection_id, Data=b"x" * 131_072)
        assert client.recv(timeout=20) == "x" * 131_072
        with pytest.raises(management.exceptions.PayloadTooLargeException) as refused:
            management.post_to_connection(ConnectionId=connection_id, Data=b"x" * 131_073)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_a_client_that_does_not_read_is_limited_and_costs_nobody_else(tiny: Tiny) -> None:
    with connect(tiny.url, max_queue=1, close_timeout=0.1):
        stuck = own_id(tiny)
        with connect(tiny.url) as other:
            management = tiny.management()
            with pytest.raises(management.exceptions.LimitExceededException) as limited:
                for _ in range(1000):
                    management.post_to_connection(ConnectionId=stuck, Data=b"x" * 131_072)
            assert limited.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
            management.post_to_connection(ConnectionId=own_id(tiny), Data=b"hello")
            assert other.recv(timeout=20) == "hello"
            # Its end does not wait for it to read either.
            management.delete_connection(ConnectionId=stuck)
            with pytest.raises(management.exceptions.GoneException):
                management.post_to_connection(ConnectionId=stuck, Data=b"too late")
            assert tiny.event("DISCONNECT", stuck)["requestContext"]["disconnectStatusCode"] == 1000


def test_data_that_is_no_text_is_a_bad_request(tiny: Tiny) -> None:
    with connect(tiny.url), pytest.raises(ClientError) as refused:
        tiny.management().post_to_connection(ConnectionId=own_id(tiny), Data=b"\xff")
    assert refused.value.response["Error"]["Code"] == "BadRequestException"


def request(tiny: Tiny, method: str, path: str, body: str = "") -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", tiny.server.port, timeout=20)
    connection.request(method, path, body)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def test_paths_may_be_percent_encoded_or_not(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        for path in (f"/api/@connections/{connection_id}", f"/%40connections/{quote(connection_id, safe='')}"):
            assert request(tiny, "POST", path, path).status == 200
            assert client.recv(timeout=20) == path


def test_errors_carry_their_type_in_a_header_as_aws_sends_it(tiny: Tiny) -> None:
    gone = request(tiny, "POST", "/api/@connections/none", "x")
    assert (gone.status, gone.headers["x-amzn-ErrorType"]) == (410, "GoneException")
    assert request(tiny, "PUT", "/api/@connections/none").status == 405


def test_get_answers_times_in_iso_8601_utc(tiny: Tiny) -> None:
    with connect(tiny.url):
        answer = json.loads(request(tiny, "GET", f"/@connections/{own_id(tiny)}").body)  # type: ignore[attr-defined]
    assert list(answer) == ["connectedAt", "identity", "lastActiveAt"]
    assert answer["connectedAt"].endswith("Z")
    assert datetime.fromisoformat(answer["connectedAt"].replace("Z", "+00:00")).tzinfo == timezone.utc
