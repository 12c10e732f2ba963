"""Events that reach a handler that they are not for: nobody is let in, nobody ended, nothing raised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .captured import event
from .connections import connections_endpoint
from .handshakes import FAILED, ME, OK, Handlers, handshake

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(name="open_server")
def a_server_that_takes_anyone(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Handlers:
    return Handlers(ministack, monkeypatch, {})


@pytest.mark.parametrize("name", ["message", "disconnect"])
def test_another_event_that_reaches_the_connect_handler_lets_nobody_in(open_server: Handlers, name: str) -> None:
    open_server.refuses(event(name), FAILED)


@pytest.mark.parametrize("name", ["message", "connect"])
def test_another_event_that_reaches_the_disconnect_handler_ends_no_connection(open_server: Handlers, name: str) -> None:
    open_server.lets_in(handshake())
    before = open_server.items()
    assert open_server.disconnect(event(name, connectionId=ME)) == OK
    assert open_server.items() == before


@pytest.mark.parametrize("name", ["connect", "disconnect"])
def test_another_event_that_reaches_the_message_handler_is_no_frame(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with connections_endpoint() as clients:
        server = Handlers(ministack, monkeypatch, {}, clients.url)
        frame = '{"action":"joinchannel","channel":"news"}'
        assert server.message(event(name, connectionId=ME, body=frame)) == OK
        assert server.items() == []
        [answer] = clients.frames(ME)
    assert isinstance(answer, dict)
    assert answer["code"] == "misconfigured"


@pytest.mark.parametrize("kind", [None, "", "MESSAGE ", "connect", "AUTHORIZE"])
def test_an_event_of_no_known_kind_does_nothing_anywhere(open_server: Handlers, kind: str | None) -> None:
    open_server.refuses(event("connect", eventType=kind), FAILED)
    assert open_server.disconnect(event("disconnect", eventType=kind)) == OK
    assert open_server.message(event("message", eventType=kind)) == OK
    assert open_server.items() == []
