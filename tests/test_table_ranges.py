"""Members by ranges of their keys, and what sees to it that a range is sent to once."""

from __future__ import annotations

import json
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib import store as requests
from chalicelib.errors import StoreError
from chalicelib.model import Address, ChannelName, ConnectionId, KeyRange, Position
from chalicelib.ranges import cut, estimated_size, position_of
from chalicelib.table import CLAIM_SECONDS, PAGE_MEMBERS, Table

from .conftest import fill
from .fakes import NOW
from .sdk import new_sessions
from .stored import HOME, NEWS, A, B, Stored

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

connection_ids = st.text(alphabet="0123456789ABCDEFGHabcdefgh-_", min_size=15, max_size=15).map(lambda text: f"{text}=")
positions = connection_ids.map(lambda text: position_of(ConnectionId(text)))


@pytest.fixture(name="stored")
def a_table(store: DynamoDBClient) -> Stored:
    return Stored(store)


def within(positions: list[Position], part: KeyRange) -> list[Position]:
    """Which of the sorted positions a range takes."""
    first = 0 if part.after is None else bisect_right(positions, part.after)
    last = len(positions) if part.up_to is None else bisect_right(positions, part.up_to)
    return positions[first:last]


@given(st.sets(positions, min_size=1, max_size=60), st.data(), st.integers(1, 40))
def test_the_parts_of_a_range_take_each_member_once_and_the_first_reaches_beyond_what_was_read(
    names: set[Position], data: st.DataObject, parts: int
) -> None:
    members = sorted(names)
    after = data.draw(st.none() | st.sampled_from(members))
    up_to = data.draw(st.none() | st.sampled_from(members))
    whole = KeyRange(after, up_to)
    inside = within(members, whole)
    if not inside:
        return
    read = data.draw(st.sampled_from(inside))
    ranges = cut(whole, read, parts)
    assert 1 <= len(ranges) <= parts
    assert [name for part in ranges for name in within(members, part)] == inside
    assert read in within(members, ranges[0])


def test_parts_are_of_about_the_same_size() -> None:
    names = sorted(position_of(ConnectionId(f"IU3k{number:06}AMCJw=")) for number in range(20_000))
    sizes = [len(within(names, part)) for part in cut(KeyRange(), names[999], 8)]
    assert len(sizes) == 8
    assert sum(sizes) == 20_000
    assert max(sizes) < 2 * min(sizes)


def test_a_range_that_is_read_to_its_last_bucket_is_not_cut() -> None:
    assert cut(KeyRange(), Position("ff#x"), 5) == [KeyRange()]


@pytest.mark.parametrize("after", [None, "00#", "7f#IU3k00042AMCJw=", "7f$", "zz"])
@pytest.mark.parametrize("up_to", [None, "00#", "7f$", "9c#IU3k00042AMCJw=", "ff$"])
def test_a_range_of_members_is_after_one_position_and_up_to_another(
    stored: Stored, after: str | None, up_to: str | None
) -> None:
    names = [f"IU3k{number:05}AMCJw=" for number in range(60)]
    fill(stored.client, stored.name, NEWS, names)
    if after is not None and up_to is not None and after > up_to:
        return  # never asked for, and DynamoDB refuses it
    part = KeyRange(*(None if end is None else Position(end) for end in (after, up_to)))
    read = [m.connection_id for page in stored.table.members(NEWS, part) for m in page.members]
    expected = within(sorted(position_of(ConnectionId(name)) for name in names), part)
    assert [position_of(name) for name in read] == expected


def test_pages_end_at_a_thousand_members_and_say_how_far_they_reach(stored: Stored) -> None:
    names = [f"IU3k{number:05}AMCJw=" for number in range(PAGE_MEMBERS * 2 + 1)]
    fill(stored.client, stored.name, NEWS, names)
    pages = list(stored.table.members(NEWS))
    assert [len(page.members) for page in pages] == [PAGE_MEMBERS, PAGE_MEMBERS, 1]
    assert [page.last for page in pages] == [position_of(page.members[-1].connection_id) for page in pages[:2]] + [None]
    assert sorted(m.connection_id for page in pages for m in page.members) == names
    assert 1_600 < pages[0].size < 2_500
    [rest] = stored.table.members(NEWS, KeyRange(pages[1].last))
    assert rest == pages[2].__class__(pages[2].members, 1, None)


@given(st.integers(1, 1_000), st.none() | positions, st.none() | positions, positions)
def test_an_estimate_is_at_least_what_was_counted(
    counted: int, after: Position | None, up_to: Position | None, last: Position
) -> None:
    assert estimated_size(counted, KeyRange(after, up_to), last) >= counted


def test_an_estimate_counts_the_range_that_was_asked_for() -> None:
    half = KeyRange(Position("80#"), None)
    assert 1_900 < estimated_size(1_000, half, Position("c0#x")) < 2_100


