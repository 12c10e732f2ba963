"""Chat rooms chosen when connecting (?room=NAME).

{"action":"message","messageBody":m}    m to everyone else in the sender's room: its home channel, or the frame's `room`
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model import ConnectionId
from .frame import Command, Dialect, Frame, Publish

NAME = "rooms"


def message(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Publishes to everyone else in the room."""
    yield Publish(frame.channel("room"), frame.value("messageBody"), NAME, ack=frame.flag("ack"))


DIALECT = Dialect(NAME, actions={"message": message})
