"""The phases of a soak: warm up, fill, be busy under faults, fall silent, go, prune; and what is measured in each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median

from chalicelib.broadcast import YOUNG_MS
from chalicelib.endpoint import IDLE_SECONDS as POST_IDLE_S
from tests.conftest import dynamodb_client, everything_in
from tests.faults import Rule, hits, inject, lift
from tests.server import Server

from . import faults
from .accounts import Verdict, judge
from .backend import KILLED, Backend
from .client import ODD_FRAMES, enter
from .crowd import Crowd, Size
from .footprint import Footprint, Memory, footprint, memory, posts_allowed, rest_allowed
from .history import History, Message, mark
from .ledger import Ledger
from .leftovers import Leftovers, explain
from .serverlog import incomplete_disconnects, parts_given_up, unforeseen

TABLE = "channels-dev"

WARM_UP = Size(clients=12, deliveries_per_second=200, life_s=2)
WARM_UP_S = 4.0
LOOK_S = 1.0

FULL, FILLED_AT_MOST_S = 0.8, 300.0
"""When so many of the places are filled, clients begin to come and go, and the busy time begins."""

STORM_S = 5.0
"""Longer than most requests to the store are repeated by the SDK: some are given up, and clients are told."""

QUIET_S, QUIET_AT_MOST_S = 12.0, 120.0
"""So long nothing may come before it is over: longer than a frame's longest delay (2 s), y-webrtc's wait for a
membership (3 s), an announce that is held back (3 s) and the retries of a post (3 s) together.
"""

RESTS = 3
"""How often pools may rest and be used again: on a busy machine not every join need have got a worker of its own."""

SETTLED_AT_MOST_S = 180.0
"""How long the server may take to see that all have gone."""


@dataclass(frozen=True)
class Plan:
    """How large a soak is. With `prunes` it waits at the end until what was left behind may be pruned, and has that
    done.
    """

    seed: int
    seconds: float
    size: Size
    prunes: bool
    storms: Sequence[float] = (0.15, 0.5, 0.7)
    """When the store fails for a time, as parts of the busy time."""
    rules: Sequence[Rule] = tuple(faults.CALM)


@dataclass
class Outcome:
    """All that is known at the end."""

    plan: Plan
    history: History
    ledger: Ledger
    verdict: Verdict
    leftovers: Leftovers
    before: Footprint
    early: Footprint
    """A third into the busy time, with memory's median of some seconds."""
    late: Footprint
    """At its end, likewise."""
    after: Footprint
    """When all have gone."""
    tracebacks: list[str]
    """Errors in the server's log that nobody foresaw."""
    filling_s: float
    """How long it took until the busy time began."""
    seconds: float
    """How long all of it took."""


@dataclass
class Progress:
    """What a soak tells while it runs."""

    phase: str
    seconds: float
    present: int = 0
    messages: int = 0
    deliveries: int = 0
    faults: int = 0
    server_bytes: int = 0


