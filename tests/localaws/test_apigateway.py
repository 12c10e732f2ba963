"""The WebSocket front door: handshakes, invocations, limits, ends."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.typing import Subprotocol

from tests.localaws.raw import in_frames
from tests.localaws.tiny import Tiny, served
from tests.server import OVERTAKING

HANDLERS = """
@app.on_ws_connect()
def any_name_at_all(event):
    record(event)
    query = event.to_dict().get("queryStringParameters", {})
    if "raise" in query:
        raise RuntimeError("a secret of $connect")
    if "wait" in query:
        wait_for(query["wait"])
    if "response" in query:
        return Response(body="no", status_code=int(query["response"]))
    if "headers" in query:
        return {"statusCode": 200, "headers": json.loads(query["headers"])}
    if "answer" in query:
        return {"statusCode": query["answer"]}
    if "protocol" in query:
        return {"statusCode": 200, "headers": {"sec-websocket-PROTOCOL": query["protocol"]}}

@app.on_ws_message()
def another_name(event):
    record(event)
    body = event.to_dict()["body"]
    if body == "raise":
        raise RuntimeError("a secret of $default")
    if body == "exit":
        raise SystemExit(3)
    if body.startswith("wait:"):
        wait_for(body)
    if body != "say nothing":
        app.websocket_api.send(event.connection_id, body)
    return {"statusCode": 200, "body": "reaches nobody: the route has no response"}

@app.on_ws_disconnect()
def a_third_name(event):
    record(event)
    raise RuntimeError("a secret of $disconnect")
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny"), HANDLERS) as running:
        yield running


def own_id(tiny: Tiny) -> str:
    """The connection id of the client that has just connected."""
    return str(tiny.event("CONNECT")["requestContext"]["connectionId"])


def refusal(url: str) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as refused, connect(url):
        pass
    return refused.value


def echo(client: Connection, text: str) -> str:
    client.send(text if len(text) < 1_000 else in_frames(text))
    return str(client.recv(timeout=20))


def code_at_the_end(client: Connection) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=20)
    return closed.value.rcvd.code if closed.value.rcvd else None


# Handshakes


@pytest.mark.parametrize("path", ["", "api", "?room=blue", "api?room=blue"])
def test_an_upgrade_succeeds_at_the_root_and_at_the_stage(tiny: Tiny, path: str) -> None:
    with connect(tiny.url + path) as client:
        assert echo(client, "hello") == "hello"


@pytest.mark.parametrize("path", ["other", "api/", "api/more", "%2Fapi", "@connections/x"])
def test_an_upgrade_at_any_other_path_is_forbidden(tiny: Tiny, path: str) -> None:
    assert refusal(tiny.url + path).response.status_code == 403


@pytest.mark.parametrize(
    ("query", "status"),
    [("response=401", 401), ("answer=403", 403), ("answer=302", 302), ("answer=500", 500), ("response=499", 499)],
)
def test_a_status_of_connect_that_is_not_2xx_refuses_the_handshake(tiny: Tiny, query: str, status: int) -> None:
    assert refusal(f"{tiny.url}?{query}").response.status_code == status


@pytest.mark.parametrize(
    "query",
    [
        "raise=",
        "answer=soon",
        "answer=99",
        "answer=100",
        'headers="none"',
        "headers=[1]",
        'headers={"sec-websocket-protocol":5}',
        'headers={"sec-websocket-protocol":"a%5Cr%5Cnb"}',
    ],
)
def test_a_connect_handler_that_fails_is_a_bad_gateway_and_says_nothing(tiny: Tiny, query: str) -> None:
    response = refusal(f"{tiny.url}?{query}").response
    assert response.status_code == 502
    assert b"secret" not in response.body
    assert "Traceback" not in response.body.decode()


def test_the_traceback_of_a_failed_connect_is_in_the_servers_log(tiny: Tiny) -> None:
    refusal(f"{tiny.url}?raise=")
    assert "RuntimeError: a secret of $connect" in tiny.server.log()


def test_any_2xx_status_of_connect_accepts_the_handshake(tiny: Tiny) -> None:
    with connect(f"{tiny.url}?answer=204") as client:
        assert echo(client, "hello") == "hello"


