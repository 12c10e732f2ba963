from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.broadcast import (
    ATTEMPTS,
    HOPELESS,
    OPENING_RETRY_MS,
    PRUNE_BATCH,
    YOUNG_MS,
    Broadcast,
    Delivery,
    Post,
    Result,
)
from chalicelib.clock import Clock
from chalicelib.errors import ConnectionGone, NotWritten, PostError, PostFailed, StoreError, Throttled
from chalicelib.model import ConnectionId
from chalicelib.pacing import Pacer

from .fakes import NOW, FakeClock, FakeGateway, InlineExecutor

OLD = NOW - YOUNG_MS
YOUNG = OLD + 1


class Sending:
    """A broadcast over a fake gateway, and what it pruned."""

    def __init__(self, window: int = 4, executor: Executor | None = None, clock: Clock | None = None) -> None:
        self.gateway = FakeGateway()
        self.clock = clock or FakeClock()
        self.broadcast = new_broadcast(self.gateway.post, executor or InlineExecutor(), window, self.clock)
        self.pruned: list[Sequence[ConnectionId]] = []

    def send(self, *names: str, joined_at: int = OLD) -> Result:
        return self.broadcast.send([delivery(name, joined_at) for name in names], self.pruned.append)


def new_broadcast(post: Post, executor: Executor, window: int, clock: Clock) -> Broadcast:
    return Broadcast(post, executor, window, rate=1_000_000, clock=clock, pacer=Pacer(clock))


def delivery(name: str, joined_at: int = OLD) -> Delivery:
    return Delivery(ConnectionId(name), "hello", joined_at)


def failed(kind: type[PostError]) -> PostError:
    return kind("PostToConnection", "refused")


@pytest.fixture(name="sending")
def a_sending() -> Sending:
    return Sending()


def test_everyone_gets_the_message_once(sending: Sending) -> None:
    sending.gateway.open = {f"c{n}" for n in range(100)}
    assert sending.send(*sending.gateway.open) == Result(delivered=100)
    assert dict(sending.gateway.received) == {name: ["hello"] for name in sending.gateway.open}


def test_a_broadcast_to_nobody_is_no_broadcast(sending: Sending) -> None:
    assert sending.send() == Result()
    assert sending.pruned == []


def test_a_member_that_is_gone_is_pruned_and_the_others_notice_nothing(sending: Sending) -> None:
    sending.gateway.open = {"a", "c"}
    assert sending.send("a", "b", "c") == Result(delivered=2, stale=1)
    assert sending.pruned == [["b"]]
    assert sending.gateway.posts.count("b") == 1


def test_stale_members_are_pruned_in_batches_while_sending(sending: Sending) -> None:
    names = [f"c{n}" for n in range(2 * PRUNE_BATCH + 1)]
    assert sending.send(*names) == Result(stale=len(names))
    assert [len(batch) for batch in sending.pruned] == [PRUNE_BATCH, PRUNE_BATCH, 1]
    assert sorted(name for batch in sending.pruned for name in batch) == sorted(names)


def test_a_store_that_cannot_prune_costs_the_broadcast_nothing(sending: Sending) -> None:
    def prune(_gone: Sequence[ConnectionId]) -> None:
        raise StoreError("BatchWriteItem", "down")

    sending.gateway.open = {"a"}
    assert sending.broadcast.send([delivery("gone"), delivery("a")], prune) == Result(delivered=1, stale=1)


def test_a_young_member_that_is_not_open_is_tried_once_more_and_never_pruned(sending: Sending) -> None:
    sending.gateway.open = {"a"}
    assert sending.send("a", "b", joined_at=YOUNG) == Result(delivered=1, not_open=1)
    assert sending.gateway.posts.count("b") == 2
    assert sending.pruned == []


def test_a_member_that_comes_of_age_while_it_is_tried_again_is_not_pruned_yet(sending: Sending) -> None:
    assert sending.send("a", joined_at=NOW - YOUNG_MS + OPENING_RETRY_MS) == Result(not_open=1)
    assert sending.pruned == []


def test_a_young_member_that_opens_meanwhile_gets_the_message(sending: Sending) -> None:
    sending.gateway.open = {"a", "b"}
    sending.gateway.failures["b"] = [failed(ConnectionGone)]
    assert sending.send("a", "b", joined_at=YOUNG) == Result(delivered=2)
    assert sending.clock.now_ms() == NOW + OPENING_RETRY_MS


