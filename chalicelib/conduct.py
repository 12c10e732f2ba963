"""How connections have behaved lately, as far as this process has seen: frames a second, and strikes.

Each Lambda environment keeps its own count, and a client's frames are spread over many. So a limit here bounds what
one environment is made to do, not exactly what a client sends. What bounds all clients together is the stage's
throttle.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass

from .clock import Clock
from .errors import RateLimited
from .model import ConnectionId

STRIKES_MS = 60_000
"""After so long, a strike is forgotten."""

_FRAME = 1_000_000
"""What a frame costs; a microsecond earns one for each frame a second that is allowed. All in whole numbers: with
fractions, a second's worth at once may come out as one too many.
"""

REMEMBERED = 10_000
"""So many connections are remembered; the one that was quiet longest is forgotten first."""


@dataclass(slots=True)
class _Record:
    strikes: deque[int]
    free_at: float = float("-inf")


class Conduct:
    """Counts frames and strikes by connection. Safe to use from several threads.

    `frames_per_second` (0 for no limit) may be reached on average, and a second's worth of them at once. `strikes` is
    how many are too many within a minute. By the wall clock: the other may stand still while a Lambda is frozen.
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
            now = self._clock.now_ms() * 1_000 * self._per_second
            last = record.free_at if record.free_at <= now else 0  # the clock was set back
            free_at = max(last, now - _FRAME * self._per_second) + _FRAME
            if free_at > now:
                raise RateLimited(self._per_second)
            record.free_at = free_at

    def strike(self, connection_id: ConnectionId) -> bool:
        """Counts that a connection was over a limit; whether that was once too often."""
        with self._lock:
            strikes = self._record_of(connection_id).strikes
            strikes.append(self._clock.now_ms())
            return len(strikes) == self._strikes and 0 <= strikes[-1] - strikes[0] <= STRIKES_MS

    def _record_of(self, connection_id: ConnectionId) -> _Record:
        record = self._records.setdefault(connection_id, _Record(deque(maxlen=self._strikes)))
        self._records.move_to_end(connection_id)
        if len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
        return record
