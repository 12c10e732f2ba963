"""Guarantee 2: of two y-webrtc clients exactly one announce comes first, in whatever order Lambda runs their frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib import rendezvous
from chalicelib.auth import Gate
from chalicelib.broadcast import Broadcast
from chalicelib.events import MessageEvent
from chalicelib.fanout import Fanout
from chalicelib.model import ChannelName, ConnectionId, Member
from chalicelib.pacing import Pacer
from chalicelib.rendezvous import ANNOUNCE_DELAY_MS, SETTLED_MS, announce_at
from chalicelib.service import Service
from chalicelib.settings import Settings
from chalicelib.table import Table

from .fakes import ENDLESS, NOW, FakeClock, InlineExecutor
from .schedules import TABLE, World, WorldClock, WorldStore, every_schedule, make_table, some_schedules

A, B = ConnectionId("IU3kkeN4IAMCJwA="), ConnectionId("IU3kkeN4IAMCJwB=")

SIGNAL_MS = 500
"""Two announces of a pair this far apart are no glare: the first has long been answered by a signal."""


class Pair:
    """Two clients that send subscribe and announce back to back into one world, and the announces that each has
    received. Lambda begins with the announce of the second one late.
    """

    def __init__(self, world: World, skew_ms: int = 0, encrypted: bool = False, late_ms: int = 0) -> None:
        make_table()
        self.world = world
        self.room = "room"
        self.encrypted = encrypted
        self.announced: dict[tuple[str, str], list[int]] = {}
        clock, executor = WorldClock(world), InlineExecutor()
        broadcast = Broadcast(self.deliver, executor, 4, 8_000, clock, Pacer(clock))
        table = Table(WorldStore(world), TABLE, clock)  # type: ignore[arg-type]
        settings = Settings(TABLE, None)
        fanout = Fanout(settings, table, broadcast, lambda _rest: None, executor, clock)
        self.service = Service(fanout, executor, Gate(settings, None, clock), lambda _connection_id: None)
        for sender, skew in ((A, skew_ms), (B, -skew_ms)):
            subscribe = {"type": "subscribe", "topics": [self.room]}
            announce = {"type": "publish", "topic": self.room, "data": self.announce_of(sender)}
            for frame in (subscribe, announce):
                event = MessageEvent(sender, NOW, NOW, "", json.dumps(frame))
                wait_ms = late_ms if sender == B and frame is announce else 0
                world.add(lambda event=event, wait_ms=wait_ms: self.run(event, wait_ms), skew)  # type: ignore[misc]

    def run(self, event: MessageEvent, wait_ms: int) -> None:
        if wait_ms:
            self.service.clock.sleep(wait_ms)
        self.service.message(event, ENDLESS)

    def announce_of(self, sender: ConnectionId) -> object:
        if self.encrypted:
            return f"{sender} ciphertext".ljust(132, "=")
        return {"type": "announce", "from": sender}

    def deliver(self, receiver: ConnectionId, text: str) -> None:
        frame = json.loads(text)
        assert frame["type"] == "publish", text
        sender = A if A in json.dumps(frame["data"]) else B
        self.announced.setdefault((sender, receiver), []).append(self.world.now)

    @property
    def meetings(self) -> list[int]:
        return sorted([*self.announced.get((A, B), []), *self.announced.get((B, A), [])])

    def meets_without_glare(self) -> bool:
        match self.meetings:
            case [_once]:
                return True
            case [first, second]:
                return second - first >= SIGNAL_MS
        return False


def pairs(
    tick_ms: int, skew_ms: int = 0, encrypted: bool = False, late_ms: int = 0, sample: int | None = None
) -> Iterator[Pair]:
    """A pair at the end of every schedule, or of a random sample of them."""
    current: list[Pair] = []

    def scenario(world: World) -> None:
        current.append(Pair(world, skew_ms, encrypted, late_ms))

    worlds = every_schedule(scenario, tick_ms) if sample is None else some_schedules(scenario, tick_ms, sample, seed=7)
    for _world in worlds:
        yield current.pop()


@pytest.mark.parametrize(("tick_ms", "at_least"), [(0, 1_500), (1, 500)])
def test_two_clients_meet_exactly_once_under_every_schedule(tick_ms: int, at_least: int) -> None:
    tried = 0
    for pair in pairs(tick_ms):
        assert pair.meets_without_glare(), (pair.world.choices, pair.announced)
        assert all(len(times) == 1 for times in pair.announced.values())
        tried += 1
    assert tried >= at_least


@pytest.mark.parametrize("tick_ms", [20, 35, 50])
def test_two_clients_meet_exactly_once_where_steps_are_so_slow_that_waits_end_between_them(tick_ms: int) -> None:
    for pair in pairs(tick_ms, sample=400):
        assert pair.meets_without_glare(), (pair.world.choices, pair.announced)


@pytest.mark.parametrize("skew_ms", [-120, 120])
def test_clocks_that_disagree_make_no_pair_miss_or_glare(skew_ms: int) -> None:
    for pair in pairs(1, skew_ms):
        assert pair.meets_without_glare(), (pair.world.choices, pair.announced)


def test_clocks_that_are_far_off_cost_the_delay_at_most_and_never_the_meeting() -> None:
    for pair in pairs(1, skew_ms=60_000):
        assert pair.meets_without_glare(), (pair.world.choices, pair.announced)
        assert pair.world.now - NOW < 2 * ANNOUNCE_DELAY_MS


def test_a_client_whose_subscribe_is_slow_announces_itself_soon_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the write takes, the announce is not so late that the other's, held back, meets it."""
    update_item = WorldStore.update_item
    for slow_ms in range(0, 2_600, 90):
        monkeypatch.setattr(WorldStore, "update_item", slowly(slow_ms, update_item))
        for pair in pairs(1, sample=5):
            assert pair.meets_without_glare(), (slow_ms, pair.world.choices, pair.announced)


