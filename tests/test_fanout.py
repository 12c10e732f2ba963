"""A message to a channel of thousands, within one invocation and beyond: over a real store, each receiver counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.broadcast import Broadcast, Result
from chalicelib.budget import Budget
from chalicelib.errors import (
    AlreadySent,
    ConnectionGone,
    NotHandedOn,
    PartlyDelivered,
    PostFailed,
    StoreError,
    Throttled,
    TooLarge,
)
from chalicelib.fanout import Fanout, Sending
from chalicelib.model import ChannelName, ConnectionId, KeyRange, Message, Page
from chalicelib.pacing import Pacer
from chalicelib.settings import Settings
from chalicelib.table import PAGE_MEMBERS, Table

from .conftest import Requests, dynamodb_client, fill, new_table
from .fakes import ENDLESS, NOW, FakeClock, FakeGateway, InlineExecutor

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CROWD = ChannelName("crowd")
SMALL = ChannelName("small")
NAMES = [f"IU3k{number:05}AMCJw=" for number in range(2_500)]


@pytest.fixture(scope="module", name="crowded")
def a_table_with_a_crowd(ministack: DynamoDBClient) -> str:
    """2,500 members in one channel, three of another; no test here takes any away."""
    table = new_table(ministack)
    fill(ministack, table, CROWD, NAMES)
    fill(ministack, table, SMALL, NAMES[:3])
    return table


class Invocations:
    """A fan-out over that table, and the invocations that follow from one sending."""

    def __init__(self, client: DynamoDBClient, table_name: str, **settings: Any) -> None:
        self.client = dynamodb_client(client.meta.endpoint_url)
        self.clock = FakeClock()
        self.gateway = FakeGateway()
        self.gateway.open = set(NAMES)
        self.table = Table(self.client, table_name, self.clock)
        self.handed_on: list[Sending] = []
        self.settings = replace(Settings(table_name, publish_function="channels-dev-publish"), **settings)
        self.hand_over: Callable[[Sending], None] = self.handed_on.append
        self.executor = InlineExecutor()

    def fanout(self) -> Fanout:
        pacer = Pacer(self.clock)
        broadcast = Broadcast(self.gateway.post, self.executor, 16, self.settings.broadcast_rate, self.clock, pacer)
        return Fanout(self.settings, self.table, broadcast, self.hand_over, self.executor, self.clock)

    def send(self, sending: Sending, budget: Budget = ENDLESS, *, claim: bool = False) -> Result:
        return self.fanout().send(sending, budget, claim=claim)

    def send_all(self, sending: Sending, ms_each: float) -> list[Result]:
        """Sends, and serves what is handed on, as Lambda does: the first invocation is an event's, the others claim."""
        budget = Budget(self.clock.now_ms() + ms_each, float("inf"))
        results = [self.send(sending, budget)]
        while self.handed_on:
            budget = Budget(self.clock.now_ms() + ms_each, float("inf"))
            results.append(self.send(self.handed_on.pop(0), budget, claim=True))
        return results

    def received(self) -> Counter[str]:
        return Counter({name: len(texts) for name, texts in self.gateway.received.items() if texts})


@pytest.fixture(name="invocations")
def some_invocations(ministack: DynamoDBClient, crowded: str) -> Invocations:
    return Invocations(ministack, crowded)


def message_to(channel: str, body: Any = "hello", **fields: Any) -> Sending:
    sender = ConnectionId("IU3kSENDERxAMCJw")
    return Sending(f"m{next(_numbers)}", Message(ChannelName(channel), body, "pubsub", sender, NOW), **fields)


_numbers = iter(range(1_000_000))


def test_a_crowd_is_read_page_by_page_and_each_member_gets_the_message_once(invocations: Invocations) -> None:
    requests = Requests(invocations.client)
    operations, written, _units = requests.during(lambda: invocations.send(message_to("crowd")))
    assert operations == ["Query"] * 3
    assert written == 0
    assert invocations.received() == Counter(NAMES)


