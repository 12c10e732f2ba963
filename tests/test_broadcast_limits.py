"""Threads, pace and time: what a broadcast may use, and when it ends before its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from chalicelib.broadcast import (
    HOPELESS,
    RETRY_MS,
    SLOW_MS,
    Delivery,
    Result,
)
from chalicelib.clock import Clock
from chalicelib.errors import ConnectionGone, NotWritten, PostError, PostFailed, Throttled
from chalicelib.model import ConnectionId

from .broadcasts import Sending, delivery, failed, new_broadcast
from .fakes import NOW, FakeClock, FakeGateway, InlineExecutor


@pytest.fixture(name="sending")
def a_sending() -> Sending:
    return Sending()


def test_a_thread_whose_post_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """All threads but the caller's hang until the others are served, which the caller alone could not do: it hangs as
    well, once.
    """
    monkeypatch.setattr("chalicelib.broadcast.SLOW_MS", 20)
    others = {f"c{n}" for n in range(200)}
    slow_answers, all_others_served = threading.Event(), threading.Event()
    gateway = FakeGateway()
    gateway.open = {*others, "h0", "h1", "h2"}
    posting: set[str] = set()
    caller = threading.current_thread()

    def post(connection_id: ConnectionId, text: str) -> None:
        posting.add(threading.current_thread().name)
        if connection_id.startswith("h"):
            assert all_others_served.wait(timeout=30)
        if threading.current_thread() is caller:
            slow_answers.wait(0.05)
        gateway.post(connection_id, text)
        if gateway.received.keys() >= others:
            all_others_served.set()

    with ThreadPoolExecutor(16) as executor:
        broadcast = new_broadcast(post, executor, 4, Clock())
        names = ["h0", "h1", "h2", *sorted(others)]
        result = broadcast.send([delivery(name) for name in names], lambda _gone: None, expected=len(names))
    assert result == Result(delivered=203)
    assert len(posting) > 4


def test_no_more_threads_than_deliveries_and_none_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(InlineExecutor):
        submitted = 0

        def submit(self, *arguments: Any, **named: Any) -> Any:
            self.submitted += 1
            return super().submit(*arguments, **named)

    for receivers, helpers in ((0, 0), (1, 0), (2, 1), (3, 2), (50, 19), (10_000, 127)):
        executor = Counting()
        sending = Sending(executor=executor)
        names = [f"c{n}" for n in range(receivers)]
        sending.gateway.open = set(names)
        broadcast = new_broadcast(sending.gateway.post, executor, 128, FakeClock())
        broadcast.send(map(delivery, names), sending.pruned.append, expected=receivers)
        assert executor.submitted == helpers


def test_helpers_that_find_no_free_thread_are_not_waited_for() -> None:
    """As many threads as the executor has are taken by another broadcast that hangs."""
    free = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(free.wait, 30)
        sending = Sending(executor=executor, clock=Clock())
        sending.gateway.open = {f"c{n}" for n in range(20)}
        deliveries = [delivery(name) for name in sending.gateway.open]
        assert sending.broadcast.send(deliveries, sending.pruned.append, expected=20) == Result(delivered=20)
        free.set()


def test_an_exception_out_of_the_deliveries_that_no_one_foresaw_is_raised_once_all_threads_are_done() -> None:
    def deliveries() -> Iterator[Delivery]:
        yield from (delivery(f"c{n}") for n in range(100))
        raise ZeroDivisionError

    with ThreadPoolExecutor(4) as executor:
        sending = Sending(executor=executor, clock=Clock())
        sending.gateway.open = {f"c{n}" for n in range(100)}
        with pytest.raises(ZeroDivisionError):
            sending.broadcast.send(deliveries(), sending.pruned.append, expected=100)
    assert len(sending.gateway.posts) == 100


def test_where_nothing_gets_through_the_broadcast_ends(sending: Sending, caplog: pytest.LogCaptureFixture) -> None:
    """A role without permission, an endpoint that is none: it is not the receivers. (One thread posts here.)"""
    names = [f"c{n}" for n in range(1_000)]
    for name in names:
        sending.gateway.failures[name] = [failed(PostFailed)]
    result = sending.send(*names)
    assert result.failed == HOPELESS + 1
    assert isinstance(result.interrupted, PostFailed)
    assert len(sending.gateway.posts) == HOPELESS + 1
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == [
        "post given up connection=c0 cause=PostToConnection failed: refused",
        "posts given up count=101 cause=PostToConnection failed: refused",
    ]


def test_one_stall_that_ends_all_that_is_under_way_does_not_end_the_broadcast() -> None:
    """As many posts as there are threads, the replaced ones included, time out together: more than HOPELESS."""
    names = [f"c{n}" for n in range(2_000)]
    gateway = FakeGateway()
    gateway.open = set(names)
    stalled = threading.Barrier(HOPELESS + 20)
    stalling = iter([True] * (HOPELESS + 20))

    def post(connection_id: ConnectionId, text: str) -> None:
        if next(stalling, False):
            stalled.wait(30)
            raise failed(PostFailed)
        gateway.post(connection_id, text)

    with ThreadPoolExecutor(HOPELESS + 20) as executor:
        broadcast = new_broadcast(post, executor, HOPELESS + 20, Clock())
        result = broadcast.send([delivery(name) for name in names], lambda _gone: None, expected=10_000)
    assert (result.failed, result.delivered, result.interrupted) == (HOPELESS + 20, 2_000 - HOPELESS - 20, None)


def test_what_waits_for_a_repeat_is_counted_as_failed_where_nothing_gets_through(sending: Sending) -> None:
    for n in range(500):
        sending.gateway.failures[f"c{n}"] = [failed(PostFailed if n % 2 else NotWritten)] * 500
    result = sending.send(*(f"c{n}" for n in range(500)))
    assert isinstance(result.interrupted, PostFailed)
    assert result.failed == len(set(sending.gateway.posts))


@pytest.mark.parametrize("sign_of_life", [None, ConnectionGone, Throttled])
def test_failures_between_signs_of_life_do_not_end_it(sending: Sending, sign_of_life: type[PostError] | None) -> None:
    names = [f"c{n}" for n in range(1_000)]
    sending.gateway.open = set(names)
    for number, name in enumerate(names):
        alive = number % (HOPELESS - 1) == 0
        sending.gateway.failures[name] = (
            [failed(sign_of_life) if sign_of_life else None] if alive else [failed(PostFailed)]
        )
    result = sending.send(*names)
    assert result.interrupted is None
    assert result.failed == 989


def test_what_is_throttled_is_given_up_when_the_time_is_up(sending: Sending) -> None:
    sending.gateway.failures["a"] = [failed(Throttled)] * 100
    result = sending.broadcast.send([delivery("a")], sending.pruned.append, give_up_at=NOW)
    assert result == Result(throttled=1)
    assert sending.clock.now_ms() == NOW


def test_whoever_is_gone_is_left_to_the_next_broadcast_when_the_time_is_up(sending: Sending) -> None:
    """Pruning in a slow store would outlive the invocation, which could answer nobody then."""
    result = sending.broadcast.send([delivery("gone")], sending.pruned.append, give_up_at=NOW - 1)
    assert (result, sending.pruned) == (Result(stale=1), [])
    assert sending.broadcast.send([delivery("gone")], sending.pruned.append, give_up_at=NOW) == result
    assert sending.pruned == [["gone"]]


def test_while_all_are_slowed_a_throttled_receiver_is_tried_until_the_time_is_up(sending: Sending) -> None:
    """429s that the quota is to blame for do not use up a receiver's time."""
    names = [f"c{n}" for n in range(300)]
    sending.gateway.open = set(names)

    def post(connection_id: ConnectionId, text: str) -> None:
        if sending.clock.now_ms() < NOW + 5 * RETRY_MS:
            raise failed(Throttled)
        sending.gateway.post(connection_id, text)

    broadcast = new_broadcast(post, InlineExecutor(), 4, sending.clock)
    assert broadcast.send(map(delivery, names), sending.pruned.append) == Result(delivered=300)