@pytest.mark.parametrize("kind", [Throttled, NotWritten])
def test_what_certainly_was_not_delivered_is_tried_again(sending: Sending, kind: type[PostError]) -> None:
    sending.gateway.open = {"a", "b"}
    sending.gateway.failures["b"] = [failed(kind)] * 3
    assert sending.send("a", "b") == Result(delivered=2)
    assert sending.gateway.received["b"] == ["hello"]


@pytest.mark.parametrize(("kind", "result"), [(Throttled, Result(throttled=1)), (NotWritten, Result(failed=1))])
def test_in_the_end_it_is_given_up(sending: Sending, kind: type[PostError], result: Result) -> None:
    sending.gateway.failures["a"] = [failed(kind)] * (ATTEMPTS + 5)
    assert sending.send("a") == result
    assert len(sending.gateway.posts) == ATTEMPTS


@pytest.mark.parametrize("kind", [PostFailed, ConnectionGone])
def test_what_may_have_been_delivered_or_never_can_be_is_not_tried_again(
    sending: Sending, kind: type[PostError]
) -> None:
    sending.gateway.open = {"a"}
    sending.gateway.failures["a"] = [failed(kind)]
    assert sending.send("a").delivered == 0
    assert sending.gateway.posts == ["a"]


def test_an_exception_that_no_one_foresaw_is_a_failure_of_that_one_post(
    sending: Sending, caplog: pytest.LogCaptureFixture
) -> None:
    def post(connection_id: ConnectionId, text: str) -> None:
        if connection_id == "b":
            raise RuntimeError
        sending.gateway.post(connection_id, text)

    sending.gateway.open = {"a", "b", "c"}
    broadcast = new_broadcast(post, InlineExecutor(), 4, sending.clock)
    deliveries = [delivery(name) for name in ("a", "b", "c")]
    assert broadcast.send(deliveries, sending.pruned.append) == Result(delivered=2, failed=1)
    assert "RuntimeError" in caplog.text


def test_a_delivery_waits_for_its_time_and_others_do_not_wait_for_it(sending: Sending) -> None:
    others = [f"c{n}" for n in range(20)]
    sending.gateway.open = {"late", *others}
    late = delivery("late")._replace(not_before=NOW + 1_500)
    deliveries = [late, *map(delivery, others)]
    assert sending.broadcast.send(deliveries, sending.pruned.append) == Result(delivered=21)
    assert sending.gateway.posts == [*others, "late"]
    assert sending.clock.now_ms() == NOW + 1_500


def test_a_single_delivery_may_wait_too(sending: Sending) -> None:
    sending.gateway.open = {"late"}
    late = delivery("late")._replace(not_before=NOW + 1_500)
    assert sending.broadcast.send([late], sending.pruned.append) == Result(delivered=1)
    assert sending.clock.now_ms() == NOW + 1_500


@pytest.mark.parametrize(("kind", "joined_at"), [(Throttled, OLD), (NotWritten, OLD), (ConnectionGone, YOUNG)])
def test_a_receiver_that_has_to_be_tried_again_does_not_hold_up_the_others(
    sending: Sending, monkeypatch: pytest.MonkeyPatch, kind: type[PostError], joined_at: int
) -> None:
    monkeypatch.setattr("random.uniform", lambda _least, most: most)
    others = [f"c{n}" for n in range(20)]
    sending.gateway.open = {"bad", *others}
    sending.gateway.failures["bad"] = [failed(kind)]
    assert sending.send("bad", *others, joined_at=joined_at) == Result(delivered=21)
    assert sending.gateway.posts == ["bad", *others, "bad"]


