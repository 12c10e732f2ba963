"""The words of the subject as types: what a connection, a channel, a member and a message are.

Knows no protocol, no key and no AWS. Everything else imports from here; this module imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NewType, TypeAlias

ConnectionId = NewType("ConnectionId", str)
"""API Gateway's name for an open WebSocket: 16 characters, never used again after it closed."""

ChannelName = NewType("ChannelName", str)
"""A channel, as its clients call it: any Unicode string, the empty one and lone surrogates included."""

Position = NewType("Position", str)
"""Where a member stands among its channel's members, which are in the order of a hash of their connection's ids."""

JSON: TypeAlias = Any
"""A value that came out of, or goes into, JSON text: str, int, float, bool, None, or a list or dict of these."""

TEXT = "text"
"""The dialect of members that take bare text: those of pubsub, rooms and everyone, and of every home channel."""


@dataclass(frozen=True, slots=True)
class Member:
    """A connection's membership in a channel.

    `dialect` is the one it joined with: what it is sent is encoded for it. `joined_at` (ms since 1970) is the clock
    just before its first join was written; a repeated join leaves it alone.
    """

    connection_id: ConnectionId
    dialect: str
    joined_at: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the members that were asked for, and how many there are in all: exact if they fit one page, else an
    estimate. `last` is the position up to which members were read; None at the end.
    """

    members: Sequence[Member]
    size: int
    last: Position | None


class KeyRange(NamedTuple):
    """A part of a channel's members: those after one position, up to and including another; without them, all."""

    after: Position | None = None
    up_to: Position | None = None


class Address(NamedTuple):
    """Where connections are posted to: API Gateway's id of the WebSocket API, and its stage."""

    api_id: str
    stage: str


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection's own record.

    `home` is the channel of its frames that name none. `at_home` is true while it is also a member there by having
    connected, that is until its first y-webrtc subscribe. `principal` is who it is, `capability` what it may do, as
    text; both None where nothing said so. Its rights, and it, end at `expires_at` (s since 1970).
    """

    connection_id: ConnectionId
    home: ChannelName | None
    at_home: bool
    expires_at: int
    principal: str | None = None
    capability: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What a publish sends to a channel, before it is encoded for anyone.

    `dialect` is the one it was published in, `body` the text or JSON value that was published; `at` is in ms since
    1970. `sender` is None where a backend published.
    """

    channel: ChannelName
    body: JSON
    dialect: str
    sender: ConnectionId | None
    at: int
