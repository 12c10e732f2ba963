"""Each dialect as a table: the text of a frame, and the commands it becomes. What no dialect takes stands in
test_registry.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from chalicelib.dialects import Join, Leave, Publish, Reply, Run, route
from chalicelib.dialects.frame import Command
from chalicelib.errors import ClientError, MissingField, WrongType
from chalicelib.model import JSON, ChannelName, ConnectionId

ME = ConnectionId("IU3kkeN4IAMCJwA=")


def names(*channels: str) -> tuple[ChannelName, ...]:
    return tuple(map(ChannelName, channels))


def join(channels: tuple[str, ...], dialect: str, ack: JSON = None, leaves_home: bool = False) -> Join:
    return Join(names(*channels), dialect, ack, leaves_home)


def leave(channels: tuple[str, ...], ack: JSON = None) -> Leave:
    return Leave(names(*channels), ack)


def publish(channel: str | None, body: JSON, dialect: str, to_sender: bool = False, **flags: bool) -> Publish:
    return Publish(None if channel is None else ChannelName(channel), body, dialect, to_sender, **flags)


def commands(text: str) -> list[Command]:
    frame, decoder = route(text)
    return list(decoder(frame, ME))


ANNOUNCE = '{"type":"publish","topic":"doc","data":{"type":"announce","from":"a"},"extra":1}'
SIGNAL = '{"type":"publish","topic":"doc","data":{"type":"signal","to":"b"}}'
ENCRYPTED_ANNOUNCE = json.dumps({"type": "publish", "topic": "doc", "data": "x" * 132})
ENCRYPTED_SIGNAL = json.dumps({"type": "publish", "topic": "doc", "data": "x" * 436})

YWEBRTC: list[tuple[str, list[Command]]] = [
    ('{"type":"subscribe","topics":["a","b"]}', [join(("a", "b"), "ywebrtc", leaves_home=True)]),
    ('{"type":"subscribe","topics":["a",1,null,["b"],"a",""]}', [join(("a", ""), "ywebrtc", leaves_home=True)]),
    ('{"type":"subscribe","topics":[]}', [join((), "ywebrtc", leaves_home=True)]),
    ('{"type":"subscribe"}', [join((), "ywebrtc", leaves_home=True)]),
    ('{"type":"subscribe","topics":null}', [join((), "ywebrtc", leaves_home=True)]),
    ('{"type":"unsubscribe","topics":["a","b","a"]}', [leave(("a", "b"))]),
    ('{"type":"unsubscribe"}', [leave(())]),
    ('{"type":"ping"}', [Reply('{"type":"pong"}')]),
    ('{"type":"ping","id":5}', [Reply('{"type":"pong"}')]),
    (ANNOUNCE, [publish("doc", json.loads(ANNOUNCE), "ywebrtc", True, after_join=True, announces=True)]),
    (SIGNAL, [publish("doc", json.loads(SIGNAL), "ywebrtc", True, after_join=True)]),
    (
        ENCRYPTED_ANNOUNCE,
        [publish("doc", json.loads(ENCRYPTED_ANNOUNCE), "ywebrtc", True, after_join=True, announces=True)],
    ),
    (ENCRYPTED_SIGNAL, [publish("doc", json.loads(ENCRYPTED_SIGNAL), "ywebrtc", True, after_join=True)]),
    (
        '{"type":"publish","topic":"t","id":{}}',
        [publish("t", {"type": "publish", "topic": "t", "id": {}}, "ywebrtc", True, after_join=True)],
    ),
    ('{"type":"publish","topic":"","data":1}', []),
    (
        '{"type":"ping","action":"joinchannel","channel":"c"}',
        [Reply('{"type":"pong"}')],
    ),
]

PUBSUB: list[tuple[str, list[Command]]] = [
    ('{"action":"joinchannel","channel":"c"}', [join(("c",), "text", {"channel": "c", "connectionId": ME})]),
    (
        '{"action":"joinchannel","channel":"c","envelope":true,"id":"7"}',
        [join(("c",), "envelope", {"channel": "c", "connectionId": ME, "id": "7"})],
    ),
    ('{"action":"joinchannel","channel":""}', [join(("",), "text", {"channel": "", "connectionId": ME})]),
    (
        '{"action":"leavechannel","channel":"c","id":"8"}',
        [leave(("c",), {"channel": "c", "connectionId": ME, "left": True, "id": "8"})],
    ),
    ('{"action":"sendmessage","channel":"c","message":"m"}', [publish("c", "m", "pubsub")]),
    ('{"action":"sendmessage","message":null}', [publish("default", None, "pubsub")]),
    ('{"action":"sendmessage","channel":null,"message":{"a":[1]}}', [publish("default", {"a": [1]}, "pubsub")]),
    ('{"action":"sendmessage","channel":"c","message":"m","ack":true}', [publish("c", "m", "pubsub", ack=True)]),
    ('{"type":"unheard-of","action":"sendmessage","message":"m"}', [publish("default", "m", "pubsub")]),
]

ROOMS: list[tuple[str, list[Command]]] = [
    ('{"action":"message","messageBody":"m"}', [publish(None, "m", "rooms")]),
    ('{"action":"message","messageBody":0,"room":"r","ack":true}', [publish("r", 0, "rooms", ack=True)]),
]

EVERYONE: list[tuple[str, list[Command]]] = [
    ('{"type":"message","data":"m"}', [publish(None, "m", "everyone", to_sender=True)]),
    ('{"type":"message","data":[],"ack":true}', [publish(None, [], "everyone", to_sender=True, ack=True)]),
    ('{"type":"message","action":"message","data":"m"}', [publish(None, "m", "everyone", to_sender=True)]),
    ("Marko?", [Reply("Polo!")]),
    ("hello", [Reply("Marko?")]),
    ("", [Reply("Marko?")]),
    ("NaN", [Reply("Marko?")]),
    ('{"type":"message","data":NaN}', [Reply("Marko?")]),
]

ACTIONS: list[tuple[str, list[Command]]] = [
    ('{"action":"chat","message":"m"}', [Run("chat")]),
    ('{"action":"no-such-action"}', [Run("no-such-action")]),
    ('{"type":1,"action":"chat"}', [Run("chat")]),
]


@pytest.mark.parametrize(("text", "expected"), YWEBRTC + PUBSUB + ROOMS + EVERYONE + ACTIONS)
def test_a_frame_becomes_commands(text: str, expected: Sequence[Command]) -> None:
    assert commands(text) == expected


WRONG: list[tuple[str, type[ClientError], str]] = [
    ('{"type":"subscribe","topics":"a"}', WrongType, "'topics' must be an array of strings, not a string"),
    ('{"type":"publish"}', MissingField, "'topic' is missing"),
    ('{"type":"publish","topic":7}', WrongType, "'topic' must be a string, not a number"),
    ('{"action":"joinchannel"}', MissingField, "'channel' is missing"),
    ('{"action":"joinchannel","channel":null}', WrongType, "'channel' must be a string, not null"),
    ('{"action":"joinchannel","channel":"c","envelope":1}', WrongType, "'envelope' must be true or false"),
    ('{"action":"leavechannel","channel":["c"]}', WrongType, "'channel' must be a string, not an array"),
    ('{"action":"sendmessage","channel":"c"}', MissingField, "'message' is missing"),
    ('{"action":"sendmessage","channel":{},"message":1}', WrongType, "'channel' must be a string, not an object"),
    ('{"action":"sendmessage","message":1,"ack":"yes"}', WrongType, "'ack' must be true or false"),
    ('{"action":"message"}', MissingField, "'messageBody' is missing"),
    ('{"action":"message","messageBody":1,"room":5}', WrongType, "'room' must be a string"),
    ('{"type":"message"}', MissingField, "'data' is missing"),
]


@pytest.mark.parametrize(("text", "error", "says"), WRONG)
def test_a_frame_that_is_not_as_its_dialect_wants_it_is_refused(text: str, error: type[ClientError], says: str) -> None:
    with pytest.raises(error, match=says.replace("[", "\\[")):
        commands(text)
