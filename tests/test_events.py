from __future__ import annotations

import pytest

from chalicelib import events
from chalicelib.errors import WrongType
from chalicelib.model import Address, ConnectionId

from .captured import event


def test_a_connect_event_gives_the_connection_its_time_and_its_query() -> None:
    connect = events.connect(event("connect"))
    assert connect.connection_id == ConnectionId("IU3kkeN4IAMCJwA=")
    assert connect.connected_at == 1689794896145
    assert connect.query == {"room": "lobby"}
    assert connect.address == Address("a1b2c3d4e5", "api")
    assert connect.headers["origin"] == ["https://app.example.com"]
    assert connect.authorizer is None
    assert connect.source_ip == "192.0.2.1"


@pytest.mark.parametrize("query", [None, {}])
def test_an_absent_query_string_is_an_empty_one(query: dict[str, str] | None) -> None:
    assert events.connect(event("connect", query=query)).query == {}


def test_a_query_that_utf8_cannot_carry_is_replaced_as_a_browser_would() -> None:
    assert events.connect(event("connect", query={"room": "a\ud800b"})).query == {"room": "a\ufffdb"}


def test_a_message_event_gives_body_sender_and_times() -> None:
    assert events.message(event("message")) == events.MessageEvent(
        connection_id=ConnectionId("SOqGjdZioAMCEeg="),
        connected_at=1652722217711,
        at=1652722227357,
        request_id="SOqIDEacoAMFaHQ=",
        body='{"action":"joinchannel","channel":"news"}',
    )


def test_a_message_event_without_a_body_is_an_empty_frame() -> None:
    assert events.message(event("message", body=None)).body == ""


def test_a_message_event_without_connected_at_takes_its_own_time() -> None:
    assert events.message(event("message", connectedAt=None)).connected_at == 1652722227357


def test_a_binary_frame_is_refused() -> None:
    with pytest.raises(WrongType, match="The frame must be text, not binary data"):
        events.message({**event("message"), "isBase64Encoded": True})


def test_a_disconnect_event_gives_code_and_reason() -> None:
    assert events.disconnect(event("disconnect")) == events.Disconnect(
        ConnectionId("SOqGjdZioAMCEeg="), 1005, "Client-side close frame status not set"
    )


def test_a_disconnect_event_may_lack_code_and_reason() -> None:
    bare = event("disconnect", disconnectStatusCode=None, disconnectReason=None)
    assert events.disconnect(bare) == events.Disconnect(ConnectionId("SOqGjdZioAMCEeg="), None, "")