def test_expired_members_and_tombstones_are_in_no_page(stored: Stored) -> None:
    stored.join("news", A)
    stored.table.leave(NEWS, B, NOW + 5)
    assert stored.members("news") == {A}
    stored.clock.now += 10_000_000
    assert stored.members("news") == set()
    assert stored.table.membership(NEWS, A) is None


# --- claims and the address


def test_a_range_of_a_message_is_claimed_once(stored: Stored) -> None:
    assert stored.table.claim("m1", None)
    assert not stored.table.claim("m1", None)
    assert stored.table.claim("m1", Position("7f#x"))
    assert not stored.table.claim("m1", Position("7f#x"))
    assert stored.table.claim("m2", None)
    expiries = {int(item["expires_at"]["N"]) for item in stored.items()}
    assert expiries == {NOW // 1_000 + CLAIM_SECONDS}


def test_a_claim_is_in_nobodys_way(stored: Stored) -> None:
    """Neither a channel of that name nor a connection has anything to do with it."""
    stored.table.claim("m1", None)
    assert stored.members("@claim#m1") == set()
    stored.table.connect(A, NOW, HOME)
    assert stored.table.disconnect(A) == 2
    assert not stored.table.claim("m1", None)


class Repeats:
    """A client whose put reaches the store, loses its answer, and is repeated."""

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_item(self, **request: Any) -> Any:
        self._client.put_item(**request)
        return self._client.put_item(**request)


def test_a_claim_whose_answer_was_lost_is_still_its_claimers(stored: Stored) -> None:
    table = Table(Repeats(stored.client), stored.name, stored.clock)  # type: ignore[arg-type]
    assert table.claim("m1", None)
    assert not stored.table.claim("m1", None)


def test_a_claim_that_is_given_back_is_there_for_one_other(stored: Stored) -> None:
    owner = stored.table.claim("m1", None)
    assert owner
    stored.table.give_back("m1", None, "somebody else")
    assert not stored.table.claim("m1", None)
    stored.table.give_back("m1", None, owner)
    assert stored.table.claim("m1", None)
    assert not stored.table.claim("m1", None)
    stored.table.give_back("m1", None, owner)
    assert not stored.table.claim("m1", None)


class LosesAnswers:
    """A client whose puts reach the store, and whose answers are lost, so many times."""

    def __init__(self, client: DynamoDBClient, losses: int) -> None:
        self._client = client
        self._losses = losses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_item(self, **request: Any) -> Any:
        answer = self._client.put_item(**request)
        self._losses -= 1
        if self._losses >= 0:
            raise ReadTimeoutError(endpoint_url="")
        return answer


def test_a_claim_that_was_written_and_never_answered_is_given_back(stored: Stored) -> None:
    table = Table(LosesAnswers(stored.client, losses=1), stored.name, stored.clock)  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        table.claim("m1", None)
    assert stored.table.claim("m1", None)


def test_the_address_is_what_the_last_connect_left(stored: Stored) -> None:
    assert stored.table.address() is None
    stored.table.connect(A, NOW, HOME)
    assert stored.table.address() is None
    for api_id in ("a1", "b2"):
        stored.table.connect(A, NOW, HOME, Address(api_id, "api"))
        assert stored.table.address() == Address(api_id, "api")
    stored.table.disconnect(A)
    assert stored.table.address() == Address("b2", "api")
    assert stored.members("@address") == set()


# --- the client's short cut


def test_a_page_is_read_as_botocore_reads_it(store: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored(store)
    stored.table.connect(A, NOW, HOME)
    stored.join("news", A)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", store.meta.endpoint_url)
    query: dict[str, Any] = {
        "TableName": stored.name,
        "KeyConditionExpression": "channel = :channel",
        "ExpressionAttributeValues": {":channel": {"S": HOME}},
        "ReturnConsumedCapacity": "TOTAL",
        "Limit": 1,
    }
    new_sessions(monkeypatch)
    client = requests.connect()
    ours, botocores = dict(client.query(**query)), dict(store.query(**query))
    for answer in (ours, botocores):
        del answer["ResponseMetadata"]
    assert ours == botocores
    assert '"at_home": {"BOOL": true}' in json.dumps(ours["Items"])
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.query(**{**query, "TableName": "no-such-table"})
    client.close()


def test_position_is_where_dynamodb_puts_a_member(stored: Stored) -> None:
    names = [f"IU3k{number:05}AMCJw=" for number in range(50)]
    for name in names:
        stored.join("news", ConnectionId(name))
    read = [m.connection_id for page in stored.table.members(ChannelName("news")) for m in page.members]
    assert read == sorted(names, key=lambda name: position_of(ConnectionId(name)))
