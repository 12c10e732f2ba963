"""Custom actions: any other `action`, by the name it has in the registry of chalicelib/actions.

{"action":"chat","message":m}    what chalicelib/actions/chat.py makes of it
"""

from __future__ import annotations

from collections.abc import Iterable

from ..model import ConnectionId
from .frame import Command, Dialect, Frame, Run

NAME = "actions"


def run(frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
    """Hands the frame to the custom action."""
    yield Run(frame.string("action"))


DIALECT = Dialect(NAME)