def test_one_full_receiver_holds_up_a_small_channel_for_its_own_retries_alone(sending: Sending) -> None:
    """However often something is published: its 429s are not taken for the quota's."""
    others = [f"c{n}" for n in range(29)]
    sending.gateway.open = set(others)
    sending.gateway.failures["full"] = [failed(Throttled)] * 10_000
    for _ in range(50):
        begun_at = sending.clock.now_ms()
        assert sending.send("full", *others) == Result(delivered=29, throttled=1)
        assert sending.clock.now_ms() - begun_at <= RETRY_MS


def test_posts_are_paced() -> None:
    clock = FakeClock()
    sending = Sending(clock=clock)
    names = [f"c{n}" for n in range(3_000)]
    sending.gateway.open = set(names)
    sending.broadcast.send(map(delivery, names), sending.pruned.append, rate=1_000)
    assert clock.now_ms() - NOW == pytest.approx(2_500, abs=5)


def test_what_is_drawn_is_sent_soon_after_the_drawing_has_ended_however_low_the_rate() -> None:
    """Threads that the rate has no use for draw nothing: each would hold a delivery until its turn."""
    end, clock, gateway = NOW + 100, FakeClock(), FakeGateway()

    def until_then() -> Iterator[Delivery]:
        for number in count():
            if clock.now_ms() >= end:
                return
            gateway.open.add(f"c{number}")
            yield delivery(f"c{number}")

    broadcast = new_broadcast(gateway.post, InlineExecutor(), 128, clock)
    result = broadcast.send(until_then(), lambda _gone: None, expected=10_000, rate=100, burst=False)
    assert result.delivered > 10
    assert clock.now_ms() <= end + SLOW_MS
