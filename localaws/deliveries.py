"""A post on its way to its client, and the faults that may befall it there.

Knows what each fault of a delivery does to it; how it is answered is management.py's.
"""

from __future__ import annotations

import asyncio
import contextlib

from localaws.connections import BufferFull, Connection
from localaws.faults import Faults

_UNDELIVERED = {"drop", "throttle", "fail"}


def deliver(connection: Connection, text: bytes, faults: Faults) -> str | None:
    """Post a text frame to a client, if faults let it pass.

    Returns which fault settled it, if one did: "drop" is to be answered as if nothing were wrong, "throttle", "fail"
    and "forget" as what they say. Raises UnicodeDecodeError and BufferFull.
    """
    settled, copies, delay_s = None, 1, 0.0
    for strike in faults.strike("delivery", connection.identity.connection_id, text.decode()):
        if strike.do == "delay":
            delay_s += strike.wait_s or 0.0
        elif strike.do == "double":
            copies += 1
        else:
            settled = strike.do
    if settled not in _UNDELIVERED:
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, _post_late, connection, text, copies)
        else:
            connection.post(text)
            _post_late(connection, text, copies - 1)
    return settled


def _post_late(connection: Connection, text: bytes, copies: int) -> None:
    """Post what has been answered already: nobody can be told any more that the client is gone or too slow."""
    with contextlib.suppress(BufferFull):
        for _ in range(copies):
            connection.post(text)
