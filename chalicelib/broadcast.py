"""One message to many connections: concurrency, retries, stale connections.

Given deliveries and two callbacks, it knows no table, no channel and no AWS. Deliveries are drawn from their iterator
as there is room to send them, so that memory stays flat however many there are.

A post is repeated only where it certainly was not delivered, because a receiver must never get a message twice: after a
429, a 410 of a young connection, or a failure before the request was written. What waits (for a retry, or for a
delivery's own `not_before`) waits in one heap and holds no thread, so that one bad receiver costs the others nothing.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import chain, count
from queue import Empty, SimpleQueue
from typing import TypeAlias

from .clock import Clock
from .errors import ConnectionGone, NotWritten, PostError, PostFailed, StoreError, Throttled, UpstreamError
from .model import ConnectionId

log = logging.getLogger("channels.broadcast")

YOUNG_MS = 60_000
"""Until a member is this old, a 410 may mean that its $connect has not returned yet (API Gateway's integration timeout
is 29 s). It is tried once more and never pruned. Memberships are never older than their connections, so their age errs
on the safe side.
"""

OPENING_RETRY_MS = 250
"""When a 410 of a young member is tried again."""

ATTEMPTS = 6
"""How often one post is tried while it is throttled or cannot be written."""

BACKOFF_MS = 100
BACKOFF_MOST_MS = 2_000
"""Full jitter: before attempt n+1 a random time up to BACKOFF_MS · 2^(n-1), at most BACKOFF_MOST_MS
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

WAITING_MOST = 10_000
"""While so many deliveries wait for their time, no more are drawn: memory stays flat however many are throttled."""

PRUNE_BATCH = 25
"""Stale members are pruned that many at a time: what one BatchWriteItem deletes."""

Post: TypeAlias = Callable[[ConnectionId, str], None]
"""Sends text to one connection; raises ConnectionGone, Throttled, NotWritten or PostFailed."""

Prune: TypeAlias = Callable[[Sequence[ConnectionId]], None]
"""Forgets connections that are gone; a StoreError of its is logged and costs the broadcast nothing."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A text for one connection, which became a member at `joined_at`; not to be sent before `not_before` (ms since
    1970).
    """

    connection_id: ConnectionId
    text: str
    joined_at: int
    not_before: int = 0
    attempt: int = 1
    was_gone: bool = False


@dataclass(slots=True)
class Result:
    """How many posts ended how.

    `stale` were gone, and pruned. `not_open` were gone too, but so young that they may be connecting still. `throttled`
    and `failed` were given up. `interrupted` is why the deliveries ended before their end, if they did.
    """

    delivered: int = 0
    stale: int = 0
    not_open: int = 0
    throttled: int = 0
    failed: int = 0
    interrupted: StoreError | None = None

    def add(self, other: Result) -> None:
        """Counts the other's posts here too."""
        self.delivered += other.delivered
        self.stale += other.stale
        self.not_open += other.not_open
        self.throttled += other.throttled
        self.failed += other.failed


@dataclass(slots=True)
class _Sending:
    """The state of one broadcast. `outcomes` is all that the posting threads touch."""

    source: Iterator[Delivery]
    prune: Prune
    waiting: list[tuple[int, int, Delivery]] = field(default_factory=list)
    outcomes: SimpleQueue[tuple[Delivery, PostError | None]] = field(default_factory=SimpleQueue)
    in_flight: int = 0
    stale: list[ConnectionId] = field(default_factory=list)
    result: Result = field(default_factory=Result)
    order: Iterator[int] = field(default_factory=count)


