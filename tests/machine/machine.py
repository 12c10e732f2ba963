"""The state machine: clients, functions, time and failures in any order. The judge looks at each invocation's end, and
at what is left.

Every rule's arguments are plain values, so that what hypothesis prints is a program: `state = Machine()`, and what
follows, reproduces the failure as it stands. Who a rule is about is a number, counted round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from . import gateway, lambdas, store
from .judge import Judge
from .stage import CHANNELS, HOME, MESSAGES, ROOM, WORDS, Stage
from .world import ORDERS, Invocation

T = TypeVar("T")

MOST_CLIENTS, MOST_UNDER_WAY = 6, 8

LONGEST_CONNECTION_MS = 7_200_000
YOUNG_MS = 61_000
ANSWER_MS = 500
"""How long a slow answer of a $connect is on its way."""

NUMBERS = st.integers(0, MOST_UNDER_WAY - 1)


class Machine(RuleBasedStateMachine):
    """One world. `reached` counts what all of them have come to."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(self._has_ended)
        self.world = self.stage.world
        self.judge = Judge(self.stage, self.reached)
        self.failed = False

    # --- what clients and backends do

    @initialize(
        clients=st.integers(1, 4),
        at_home=st.booleans(),
        inside=st.booleans(),
        arriving=st.booleans(),
        rights=st.booleans(),
        parts=st.sampled_from([1, 3]),
        lag_ms=st.sampled_from([0, 20, 1_000]),
        skew_ms=st.sampled_from([0, 120]),
    )
    def begin(
        self,
        *,
        clients: int,
        at_home: bool,
        inside: bool,
        arriving: bool,
        rights: bool,
        parts: int,
        lag_ms: int,
        skew_ms: int,
    ) -> None:
        """Some clients are connected, perhaps in a channel, and perhaps another is as good as connected. The index and
        reads that are not consistent are so late; a big channel is sent to in so many parts side by side; the clocks
        of the functions are so far off, one way or the other.
        """
        self.stage.begin(rights=rights, parts=parts, lag_ms=lag_ms, skew_ms=skew_ms)
        for _ in range(clients):
            self.stage.connect(HOME if at_home else None)
        self.world.settle()
        for client in self.stage.clients if inside else ():
            self.stage.say(client, "join", HOME)
        self.world.settle()
        if arriving:
            self.stage.connect(HOME, answer_ms=ANSWER_MS)
            self._finish(self.world.under_way[-1])

    @precondition(lambda self: len(self.stage.here()) < MOST_CLIENTS)
    @rule(home=st.sampled_from([None, HOME]), token=st.booleans(), answer_ms=st.sampled_from([0, ANSWER_MS]))
    def connect(self, home: str | None, token: bool, answer_ms: int) -> None:
        """A client begins its handshake; with `token`, one that ends soon, where the server asks for any. The answer of
        its $connect is so long on its way.
        """
        self.stage.connect(home, token, answer_ms)

    @precondition(lambda self: self._can_send())
    @rule(
        client=NUMBERS,
        words=st.lists(st.sampled_from([*WORDS]), min_size=1, max_size=3),
        channel=st.sampled_from(CHANNELS),
        ms=st.sampled_from([1, 0]),
        swapped=st.sampled_from([False, False, True]),
    )
    def say(self, client: int, words: list[str], channel: str, ms: int, swapped: bool) -> None:
        """A client sends joins and leaves, back to back, so long after each other. Where they are swapped, Lambda
        begins with the last.
        """
        who = _pick(self.stage.open(), client)
        for word in words:
            self.world.pass_time(ms)
            self.stage.say(who, word, channel)
        for invocation in self.world.under_way[: -len(words) - 1 : -1] if swapped else ():
            self._finish(invocation)

    @precondition(lambda self: self._can_send())
    @rule(client=NUMBERS, how=st.sampled_from([*MESSAGES]), channel=st.sampled_from(CHANNELS))
    def send(self, client: int, how: str, channel: str) -> None:
        """A client sends a message."""
        self.stage.send(_pick(self.stage.open(), client), how, channel)

    @precondition(lambda self: self._can_send())
    @rule(
        client=NUMBERS,
        message=st.sampled_from([*MESSAGES]),
        how=st.sampled_from([*sorted(store.ERRORS) * 2, *gateway.FAULTS, *lambdas.FAULTS * 3]),
        after=st.integers(0, 2),
    )
    def send_and_fail(self, client: int, message: str, how: str, after: int) -> None:
        """A client sends a message, and on the way this becomes of one request or post."""
        self.stage.send(_pick(self.stage.open(), client), message, HOME)
        self.fail(how=how, times=1, after=after)
        self._finish(self.world.under_way[-1])

    @precondition(lambda self: self._can_send())
    @rule(client=NUMBERS, together=st.integers(1, 2))
    def enter(self, client: int, together: int) -> None:
        """So many y-webrtc clients subscribe and announce themselves, back to back."""
        for who in {_pick(self.stage.open(), client + more): None for more in range(together)}:
            self.stage.say(who, "subscribe", ROOM)
            self.stage.send(who, "announce", ROOM)

    @precondition(lambda self: len(self.world.under_way) < MOST_UNDER_WAY)
    @rule(channel=st.sampled_from(CHANNELS), remaining_ms=st.sampled_from([None, 400]))
    def publish(self, channel: str, remaining_ms: int | None) -> None:
        """A backend's message; with `remaining_ms` in a function that has little time."""
        self.stage.publish(channel, remaining_ms)

    @precondition(lambda self: len(self.stage.here()) > 1)
    @rule(client=NUMBERS, told=st.booleans())
    def vanish(self, client: int, told: bool) -> None:
        """A client is gone, perhaps in mid-handshake, and API Gateway says so, or does not."""
        self.stage.vanish(_pick(self.stage.here(), client), told)

    # --- what AWS does

    @precondition(lambda self: self.world.ready())
    @rule(which=NUMBERS, steps=st.integers(1, 4), ms=st.sampled_from([0, 0, 1, 60]))
    def run(self, which: int, steps: int, ms: int) -> None:
        """One invocation goes on for some steps, each of which takes so long."""
        invocation = _pick(self.world.ready(), which)
        for _ in range(steps):
            if invocation in self.world.ready():
                self.world.step(invocation)
                self.world.pass_time(ms)

    @precondition(lambda self: self.world.ready())
    @rule(which=NUMBERS)
    def finish(self, which: int) -> None:
        """One invocation goes on until it sleeps or ends."""
        self._finish(_pick(self.world.ready(), which))

    @precondition(lambda self: self.world.under_way)
    @rule(order=st.sampled_from(ORDERS), ms=st.sampled_from([0, 1, 60]))
    def settle(self, order: str, ms: int) -> None:
        """All go on until they have ended; each step takes so long."""
        self.world.settle(order, ms)

    @rule(milliseconds=st.sampled_from([1, 60, 250, 1_000, 3_000, 10_000]))
    def wait(self, milliseconds: int) -> None:
        """Time passes."""
        self.world.pass_time(milliseconds)

    @precondition(lambda self: not self.world.under_way)
    @rule(milliseconds=st.sampled_from([YOUNG_MS, YOUNG_MS, YOUNG_MS, LONGEST_CONNECTION_MS]), sweep=st.booleans())
    def rest(self, milliseconds: int, sweep: bool) -> None:
        """Much time passes. API Gateway closes what has been open for two hours, and does not say so; TTL deletes what
        has expired, or is late.
        """
        self.world.pass_time(milliseconds)
        for client in self.stage.here():
            if self.world.now >= client.connected_at + LONGEST_CONNECTION_MS:
                self.stage.vanish(client, told=False)
        if sweep:
            self.stage.store.sweep()

    @precondition(lambda self: self.world.under_way)
    @rule(which=NUMBERS)
    def kill(self, which: int) -> None:
        """An invocation ends where it stands."""
        self.world.kill(_pick(self.world.under_way, which))

    @precondition(lambda self: self.stage.backends and len(self.world.under_way) < MOST_UNDER_WAY)
    @rule(which=NUMBERS)
    def run_again(self, which: int) -> None:
        """Lambda runs an asynchronous invocation once more."""
        self.stage.run_publish(*_pick(self.stage.backends, which))

    @rule(
        how=st.sampled_from([*store.FAULTS, *gateway.FAULTS, *lambdas.FAULTS * 3]),
        times=st.integers(1, 3),
        after=st.integers(0, 2),
    )
    def fail(self, how: str, times: int, after: int) -> None:
        """This becomes of the next requests, or posts, but the first `after`."""
        for wire in self.stage.wires():
            if how in wire.kinds:
                wire.faults[:] = [""] * after + [how] * times

    # --- what must be

    def teardown(self) -> None:
        try:
            if not self.failed:
                self._end()
        finally:
            self.failed = True
            self.reached["steps"] += self.world.steps
            self.reached["handed on"] += self.stage.handed_on
            self.stage.close()

    def _end(self) -> None:
        """The failures are over, everything ends, and who is gone can be told from who is young."""
        for wire in self.stage.wires():
            wire.faults.clear()
        self.world.settle()
        self.world.pass_time(YOUNG_MS)
        self.judge.check_end()

    def _has_ended(self, invocation: Invocation) -> None:
        if not self.failed:
            self.failed = True  # until it has been found right: then there is nothing more to look for at the end
            self.judge.check(invocation)
            self.failed = False

    def _can_send(self) -> bool:
        return bool(self.stage.open()) and len(self.world.under_way) < MOST_UNDER_WAY

    def _finish(self, invocation: Invocation) -> None:
        while invocation in self.world.ready():
            self.world.step(invocation)


def _pick(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]