def test_a_subscribe_that_is_throttled_after_its_clock_was_read_makes_no_glare(monkeypatch: pytest.MonkeyPatch) -> None:
    update_item = WorldStore.update_item
    for throttled_ms in range(0, 2_600, 90):
        monkeypatch.setattr(WorldStore, "update_item", throttled(throttled_ms, update_item))
        for pair in pairs(1, sample=5):
            assert pair.meets_without_glare(), (throttled_ms, pair.world.choices, pair.announced)


def throttled(milliseconds: int, write: Callable[..., Any]) -> Callable[..., Any]:
    """Writes of memberships that the SDK repeats for so long until they are carried out."""

    def update_item(store: WorldStore, **request: Any) -> Any:
        store.world.give_way(store.world.now + milliseconds)
        return write(store, **request)

    return update_item


def slowly(milliseconds: int, write: Callable[..., Any]) -> Callable[..., Any]:
    """Writes of memberships that wait so long before their clock is read and they are sent."""

    def update_item(store: WorldStore, **request: Any) -> Any:
        store.world.give_way(store.world.now + milliseconds)
        values = request["ExpressionAttributeValues"]
        values[":joined_at"] = {"N": str(store.world.now)}
        return write(store, **request)

    return update_item


def test_an_announce_that_lambda_begins_with_two_seconds_late_makes_no_glare() -> None:
    for late_ms in range(0, 2_250, 90):
        for pair in pairs(1, late_ms=late_ms, sample=5):
            assert pair.meets_without_glare(), (late_ms, pair.world.choices, pair.announced)


def test_steps_that_take_seconds_may_cost_a_glare_and_never_the_meeting() -> None:
    for pair in pairs(700, sample=200):
        assert pair.meetings


def test_clients_with_a_password_meet_exactly_once_too() -> None:
    for pair in pairs(1, encrypted=True):
        assert pair.meets_without_glare(), (pair.world.choices, pair.announced)


# The checks above can fail: each of the rules, taken away, is missed.


def test_without_the_wait_for_its_own_membership_some_pair_never_meets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "await_membership", lambda *_arguments: None)
    assert any(not pair.meetings for pair in pairs(1))


def test_without_the_delay_some_pair_glares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "announce_at", lambda *_arguments: 0)
    assert any(len(pair.meetings) == 2 and not pair.meets_without_glare() for pair in pairs(1))


def test_without_an_order_among_those_that_joined_at_once_some_pair_glares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_arrival", lambda member: member.joined_at)
    assert any(not pair.meets_without_glare() for pair in pairs(0))


# The rules by themselves.


def member(name: str, joined_at: int) -> Member:
    return Member(ConnectionId(name), "ywebrtc", joined_at)


@pytest.mark.parametrize(
    ("sender", "receiver", "at"),
    [
        (member("a", NOW), member("b", NOW - 1), 0),
        (member("a", NOW), member("a", NOW), 0),
        (member("a", NOW), member("b", NOW + 1), NOW + 2 + ANNOUNCE_DELAY_MS),
        (member("b", NOW), member("a", NOW), 0),
        (member("a", NOW), member("b", NOW), NOW + 2 + ANNOUNCE_DELAY_MS),
        (None, member("b", NOW), 0),
    ],
)
def test_an_announce_is_held_back_only_from_later_comers(sender: Member | None, receiver: Member, at: int) -> None:
    assert announce_at(sender, receiver, now=NOW + 2) == at


def test_an_announce_in_a_settled_room_holds_no_lambda() -> None:
    early, late = member("a", NOW), member("b", NOW + 1)
    settled_at = late.joined_at + SETTLED_MS
    assert announce_at(early, late, settled_at) == settled_at + ANNOUNCE_DELAY_MS
    assert announce_at(early, late, settled_at + 1) == 0


class Memberships:
    """Answers that a connection is no member until it has been asked so many times."""

    def __init__(self, asked: int) -> None:
        self.left = asked

    def membership(self, _channel: ChannelName, connection_id: ConnectionId) -> Member | None:
        self.left -= 1
        return None if self.left > 0 else member(connection_id, NOW)


@pytest.mark.parametrize(("asked", "found", "waited"), [(1, True, 0), (3, True, 150), (99, False, 3_000)])
def test_a_sender_waits_for_its_own_membership_so_long_and_no_longer(asked: int, found: bool, waited: int) -> None:
    clock = FakeClock()
    table = Memberships(asked)
    result = rendezvous.await_membership(table, clock, ChannelName("c"), A, 3_000)  # type: ignore[arg-type]
    assert (result is not None) == found
    assert clock.now_ms() == NOW + waited