def test_while_very_many_wait_no_more_are_drawn(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.broadcast.WAITING_MOST", 10)
    drawn: list[int] = []

    def deliveries() -> Iterator[Delivery]:
        for n in range(100):
            drawn.append(n)
            ahead.append(len(drawn) - len(sending.gateway.posts))
            yield delivery(f"c{n}")._replace(not_before=sending.clock.now_ms() + 1_000)

    ahead: list[int] = []
    sending.gateway.open = {f"c{n}" for n in range(100)}
    assert sending.broadcast.send(deliveries(), sending.pruned.append) == Result(delivered=100)
    assert max(ahead) <= 10 + 2


def test_members_that_cannot_be_read_to_the_end_do_not_undo_what_was_read(sending: Sending) -> None:
    def half() -> Iterator[Delivery]:
        yield from (delivery(f"c{n}") for n in range(10))
        raise StoreError("Query", "down")

    sending.gateway.open = {f"c{n}" for n in range(10)}
    result = sending.broadcast.send(half(), sending.pruned.append)
    assert (result.delivered, str(result.interrupted)) == (10, "Query failed: down")
    assert len(sending.gateway.posts) == 10


def test_a_single_member_that_was_read_before_the_failure_is_sent_to(sending: Sending) -> None:
    def one() -> Iterator[Delivery]:
        yield delivery("a")
        raise StoreError("Query", "down")

    sending.gateway.open = {"a"}
    assert sending.broadcast.send(one(), sending.pruned.append).delivered == 1


def test_deliveries_are_drawn_only_as_there_is_room_to_send_them() -> None:
    drawn: list[int] = []
    ahead: list[int] = []

    def deliveries() -> Iterator[Delivery]:
        for n in range(1_000):
            drawn.append(n)
            ahead.append(len(drawn) - len(sending.gateway.posts))
            yield delivery(f"c{n}")

    with ThreadPoolExecutor(8) as executor:
        sending = Sending(window=8, executor=executor, clock=Clock())
        sending.gateway.open = {f"c{n}" for n in range(1_000)}
        assert sending.broadcast.send(deliveries(), sending.pruned.append).delivered == 1_000
    assert max(ahead) <= 8 + 2


def test_receivers_that_hang_do_not_hold_up_the_others() -> None:
    """Three of four threads hang until all the other receivers have the message."""
    others = {f"c{n}" for n in range(50)}
    all_others_served = threading.Event()
    gateway = FakeGateway()
    gateway.open = {*others, "h0", "h1", "h2"}

    def post(connection_id: ConnectionId, text: str) -> None:
        if connection_id.startswith("h"):
            assert all_others_served.wait(timeout=30)
        gateway.post(connection_id, text)
        if gateway.received.keys() >= others:
            all_others_served.set()

    with ThreadPoolExecutor(4) as executor:
        broadcast = new_broadcast(post, executor, 4, Clock())
        names = ["h0", "h1", "h2", *sorted(others)]
        result = broadcast.send([delivery(name) for name in names], lambda _gone: None, expected=len(names))
    assert result == Result(delivered=53)


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
        sending.gateway.failures[f"c{n}"] = [failed(PostFailed if n % 2 else NotWritten)] * ATTEMPTS
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


def test_while_all_are_slowed_a_throttled_receiver_is_tried_until_the_time_is_up(sending: Sending) -> None:
    """429s that the quota is to blame for do not use up a receiver's attempts."""
    names = [f"c{n}" for n in range(300)]
    sending.gateway.open = set(names)
    for name in names:
        sending.gateway.failures[name] = [failed(Throttled)] * (ATTEMPTS + 3)
    assert sending.send(*names) == Result(delivered=300)


def test_posts_are_paced() -> None:
    clock = FakeClock()
    sending = Sending(clock=clock)
    names = [f"c{n}" for n in range(3_000)]
    sending.gateway.open = set(names)
    sending.broadcast.send(map(delivery, names), sending.pruned.append, rate=1_000)
    assert clock.now_ms() - NOW == pytest.approx(2_500, abs=5)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=3),
        st.tuples(
            st.booleans(),
            st.sampled_from([OLD, YOUNG]),
            st.sampled_from([0, NOW + 10, NOW + 2_000]),
            st.lists(st.sampled_from([Throttled, NotWritten, PostFailed, ConnectionGone]), max_size=8),
        ),
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_whatever_fails_each_is_counted_once_delivered_at_most_once_and_pruned_only_when_gone(
    receivers: dict[str, tuple[bool, int, int, list[type[PostError]]]], window: int
) -> None:
    sending = Sending(window)
    for name, (is_open, _joined, _due, failures) in receivers.items():
        if is_open:
            sending.gateway.open.add(name)
        sending.gateway.failures[name] = [failed(kind) for kind in failures]
    deliveries = [
        Delivery(ConnectionId(name), "hello", joined_at, due)
        for name, (_open, joined_at, due, _failures) in receivers.items()
    ]
    result = sending.broadcast.send(deliveries, sending.pruned.append)
    counted = result.delivered + result.stale + result.not_open + result.throttled + result.failed
    assert counted == len(receivers)
    assert all(len(texts) <= 1 for texts in sending.gateway.received.values())
    assert sum(map(len, sending.gateway.received.values())) == result.delivered
    for batch in sending.pruned:
        for name in batch:
            is_open, joined_at, _due, failures = receivers[name]
            assert joined_at == OLD or sending.clock.now_ms() - joined_at >= YOUNG_MS
            assert not is_open or ConnectionGone in failures
