"""One message to many connections: concurrency, pacing, retries, stale connections.

Given deliveries and a callback, it knows no table, no channel and no AWS. Deliveries are drawn from their iterator as
there is room to send them, so that memory stays flat however many there are.

Each of a broadcast's threads draws a delivery, waits for its turn, posts it and sees to what came of it. A post is
repeated only where it certainly was not delivered, because a receiver must never get a message twice: after a 429, a
410 of a young connection, or a failure before the request was written. What is to be repeated, or not to be sent before
its `not_before`, waits in one heap; a thread waits along only if there is nothing else left to draw. A thread whose
post hangs is replaced. So one bad receiver costs the others nothing.
"""

from __future__ import annotations

import math
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import chain, count
from typing import NamedTuple, TypeAlias

from . import logs
from .clock import Clock
from .errors import ConnectionGone, NotWritten, PostError, PostFailed, Throttled, UpstreamError
from .model import ConnectionId
from .pacing import Pacer

log = logs.logger("channels.broadcast")

YOUNG_MS = 60_000
"""Until a member is this old, a 410 may mean that its $connect has not returned yet (API Gateway's integration timeout
is 29 s). It is tried once more and never pruned. Memberships are never older than their connections, so their age errs
on the safe side.
"""

OPENING_RETRY_MS = 250
"""When a 410 of a young member is tried again."""

RETRY_MS = 3_000
"""How long a post is tried that is throttled or cannot be written: since its first failure, or since all posts were
last slowed. While they are, a 429 says nothing about its receiver, and only the broadcast's own time counts.
"""

BACKOFF_MS = 100
BACKOFF_MOST_MS = 2_000
"""Full jitter: before attempt n+1 a random time up to BACKOFF_MS · 2^(n-1), at most BACKOFF_MOST_MS
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

WAITING_MOST = 10_000
"""While so many deliveries wait for their time, no more are drawn: memory stays flat however many are throttled."""

PRUNE_BATCH = 25
"""Stale members are pruned that many at a time: what one BatchWriteItem deletes."""

SLOW_MS = 500
"""A post that takes longer keeps its thread, and another thread takes its place."""

REPLACED_MOST = 3
"""That often, at most, as there are threads: 128 and 384 stay far below a Lambda's 1,024 file descriptors."""

HOPELESS = 100
"""So many posts given up with no sign of life between them, beyond those that one stall can end at once, and the
broadcast ends: it is not the receivers.
"""

THREAD_COST = 8
"""A new thread costs its connection, about 1 ms of CPU; a post takes about 8 ms, most of it waiting. n posts by t
threads take t · 1 ms + n / t · 8 ms, which is least for t = √(8n).
"""

Post: TypeAlias = Callable[[ConnectionId, str], None]
"""Sends text to one connection; raises ConnectionGone, Throttled, NotWritten or PostFailed."""

Prune: TypeAlias = Callable[[Sequence[ConnectionId]], None]
"""Forgets connections that are gone; a StoreError of its is logged and costs the broadcast nothing."""


class Delivery(NamedTuple):
    """A text for one connection, which became a member at `joined_at`; not to be sent before `not_before` (ms since
    1970). The rest is what came of it so far: `retry_until` is when it is given up, 0 before its first failure.
    """

    connection_id: ConnectionId
    text: str
    joined_at: int
    not_before: int = 0
    attempt: int = 1
    retry_until: int = 0
    was_gone: bool = False


@dataclass(slots=True)
class Result:
    """How many posts ended how.

    `stale` were gone, and pruned. `not_open` were gone too, but so young that they may be connecting still. `throttled`
    and `failed` were given up. `handed_on` is how many parts were left to other invocations. `interrupted` is why the
    broadcast ended before its end, if it did.
    """

    delivered: int = 0
    stale: int = 0
    not_open: int = 0
    throttled: int = 0
    failed: int = 0
    handed_on: int = 0
    interrupted: UpstreamError | None = None

    def add(self, other: Result) -> None:
        """Counts the other's posts here too."""
        self.delivered += other.delivered
        self.stale += other.stale
        self.not_open += other.not_open
        self.throttled += other.throttled
        self.failed += other.failed
        self.handed_on += other.handed_on
        self.interrupted = self.interrupted or other.interrupted

    @property
    def may_have_reached_some(self) -> bool:
        """Whether anyone has the message, or might have it."""
        return self.delivered + self.failed + self.handed_on > 0

    def counts(self) -> dict[str, int]:
        """The counts by their names."""
        return {
            "delivered": self.delivered,
            "stale": self.stale,
            "not_open": self.not_open,
            "throttled": self.throttled,
            "failed": self.failed,
            "handed_on": self.handed_on,
        }


