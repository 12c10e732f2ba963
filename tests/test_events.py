from __future__ import annotations

import pytest

from chalicelib import events
from chalicelib.errors import Misconfigured, WrongType
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


# --- what a handshake says of who it is


def test_every_value_of_a_header_is_kept_under_one_name_whatever_its_case() -> None:
    headers = {"Origin": ["a", "b"], "ORIGIN": ["c"], "X-Other": ["d"]}
    found = events.connect({**event("connect"), "multiValueHeaders": headers}).headers
    assert found == {"origin": ["a", "b", "c"], "x-other": ["d"]}


@pytest.mark.parametrize("multiple", [None, {}])
def test_where_no_header_comes_with_every_value_its_one_value_counts(multiple: dict[str, list[str]] | None) -> None:
    payload = {**event("connect"), "headers": {"AUTHORIZATION": "Bearer x"}, "multiValueHeaders": multiple}
    assert events.connect(payload).headers == {"authorization": ["Bearer x"]}
    assert events.connect({**payload, "headers": None}).headers == {}


def test_a_token_of_the_url_is_not_a_part_of_its_query() -> None:
    values = {"queryStringParameters": {"token": "b", "room": "r"}, "multiValueQueryStringParameters": None}
    assert events.connect({**event("connect"), **values}).tokens == ["b"]
    values["multiValueQueryStringParameters"] = {"token": ["a", "b"], "room": ["r"]}  # type: ignore[dict-item]
    connect = events.connect({**event("connect"), **values})
    assert (connect.tokens, connect.query) == (["a", "b"], {"room": "r"})
    assert events.connect(event("connect")).tokens == []


def test_what_an_authorizer_says_is_handed_on() -> None:
    assert events.connect(event("connect", authorizer={"principalId": "ada"})).authorizer == {"principalId": "ada"}


@pytest.mark.parametrize("reader", ["connect", "message", "disconnect"])
@pytest.mark.parametrize("kind", ["CONNECT", "MESSAGE", "DISCONNECT", None, "", "connect"])
def test_an_event_is_read_as_what_it_is_alone(reader: str, kind: str | None) -> None:
    read = getattr(events, reader)
    payload = event(reader, eventType=kind)
    if kind == reader.upper():
        assert read(payload).connection_id == payload["requestContext"]["connectionId"]
    else:
        with pytest.raises(Misconfigured, match=f"An event that is no {reader.upper()} has reached its handler"):
            read(payload)
