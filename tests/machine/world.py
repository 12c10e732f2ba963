"""Time, and invocations that take their steps one at a time.

An invocation runs real code in a greenlet. It gives way before each request to the table and each post, and while it
sleeps; what stands between two of these is one step. Whoever holds the world decides who goes on, how much time passes
meanwhile, and who is killed where it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

from greenlet import GreenletExit, getcurrent, greenlet

from chalicelib.clock import Clock

START_MS = 1_800_000_000_000

RETURNED, RAISED, KILLED = "returned", "raised", "killed"

ONE_BY_ONE, LAST_FIRST, IN_TURNS = ORDERS = ("one by one", "last first", "in turns")
"""How all that is under way comes to its end."""


class Moment(NamedTuple):
    """When something happened: before or after all else that did, and by the clock (ms since 1970)."""

    order: int
    ms: int


class Invocation:
    """One run of a Lambda function, which Lambda ends `timeout_ms` after it was asked for.

    `begun` is its first step, `ended` its last; `outcome` says how it ended, and `error` the code of the error that it
    has told its client. `hits` are the faults that it met. `patience_ms` is how long it surely sends, and repeats what
    was throttled.
    """

    def __init__(self, world: World, name: str, act: Callable[[Invocation], object], timeout_ms: int) -> None:
        self.name = name
        self.asked = world.moment()
        self.deadline = world.now + timeout_ms
        self.wakes_at = world.now
        self.begun: Moment | None = None
        self.ended: Moment | None = None
        self.outcome = ""
        self.error = ""
        self.answer: Any = None
        self.patience_ms = 0
        self.hits: list[str] = []
        self.greenlet = greenlet(lambda: self._run(act), world.hub)

    @property
    def done(self) -> bool:
        """Whether it has done what it was asked for."""
        return self.outcome == RETURNED and not self.error

    def _run(self, act: Callable[[Invocation], object]) -> None:
        try:
            self.answer = act(self)
            self.outcome = RETURNED
        except Exception as error:  # noqa: BLE001  Lambda reports it, and the check of how it ended judges it
            self.answer, self.outcome = error, RAISED

    def __repr__(self) -> str:
        return f"<{self.name}: {self.outcome or 'under way'}{''.join(f', {hit}' for hit in self.hits)}>"


class World:
    """The time that all share, and the invocations that are under way, the oldest first. `ended` is called with each
    when it has ended.
    """

    def __init__(self, ended: Callable[[Invocation], object]) -> None:
        self.now = START_MS
        self.hub = getcurrent()
        self.under_way: list[Invocation] = []
        self.steps = 0
        self._ended = ended
        self._running: Invocation | None = None
        self._order = count(1)

    @property
    def running(self) -> Invocation:
        """The invocation whose code this is."""
        assert self._running is not None
        return self._running

    def moment(self) -> Moment:
        return Moment(next(self._order), self.now)

    def begin(self, invocation: Invocation) -> None:
        self.under_way.append(invocation)

    def ready(self) -> list[Invocation]:
        """Those that do not sleep."""
        return [invocation for invocation in self.under_way if invocation.wakes_at <= self.now]

    def step(self, invocation: Invocation) -> None:
        """Lets it go on until it gives way or ends."""
        self.steps += 1
        invocation.begun = invocation.begun or self.moment()
        self._running = invocation
        invocation.greenlet.switch()
        self._running = None
        if invocation.greenlet.dead:
            self._end(invocation)

    def kill(self, invocation: Invocation) -> None:
        """It ends where it stands, and nothing of it runs any more but what its code does on the way out."""
        invocation.outcome = KILLED
        if invocation.begun is not None:
            invocation.greenlet.throw(GreenletExit)
        assert invocation.begun is None or invocation.greenlet.dead
        self._end(invocation)

    def pass_time(self, milliseconds: int) -> None:
        """Lambda ends those whose time is up."""
        self.now += milliseconds
        for invocation in [*self.under_way]:
            if invocation.deadline <= self.now:
                self.kill(invocation)

    def settle(self, order: str = ONE_BY_ONE, ms: int = 0) -> None:
        """Lets all that is under way come to its end, in that order. A step takes so long, and while all sleep time
        goes on.
        """
        turn = 0
        while self.under_way:
            ready = self.ready()
            if not ready:
                self.pass_time(min(invocation.wakes_at for invocation in self.under_way) - self.now)
                continue
            turn += 1
            self.step(ready[{ONE_BY_ONE: 0, LAST_FIRST: -1}.get(order, turn % len(ready))])
            self.pass_time(ms)

    def give_way(self, until: int = 0) -> None:
        """Called by an invocation: others may go first; it goes on at `until` at the earliest."""
        self.running.wakes_at = until
        self.hub.switch()

    def _end(self, invocation: Invocation) -> None:
        invocation.ended = self.moment()
        self.under_way.remove(invocation)
        self._ended(invocation)


class WorldClock(Clock):
    """An environment's clock, which is off by `skew_ms`."""

    def __init__(self, world: World, skew_ms: int) -> None:
        self._world = world
        self._skew_ms = skew_ms

    def now_ms(self) -> int:
        return self._world.now + self._skew_ms

    def elapsed_ms(self) -> float:
        return float(self._world.now)

    def sleep(self, milliseconds: float) -> None:
        if milliseconds > 0:
            self._world.give_way(self._world.now + max(1, round(milliseconds)))
