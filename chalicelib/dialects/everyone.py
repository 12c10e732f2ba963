"""Plain broadcast.

{"type":"message","data":m}    m to everyone in the sender's home channel, the sender too
text that is not JSON          `Marko?` is answered `Polo!`, anything else `Marko?`
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model import ConnectionId
from .frame import Command, Dialect, Frame, Publish, Reply

NAME = "everyone"


def message(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Publishes to the home channel, the sender included."""
    yield Publish(None, frame.value("data"), NAME, to_sender=True, ack=frame.flag("ack"))


def marko(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Answers text that is not JSON, so that a person with a bare terminal sees that someone is there."""
    yield Reply("Polo!" if frame.text == "Marko?" else "Marko?")


DIALECT = Dialect(NAME, types={"message": message})
