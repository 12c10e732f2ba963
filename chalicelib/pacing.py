"""How fast to post: below API Gateway's quota, and slower while it refuses.

The quota is one token bucket for the whole account, inbound frames and connects included: 10,000 requests a second and
a burst of 5,000, in some regions a quarter of both. So posts are paced to a configured rate, with a burst in the same
proportion. That others use the same quota is seen from 429s alone. One may be a single slow client's, whose buffer is
full, tried again and again; where they are more than a hundredth of many posts in a short time, everything is slowed
to the share that was let through.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
"""

from __future__ import annotations

import threading

from .clock import Clock

BURST_MS = 500
"""After a rest, as many posts go out at once as half a second allows: AWS's burst of 5,000 to its rate of 10,000."""

WINDOW_MS = 250
WINDOW_POSTS = 100
"""How often 429s are looked at: once both have passed."""

WINDOW_MOST_MS = 1_000
"""So few posts in so long a time say nothing of the quota: a tenth of them may be the repeats of one client whose
buffer is full. Nor does what was refused before this environment was frozen.
"""

THROTTLED_SHARE = 0.01
THROTTLED_LEAST = 10
"""More 429s than both in a window, and it is not a slow client or two but the quota."""

RECOVERY = 1.05
"""How much faster it goes on for each WINDOW_MS without too many 429s: from half the rate, back after 4 s."""

SLOWEST = 0.01


class Pacer:
    """A token bucket for all posts of this process. Safe to use from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock.elapsed_ms() - BURST_MS
        self._share = 1.0
        self._window_at = clock.elapsed_ms()
        self._posts = 0
        self._throttled = 0

    @property
    def slowed(self) -> bool:
        """Whether the quota refuses so much that all posts go slower than configured."""
        return self._share < 1

    def forgo_burst(self) -> None:
        """Another invocation has had it: what comes now goes on where that one stopped."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock.elapsed_ms())

    def reserve(self, rate: float) -> float:
        """Takes the next post's place among `rate` posts a second; returns how long to wait for it (ms)."""
        with self._lock:
            now = self._clock.elapsed_ms()
            self._posts += 1
            age = now - self._window_at
            if age >= (WINDOW_MS if self._posts >= WINDOW_POSTS else WINDOW_MOST_MS):
                self._look_back(age)
                self._window_at, self._posts, self._throttled = now, 0, 0
            burst = BURST_MS if self._share == 1 else 0
            self._free_at = max(self._free_at, now - burst) + 1_000 / (rate * self._share)
            return self._free_at - now

    def throttled(self) -> None:
        """A post was answered 429."""
        with self._lock:
            self._throttled += 1

    def _look_back(self, age: float) -> None:
        if age < WINDOW_MOST_MS and self._throttled > max(THROTTLED_LEAST, THROTTLED_SHARE * self._posts):
            self._share = max(self._share * (1 - self._throttled / self._posts), SLOWEST)
        else:
            # 100 windows bring back even the slowest share; the power of an hour of them is more than a float holds.
            self._share = min(1.0, self._share * RECOVERY ** min(age / WINDOW_MS, 100))
