"""Channels that a client joins, leaves and sends to by name.

{"action":"joinchannel","channel":c}             {"channel":c,"connectionId":id} once the membership is written
  … "envelope":true                              messages then come as {"channel","message","from","at"}
{"action":"leavechannel","channel":c}            {"channel":c,"connectionId":id,"left":true}
{"action":"sendmessage","channel":c,"message":m} m to every member but the sender, who need not be one
"""

from __future__ import annotations

from collections.abc import Iterable

from ..jsontext import compact, plain
from ..model import TEXT, ChannelName, ConnectionId, Message
from .frame import Command, Dialect, Frame, Join, Leave, Publish

NAME = "pubsub"
ENVELOPE = "envelope"
DEFAULT_CHANNEL = ChannelName("default")


def join(frame: Frame, sender: ConnectionId) -> Iterable[Command]:
    """Joins the channel, for bare text or envelopes; a repeated join may change which."""
    channel = ChannelName(frame.string("channel"))
    ack = frame.answer({"channel": channel, "connectionId": sender})
    yield Join((channel,), ENVELOPE if frame.flag("envelope") else TEXT, ack)


def leave(frame: Frame, sender: ConnectionId) -> Iterable[Command]:
    """Leaves the channel, whether the sender was in it or not."""
    channel = ChannelName(frame.string("channel"))
    yield Leave((channel,), frame.answer({"channel": channel, "connectionId": sender, "left": True}))


def send(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Publishes to the channel, `default` where none is named."""
    channel = frame.channel("channel")
    yield Publish(DEFAULT_CHANNEL if channel is None else channel, frame.value("message"), NAME, ack=frame.flag("ack"))


def encode_text(message: Message, _clients: int) -> str:
    """A string as it is, any other value as its JSON text."""
    return plain(message.body) if isinstance(message.body, str) else compact(message.body)


def encode_envelope(message: Message, _clients: int) -> str:
    """The value with where it was sent, by whom and when (ms since 1970)."""
    return compact({"channel": message.channel, "message": message.body, "from": message.sender, "at": message.at})


DIALECT = Dialect(
    NAME,
    actions={"joinchannel": join, "leavechannel": leave, "sendmessage": send},
    members={TEXT: encode_text, ENVELOPE: encode_envelope},
)
