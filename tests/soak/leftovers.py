"""The rows that are left in the table when all clients have gone, and why each may be there.

Knows the kinds of rows that chalicelib/table.py describes, by their keys, and no request.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .history import Connection, History, marked
from .ledger import Ledger

EXAMPLES = 10

LOST = "its $disconnect was lost"
INCOMPLETE = "its $disconnect met a store that failed, or was killed, or its $connect was"
LATE = "its join may have been handled after its end"
UNKNOWN = "its handshake was refused for a store that failed, or its client never heard that it had joined"
CLAIM = "a day's memory of what a backend had sent"
HANDED_ON = "a day's memory of what a handler had no time to send and handed on"
ADDRESS = "the address of the API"
TOMBSTONE = "a minute's memory of a leave"

_HANDED_ON = re.compile(r"@claim#[0-9a-f]{16}")


@dataclass
class Leftovers:
    """Rows by why they are there, and those for which there is no reason."""

    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind of row and reason."""
    unexplained: list[str] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)
    """Those that have members left."""
    joined_at: int = 0
    """When the youngest of these joined (ms since 1970)."""


def explain(
    items: Iterable[Mapping[str, Any]], history: History, ledger: Ledger, incomplete: frozenset[str]
) -> Leftovers:
    """Why these rows may be there. There may be as many connections that no client knows as there were handshakes that
    were refused and clients that went before they knew their own.
    """
    left = Leftovers()
    strangers: set[str] = set()
    known = {connection.id: connection for connection in history.connections if connection.id is not None}
    nameless = sum(connection.id is None and connection.unsure for connection in history.connections)
    may_be_strangers = nameless + sum(times for status, times in history.refused.items() if status.startswith("5"))
    for item in items:
        kind, channel = _kind(item), item["channel"]["S"]
        owner = item.get("connection_id", {}).get("S", "")
        if kind == "membership":
            left.channels.add(channel)
            left.joined_at = max(left.joined_at, int(item["joined_at"]["N"]))
        if kind == "address":
            reason: str | None = ADDRESS
        elif kind == "claim":
            reason = HANDED_ON if _HANDED_ON.fullmatch(channel) else CLAIM if _is_a_backends(channel, history) else None
        else:
            reason = _reason(kind, owner, known.get(owner), ledger, incomplete)
        if reason is None and owner and owner not in known and len(strangers | {owner}) <= may_be_strangers:
            strangers.add(owner)
            reason = UNKNOWN
        if reason is None:
            left.unexplained.append(f"{kind} of {owner or '?'} in {channel}")
        else:
            left.reasons[kind, reason] += 1
    return left


def _kind(item: Mapping[str, Any]) -> str:
    channel = item["channel"]["S"]
    for kind in ("connection", "claim", "address"):
        if channel == f"@{kind}" or channel.startswith(f"@{kind}#"):
            return kind
    return "membership" if "joined_at" in item else "tombstone"


def _is_a_backends(channel: str, history: History) -> bool:
    number = marked(channel)
    return number in history.messages and history.messages[number].sender is None


def _reason(
    kind: str, owner: str, connection: Connection | None, ledger: Ledger, incomplete: frozenset[str]
) -> str | None:
    if owner in ledger.lost_disconnects:
        return LOST
    if owner in incomplete or owner in ledger.kills_at_an_end:
        return INCOMPLETE
    if kind != "connection" and connection is not None and connection.unsure:
        return LATE
    if kind == "tombstone" and connection is not None:
        return TOMBSTONE
    return None
