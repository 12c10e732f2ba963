"""The connection whose frame is being handled: its home channel, and what it may do.

Its record is read when it is needed first, and once a frame. Where the server is open, rights need no record.
"""

from __future__ import annotations

from functools import cached_property

from .capability import Capability, Operation
from .clock import Clock
from .errors import Forbidden, NoHomeChannel, TokenExpired
from .events import MessageEvent
from .model import ChannelName, Connection, ConnectionId
from .settings import Settings
from .table import Table


class Sender:
    """The sender of one frame. Every method raises StoreError when its record cannot be read."""

    def __init__(self, event: MessageEvent, settings: Settings, table: Table, clock: Clock) -> None:
        self.id: ConnectionId = event.connection_id
        self.event = event
        self._settings = settings
        self._table = table
        self._clock = clock

    @cached_property
    def record(self) -> Connection | None:
        """What connecting, or a later token, has written; None where it is gone, as after $disconnect."""
        return self._table.connection(self.id)

    @property
    def home(self) -> ChannelName:
        """The connection's home channel; raises NoHomeChannel, and TokenExpired where TTL has ended its rights."""
        if self.record is None and not self._settings.is_open:
            raise TokenExpired
        if self.record is None or self.record.home is None:
            raise NoHomeChannel
        return self.record.home

    @property
    def at_home(self) -> ChannelName | None:
        """The home channel, while the connection is a member there by having connected."""
        return self.record.home if self.record is not None and self.record.at_home else None

    @property
    def principal(self) -> str | None:
        """Who it is; None where the server is open. Raises TokenExpired once its rights have ended."""
        return None if self.expires_at is None or self.record is None else self.record.principal

    @property
    def expires_at(self) -> int | None:
        """When its rights end (s since 1970); None where they do not. Raises TokenExpired once they have."""
        if self._settings.is_open:
            return None
        # Without a record, TTL has removed it, or $disconnect: whatever the connection was allowed is over. One without
        # a principal has been written while the server was open, and nobody has shown a token for it.
        record = self.record
        if record is None or record.principal is None or record.expires_at * 1_000 <= self._clock.now_ms():
            raise TokenExpired
        return record.expires_at

    def may(self, operation: Operation, channel: ChannelName) -> bool:
        """Whether its token gives the right to `operation` on the channel; raises TokenExpired."""
        if self.expires_at is None or self.record is None:
            return True
        return capability_of(self.record.capability, self._settings).allows(operation, channel)

    def require(self, operation: Operation, channel: ChannelName) -> None:
        """Raises Forbidden where its token does not give the right, TokenExpired where it did."""
        if not self.may(operation, channel):
            raise Forbidden(operation, channel)


def capability_of(text: str | None, settings: Settings) -> Capability:
    """What a record's text says, or what is configured for tokens that say nothing."""
    return settings.default_capability if text is None else Capability.parse(text)
