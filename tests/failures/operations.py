"""Every operation that asks the store for something: what is there before, and what is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.tokens import HS256, USER, token_for

from .deployment import OK, SENDER, Deployment, Told

Act = Callable[[Deployment], Told]
Prepare = Callable[[Deployment], None]

LONG = "long " * 60
"""A channel's name that is stored by its hash."""

CHANNELS = ("default", "news", "sport", "doc", "draft", LONG)
"""All that are used here."""

CROWD = tuple(f"member{number}" for number in range(7))


def at_home(deployment: Deployment) -> None:
    deployment.enter(SENDER, "other")


@dataclass(frozen=True)
class Operation:
    """`tolerates` are requests whose failure costs nobody anything, so that only the log says it.

    Messages that it `claims` have a name, so that each is sent once however often it is asked for; what it is of which
    text. A `cold` one is the first of its Lambda environment. A repeat of one that `misses_long_names` leaves
    memberships of channels that are stored by a hash as they were, to end with the token before.
    """

    name: str
    act: Act
    before: Prepare = at_home
    settings: Mapping[str, Any] = field(default_factory=dict)
    tolerates: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    cold: bool = False
    misses_long_names: bool = False


def frame(name: str, sent: object, before: Prepare = at_home, **fields: Any) -> Operation:
    """An operation that is a frame of the sender's."""
    return Operation(name, lambda deployment: deployment.send(SENDER, sent), before, **fields)


def subscribes(*topics: str) -> dict[str, Any]:
    return {"type": "subscribe", "topics": topics}


def joins(channel: str, **fields: Any) -> dict[str, Any]:
    return {"action": "joinchannel", "channel": channel, **fields}


def nobody_at_home(deployment: Deployment) -> None:
    deployment.enter(SENDER, "other", room="")


def in_the_doc(deployment: Deployment) -> None:
    nobody_at_home(deployment)
    deployment.send("other", subscribes("doc"))
    deployment.send(SENDER, subscribes("doc", "draft"))


def in_the_news(deployment: Deployment) -> None:
    """The sender and one other, in two dialects; `gone` was, and is not any more."""
    deployment.enter(SENDER, "other", "envelopes")
    for name in (SENDER, "other"):
        deployment.send(name, joins("news"))
    deployment.send("envelopes", joins("news", envelope=True))
    deployment.send("envelopes", joins("sport"))


def with_one_that_is_gone(deployment: Deployment) -> None:
    in_the_news(deployment)
    deployment.enter("gone")
    deployment.send("gone", joins("news"))
    deployment.gateway.open.discard("gone")
    deployment.clock.sleep(120_000)


def later_joined(deployment: Deployment) -> None:
    deployment.enter(SENDER, "other")
    deployment.send(SENDER, joins("news"), at=deployment.clock.now + 60_000)


def crowded(deployment: Deployment) -> None:
    deployment.enter(SENDER, *CROWD)
    for name in CROWD:
        deployment.send(name, joins("news"))


def crowded_and_slow(deployment: Deployment) -> None:
    """After three posts a handler's 20 s are over."""
    crowded(deployment)
    deployment.gateway.post_ms = 7_000


def announcing(deployment: Deployment) -> None:
    """One came before the sender, one after it."""
    for name in ("other", SENDER, "later"):
        deployment.enter(name, room="")
        deployment.send(name, subscribes("doc"))


def everywhere(number: int) -> Prepare:
    def prepare(deployment: Deployment) -> None:
        deployment.enter("other")
        deployment.enter(SENDER, room="")
        for start in range(0, number, 10):
            topics = [f"c{each}" for each in range(start, min(start + 10, number))]
            assert deployment.send(SENDER, subscribes(*topics)).outcome == OK

    return prepare


RIGHTS: Mapping[str, list[str]] = {"*": ["*"]}
FEWER: Mapping[str, list[str]] = {"news": ["*"]}


def with_rights(deployment: Deployment) -> None:
    for name in (SENDER, "other"):
        assert deployment.connect(name, RIGHTS).outcome == OK
        deployment.send(name, joins("news"))
        deployment.send(name, joins("sport"))


def with_rights_to_a_long_name(deployment: Deployment) -> None:
    with_rights(deployment)
    deployment.send(SENDER, joins(LONG))


def authenticates(capability: Mapping[str, list[str]]) -> dict[str, Any]:
    return {"action": "authenticate", "token": token_for(USER, capability, 3_600)}


ANNOUNCE = {"type": "publish", "topic": "doc", "data": {"type": "announce", "from": "peer"}}
RECORDS = {
    "Records": [
        {
            "eventSource": "aws:sqs",
            "messageId": f"m-{channel}",
            "body": json.dumps({"channel": channel, "message": channel}),
        }
        for channel in ("news", "sport")
    ]
}
SHARED = {"publish_function": "channels-dev-publish", "broadcast_rate": 8_000, "invocation_rate": 2_000}
PRUNES = ("batch_write_item",)

