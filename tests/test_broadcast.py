from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.broadcast import (
    OPENING_RETRY_MS,
    PRUNE_BATCH,
    RETRY_MS,
    YOUNG_MS,
    Delivery,
    Result,
)
from chalicelib.clock import Clock
from chalicelib.errors import ConnectionGone, NotWritten, PostError, PostFailed, StoreError, Throttled
from chalicelib.model import ConnectionId

from .broadcasts import OLD, YOUNG, Sending, delivery, failed, new_broadcast
from .fakes import NOW, FakeGateway, InlineExecutor


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
    sending.gateway.failures["a"] = [failed(kind)] * 500
    assert sending.send("a") == result
    assert len(sending.gateway.posts) > 1
    assert sending.clock.now_ms() <= NOW + RETRY_MS


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
