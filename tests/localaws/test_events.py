"""The events, field by field: what a handler sees is what aws-facts say, and nothing else."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from localaws import events
from tests.localaws.tiny import Tiny, served


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with served(tmp_path_factory.mktemp("tiny")) as running:
        yield running


CONTEXT = {
    "routeKey": "$connect",
    "eventType": "CONNECT",
    "extendedRequestId": "an id",
    "requestTime": "a time",
    "messageDirection": "IN",
    "stage": "api",
    "connectedAt": "milliseconds",
    "requestTimeEpoch": "milliseconds",
    "identity": {"sourceIp": "127.0.0.1", "userAgent": "a browser"},
    "requestId": "an id",
    "domainName": "host:port",
    "connectionId": "a connection id",
    "apiId": "localaws00",
}

MILLISECONDS = range(1_700_000_000_000, 4_000_000_000_000)


def masked(tiny: Tiny, event: dict[str, Any]) -> dict[str, Any]:
    """The event with what differs from run to run replaced by what it is, once it has been looked at."""
    context = dict(event["requestContext"])
    ids = {"extendedRequestId", "requestId", "messageId"} & set(context)
    assert all(re.fullmatch(r"[A-Za-z0-9+/]{15}=", context[name]) for name in ids)
    assert time.strptime(context["requestTime"], "%d/%b/%Y:%H:%M:%S +0000")
    assert {context["connectedAt"], context["requestTimeEpoch"]} <= set_of(MILLISECONDS)
    assert re.fullmatch(r"[A-Za-z0-9_-]{15}=", context["connectionId"])
    assert context["domainName"] == f"127.0.0.1:{tiny.server.port}"
    context |= dict.fromkeys(ids, "an id") | {
        "requestTime": "a time",
        "connectedAt": "milliseconds",
        "requestTimeEpoch": "milliseconds",
        "connectionId": "a connection id",
        "domainName": "host:port",
    }
    return {**event, "requestContext": context}


class set_of:  # noqa: N801  reads as what it is for
    """A range as something that a set can be compared to."""

    def __init__(self, members: range) -> None:
        self.members = members

    def __ge__(self, other: set[int]) -> bool:
        return all(type(each) is int and each in self.members for each in other)


def test_a_connect_event_has_exactly_these_fields(tiny: Tiny) -> None:
    with connect(tiny.url, user_agent_header="a browser", additional_headers=[("X-MiXed", "1"), ("X-MiXed", "2")]):
        event = tiny.event("CONNECT")
    headers, multi = event.pop("headers"), event.pop("multiValueHeaders")
    assert masked(tiny, event) == {"requestContext": CONTEXT, "isBase64Encoded": False}
    assert multi.pop("Sec-WebSocket-Key") == [headers.pop("Sec-WebSocket-Key")]
    assert headers == {
        "Host": f"127.0.0.1:{tiny.server.port}",
        "User-Agent": "a browser",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        "X-MiXed": "2",
    }
    assert multi == {name: [value] for name, value in headers.items()} | {"X-MiXed": ["1", "2"]}


def test_a_query_is_in_the_connect_event_decoded_and_its_last_value_counts(tiny: Tiny) -> None:
    with connect(f"{tiny.url}?room=a%20b+c&room=%C3%A9&empty="):
        event = tiny.event("CONNECT")
    assert event["queryStringParameters"] == {"room": "é", "empty": ""}
    assert event["multiValueQueryStringParameters"] == {"room": ["a b c", "é"], "empty": [""]}


def test_a_client_without_a_user_agent_has_none_in_its_events(tiny: Tiny) -> None:
    with connect(tiny.url, user_agent_header=None):
        assert tiny.event("CONNECT")["requestContext"]["identity"] == {"sourceIp": "127.0.0.1"}


def test_a_message_event_has_exactly_these_fields(tiny: Tiny) -> None:
    with connect(tiny.url, user_agent_header="a browser") as client:
        client.send('{"action": "é"}')
        event = tiny.event("MESSAGE")
    message = {"routeKey": "$default", "eventType": "MESSAGE", "messageId": "an id"}
    assert masked(tiny, event) == {
        "requestContext": {**CONTEXT, **message},
        "body": '{"action": "é"}',
        "isBase64Encoded": False,
    }


def test_a_disconnect_event_has_exactly_these_fields(tiny: Tiny) -> None:
    with connect(tiny.url, user_agent_header="a browser") as client:
        connection_id = tiny.event("CONNECT")["requestContext"]["connectionId"]
        client.close(1000, "done")
    disconnect = {
        "routeKey": "$disconnect",
        "eventType": "DISCONNECT",
        "disconnectStatusCode": 1000,
        "disconnectReason": "done",
    }
    host = f"127.0.0.1:{tiny.server.port}"
    assert masked(tiny, tiny.event("DISCONNECT", connection_id)) == {
        "headers": {"Host": host},
        "multiValueHeaders": {"Host": [host]},
        "requestContext": {**CONTEXT, **disconnect},
        "isBase64Encoded": False,
    }


def test_the_events_of_a_connection_agree_on_what_does_not_change(tiny: Tiny) -> None:
    with connect(tiny.url) as client:
        first = tiny.event("CONNECT")["requestContext"]
        client.send("one")
        second = tiny.event("MESSAGE", first["connectionId"])["requestContext"]
    third = tiny.event("DISCONNECT", first["connectionId"])["requestContext"]
    for name in ("connectionId", "connectedAt", "identity", "domainName", "stage", "apiId"):
        assert first[name] == second[name] == third[name]
    assert len({first["requestId"], second["requestId"], third["requestId"]}) == 3


def test_connection_ids_begin_with_a_clock_and_are_never_the_same() -> None:
    at = 1_795_259_351_202
    ids = [events.new_connection_id(at) for _ in range(1000)]
    assert len(set(ids)) == 1000
    raw = [base64.urlsafe_b64decode(each) for each in ids]
    assert {len(each) for each in raw} == {11}
    assert {int.from_bytes(each[:5], "big") for each in raw} == {at % 2**40}
    assert events.new_connection_id(at)[:6] < events.new_connection_id(at + 60_000)[:6]


def test_a_handler_has_the_time_that_its_configuration_gives_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    handlers = """
@app.on_ws_message()
def websocket_message(event):
    context = event.context
    left = -(-context.get_remaining_time_in_millis() // 1000)
    app.websocket_api.send(event.connection_id, f"{context.function_name} {left:.0f} {context.memory_limit_in_mb}")
"""
    stages = {"dev": {"lambda_functions": {"websocket_message": {"lambda_timeout": 7, "lambda_memory_size": 512}}}}
    for config, said in (
        ({}, "tiny-dev-websocket_message 60 128"),
        ({"stages": stages}, "tiny-dev-websocket_message 7 512"),
    ):
        with served(tmp_path_factory.mktemp("tiny"), handlers, config=config) as tiny, connect(tiny.url) as client:
            client.send("tell")
            assert client.recv(timeout=20) == said
