"""Where members stand among a channel's members, and how a range of them is cut and estimated.

A member's position begins with its bucket: two hex digits of a hash of its connection's id, so that members are spread
evenly over 256 buckets, whatever their ids. Knows no request and no attribute.
"""

from __future__ import annotations

import hashlib

from .model import ConnectionId, KeyRange, Position

_BUCKETS = 256


def position_of(connection_id: ConnectionId) -> Position:
    """Where that connection stands in every channel it is a member of."""
    bucket = hashlib.sha256(connection_id.encode()).hexdigest()[:2]
    return Position(f"{bucket}#{connection_id}")


def cut(within: KeyRange, after: Position, parts: int) -> list[KeyRange]:
    """`within` in ranges of about as many members each, `parts` of them at most, the first of which reaches beyond
    `after`. Together they are `within`, and none overlaps another.
    """
    first, end = _bucket(after) + 1, _BUCKETS if within.up_to is None else _bucket(within.up_to)
    buckets = sorted({first + (end - first) * part // parts for part in range(1, parts)} - {end}) if first < end else []
    # '$' comes just after '#': the last position before the next bucket.
    ends = [Position(f"{bucket - 1:02x}$") for bucket in buckets]
    return [KeyRange(*pair) for pair in zip([within.after, *ends], [*ends, within.up_to], strict=True)]


def estimated_size(counted: int, within: KeyRange, last: Position | None) -> int:
    """How many members there are if the rest is spread as the first page was: uniformly over the buckets."""
    if last is None:
        return counted
    start = 0 if within.after is None else _bucket(within.after) + 0.5
    end = _BUCKETS if within.up_to is None else _bucket(within.up_to) + 1
    read = max(_bucket(last) + 0.5 - start, 0.5)
    return round(counted * max((end - start) / read, 1))


def _bucket(position: Position) -> int:
    return int(position[:2], 16)
