"""Posts fail: the receiver gets the message once or not at all, all others once, and the sender is told how many."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from chalice.app import WebsocketDisconnectedError

from chalicelib import broadcast
from chalicelib.broadcast import YOUNG_MS
from chalicelib.endpoint import NotFullyWritten

from .deployment import OK, SENDER, Deployment, Lines, answered, one_deployment
from .operations import joins, subscribes

URL = "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/api"


class Failing(NamedTuple):
    """How a post fails, and what becomes of it where it fails once, and where it fails ever."""

    error: Exception
    once: str
    ever: str


KINDS = {
    "throttled": Failing(answered(429, "LimitExceededException"), "delivered", "failed"),
    "gone, or connecting still": Failing(WebsocketDisconnectedError("member"), "delivered", "failed"),
    "unreachable": Failing(EndpointConnectionError(endpoint_url=URL), "delivered", "failed"),
    "no connection in time": Failing(ConnectTimeoutError(endpoint_url=URL), "delivered", "failed"),
    "cut before it was written": Failing(NotFullyWritten(endpoint_url=URL, error="reset"), "delivered", "failed"),
    "no answer": Failing(ReadTimeoutError(endpoint_url=URL), "failed", "failed"),
    "an error of the server's": Failing(answered(500, "InternalServerError"), "failed", "failed"),
    "not allowed": Failing(answered(403, "ForbiddenException"), "failed", "failed"),
    "too large": Failing(answered(413, "PayloadTooLargeException"), "failed", "failed"),
    "malformed": Failing(answered(400, "BadRequestException"), "failed", "failed"),
}

RECEIVERS = ("text", "envelopes", "pages", "at home")
PUBLISHES: dict[str, Any] = {
    "pubsub": {"action": "sendmessage", "channel": "default", "message": {"said": "hi"}},
    "rooms": {"action": "message", "messageBody": {"said": "hi"}},
    "everyone": {"type": "message", "data": {"said": "hi"}},
    "actions": {"action": "chat", "message": {"said": "hi"}},
}


def filled(deployment: Deployment) -> None:
    """Members of one channel in all their dialects."""
    deployment.enter(SENDER, "at home", "text", "envelopes")
    deployment.enter("pages", room="")
    deployment.send("text", joins("default"))
    deployment.send("envelopes", joins("default", envelope=True))
    deployment.send("pages", subscribes("default"))
    deployment.gateway.received.clear()


def messages_to(deployment: Deployment, name: str) -> list[str]:
    return [text for text in deployment.gateway.received.get(name, []) if '"hi"' in text]


def ack_of(deployment: Deployment) -> Any:
    [ack] = [json.loads(text) for text in deployment.gateway.received[SENDER] if '"ack"' in text]
    return ack


UNLOGGED = ("throttled", "gone, or connecting still")
"""What happens every day: the counts in the line of the publish are enough."""


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "ever"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", PUBLISHES)
def test_a_post_that_fails_costs_one_receiver_its_message_at_most_and_is_counted(
    lines: Lines, dialect: str, kind: str, lasting: bool
) -> None:
    failing = KINDS[kind]
    came_to = failing.ever if lasting else failing.once
    for receiver in RECEIVERS:
        with one_deployment(lines) as deployment:
            filled(deployment)
            deployment.gateway.failures[receiver] = [failing.error] * (1_000 if lasting else 1)
            assert deployment.send(SENDER, {**PUBLISHES[dialect], "ack": True, "id": "7"}).outcome == OK
            reached = len(RECEIVERS) - (came_to == "failed") + (dialect == "everyone")
            failed = {"failed": 1} if came_to == "failed" else {}
            assert ack_of(deployment) == {"type": "ack", "delivered": reached, "stale": 0, **failed, "id": "7"}
            for name in RECEIVERS:
                assert len(messages_to(deployment, name)) == (name != receiver or came_to == "delivered")
            assert bool(deployment.complaints()) == (came_to == "failed" and kind not in UNLOGGED)


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_a_member_that_is_gone_is_stale_and_gone_from_that_channel(lines: Lines, receiver: str) -> None:
    with one_deployment(lines) as deployment:
        filled(deployment)
        deployment.clock.sleep(YOUNG_MS)
        deployment.gateway.open.discard(receiver)
        for stale in (1, 0):
            assert deployment.send(SENDER, {**PUBLISHES["pubsub"], "ack": True}).outcome == OK
            assert ack_of(deployment) == {"type": "ack", "delivered": len(RECEIVERS) - 1, "stale": stale}
            deployment.gateway.received.clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "frame", [{**PUBLISHES["pubsub"], "ack": True}, {"action": "unheard"}, joins("news"), "Marko?"]
)
def test_an_answer_that_cannot_be_posted_changes_nothing_else(lines: Lines, frame: Any, kind: str) -> None:
    with one_deployment(lines) as deployment:
        filled(deployment)
        deployment.gateway.failures[SENDER] = [KINDS[kind].error] * 1_000
        assert deployment.send(SENDER, frame).outcome == OK
        assert deployment.gateway.received.get(SENDER) is None
        for name in RECEIVERS:
            assert len(messages_to(deployment, name)) == ("sendmessage" in str(frame))


def test_when_nothing_can_be_posted_the_sender_is_told_as_soon_as_it_can_be(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "HOPELESS", 2)
    with one_deployment(lines) as deployment:
        filled(deployment)
        for name in RECEIVERS:
            deployment.gateway.failures[name] = [KINDS["an error of the server's"].error] * 1_000
        assert deployment.send(SENDER, PUBLISHES["pubsub"]).outcome == "partly_delivered"
        assert any(line.startswith("frame failed") for line in deployment.complaints())


@pytest.mark.parametrize("kind", KINDS)
def test_the_publish_function_counts_the_same(lines: Lines, kind: str) -> None:
    with one_deployment(lines) as deployment:
        filled(deployment)
        deployment.gateway.failures["text"] = [KINDS[kind].error] * 1_000
        assert deployment.publish({"channel": "default", "message": {"said": "hi"}}).outcome == OK
        for name in (SENDER, *RECEIVERS):
            assert len(messages_to(deployment, name)) == (name != "text")