def test_a_publish_to_three_members_is_one_query_with_nothing_written_and_nothing_handed_on(
    invocations: Invocations,
) -> None:
    requests = Requests(invocations.client)
    operations, written, _units = requests.during(lambda: invocations.send(message_to("small")))
    assert (operations, written, invocations.handed_on) == (["Query"], 0, [])
    assert invocations.received() == Counter(NAMES[:3])


def test_the_next_page_is_read_while_one_is_sent(invocations: Invocations) -> None:
    """The third query is answered although none of the first page's members has been posted to."""
    three_queries = threading.Event()
    queries = iter(range(1, 100))

    def count(**_more: Any) -> None:
        if next(queries) == 2:
            three_queries.set()

    invocations.client.meta.events.register("before-call.dynamodb.Query", count)
    gateway_post = invocations.gateway.post

    def post(connection_id: ConnectionId, text: str) -> None:
        assert three_queries.wait(30)
        gateway_post(connection_id, text)

    invocations.gateway.post = post  # type: ignore[method-assign]
    with ThreadPoolExecutor(64) as executor:
        invocations.executor = executor  # type: ignore[assignment]
        result = invocations.send(message_to("crowd"))
    assert result.delivered == len(NAMES)


def test_who_is_excluded_gets_nothing(invocations: Invocations) -> None:
    invocations.send(message_to("small", exclude=frozenset(map(ConnectionId, NAMES[:2]))))
    assert invocations.received() == Counter(NAMES[2:3])


def test_an_invocation_without_time_comes_one_member_further_all_the_same(invocations: Invocations) -> None:
    results = invocations.send_all(message_to("small"), ms_each=-1)
    assert [result.delivered for result in results] == [1, 1, 1]
    assert invocations.received() == Counter(NAMES[:3])


@pytest.mark.parametrize("ms_each", [1, 40, 333, 1_000_000])
def test_invocations_that_end_early_hand_on_and_together_reach_everyone_once(
    invocations: Invocations, ms_each: int
) -> None:
    """At 1,000 posts a second."""
    invocations.settings = replace(invocations.settings, broadcast_rate=1_000)
    results = invocations.send_all(message_to("crowd"), ms_each)
    assert invocations.received() == Counter(NAMES)
    assert sum(result.delivered for result in results) == len(NAMES)
    assert (len(results) > 1) == (ms_each < 1_000_000)


