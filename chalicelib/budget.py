"""How much of an invocation's time a broadcast may use."""

from __future__ import annotations

from typing import NamedTuple, Protocol

HANDLER_MS = 20_000
"""For a frame's handler: API Gateway waits 29 s for it, and retries and a last slow post come after."""


class LambdaContext(Protocol):
    """What Lambda hands to a function beside its event."""

    function_name: str
    aws_request_id: str
    """The invocation's name; the same when Lambda runs an asynchronous one again."""

    def get_remaining_time_in_millis(self) -> int:
        """How long the function may still run."""


class Budget(NamedTuple):
    """Until when new receivers are drawn, and until when what was throttled is tried again (ms since 1970)."""

    draw_until: float
    retry_until: float

    @classmethod
    def of(cls, context: LambdaContext, now_ms: int, most_ms: float = float("inf")) -> Budget:
        """Two thirds of what remains, `most_ms` at most, to draw; and a fifth more for what is left to be repeated."""
        drawing = min(context.get_remaining_time_in_millis() * 2 / 3, most_ms)
        return cls(now_ms + drawing, now_ms + drawing * 1.2)