def test_the_subprotocol_that_the_connect_handler_answers_is_echoed(tiny: Tiny) -> None:
    asked = [Subprotocol("v1"), Subprotocol("v2")]
    with connect(f"{tiny.url}?protocol=v2", subprotocols=asked) as client:
        assert client.subprotocol == "v2"
    with connect(tiny.url, subprotocols=asked) as client:
        assert client.subprotocol is None


def test_frames_are_never_compressed(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


def test_a_handshake_that_is_broken_does_not_reach_the_handlers(tiny: Tiny) -> None:
    with socket.create_connection(("127.0.0.1", tiny.server.port)) as raw:
        raw.sendall(b"GET /?broken=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400 ")
    assert not [event for event in tiny.seen() if event.get("queryStringParameters") == {"broken": "1"}]


# Messages


def test_frames_of_one_socket_are_invoked_at_the_same_time(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        client.send("wait:first")
        assert echo(client, "second") == "second"
        tiny.touch("wait:first")
        assert client.recv(timeout=20) == "wait:first"


@pytest.mark.parametrize("body", ["raise", "exit"])
def test_a_handler_that_raises_is_an_internal_server_error_and_the_socket_stays(tiny: Tiny, body: str) -> None:
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        answer = json.loads(echo(client, body))
        event = tiny.event("MESSAGE", connection_id)
        assert answer == {
            "message": "Internal server error",
            "connectionId": connection_id,
            "requestId": event["requestContext"]["requestId"],
        }
        assert echo(client, "still there") == "still there"


def test_the_traceback_of_a_failed_message_is_in_the_servers_log(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        echo(client, "raise")
    assert "RuntimeError: a secret of $default" in tiny.server.log()


def test_what_the_message_handler_returns_reaches_nobody(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        client.send("say nothing")
        tiny.event("MESSAGE", own_id(tiny))
        assert echo(client, "the first frame received") == "the first frame received"


def test_text_of_any_kind_goes_through_unchanged(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        for text in ("a", '{"a": 1}', "ünïcödé \U0001f600", "\x00", "\ud7ff\ue000", "x" * 70_000):
            assert echo(client, text) == text


def test_a_message_of_128_kb_passes(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        assert echo(client, "x" * 131_072) == "x" * 131_072
        assert echo(client, "é" * 65_536) == "é" * 65_536


@pytest.mark.parametrize("text", ["x" * 131_073, "é" * 65_537], ids=["one byte", "two"])
def test_a_larger_message_closes_the_socket_with_1009(tiny: Tiny, text: str) -> None:
    with connect(tiny.url) as client:
        client.send(in_frames(text))
        assert code_at_the_end(client) == 1009


def test_a_frame_of_32_kb_passes_and_a_larger_one_closes_the_socket_with_1009(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        client.send("x" * 32_768)
        assert client.recv(timeout=20) == "x" * 32_768
        client.send("x" * 32_769)
        assert code_at_the_end(client) == 1009


def test_a_frame_that_is_far_too_large_is_read_to_its_end_so_that_the_client_learns_why(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        client.send("x" * 10_000_000)
        assert code_at_the_end(client) == 1009


def test_binary_data_closes_the_socket_with_1003(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        client.send(b"bytes")
        assert code_at_the_end(client) == 1003


# Ends


def disconnect_of(tiny: Tiny, connection_id: str) -> tuple[int, str]:
    context = tiny.event("DISCONNECT", connection_id)["requestContext"]
    return (context["disconnectStatusCode"], context["disconnectReason"])


def test_disconnect_carries_the_clients_close_code_and_reason(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        client.close(4001, "that was all")
    assert disconnect_of(tiny, connection_id) == (4001, "that was all")


def test_disconnect_says_1005_where_the_client_gave_no_code(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        connection_id = own_id(tiny)
        client.socket.sendall(b"\x88\x80" + bytes(4))
        assert disconnect_of(tiny, connection_id) == (1005, "Client-side close frame status not set")


def test_disconnect_says_1009_and_1003_where_the_gateway_closed(tiny: Tiny) -> None:
    for sent, code in (("x" * 32_769, 1009), (b"bytes", 1003)):
        with connect(tiny.url) as client:
            connection_id = own_id(tiny)
            client.send(sent)
            assert disconnect_of(tiny, connection_id)[0] == code


@pytest.mark.parametrize("linger", [struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)], ids=["reset", "end of file"])
def test_disconnect_says_1006_where_the_connection_was_lost(tiny: Tiny, linger: bytes) -> None:
    raw = upgraded(tiny)
    connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    raw.close()
    assert disconnect_of(tiny, connection_id) == (1006, "")


def test_a_client_that_leaves_while_connect_runs_is_disconnected_too(tiny: Tiny) -> None:
    raw = upgraded(tiny, "/?wait=left", answered=False)
    connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()
    tiny.touch("left")
    assert disconnect_of(tiny, connection_id) == (1006, "")


def test_a_refused_connection_has_no_disconnect(tiny: Tiny) -> None:
    refusal(f"{tiny.url}?response=401")
    refused = tiny.event("CONNECT")["requestContext"]["connectionId"]
    with connect(tiny.url):
        accepted = own_id(tiny)
    disconnect_of(tiny, accepted)
    contexts = [event["requestContext"] for event in tiny.seen()]
    disconnected = [context["connectionId"] for context in contexts if context["eventType"] == "DISCONNECT"]
    assert accepted in disconnected
    assert refused not in disconnected


def upgraded(tiny: Tiny, path: str = "/", *, answered: bool = True) -> socket.socket:
    """A socket after its handshake, of a client that does nothing by itself."""
    raw = socket.create_connection(("127.0.0.1", tiny.server.port))
    before = len(tiny.seen())
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    if answered:
        assert raw.recv(4096).startswith(b"HTTP/1.1 101 ")
    while len(tiny.seen()) == before:
        pass
    return raw


# Settings


def arrival_order(url: str, frames: int) -> list[int]:
    with connect(url) as client:
        for number in range(frames):
            client.send(str(number))
        return [int(client.recv(timeout=20)) for _ in range(frames)]


def test_delayed_frames_arrive_in_another_order(tmp_path: Path) -> None:
    with served(tmp_path, env=OVERTAKING) as tiny:
        order = arrival_order(tiny.url, 30)
    assert sorted(order) == list(range(30))
    assert order != sorted(order)


def test_serial_frames_arrive_in_order_however_they_are_delayed(tmp_path: Path) -> None:
    env = {**OVERTAKING, "LOCALAWS_SERIAL_FRAMES": "1"}
    with served(tmp_path, env=env) as tiny, ThreadPoolExecutor() as pool:
        orders = [pool.submit(arrival_order, tiny.url, 30) for _ in range(3)]
        assert [order.result() for order in orders] == [list(range(30))] * 3


# Apps with fewer handlers


def test_without_a_message_handler_a_frame_is_forbidden_and_the_socket_stays(tmp_path: Path) -> None:
    handlers = "@app.on_ws_connect()\ndef connect(event):\n    record(event)\n"
    with served(tmp_path, handlers) as tiny, connect(tiny.url) as client:
        connection_id = own_id(tiny)
        for _ in range(2):
            answer = json.loads(echo(client, "hello"))
            assert (answer["message"], answer["connectionId"]) == ("Forbidden", connection_id)
            assert list(answer) == ["message", "connectionId", "requestId"]


def test_without_a_connect_handler_everyone_may_connect(tmp_path: Path) -> None:
    handlers = "@app.on_ws_message()\ndef message(event):\n    app.websocket_api.send(event.connection_id, 'hi')\n"
    with served(tmp_path, handlers) as tiny, connect(tiny.url) as client:
        assert echo(client, "hello") == "hi"


def test_an_app_may_refuse_an_upgrade_at_a_stage_of_another_name(tmp_path: Path) -> None:
    with served(tmp_path, config={"api_gateway_stage": "prod"}) as tiny:
        assert refusal(tiny.url + "api").response.status_code == 403
        with connect(tiny.url + "prod") as client:
            assert echo(client, "hello") == "hello"
