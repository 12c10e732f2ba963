"""Scripted conversations in y-webrtc's signaling protocol, played to our server and to y-webrtc's own.

What each client receives after each frame must be the same, frame for frame. Where ours differs on purpose stands in
DIFFERENCES, with the reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeAlias

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.server import Server

from .plain_client import JSON
from .programs import SECONDS_TO_ANSWER

Script: TypeAlias = Sequence[tuple[str, JSON]]
"""Who says what, in order."""


def subscribe(*topics: JSON) -> JSON:
    return {"type": "subscribe", "topics": list(topics)}


def unsubscribe(*topics: JSON) -> JSON:
    return {"type": "unsubscribe", "topics": list(topics)}


def publish(topic: JSON, data: JSON, **extra: JSON) -> JSON:
    return {"type": "publish", "topic": topic, "data": data, **extra}


def announce(topic: str, sender: str) -> JSON:
    return publish(topic, {"type": "announce", "from": sender})


VALUES: Sequence[JSON] = (None, True, 0, -1.5, 1e300, 2**53 - 1, "", [], {}, [[[[]]]], {"type": "subscribe"})
TEXTS = ("żółć", "日本語", "👩‍👩‍👧", 'quote " and \\', "line\n\r\t\x00\x7f\u2028", "half \ud83d", "x" * 30_000)

# Each conversation has topics of its own: a server may still be forgetting the clients of the one before.
CONVERSATIONS: dict[str, Script] = {
    "a publish reaches every subscriber, its sender too": [
        ("ann", subscribe("everyone")),
        ("ben", subscribe("everyone")),
        ("eve", subscribe("elsewhere")),
        ("ann", publish("everyone", "from ann")),
        ("ben", publish("everyone", "from ben")),
    ],
    "a publisher need not be subscribed": [
        ("ann", subscribe("guest")),
        ("ben", publish("guest", "from a guest")),
    ],
    "a publish to a topic that nobody subscribed to is silence": [
        ("ann", publish("nobody", "hello?")),
    ],
    "two pages announce themselves": [
        ("ann", subscribe("announces")),
        ("ann", announce("announces", "ann")),
        ("ben", subscribe("announces")),
        ("ben", announce("announces", "ben")),
        ("ann", subscribe("announces")),
        ("ann", announce("announces", "ann")),
    ],
    "extra fields are kept, and clients is overwritten": [
        ("ann", subscribe("extras")),
        ("ann", publish("extras", 1, clients=99, id="7", ack=True, nested={"clients": 99}, none=None)),
        ("ann", publish("extras", 2, clients="many", action="sendmessage", channel="extras", message="m")),
        ("ann", {"type": "publish", "topic": "extras"}),
    ],
    "a type that y-webrtc knows decides, whatever the action": [
        ("ann", {"type": "subscribe", "action": "joinchannel", "channel": "decides", "topics": ["decides"]}),
        ("ann", publish("decides", "here", action="leavechannel", channel="decides")),
    ],
    "subscribing again changes nothing": [
        ("ann", subscribe("again")),
        ("ann", subscribe("again", "again")),
        ("ann", publish("again", "once")),
        ("ann", unsubscribe("again")),
        ("ben", subscribe("again")),
        ("ben", publish("again", "ben alone")),
    ],
    "unsubscribing ends it, for the topics that are named": [
        ("ann", subscribe("left", "kept")),
        ("ben", subscribe("left", "kept")),
        ("ann", unsubscribe("left")),
        ("ben", publish("left", "ben alone")),
        ("ben", publish("kept", "both")),
        ("ann", unsubscribe("never subscribed")),
        ("ann", publish("kept", "both again")),
    ],
    "who unsubscribed may subscribe again": [
        ("ann", subscribe("back")),
        ("ann", unsubscribe("back")),
        ("ann", subscribe("back")),
        ("ann", publish("back", "here again")),
    ],
    "the same publish three times comes three times": [
        ("ann", subscribe("thrice")),
        ("ann", publish("thrice", "again")),
        ("ann", publish("thrice", "again")),
        ("ann", publish("thrice", "again")),
    ],
    "topics that are not strings are skipped": [
        ("ann", subscribe(None, 1, True, ["mixed"], {"mixed": 1}, "mixed")),
        ("ann", publish("mixed", "one subscription")),
        ("ann", unsubscribe(None, 1, True, ["mixed"], {"mixed": 1})),
        ("ann", publish("mixed", "still there")),
    ],
    "no topics are no topics": [
        ("ann", subscribe()),
        ("ann", {"type": "subscribe"}),
        ("ann", {"type": "subscribe", "topics": None}),
        ("ann", {"type": "unsubscribe"}),
        ("ann", subscribe("some")),
        ("ann", unsubscribe()),
        ("ann", publish("some", "still there")),
    ],
    "an empty topic is never published": [
        ("ann", subscribe("")),
        ("ann", publish("", "hello?")),
    ],
    "data is any JSON value": [
        ("ann", subscribe("values")),
        *(("ann", publish("values", value)) for value in VALUES),
    ],
    "text of any script comes as it was sent": [
        ("ann", subscribe("scripts")),
        *(("ann", publish("scripts", text)) for text in TEXTS),
    ],
    "a topic is any string": [
        step
        for topic in ("@odd", "a b/c?d#e%20", "日本語", "__proto__", "constructor", "half \ud83d", "\x00", "x" * 2_000)
        for step in (("ann", subscribe(topic)), ("ann", publish(topic, "to an odd topic")))
    ],
    "of a key that comes twice the last counts": [
        ("ann", subscribe("twice")),
        ("ann", '{"type":"ping","type":"publish","topic":"elsewhere","topic":"twice","data":1,"data":2}'),
    ],
}


@pytest.mark.parametrize("script", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation_is_the_same_behind_both_servers(in_order: Server, reference: str, script: Script) -> None:
    ours, theirs = played(script, in_order.url), played(script, reference)
    assert ours == theirs
    assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)  # to Python, True is 1


def test_a_ping_is_answered_with_a_pong(signaling: str) -> None:
    with connect(signaling) as client:
        for frame in ({"type": "ping"}, {"type": "ping", "extra": [1]}):
            say(client, frame)
            assert hear(client) == {"type": "pong"}


def test_a_subscriber_that_closes_is_no_longer_counted(signaling: str) -> None:
    with connect(signaling) as stays:
        say(stays, subscribe("closing"))
        with connect(signaling) as goes:
            say(goes, subscribe("closing"))
            wait_for_clients(stays, "closing", 2)
        wait_for_clients(stays, "closing", 1)


@dataclass(frozen=True)
class Difference:
    """A frame that the reference server does not answer and ours does."""

    frame: JSON | bytes
    reference: str
    ours: JSON
    """The answer; of an error frame its code."""

    reason: str


DIFFERENCES = (
    Difference(
        "hello", "crashes", "Marko?", "one client must not end the server for all; someone at a terminal gets an answer"
    ),
    Difference("Marko?", "crashes", "Polo!", "the same"),
    Difference("", "crashes", "Marko?", "the same"),
    Difference('{"type":"publish","data":NaN}', "crashes", "Marko?", "NaN is not JSON"),
    Difference({"type": "subscribe", "topics": "a"}, "crashes", "wrong_type", "a mistake is named"),
    Difference({"type": "subscribe", "topics": {"a": 1}}, "crashes", "wrong_type", "a mistake is named"),
    Difference("null", "silent", "wrong_type", "a mistake is named; y-webrtc ignores objects that it does not know"),
    Difference("[]", "silent", "wrong_type", "the same"),
    Difference("1", "silent", "wrong_type", "the same"),
    Difference({}, "silent", "missing_field", "the same"),
    Difference({"type": "hello"}, "silent", "unknown_action", "the same"),
    Difference({"type": ["ping"]}, "silent", "wrong_type", "the same"),
    Difference({"type": "publish"}, "silent", "missing_field", "the same"),
    Difference({"type": "publish", "topic": 1}, "silent", "wrong_type", "the same"),
)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: repr(difference.frame))
def test_our_server_answers_where_the_reference_does_not(in_order: Server, difference: Difference) -> None:
    with connect(in_order.url) as client:
        say(client, difference.frame)
        answer = hear(client)
        assert (answer["code"] if isinstance(answer, dict) else answer) == difference.ours
        say(client, {"type": "ping"})
        assert hear(client) == {"type": "pong"}


@pytest.mark.parametrize(
    "difference",
    [difference for difference in DIFFERENCES if difference.reference == "silent"],
    ids=lambda difference: repr(difference.frame),
)
def test_the_reference_server_is_silent_where_ours_answers(reference: str, difference: Difference) -> None:
    with connect(reference) as client:
        say(client, difference.frame)
        say(client, {"type": "ping"})
        assert hear(client) == {"type": "pong"}


def test_an_integer_past_what_javascript_can_hold_is_rounded_by_the_reference_server_only(
    in_order: Server, reference: str
) -> None:
    exact = publish("large", 2**53 + 1)
    script = [("ann", subscribe("large")), ("ann", exact)]
    assert played(script, in_order.url)[1] == {"ann": [{**exact, "clients": 1}]}
    assert played(script, reference)[1] == {"ann": [{**exact, "data": 2**53, "clients": 1}]}


def test_a_binary_frame_is_read_as_text_by_the_reference_server_only(in_order: Server, reference: str) -> None:
    ping = b'{"type":"ping"}'
    with connect(reference) as client:
        client.send(ping)
        assert hear(client) == {"type": "pong"}
    with connect(in_order.url) as client:  # API Gateway takes no binary frames
        client.send(ping)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=SECONDS_TO_ANSWER)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1003


def played(script: Script, url: str) -> list[dict[str, list[JSON]]]:
    """Plays a script. For each frame of it, what every client received because of it.

    After each frame first its sender and then all others say ping: what came before the pong is what the frame caused,
    for both servers handle the frames of a client in order (ours is set to).
    """
    with ExitStack() as connections:
        clients = {who: connections.enter_context(connect(url)) for who in dict(script)}
        transcript = []
        for speaker, frame in script:
            say(clients[speaker], frame)
            in_turn = sorted(clients, key=lambda who: who != speaker)
            transcript.append({who: heard_until_pong(clients[who]) for who in in_turn})
        return transcript


def say(client: Connection, frame: JSON | bytes) -> None:
    client.send(frame if isinstance(frame, str) else json.dumps(frame))


def hear(client: Connection) -> JSON:
    """The next frame's JSON value, or its text if it is not JSON."""
    text = client.recv(timeout=SECONDS_TO_ANSWER)
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def heard_until_pong(client: Connection) -> list[JSON]:
    say(client, {"type": "ping"})
    heard = []
    while (frame := hear(client)) != {"type": "pong"}:
        heard.append(frame)
    return heard


def wait_for_clients(client: Connection, topic: str, count: int) -> None:
    """Publishes until the topic has so many subscribers."""
    give_up = time.monotonic() + SECONDS_TO_ANSWER
    while True:
        say(client, publish(topic, "how many?"))
        clients = hear(client)["clients"]
        if clients == count:
            return
        assert time.monotonic() < give_up, f"{clients} subscribers, not {count}"
