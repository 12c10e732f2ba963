"""Token buckets: how many requests a second, and how many at once.

Knows numbers and a clock, and nothing of what is counted.
https://docs.aws.amazon.com/apigateway/latest/developerguide/websocket-api-protect.html
"""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Lets through `burst` at once and `rate` a second in the long run; everything where `rate` is 0.

    It starts full. Not for several threads.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._at = clock()

    def take(self) -> bool:
        """Take a token. False if there is none, and then nothing is taken."""
        if not self._rate:
            return True
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
