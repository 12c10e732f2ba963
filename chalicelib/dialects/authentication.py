"""A new token for a connection that stays open.

{"action":"authenticate","token":t}    {"action":"authenticate","expiresAt":s} once the new rights hold
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model import ConnectionId
from .frame import Authenticate, Command, Dialect, Frame

NAME = "authentication"


def authenticate(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Takes the token in the place of the one before it."""
    yield Authenticate(frame.string("token"))


DIALECT = Dialect(NAME, actions={"authenticate": authenticate})
