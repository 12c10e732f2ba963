"""What a custom action is handed: one frame of one connection, and what may be done about it."""

from __future__ import annotations

from typing import Protocol

from ..dialects.frame import Frame
from ..model import JSON, ChannelName, ConnectionId


class Call(Protocol):
    """One run of an action. An action may keep nothing between runs: each may be in another Lambda.

    Raise a `ClientError` to answer the sender with an error frame; any other exception is logged and answered
    `internal`. A client that set `"ack":true` is told how many the publishes of the run have reached, once the action
    returns.
    """

    frame: Frame
    """The frame, with typed access to its fields: `frame.value("message")`, `frame.string("name")`,
    `frame.flag("urgent")`.
    """

    sender: ConnectionId

    principal: str | None
    """Who the sender is, as its token says; None where the server is open."""

    def channel(self, field: str = "channel") -> ChannelName:
        """The channel that the frame's `field` names, else the sender's home channel; raises WrongType,
        NoHomeChannel.
        """

    def publish(self, channel: ChannelName, body: JSON, *, to_sender: bool = False) -> None:
        """Sends `body` to the channel's members, each in its own dialect.

        Raises TooLarge and, where the sender's token does not give the right, Forbidden or TokenExpired, before
        anything is sent.
        """

    def reply(self, body: JSON) -> None:
        """Answers the sender alone, with the frame's `id` added to an object where the frame had one; raises
        TooLarge.
        """

    def join(self, channel: ChannelName) -> None:
        """Makes the sender a member that gets bare text; raises Superseded, and Forbidden or TokenExpired."""

    def leave(self, channel: ChannelName) -> None:
        """Ends the sender's membership."""
