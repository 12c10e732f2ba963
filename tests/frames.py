"""Every kind of frame there is: what it needs a right for, and what it costs.

A new dialect, command or method of `actions.Call` without a row here fails a test of tests/test_rights.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from chalicelib import dialects
from chalicelib.actions import Action, Call
from chalicelib.capability import Operation
from chalicelib.dialects import Command
from chalicelib.model import ConnectionId

from .tokens import USER, token_for

HOME, CHANNEL = "home", "news"
"""The sender's home channel, and one that it names."""


class Row(NamedTuple):
    """A frame of a dialect, the operation that it is on which channel, and the requests of the store that it makes of a
    member where the server is open.
    """

    dialect: str
    frame: Mapping[str, Any] | str
    operation: Operation | None = None
    channel: str = CHANNEL
    requests: tuple[str, ...] = ()
    reads_record: bool = False
    """Whether the first of them reads the sender's record."""

    @property
    def name(self) -> str:
        """The `type` or `action`."""
        return "text" if isinstance(self.frame, str) else self.frame.get("type") or self.frame["action"]

    @property
    def text(self) -> str:
        return self.frame if isinstance(self.frame, str) else json.dumps(self.frame)

    def commands(self) -> Iterable[Command]:
        frame, decoder = dialects.route(self.text)
        return decoder(frame, ConnectionId("sender"))


def _call_join(call: Call) -> None:
    call.join(call.channel())


def _call_publish(call: Call) -> None:
    call.publish(call.channel(), {"said": 1})


def _call_leave(call: Call) -> None:
    call.leave(call.channel())


def _call_reply(call: Call) -> None:
    call.reply({"principal": call.principal})


CUSTOM: Mapping[str, Action] = {
    "join": _call_join,
    "publish": _call_publish,
    "leave": _call_leave,
    "reply": _call_reply,
}
"""An action for each thing that an action may do, by the name of Call's method."""

_LEAVES_HOME = ("GetItem", "DeleteItem", "UpdateItem")
_JOINS = ("UpdateItem",)
_READS_HOME = ("GetItem", "Query")
_READS_MEMBERSHIP = ("GetItem", "Query")
_LEAVES = ("DeleteItem",)

ROWS = (
    Row("ywebrtc", {"type": "subscribe", "topics": ["news"]}, "subscribe", CHANNEL, (*_LEAVES_HOME, *_JOINS), True),
    Row(
        "ywebrtc",
        {"type": "publish", "topic": "news", "data": {"type": "signal"}},
        "publish",
        CHANNEL,
        _READS_MEMBERSHIP,
    ),
    Row(
        "ywebrtc",
        {"type": "publish", "topic": "news", "data": {"type": "announce"}},
        "publish",
        CHANNEL,
        _READS_MEMBERSHIP,
    ),
    Row("ywebrtc", {"type": "unsubscribe", "topics": ["news"]}, requests=_LEAVES),
    Row("ywebrtc", {"type": "ping"}),
    Row("pubsub", {"action": "joinchannel", "channel": "news"}, "subscribe", CHANNEL, _JOINS),
    Row("pubsub", {"action": "joinchannel", "channel": "news", "envelope": True}, "subscribe", CHANNEL, _JOINS),
    Row("pubsub", {"action": "leavechannel", "channel": "news"}, requests=_LEAVES),
    Row("pubsub", {"action": "sendmessage", "channel": "news", "message": "hello"}, "publish", CHANNEL, ("Query",)),
    Row("pubsub", {"action": "sendmessage", "message": "hello"}, "publish", "default", ("Query",)),
    Row("rooms", {"action": "message", "messageBody": "hello"}, "publish", HOME, _READS_HOME, True),
    Row("rooms", {"action": "message", "messageBody": "hello", "room": "news"}, "publish", CHANNEL, ("Query",)),
    Row("everyone", {"type": "message", "data": "hello"}, "publish", HOME, _READS_HOME, True),
    Row("everyone", "Marko?"),
    Row("actions", {"action": "chat", "message": "hello"}, "publish", HOME, _READS_HOME, True),
    Row("actions", {"action": "chat", "message": "hello", "channel": "news"}, "publish", CHANNEL, ("Query",)),
    Row("actions", {"action": "join", "channel": "news"}, "subscribe", CHANNEL, _JOINS),
    Row("actions", {"action": "publish", "channel": "news"}, "publish", CHANNEL, ("Query",)),
    Row("actions", {"action": "leave", "channel": "news"}, requests=_LEAVES),
    Row("actions", {"action": "reply"}),
    Row("authentication", {"action": "authenticate", "token": token_for(USER, {})}),
)
NEEDY = tuple(row for row in ROWS if row.operation)
FREE = tuple(row for row in ROWS if not row.operation)


def label(value: object) -> str | None:
    """What a row is called in a test's name."""
    if not isinstance(value, Row):
        return None
    return f"{value.dialect} {value.name} {value.operation or 'nothing'} {value.channel}"