@dataclass
class Soak:
    """One soak of a server that was started with faults turned on."""

    server: Server
    plan: Plan
    tell: Callable[[Progress], None]

    def __post_init__(self) -> None:
        self.history, self.ledger = History(), Ledger()
        self._began_at = time.monotonic()
        self._last_hit = 0
        self._samples: list[tuple[float, Memory]] = []
        self._present = 0
        self._filling_since = self._busy_since = 0.0

    async def run(self) -> Outcome:
        """All phases. Raises AssertionError where the server does not fall silent."""
        with closing(Backend(self.server.http, self.history)) as backend:
            await self._warm_up(backend)
        before = await self._come_to_rest(None)
        with closing(Backend(self.server.http, self.history)) as backend:
            crowd = self._crowd(self.plan.size, backend)
            early, late = await self._be_busy(crowd)
            await asyncio.to_thread(lift, self.server)
            await self._fall_silent(crowd)
            self._say("going")
            await crowd.go()
            left = await self._leftovers()
            if self.plan.prunes and left.channels:
                left = await self._prune(backend, left)
        after = await self._let_pools_rest(before)
        expected = {*ODD_FRAMES.values(), *([KILLED] if self.ledger.kills else [])}
        return Outcome(
            self.plan,
            self.history,
            self.ledger,
            judge(self.history, self.ledger, frozenset(expected), parts_given_up(self.server.log())),
            left,
            before,
            early,
            late,
            after,
            unforeseen(self.server.log()),
            self._busy_since - self._filling_since,
            time.monotonic() - self._began_at,
        )

    def _crowd(self, size: Size, backend: Backend) -> Crowd:
        return Crowd(self.server.url, backend, size, self.plan.seed, self.history)

    async def _warm_up(self, backend: Backend) -> None:
        """What happens later happens once without faults, so that all that is made on first use is there."""
        self._say("warming up")
        crowd, enough = self._crowd(WARM_UP, backend), asyncio.Event()
        crowd.gather()
        crowd.come_and_go()
        asyncio.get_running_loop().call_later(WARM_UP_S, enough.set)
        await crowd.be_busy(enough)
        await crowd.hush()
        await crowd.go()

    async def _be_busy(self, crowd: Crowd) -> tuple[Footprint, Footprint]:
        await self._inject(*self.plan.rules)
        crowd.gather()
        enough = asyncio.Event()
        busy = asyncio.create_task(crowd.be_busy(enough))
        self._filling_since = time.monotonic()
        gives_up_at = self._filling_since + FILLED_AT_MOST_S
        while crowd.present < FULL * self.plan.size.clients and time.monotonic() < gives_up_at:
            await self._look_while(busy, crowd, "filling")
        crowd.come_and_go()
        self._busy_since = time.monotonic()
        storms = asyncio.create_task(self._storms())
        early: Footprint | None = None
        while (busy_s := time.monotonic() - self._busy_since) < self.plan.seconds:
            await self._look_while(busy, crowd, "busy")
            if early is None and busy_s > self.plan.seconds / 3:
                early = await asyncio.to_thread(footprint, self.server)
        late = await asyncio.to_thread(footprint, self.server)
        enough.set()
        await asyncio.gather(busy, storms)
        return self._smoothed(early or late, 0.33), self._smoothed(late, 0.9)

    async def _look_while(self, busy: asyncio.Task[None], crowd: Crowd, phase: str) -> None:
        await asyncio.wait((busy,), timeout=LOOK_S)
        if busy.done():
            busy.result()
        self._present = crowd.present
        await self._look(phase)

    def _smoothed(self, at: Footprint, share: float) -> Footprint:
        """With the memory of a tenth of the time from there on."""
        begins, tenth = self._busy_since + share * self.plan.seconds, self.plan.seconds / 10
        samples = [memory for when, memory in self._samples if begins <= when <= begins + tenth + LOOK_S]
        samples = samples or [at.memory]  # a machine so busy that it took none
        return at._replace(memory=Memory(*(round(median(sizes)) for sizes in zip(*samples, strict=True))))

    async def _storms(self) -> None:
        passed = 0.0
        for number, share in enumerate(self.plan.storms, 1):
            await asyncio.sleep(share * self.plan.seconds - passed)
            await self._inject(*self.plan.rules, *faults.STORM, also=2 * number - 1)
            await asyncio.sleep(STORM_S)
            await self._inject(*self.plan.rules, also=2 * number)
            passed = share * self.plan.seconds + STORM_S

    async def _fall_silent(self, crowd: Crowd) -> None:
        crowd.stay_put()
        began_at = silent_since = time.monotonic()
        so_far = -1
        while time.monotonic() - silent_since < QUIET_S:
            if self.history.heard != so_far:
                so_far, silent_since = self.history.heard, time.monotonic()
            assert time.monotonic() - began_at < QUIET_AT_MOST_S, "messages come and come, and nobody sends any"
            await self._look("falling silent")
            await asyncio.sleep(0.2)
        await crowd.hush()
        self.history.rested_at = time.monotonic()

    async def _prune(self, backend: Backend, left: Leftovers) -> Leftovers:
        while (youth := (left.joined_at + YOUNG_MS) / 1_000 - time.time()) > 0:
            self._say("waiting until what was left behind may be pruned")
            await asyncio.sleep(min(youth, 5.0))
        self._say("pruning")
        for channel in sorted(left.channels):
            number = self.history.next_number()
            await backend.publish(Message(number, channel, f"{mark(number)} anyone?", None))
        left = await self._leftovers()
        left.unexplained += [f"a membership in {channel} that was not pruned" for channel in sorted(left.channels)]
        return left

    async def _leftovers(self) -> Leftovers:
        """What is left, once all that may go by itself is gone."""
        deadline = time.monotonic() + SETTLED_AT_MOST_S
        while True:
            await self._look("looking at what is left")
            with closing(dynamodb_client(self.server.store)) as store:
                items = await asyncio.to_thread(everything_in, store, TABLE)
            left = explain(items, self.history, self.ledger, incomplete_disconnects(self.server.log()))
            if not left.unexplained or time.monotonic() > deadline:
                return left
            await asyncio.sleep(LOOK_S)

    async def _let_pools_rest(self, before: Footprint) -> Footprint:
        """What the server has once its pools of posts have closed what has rested for too long. They do so when they
        are used again, and each worker has its own: one client joins for each, at the same time.
        """
        at_once = max(1, (await asyncio.to_thread(footprint, self.server)).workers)
        slow = {"at": "store", "do": "delay", "ms": "500"}
        for _ in range(RESTS):
            self._say("letting pools rest")
            await asyncio.sleep(POST_IDLE_S + 1)  # how long a connection has rested is seen by the clock
            await self._inject(slow)
            await asyncio.gather(*(self._visit() for _ in range(at_once)))
            await asyncio.to_thread(lift, self.server)
            after = await self._come_to_rest(before)
            if after.posts <= posts_allowed(after):
                break
        return after

    async def _visit(self) -> None:
        hush: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client = await enter(self.server.url, "", self.history, hush)
        if client is not None:
            await client.join("anteroom")
            await client.close()

    async def _come_to_rest(self, before: Footprint | None) -> Footprint:
        """What the server has once nobody is there: its last state, if it does not come back to where it was."""
        deadline = time.monotonic() + SETTLED_AT_MOST_S
        while True:
            now = await asyncio.to_thread(footprint, self.server)
            at_rest = now.outside == 0 and (before is None or now.rest <= rest_allowed(before, now))
            if at_rest or time.monotonic() > deadline:
                return now
            await asyncio.sleep(LOOK_S)

    async def _inject(self, *rules: Rule, also: int = 0) -> None:
        """`also` makes the dice others than before."""
        await asyncio.to_thread(inject, self.server, *rules, seed=self.plan.seed + also)

    async def _look(self, phase: str) -> None:
        new = await asyncio.to_thread(hits, self.server, self._last_hit)
        self._last_hit = new[-1].number if new else self._last_hit
        self.ledger.add(new)
        self._samples.append((time.monotonic(), await asyncio.to_thread(memory, self.server)))
        self._say(phase)

    def _say(self, phase: str) -> None:
        server_bytes = self._samples[-1][1].server if self._samples else 0
        self.tell(
            Progress(
                phase,
                time.monotonic() - self._began_at,
                self._present,
                len(self.history.messages),
                self.history.deliveries,
                self.ledger.counts.total(),
                server_bytes,
            )
        )
