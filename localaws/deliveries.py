"""A post on its way to its client, and the faults that may befall it there.

Knows what each fault of a delivery does to it; how it is answered is management.py's.
"""

from __future__ import annotations

import asyncio

from localaws.connections import Connection
from localaws.faults import Faults

_UNDELIVERED = {"drop", "throttle", "fail"}


def deliver(connection: Connection, text: str, faults: Faults) -> str | None:
    """Post a text frame to a client, if faults let it pass.

    Returns which fault settled it, if one did: "drop" is to be answered as if nothing were wrong, "throttle", "fail"
    and "forget" as what they say. Raises BufferFull, and then no fault has befallen it.
    """
    settled, copies, delay_s = None, 1, 0.0
    frame = text.encode()
    connection.check_room(frame)
    for strike in faults.strike("delivery", connection.identity.connection_id, text):
        if strike.do == "delay":
            delay_s += strike.wait_s or 0.0
        elif strike.do == "double":
            copies += 1
        else:
            settled = strike.do
    if settled not in _UNDELIVERED:
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, _send, connection, frame, copies)
        else:
            _send(connection, frame, copies)
    return settled


def _send(connection: Connection, frame: bytes, copies: int) -> None:
    """However much waits by now: nobody can be told any more, and the plan says what is lost."""
    for _ in range(copies):
        connection.send(frame)