@dataclass(frozen=True)
class Broadcast:
    """Sends through `post` on `executor`'s threads, `window` posts at a time and `rate` a second.

    The executor should have 1 + REPLACED_MOST threads for each of the window.
    """

    post: Post
    executor: Executor
    window: int
    rate: float
    clock: Clock
    pacer: Pacer

    def send(
        self,
        deliveries: Iterable[Delivery],
        prune: Prune,
        *,
        expected: int = 1,
        rate: float | None = None,
        burst: bool = True,
        give_up_at: float = math.inf,
    ) -> Result:
        """Posts each delivery, and returns once all have ended, one way or the other.

        `expected` is about how many there are. The calling thread posts along, and alone where there is but one
        delivery. `rate` is this broadcast's share, where others are under way elsewhere; it has no `burst` where it
        goes on with what another began. What is throttled is not tried again after `give_up_at` (ms since 1970). An
        UpstreamError out of `deliveries` ends the drawing; what was drawn is sent all the same, and the error is in the
        result.
        """
        if not burst:
            self.pacer.forgo_burst()
        return _Sending(self, iter(deliveries), prune, rate or self.rate, give_up_at).run(expected)


@contextmanager
def _on_one_core() -> Iterator[None]:
    """Keeps this thread on the core that all threads which post are kept on.

    One at a time holds the interpreter's lock. On two cores each wakes up to find it taken: that doubles the CPU.
    """
    if not hasattr(os, "sched_setaffinity"):  # not Linux: a laptop
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@dataclass(slots=True)
class _Worker:
    result: Result = field(default_factory=Result)
    posting_since: float = math.inf


