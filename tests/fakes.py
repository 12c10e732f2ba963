"""Stand-ins that keep the real rules.

A gateway that answers as @connections does, a clock that moves only when slept on, and an executor that runs what it is
given at once.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from chalicelib.budget import Budget
from chalicelib.clock import Clock
from chalicelib.errors import ConnectionGone, PostError, PostFailed
from chalicelib.limits import MESSAGE_BYTES
from chalicelib.model import ConnectionId

NOW = time.time_ns() // 1_000_000
"""The real time, once: a store deletes what has expired by its own clock."""


class FakeClock(Clock):
    """Starts at NOW; sleeping is the only thing that takes time."""

    def __init__(self) -> None:
        self.now = NOW

    def now_ms(self) -> int:
        return self.now

    def elapsed_ms(self) -> float:
        return float(self.now)

    def sleep(self, milliseconds: float) -> None:
        self.now += max(0, round(milliseconds))


ENDLESS = Budget(float("inf"), float("inf"))


class Context:
    """What Lambda hands to a function beside its event."""

    function_name = "channels-dev-publish"
    aws_request_id = "2c1d2a1e-9a8c-4c0a-8a0e-0e1f2a3b4c5d"

    def __init__(self, remaining_ms: int = 30_000) -> None:
        self.remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


class FakeGateway:
    """410 for whoever is not open, 413 over 128 KB, and any failures that a test has prepared, in order."""

    def __init__(self) -> None:
        self.received: dict[str, list[str]] = defaultdict(list)
        self.open: set[str] = set()
        self.failures: dict[str, list[PostError | None]] = defaultdict(list)
        self.posts: list[str] = []
        self._lock = threading.Lock()

    def post(self, connection_id: ConnectionId, text: str) -> None:
        with self._lock:
            self.posts.append(connection_id)
            failures = self.failures[connection_id]
            if failures and (failure := failures.pop(0)):
                raise failure
            if connection_id not in self.open:
                raise ConnectionGone("PostToConnection", "410")
            if len(text.encode()) > MESSAGE_BYTES:
                raise PostFailed("PostToConnection", "413")
            self.received[connection_id].append(text)


class InlineExecutor(Executor):
    """Runs each call in the calling thread, before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  whoever asks for the result gets it
            future.set_exception(error)
        return future
