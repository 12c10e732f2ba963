"""How connections have behaved lately, as far as this process has seen: frames a second, and strikes.

Each Lambda environment keeps its own count, and a client's frames are spread over many. So a limit here bounds what
one environment is made to do, not exactly what a client sends. What bounds all clients together is the stage's
throttle.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from .clock import Clock
from .errors import RateLimited
from .model import ConnectionId

STRIKES_MS = 60_000
"""After so long, strikes are forgotten."""

REMEMBERED = 10_000
"""So many connections are remembered; the one that was quiet longest is forgotten first."""


@dataclass(slots=True)
class _Record:
    free_at: float = float("-inf")
    strikes: int = 0
    since: float = 0


class Conduct:
    """Counts frames and strikes by connection. Safe to use from several threads.

    `frames_per_second` (0 for no limit) may be reached on average, and a second's worth of them at once. `strikes` is
    how many are too many.
    """

    def __init__(self, frames_per_second: int, strikes: int, clock: Clock) -> None:
        self._per_second = frames_per_second
        self._strikes = strikes
        self._clock = clock
        self._lock = threading.Lock()
        self._records: OrderedDict[ConnectionId, _Record] = OrderedDict()

    def frame(self, connection_id: ConnectionId) -> None:
        """Counts a frame; raises RateLimited where it is one too many."""
        if not self._per_second:
            return
        with self._lock:
            record = self._record_of(connection_id)
            now, interval = self._clock.elapsed_ms(), 1_000 / self._per_second
            free_at = max(record.free_at, now - 1_000) + interval
            if free_at > now:
                raise RateLimited(self._per_second)
            record.free_at = free_at

    def strike(self, connection_id: ConnectionId) -> bool:
        """Counts that a connection was over a limit; whether that was once too often."""
        with self._lock:
            record = self._record_of(connection_id)
            now = self._clock.elapsed_ms()
            if now - record.since > STRIKES_MS:
                record.since, record.strikes = now, 0
            record.strikes += 1
            return record.strikes >= self._strikes

    def _record_of(self, connection_id: ConnectionId) -> _Record:
        record = self._records.setdefault(connection_id, _Record())
        self._records.move_to_end(connection_id)
        if len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
        return record
