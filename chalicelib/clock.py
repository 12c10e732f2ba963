"""The one source of time, so that a test can hold it."""

from __future__ import annotations

import time


class Clock:
    """Wall-clock time, time that only goes on, and real sleep."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, as API Gateway stamps its events."""
        return time.time_ns() // 1_000_000

    def elapsed_ms(self) -> float:
        """Milliseconds since some moment: never set back, and finer than `now_ms`."""
        return time.monotonic() * 1_000

    def sleep(self, milliseconds: float) -> None:
        """Blocks this thread; not at all for 0 or less."""
        if milliseconds > 0:
            time.sleep(milliseconds / 1_000)