class _Sending:
    """One broadcast under way, and what its threads share."""

    def __init__(
        self, broadcast: Broadcast, source: Iterator[Delivery], prune: Prune, rate: float, give_up_at: float
    ) -> None:
        self._broadcast = broadcast
        self._clock = broadcast.clock
        self._source = source
        self._forget = prune
        self._rate = rate
        self._give_up_at = give_up_at
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, int, Delivery]] = []
        self._order = count()
        self._stale: list[ConnectionId] = []
        self._given_up: Counter[str] = Counter()
        self._given_up_in_a_row = 0
        self._interrupted: UpstreamError | None = None
        self._drawn_out = False
        self._workers: list[_Worker] = []
        self._futures: list[Future[None]] = []
        self._threads = 1
        self._look_at = self._clock.elapsed_ms() + SLOW_MS

    def run(self, expected: int) -> Result:
        # Each holds what it has drawn until its turn, and posts it even if the invocation's time is up meanwhile.
        useful = max(2, math.ceil(self._rate * SLOW_MS / 1_000))
        most = min(self._broadcast.window, math.ceil(math.sqrt(THREAD_COST * expected)), useful)
        head = [delivery for _ in range(most) if (delivery := self._draw())]
        self._source, self._drawn_out = chain(head, self._source), False
        self._threads = len(head)
        try:
            self._start(self._threads - 1)
            self._work(self._new_worker())
        finally:
            for future in self._futures:
                if not future.cancel():  # as it does where the executor had no thread for it
                    wait((future,))
        for future in self._futures:
            if not future.cancelled():
                future.result()
        self._prune(self._stale)
        for cause, number in self._given_up.items():
            log.warning("posts given up count=%d cause=%s", number, cause)
        result = Result(interrupted=self._interrupted)
        for worker in self._workers:
            result.add(worker.result)
        return result

    def _start(self, threads: int) -> None:
        for _ in range(threads):
            self._futures.append(self._broadcast.executor.submit(self._work, self._new_worker()))

    def _new_worker(self) -> _Worker:
        worker = _Worker()
        self._workers.append(worker)
        return worker

    def _work(self, worker: _Worker) -> None:
        with _on_one_core() if self._threads > 1 else nullcontext():
            self._post_while_there_is_something(worker)

    def _post_while_there_is_something(self, worker: _Worker) -> None:
        clock, pacer = self._clock, self._broadcast.pacer
        while delivery := self._next():
            if delivery.not_before:
                clock.sleep(delivery.not_before - clock.now_ms())
            if (pause := pacer.reserve(self._rate)) > 0:
                clock.sleep(pause)
            now = clock.elapsed_ms()
            if now > self._look_at:
                self._replace_hanging(now)
            worker.posting_since = now
            error = self._attempt(delivery)
            worker.posting_since = math.inf
            if error is None:
                worker.result.delivered += 1
                self._given_up_in_a_row = 0
            else:
                self._settle(worker.result, delivery, error)

    def _next(self) -> Delivery | None:
        """What is due; else the next that is drawn; else what will be due first."""
        with self._lock:
            while True:
                if self._waiting and (
                    self._drawn_out or len(self._waiting) >= WAITING_MOST or self._waiting[0][0] <= self._clock.now_ms()
                ):
                    return heappop(self._waiting)[2]
                delivery = self._draw()
                if delivery is None and not self._waiting:
                    return None
                if delivery and delivery.not_before > self._clock.now_ms():
                    heappush(self._waiting, (delivery.not_before, next(self._order), delivery))
                elif delivery:
                    return delivery

    def _draw(self) -> Delivery | None:
        """The next delivery; None at the end, or where the members can be read no further."""
        try:
            delivery = next(self._source, None)
        except UpstreamError as error:
            self._interrupted, delivery = error, None
        if delivery is None:
            self._drawn_out = True
        return delivery

    def _attempt(self, delivery: Delivery) -> PostError | None:
        try:
            self._broadcast.post(delivery.connection_id, delivery.text)
        except PostError as error:
            return error
        except Exception as error:
            log.exception("post failed in an unforeseen way connection=%s", delivery.connection_id)
            return PostFailed("PostToConnection", type(error).__name__)
        return None

    def _settle(self, result: Result, delivery: Delivery, error: PostError) -> None:
        now = self._clock.now_ms()
        if not isinstance(error, ConnectionGone):
            self._settle_failure(result, delivery, error, now)
            return
        self._given_up_in_a_row = 0
        if delivery.was_gone:
            result.not_open += 1
        elif now - delivery.joined_at < YOUNG_MS:
            self._wait(delivery._replace(not_before=now + OPENING_RETRY_MS, was_gone=True))
        else:
            result.stale += 1
            with self._lock:
                self._stale.append(delivery.connection_id)
                full, self._stale = (self._stale, []) if len(self._stale) == PRUNE_BATCH else ([], self._stale)
            self._prune(full)

    def _settle_failure(self, result: Result, delivery: Delivery, error: PostError, now: int) -> None:
        throttled = isinstance(error, Throttled)
        if throttled:
            self._given_up_in_a_row = 0
            self._broadcast.pacer.throttled()
        longest = min(BACKOFF_MOST_MS, BACKOFF_MS * 2 ** (delivery.attempt - 1))
        again_at = now + round(random.uniform(0, longest))  # noqa: S311
        until = delivery.retry_until
        if not until or (throttled and self._broadcast.pacer.slowed):
            until = now + RETRY_MS
        if isinstance(error, Throttled | NotWritten) and again_at <= min(until, self._give_up_at):
            self._wait(delivery._replace(not_before=again_at, attempt=delivery.attempt + 1, retry_until=until))
        elif throttled:
            result.throttled += 1
        else:
            result.failed += 1
            self._count_as_given_up(result, delivery, error)

    def _count_as_given_up(self, result: Result, delivery: Delivery, error: PostError) -> None:
        cause = str(error)
        with self._lock:
            if cause not in self._given_up:
                log.warning("post given up connection=%s cause=%s", delivery.connection_id, cause)
            self._given_up[cause] += 1
            self._given_up_in_a_row += 1
            under_way = len(self._workers)
            if self._given_up_in_a_row >= under_way + HOPELESS and not self._interrupted:
                self._interrupted = error
                self._source = iter(())
                result.failed += len(self._waiting)
                self._waiting.clear()

    def _wait(self, delivery: Delivery) -> None:
        with self._lock:
            heappush(self._waiting, (delivery.not_before, next(self._order), delivery))

    def _replace_hanging(self, now: float) -> None:
        with self._lock:
            if now <= self._look_at:
                return  # another thread has just looked
            self._look_at = now + SLOW_MS
            hanging = sum(now - worker.posting_since > SLOW_MS for worker in self._workers)
            replaced = len(self._workers) - self._threads
            missing = min(hanging, REPLACED_MOST * self._threads) - replaced
        if not self._drawn_out:
            self._start(missing)

    def _prune(self, stale: Sequence[ConnectionId]) -> None:
        if stale and self._clock.now_ms() <= self._give_up_at:  # later, the next 410 does it
            try:
                self._forget(stale)
            except UpstreamError as error:
                log.warning("stale members not pruned count=%d cause=%s", len(stale), error)