FRAMES = (
    frame("join", joins("news", id="7")),
    frame("join for envelopes", joins("news", envelope=True)),
    frame("join again in another form", joins("news", envelope=True), in_the_news),
    frame("join that a later join has overtaken", joins("news"), later_joined),
    frame("join of a long name", joins(LONG)),
    frame("join of the home channel", joins("default")),
    frame("join under a limit", joins("news"), in_the_news, settings={"max_channels": 3}),
    frame("join over a limit", joins("sport"), in_the_news, settings={"max_channels": 2}),
    frame("join with rights", joins("news"), with_rights, settings=HS256),
    frame("subscribe that leaves home", subscribes("doc")),
    frame("subscribe to three that leaves home", subscribes("doc", "draft", "news")),
    frame("subscribe to the home channel", subscribes("default", "doc")),
    frame("subscribe without a home", subscribes("doc"), nobody_at_home),
    frame("subscribe to ten", subscribes("doc", *(f"t{number}" for number in range(9))), nobody_at_home),
    frame("subscribe again", subscribes("doc", "draft"), in_the_doc),
    frame("subscribe under a limit", subscribes("doc", "draft"), settings={"max_channels": 2}),
    frame("leave", {"action": "leavechannel", "channel": "news"}, in_the_news),
    frame("leave of what was never joined", {"action": "leavechannel", "channel": "news"}),
    frame("leave of the home channel", {"action": "leavechannel", "channel": "default"}),
    frame("unsubscribe", {"type": "unsubscribe", "topics": ["doc", "draft", "news"]}, in_the_doc),
    frame("send", {"action": "sendmessage", "channel": "news", "message": "hi"}, in_the_news),
    frame("send with an ack", {"action": "sendmessage", "channel": "news", "message": "hi", "ack": True}, in_the_news),
    frame("send to nobody", {"action": "sendmessage", "channel": "empty", "message": "hi"}),
    frame(
        "send to one that is gone",
        {"action": "sendmessage", "channel": "news", "message": "hi"},
        with_one_that_is_gone,
        tolerates=PRUNES,
    ),
    frame(
        "send where only members may",
        {"action": "sendmessage", "channel": "news", "message": "hi"},
        in_the_news,
        settings={"publish_unjoined": False},
    ),
    frame(
        "send with rights", {"action": "sendmessage", "channel": "news", "message": "hi"}, with_rights, settings=HS256
    ),
    frame("message to the room", {"action": "message", "messageBody": "hi"}),
    frame("message to everyone", {"type": "message", "data": {"said": "hi"}}),
    frame("chat", {"action": "chat", "message": "hi", "ack": True}),
    frame("signal", {"type": "publish", "topic": "doc", "data": "x" * 500}, in_the_doc),
    frame("signal to text members", {"type": "publish", "topic": "news", "data": "x" * 500}, in_the_news),
    frame(
        "signal of one that never subscribed",
        {"type": "publish", "topic": "news", "data": "x"},
        settings={"rendezvous_ms": 300},
    ),
    frame("announce", ANNOUNCE, announcing),
    frame("send to a crowd", {"action": "sendmessage", "channel": "news", "message": "hi", "ack": True}, crowded),
    frame(
        "send to a crowd in shares",
        {"action": "sendmessage", "channel": "news", "message": "hi", "ack": True},
        crowded,
        settings=SHARED,
    ),
    frame(
        "send to a crowd that takes too long",
        {"action": "sendmessage", "channel": "news", "message": "hi", "ack": True},
        crowded_and_slow,
        tolerates=("query",),  # of a page that is read ahead, and that another invocation then reads again
    ),
    frame("action that publishes twice", {"action": "twice", "ack": True}, in_the_news),
    frame("action that publishes and leaves", {"action": "last_words"}, in_the_news),
    frame("authenticate", authenticates(RIGHTS), with_rights, settings=HS256),
    frame("authenticate with fewer rights", authenticates(FEWER), with_rights, settings=HS256),
    frame(
        "authenticate in a channel with a long name",
        authenticates(RIGHTS),
        with_rights_to_a_long_name,
        settings=HS256,
        misses_long_names=True,
    ),
)

DISCONNECTS = tuple(
    Operation(
        f"disconnect from {number}",
        lambda deployment: deployment.disconnect(SENDER),
        everywhere(number),
        tolerates=("query", "batch_write_item"),
    )
    for number in (0, 1, 30)
)

PUBLISHES = (
    Operation("publish", lambda deployment: deployment.publish({"channel": "news", "message": "hi"}), in_the_news),
    Operation(
        "first publish",
        lambda deployment: deployment.publish({"channel": "news", "message": "hi"}),
        in_the_news,
        cold=True,
    ),
    Operation(
        "publish with an id",
        lambda deployment: deployment.publish({"channel": "news", "message": "hi", "id": "m"}),
        in_the_news,
        claims={"m": "hi"},
    ),
    Operation(
        "publish to one that is gone",
        lambda deployment: deployment.publish({"channel": "news", "message": "hi"}),
        with_one_that_is_gone,
        tolerates=PRUNES,
    ),
    Operation(
        "publish to a crowd", lambda deployment: deployment.publish({"channel": "news", "message": "hi"}), crowded
    ),
    Operation(
        "publish to a crowd in shares",
        lambda deployment: deployment.publish({"channel": "news", "message": "hi"}),
        crowded,
        SHARED,
    ),
    Operation(
        "publish of SQS",
        lambda deployment: deployment.publish(RECORDS),
        in_the_news,
        claims={"m-news": "news", "m-sport": "sport"},
    ),
)
