"""y-webrtc's signaling protocol, as y-webrtc 10 speaks it (bin/server.js of its npm package is the reference).

    {"type":"subscribe","topics":[…]}      joins each; no ack; entries that are not strings are skipped
    {"type":"unsubscribe","topics":[…]}    leaves each; no ack
    {"type":"publish","topic":t,…}         the whole object, plus `clients`, to every subscriber
    {"type":"ping"}                        {"type":"pong"}

An empty topic is never published.

Its client throws on text that is not JSON, so a member of this dialect is sent JSON objects only; it ignores those it
does not know, error frames included.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..jsontext import compact
from ..model import JSON, ChannelName, ConnectionId, Message
from .frame import Command, Dialect, Frame, Join, Leave, Publish, Reply

NAME = "ywebrtc"

ENCRYPTED_ANNOUNCE_CHARACTERS = 300
"""With a password `data` is ciphertext in base64: 132 characters for an announce, at least 436 for any signal
(measured).
"""


def subscribe(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Joins each topic once, in order."""
    yield Join(_topics(frame), NAME, leaves_home=True)


def unsubscribe(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Leaves each topic."""
    yield Leave(_topics(frame))


def publish(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Sends the frame itself on, extra fields kept."""
    topic = frame.string("topic")
    if topic:
        yield Publish(
            ChannelName(topic),
            dict(frame.fields),
            NAME,
            to_sender=True,
            after_join=True,
            announces=is_announce(frame.fields.get("data")),
        )


def ping(_frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Answers the client's keepalive, which it sends every 15 s."""
    yield Reply('{"type":"pong"}')


def is_announce(data: JSON) -> bool:
    """Whether a publish's `data` is, or with a password may be, an announce: a peer's call for all others to offer to
    it.
    """
    if isinstance(data, dict):
        return data.get("type") == "announce"
    return isinstance(data, str) and len(data) < ENCRYPTED_ANNOUNCE_CHARACTERS


def encode(message: Message, clients: int) -> str:
    """A publish frame; a custom action's object goes out as it is. Always a JSON object."""
    if message.dialect == NAME:
        return compact({**message.body, "clients": clients})
    if message.dialect == "actions" and isinstance(message.body, dict):
        return compact(message.body)
    return compact({"type": "publish", "topic": message.channel, "data": message.body, "clients": clients})


def _topics(frame: Frame) -> tuple[ChannelName, ...]:
    return tuple(dict.fromkeys(ChannelName(topic) for topic in frame.strings("topics")))


DIALECT = Dialect(
    NAME,
    types={"subscribe": subscribe, "unsubscribe": unsubscribe, "publish": publish, "ping": ping},
    members={NAME: encode},
    correlates=False,
)
