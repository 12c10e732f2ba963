"""What hooks are asked about. `principal` is who the connection is, None where the server is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..model import JSON, ChannelName, ConnectionId


@dataclass(frozen=True, slots=True)
class Connecting:
    """A connection on its way in, with its URL's parameters (its token is not among them)."""

    connection_id: ConnectionId
    principal: str | None
    home: ChannelName | None
    query: Mapping[str, str]
    source_ip: str


@dataclass(frozen=True, slots=True)
class Joining:
    """A connection about to be a member of a channel."""

    connection_id: ConnectionId
    principal: str | None
    channel: ChannelName


@dataclass(frozen=True, slots=True)
class Publishing:
    """A message about to be sent to a channel: `body` as it came in `dialect`."""

    connection_id: ConnectionId
    principal: str | None
    channel: ChannelName
    body: JSON
    dialect: str