class Broadcast:
    """Sends through `post`, at most `window` posts at a time, on `executor`'s threads."""

    def __init__(self, post: Post, executor: Executor, window: int, clock: Clock) -> None:
        self._post = post
        self._executor = executor
        self._window = window
        self._clock = clock

    def send(self, deliveries: Iterable[Delivery], prune: Prune) -> Result:
        """Posts each delivery and returns once all have ended, one way or the other.

        A single delivery is posted from the calling thread. A StoreError out of `deliveries` ends the drawing; what was
        drawn is sent all the same, and the error is in the result.
        """
        sending = _Sending(iter(deliveries), prune)
        head = [delivery for _ in range(2) if (delivery := self._draw(sending))]
        alone = len(head) == 1
        sending.source = chain(head, sending.source)
        while True:
            self._start_what_is_due(sending, alone)
            if not sending.in_flight and not sending.waiting:
                break
            self._await_an_outcome(sending)
        self._prune(sending)
        return sending.result

    def _draw(self, sending: _Sending) -> Delivery | None:
        """The next delivery; None at the end, or where the members can be read no further."""
        try:
            return next(sending.source, None)
        except StoreError as error:
            sending.result.interrupted = error
            return None

    def _start_what_is_due(self, sending: _Sending, alone: bool) -> None:
        while sending.in_flight < self._window:
            if sending.waiting and sending.waiting[0][0] <= self._clock.now_ms():
                delivery = heappop(sending.waiting)[2]
            elif len(sending.waiting) < WAITING_MOST and (drawn := self._draw(sending)):
                delivery = drawn
                if delivery.not_before > self._clock.now_ms():
                    self._wait(sending, delivery)
                    continue
            else:
                return
            sending.in_flight += 1
            if alone:
                self._attempt(delivery, sending.outcomes)
            else:
                self._executor.submit(self._attempt, delivery, sending.outcomes)

    def _await_an_outcome(self, sending: _Sending) -> None:
        """Takes one outcome, or returns when something that waits is due."""
        pause = (sending.waiting[0][0] - self._clock.now_ms()) if sending.waiting else None
        if not sending.in_flight:
            self._clock.sleep(pause or 0)
            return
        full = sending.in_flight >= self._window
        try:
            timeout = None if pause is None or full else max(pause, 0) / 1_000
            delivery, error = sending.outcomes.get(timeout=timeout)
        except Empty:
            return
        sending.in_flight -= 1
        self._settle(sending, delivery, error)

    def _attempt(self, delivery: Delivery, outcomes: SimpleQueue[tuple[Delivery, PostError | None]]) -> None:
        try:
            self._post(delivery.connection_id, delivery.text)
        except PostError as error:
            outcomes.put((delivery, error))
        except Exception as error:
            log.exception("post failed in an unforeseen way connection=%s", delivery.connection_id)
            outcomes.put((delivery, PostFailed("PostToConnection", type(error).__name__)))
        else:
            outcomes.put((delivery, None))

    def _settle(self, sending: _Sending, delivery: Delivery, error: PostError | None) -> None:
        result, now = sending.result, self._clock.now_ms()
        if error is None:
            result.delivered += 1
        elif isinstance(error, ConnectionGone):
            if delivery.was_gone:
                result.not_open += 1
            elif now - delivery.joined_at >= YOUNG_MS:
                result.stale += 1
                sending.stale.append(delivery.connection_id)
                if len(sending.stale) == PRUNE_BATCH:
                    self._prune(sending)
            else:
                self._wait(sending, replace(delivery, not_before=now + OPENING_RETRY_MS, was_gone=True))
        elif isinstance(error, Throttled | NotWritten) and delivery.attempt < ATTEMPTS:
            longest = min(BACKOFF_MOST_MS, BACKOFF_MS * 2 ** (delivery.attempt - 1))
            pause = round(random.uniform(0, longest))  # noqa: S311
            self._wait(sending, replace(delivery, not_before=now + pause, attempt=delivery.attempt + 1))
        elif isinstance(error, Throttled):
            result.throttled += 1
        else:
            result.failed += 1
            log.warning("post given up connection=%s cause=%s", delivery.connection_id, error)

    def _wait(self, sending: _Sending, delivery: Delivery) -> None:
        heappush(sending.waiting, (delivery.not_before, next(sending.order), delivery))

    def _prune(self, sending: _Sending) -> None:
        stale, sending.stale = sending.stale, []
        if stale:
            try:
                sending.prune(stale)
            except UpstreamError as error:
                log.warning("stale members not pruned count=%d cause=%s", len(stale), error)