def test_faults_while_handing_on_lose_only_what_is_counted_and_double_nothing(
    invocations: Invocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a hundred stale, throttled, cut off, each once; and receivers that leave."""
    gone, throttled, cut = set(NAMES[::100]), set(NAMES[1::100]), set(NAMES[2::100])
    invocations.gateway.open -= gone
    for name in throttled:
        invocations.gateway.failures[name] = [Throttled("PostToConnection", "429")]
    for name in cut:
        invocations.gateway.failures[name] = [PostFailed("PostToConnection", "cut")]
    leaving = set(NAMES[3::100])
    for name in leaving:
        invocations.gateway.failures[name] = [ConnectionGone("PostToConnection", "410")]
    pruned: list[ConnectionId] = []
    monkeypatch.setattr(Table, "prune", lambda _table, _channel, ids: pruned.extend(ids))
    invocations.clock.now += 60_000
    invocations.settings = replace(invocations.settings, broadcast_rate=1_000)
    results = invocations.send_all(message_to("crowd"), 300)
    total = Result()
    for result in results:
        total.add(result)
    assert invocations.received() == Counter(set(NAMES) - gone - cut - leaving)
    assert (total.delivered, total.stale, total.failed) == (2_425, 50, 25)
    assert set(pruned) == gone | leaving


def test_an_invocation_that_lambda_runs_twice_sends_once(invocations: Invocations) -> None:
    sending = message_to("small")
    invocations.send(sending, claim=True)
    with pytest.raises(AlreadySent, match=sending.id):
        invocations.send(sending, claim=True)
    assert invocations.received() == Counter(NAMES[:3])


def test_of_two_runs_at_once_one_sends(invocations: Invocations) -> None:
    sending = message_to("small")
    together = threading.Barrier(2)

    def run() -> int:
        together.wait()
        try:
            return invocations.send(sending, claim=True).delivered
        except AlreadySent:
            return 0

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(run) for _ in range(2)]
    assert sorted(run.result() for run in runs) == [0, 3]
    assert invocations.received() == Counter(NAMES[:3])


def test_what_cannot_be_sent_is_not_claimed_and_may_be_tried_again(invocations: Invocations) -> None:
    sending = message_to("small", "x" * 140_000)
    for _ in range(2):
        with pytest.raises(TooLarge):
            invocations.send(sending, claim=True)
    broken = Invocations(invocations.client, "no-such-table")
    with pytest.raises(StoreError):
        broken.send(sending, claim=True)


def test_the_rest_keeps_all_that_makes_the_message_what_it_is(invocations: Invocations) -> None:
    """`clients` is that of the whole channel, not of what is left."""
    sending = message_to("crowd", exclude=frozenset({ConnectionId(NAMES[5])}))
    invocations.send(sending, Budget(invocations.clock.now_ms() - 1, float("inf")))
    [rest] = invocations.handed_on
    assert rest == replace(sending, clients=rest.clients, within=rest.within)
    assert 2_000 < (rest.clients or 0) < 3_000
    assert rest.within.up_to is None


def test_without_a_function_to_hand_on_to_it_is_said_that_some_have_not_got_it(invocations: Invocations) -> None:
    def refuse(_rest: Sending) -> None:
        raise NotHandedOn("Invoke", "PUBLISH_FUNCTION is not set")

    invocations.hand_over = refuse
    with pytest.raises(PartlyDelivered, match="PUBLISH_FUNCTION is not set"):
        invocations.send(message_to("crowd"), Budget(invocations.clock.now_ms() - 1, float("inf")))


def test_the_invocations_of_one_sending_have_one_burst_together(invocations: Invocations) -> None:
    """2,500 members at 1,000 a second, 500 of them at once: two seconds, in however many invocations."""
    invocations.settings = replace(invocations.settings, broadcast_rate=1_000)
    began = invocations.clock.now_ms()
    assert len(invocations.send_all(message_to("crowd"), 400)) > 3
    assert invocations.clock.now_ms() - began == pytest.approx(2_000, abs=20)


def test_a_store_that_fails_before_anyone_was_posted_to_has_sent_nothing(
    invocations: Invocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = Table.members
    excluded = frozenset(map(ConnectionId, NAMES))

    def half(table: Table, channel: ChannelName, within: KeyRange) -> Iterator[Page]:
        yield from islice(members(table, channel, within), 1)
        raise StoreError("Query", "down")

    monkeypatch.setattr(Table, "members", half)
    with pytest.raises(StoreError, match="down"):
        invocations.send(message_to("crowd", exclude=excluded))
    with pytest.raises(PartlyDelivered, match="down"):
        invocations.send(message_to("crowd", exclude=excluded - {NAMES[0], NAMES[1]}))


# --- side by side


def test_where_the_rate_is_more_than_one_reaches_ranges_are_served_side_by_side_and_share_it(
    invocations: Invocations,
) -> None:
    invocations.settings = replace(invocations.settings, broadcast_rate=35_000, invocation_rate=10_000)
    sending = message_to("crowd")
    result = invocations.send(sending)
    assert result.handed_on == len(invocations.handed_on) == 3
    assert {part.rate for part in invocations.handed_on} == {35_000 / 4}
    shares = [result.delivered]
    while invocations.handed_on:
        shares.append(invocations.send(invocations.handed_on.pop(), claim=True).delivered)
    assert invocations.received() == Counter(NAMES)
    assert sum(shares) == len(NAMES)
    assert all(share > 250 for share in shares)


def test_parts_are_not_cut_again(invocations: Invocations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.table.PAGE_MEMBERS", 100)
    invocations.settings = replace(invocations.settings, broadcast_rate=35_000, invocation_rate=10_000)
    assert invocations.send(message_to("crowd")).handed_on == 3
    parts, invocations.handed_on = invocations.handed_on, []
    for part in parts:
        assert invocations.send(part, claim=True).handed_on == 0
    assert invocations.received() == Counter(NAMES)


def test_a_channel_of_one_page_is_not_cut(invocations: Invocations) -> None:
    invocations.settings = replace(invocations.settings, broadcast_rate=100_000, invocation_rate=1)
    assert invocations.send(message_to("small")).handed_on == 0


@pytest.mark.parametrize("accepted", [0, 1, 2])
@pytest.mark.parametrize("arrives_all_the_same", [False, True])
def test_a_part_that_cannot_be_handed_on_is_sent_from_here_and_by_one_only(
    invocations: Invocations, accepted: int, arrives_all_the_same: bool
) -> None:
    """After some are accepted an invoke fails: refused, or accepted with only its answer lost."""
    invocations.settings = replace(invocations.settings, broadcast_rate=40_000, invocation_rate=10_000)

    def hand_over(part: Sending) -> None:
        if len(invocations.handed_on) >= accepted:
            if arrives_all_the_same:
                assert invocations.fanout().send(part, ENDLESS, claim=True).delivered > 0
            raise NotHandedOn("Invoke", "timeout")
        invocations.handed_on.append(part)

    invocations.hand_over = hand_over
    invocations.send(message_to("crowd"))
    for part in invocations.handed_on:
        invocations.send(part, claim=True)
    assert invocations.received() == Counter(NAMES)


def test_a_part_that_may_have_been_handed_on_and_cannot_be_claimed_is_told(
    invocations: Invocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocations.settings = replace(invocations.settings, broadcast_rate=40_000, invocation_rate=10_000)

    def hand_over(part: Sending) -> None:
        invocations.handed_on.append(part)
        if len(invocations.handed_on) == 2:
            raise NotHandedOn("Invoke", "timeout")

    def no_claim(*_arguments: object) -> bool:
        raise StoreError("PutItem", "down")

    invocations.hand_over = hand_over
    with monkeypatch.context() as down:
        down.setattr(Table, "claim", no_claim)
        with pytest.raises(PartlyDelivered, match="PutItem failed: down"):
            invocations.send(message_to("crowd"))
    for part in invocations.handed_on:
        assert invocations.send(part, claim=True).delivered > 0
    assert set(invocations.received().values()) == {1}


def send_to_nobody(
    invocations: Invocations, monkeypatch: pytest.MonkeyPatch, sending: Sending, *, claim: bool
) -> list[Sending]:
    """Reads one page of members, of whom nobody is there, and fails. Returns the part whose handing on failed too."""
    invocations.settings = replace(invocations.settings, broadcast_rate=40_000, invocation_rate=10_000)
    members, read, parts = Table.members, [], []

    def members_once(table: Table, channel: ChannelName, within: KeyRange) -> Iterator[Page]:
        read.append(within)
        if len(read) > 1:
            raise StoreError("Query", "down")
        yield from members(table, channel, within)

    def lose(part: Sending) -> None:
        parts.append(part)
        raise NotHandedOn("Invoke", "timeout")

    with monkeypatch.context() as down:
        down.setattr(Table, "members", members_once)
        down.setattr(invocations.gateway, "open", set())
        down.setattr(invocations, "hand_over", lose)
        with pytest.raises(StoreError):
            invocations.send(sending, claim=claim)
    return parts


def test_a_part_that_was_claimed_to_be_sent_from_here_is_left_to_the_repeat_where_nothing_was_sent(
    invocations: Invocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = message_to("crowd")
    send_to_nobody(invocations, monkeypatch, sending, claim=True)
    invocations.send(sending, claim=True)
    for part in invocations.handed_on:
        invocations.send(part, claim=True)
    assert invocations.received() == Counter(NAMES)


def test_a_part_that_arrives_late_is_not_sent_where_the_repeat_has_another_name(
    invocations: Invocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's frame that came to nothing is repeated as a new message."""
    [late] = send_to_nobody(invocations, monkeypatch, message_to("crowd"), claim=False)
    with pytest.raises(AlreadySent):
        invocations.send(late, claim=True)


def test_a_page_is_as_many_members_as_are_read_before_the_first_is_sent_to() -> None:
    assert len(NAMES) / 2 > PAGE_MEMBERS, "the crowd has to be several pages"
