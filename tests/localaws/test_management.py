"""The @connections API, as boto3 calls it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

from tests.localaws import signed
from tests.localaws.invoked import result
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


NEVER = "AAAAAAAAAAAAAAA="
"""An id that no connection has had."""


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
        lambda: management.post_to_connection(ConnectionId=NEVER, Data=b"x"),
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


def test_data_that_is_no_utf_8_reaches_the_client_with_replacement_characters(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        tiny.management().post_to_connection(ConnectionId=own_id(tiny), Data=b"a\xffb\xe2\x82c")
        assert client.recv(timeout=20) == "a\ufffdb\ufffdc"


@pytest.mark.parametrize("malformed", ["x", "never-was-one", NEVER[:-1], f"{NEVER}=", "not base64 url!=", "é" * 16])
def test_what_cannot_be_a_connections_id_is_a_bad_request(tiny: Tiny, malformed: str) -> None:
    management = tiny.management()
    calls: list[Callable[[], object]] = [
        lambda: management.post_to_connection(ConnectionId=malformed, Data=b"x"),
        lambda: management.get_connection(ConnectionId=malformed),
        lambda: management.delete_connection(ConnectionId=malformed),
    ]
    for call in calls:
        with pytest.raises(ClientError) as refused:
            call()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        error = refused.value.response["Error"]
        assert (error["Code"], error["Message"]) == ("BadRequestException", f"Invalid connectionId: {malformed}")


def test_more_than_the_server_takes_from_anybody_is_too_large_as_well(tiny: Tiny) -> None:
    management = tiny.management()
    with pytest.raises(management.exceptions.PayloadTooLargeException):
        management.post_to_connection(ConnectionId=NEVER, Data=b"x" * (10 * 1024 * 1024 + 1))


ERRORS = """
from botocore.exceptions import ClientError
from chalice.app import WebsocketDisconnectedError

def told(connection_id, text):
    try:
        app.websocket_api.send(connection_id, text)
    except WebsocketDisconnectedError:
        return "disconnected"
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
        return [metadata["HTTPStatusCode"], error.response["Error"]["Code"]]

@app.lambda_function(name="send")
def send(event, context):
    answer = None
    for _ in range(event.get("times", 1)):
        answer = answer or told(event["to"], "x" * event["size"])
    return answer
"""


def test_what_an_app_sees_of_each_refusal(tmp_path: Path) -> None:
    # boto3 repeats a 429 by itself: once would do for what is seen here.
    env = {"AWS_MAX_ATTEMPTS": "1"}
    with served(tmp_path, HANDLERS + ERRORS, env=env) as tiny:
        assert result(tiny, "send", {"to": NEVER, "size": 1}) == "disconnected"
        assert result(tiny, "send", {"to": "malformed", "size": 1}) == [400, "BadRequestException"]
        assert result(tiny, "send", {"to": NEVER, "size": 131_073}) == [413, "PayloadTooLargeException"]
        with connect(tiny.url, max_queue=1, close_timeout=0.1):
            to = own_id(tiny)
            assert result(tiny, "send", {"to": to, "size": 131_072}) is None
            assert result(tiny, "send", {"to": to, "size": 131_072, "times": 1000}) == [429, "LimitExceededException"]


def request(tiny: Tiny, method: str, path: str, body: str = "") -> signed.Answer:
    return signed.ask(tiny.server.port, method, path, body.encode())


def test_paths_may_be_percent_encoded_or_not(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        for path in (f"/api/@connections/{connection_id}", f"/%40connections/{quote(connection_id, safe='')}"):
            assert request(tiny, "POST", path, path).status == 200
            assert client.recv(timeout=20) == path


def test_errors_carry_their_type_in_a_header_as_aws_sends_it(tiny: Tiny) -> None:
    gone = request(tiny, "POST", f"/api/@connections/{NEVER}", "x")
    assert (gone.status, gone.error) == (410, "GoneException")
    assert request(tiny, "PUT", f"/api/@connections/{NEVER}").status == 405


def test_get_answers_times_in_iso_8601_utc(tiny: Tiny) -> None:
    with connect(tiny.url):
        answer = json.loads(request(tiny, "GET", f"/@connections/{own_id(tiny)}").body)
    assert list(answer) == ["connectedAt", "identity", "lastActiveAt"]
    assert answer["connectedAt"].endswith("Z")
    assert datetime.fromisoformat(answer["connectedAt"].replace("Z", "+00:00")).tzinfo == timezone.utc
