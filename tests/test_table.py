"""The table's contract, against two stores that were written by different people."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.capability import Capability
from chalicelib.identity import Identity
from chalicelib.model import ChannelName, Connection, ConnectionId, KeyRange, Member, Position
from chalicelib.names import STORED_NAME_CHARACTERS, key_of
from chalicelib.ranges import estimated_size
from chalicelib.table import (
    EXPIRY_SECONDS,
    TOMBSTONE_SECONDS,
    Table,
)

from .fakes import NOW
from .schedules import TABLE, World, WorldClock, WorldStore, every_schedule, make_table, request_in_process
from .stored import HOME, NEWS, A, B, Stored
from .test_jsontext import any_text

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

EXPIRES_AT = NOW // 1_000 + EXPIRY_SECONDS
SOON, LATER = NOW // 1_000 + 3_600, NOW // 1_000 + 7_200
READER = Capability.parse({"news": ["subscribe"]})


@pytest.fixture(name="stored")
def a_table(store: DynamoDBClient) -> Stored:
    return Stored(store)


@pytest.fixture(name="in_ministack")
def a_table_in_ministack(ministack: DynamoDBClient) -> Stored:
    return Stored(ministack)


def test_connecting_writes_a_record_and_a_membership_at_home(stored: Stored) -> None:
    stored.table.connect(A, NOW, HOME)
    assert stored.table.connection(A) == Connection(A, HOME, at_home=True, expires_at=EXPIRES_AT)
    assert stored.table.membership(HOME, A) == Member(A, "text", NOW)
    expiries = {int(item["expires_at"]["N"]) for item in stored.items()}
    assert expiries == {EXPIRES_AT}


def test_connecting_without_a_home_writes_the_record_alone(stored: Stored) -> None:
    stored.table.connect(A, NOW, None)
    assert stored.table.connection(A) == Connection(A, None, at_home=False, expires_at=EXPIRES_AT)
    assert len(stored.items()) == 1


def test_a_connection_that_never_was_has_no_record(stored: Stored) -> None:
    assert stored.table.connection(A) is None


def test_leaving_home_ends_the_membership_and_keeps_the_name(stored: Stored) -> None:
    stored.table.connect(A, NOW, HOME)
    stored.table.leave_home(A, HOME)
    assert stored.table.connection(A) == Connection(A, HOME, at_home=False, expires_at=EXPIRES_AT)
    assert stored.members("default") == set()


def test_a_member_can_be_read_as_soon_as_the_join_returns(stored: Stored) -> None:
    assert stored.join("news", A)
    assert stored.members("news") == {A}
    assert stored.table.membership(NEWS, A) == Member(A, "text", NOW)
    assert stored.table.membership(NEWS, B) is None


def test_a_repeated_join_keeps_its_first_time_and_takes_the_new_dialect(stored: Stored) -> None:
    stored.join("news", A, dialect="text")
    stored.clock.now += 5_000
    assert stored.join("news", A, at=NOW + 5_000, dialect="envelope")
    assert stored.table.membership(NEWS, A) == Member(A, "envelope", NOW)


def test_a_leave_ends_the_membership_and_leaves_nothing(stored: Stored) -> None:
    stored.join("news", A)
    stored.join("news", B)
    stored.table.leave(NEWS, A, NOW + 1)
    assert stored.members("news") == {B}
    assert len(stored.items()) == 1


def test_a_leave_older_than_the_join_changes_nothing(stored: Stored) -> None:
    stored.join("news", A, at=NOW)
    stored.table.leave(NEWS, A, NOW - 1)
    assert stored.members("news") == {A}


def test_a_tie_keeps_the_member_in_either_order(stored: Stored) -> None:
    stored.join("news", A, at=NOW)
    stored.table.leave(NEWS, A, NOW)
    stored.table.leave(NEWS, B, NOW)
    stored.join("news", B, at=NOW)
    assert stored.members("news") == {A, B}


@pytest.mark.parametrize("frames", ["JL", "LJ", "JLJ", "LJL", "JJ", "LL"])
def test_the_last_word_wins_in_whatever_order_the_frames_are_handled(stored: Stored, frames: str) -> None:
    for number, order in enumerate(permutations(range(len(frames)))):
        channel = ChannelName(f"c{number}")
        for sent in order:
            if frames[sent] == "J":
                stored.join(channel, A, at=NOW + sent)
            else:
                stored.table.leave(channel, A, NOW + sent)
        assert stored.members(channel) == ({A} if frames[-1] == "J" else set()), order


@pytest.mark.parametrize("frames", ["JL", "LJ", "JLJ", "LJL"])
def test_the_last_word_wins_though_the_requests_of_the_frames_are_interleaved(frames: str) -> None:
    def scenario(world: World) -> None:
        make_table()
        clock = WorldClock(world)
        table = Table(WorldStore(world), TABLE, clock)  # type: ignore[arg-type]
        for sent, frame in enumerate(frames):
            if frame == "J":
                world.add(partial(table.join, NEWS, A, "text", NOW + sent, NOW))
            else:
                world.add(partial(table.leave, NEWS, A, NOW + sent))

    for world in every_schedule(scenario, tick_ms=0):
        query = {"KeyConditionExpression": "channel = :c", "ExpressionAttributeValues": {":c": {"S": NEWS}}}
        items = request_in_process("Query", {"TableName": TABLE, **query})["Items"]
        assert any("joined_at" in item for item in items) == (frames[-1] == "J"), world.choices


def test_a_join_that_a_later_leave_overtook_is_told_so(stored: Stored) -> None:
    stored.table.leave(NEWS, A, NOW + 1)
    assert not stored.join("news", A, at=NOW)
    assert stored.join("news", A, at=NOW + 1)


def test_a_join_that_a_later_join_overtook_is_a_join(stored: Stored) -> None:
    stored.join("news", A, at=NOW + 1, dialect="envelope")
    assert stored.join("news", A, at=NOW, dialect="text")
    assert stored.table.membership(NEWS, A) == Member(A, "envelope", NOW)


def test_what_a_leave_leaves_behind_expires_within_a_minute(stored: Stored) -> None:
    stored.table.leave(NEWS, A, NOW)
    [tombstone] = stored.items()
    assert int(tombstone["expires_at"]["N"]) == NOW // 1_000 + TOMBSTONE_SECONDS
    assert stored.members("news") == set()
    assert stored.table.membership(NEWS, A) is None


def test_a_membership_whose_time_has_passed_is_not_read_though_ttl_lags(stored: Stored) -> None:
    stored.join("news", A)
    stored.clock.now += EXPIRY_SECONDS * 1_000
    assert stored.members("news") == set()
    assert stored.table.membership(NEWS, A) is None


def test_disconnecting_removes_all_that_the_connection_has_and_nothing_else(stored: Stored) -> None:
    for connection_id in (A, B):
        stored.table.connect(connection_id, NOW, HOME)
        for number in range(500):
            stored.join(f"c{number}", connection_id)
    stored.table.leave(ChannelName("never joined"), A, NOW)
    assert stored.table.disconnect(A) == 503
    assert {item["connection_id"]["S"] for item in stored.items()} == {B}
    assert len(stored.items()) == 502


def test_disconnecting_twice_is_no_error(stored: Stored) -> None:
    stored.table.connect(A, NOW, HOME)
    assert stored.table.disconnect(A) == 2
    assert stored.table.disconnect(A) == 0


def test_pruning_deletes_those_memberships_alone(stored: Stored) -> None:
    for channel in ("news", "sport"):
        for connection_id in (A, B):
            stored.join(channel, connection_id)
    stored.table.prune(NEWS, [A])
    assert stored.members("news") == {B}
    assert stored.members("sport") == {A, B}


def test_members_come_page_by_page_with_an_estimate_of_their_number(stored: Stored) -> None:
    """Items are padded to some 40 KB, so that a page of 1 MB holds about 25 of them."""
    names = {f"IU3kkeN4{n:04}AMC" for n in range(100)}
    for name in names:
        stored.join("news", ConnectionId(name))
        key = next(item for item in stored.items() if item["connection_id"]["S"] == name)
        stored.client.put_item(TableName=stored.name, Item={**key, "padding": {"S": "x" * 40_000}})
    pages = list(stored.table.members(NEWS))
    assert len(pages) >= 4
    assert {member.connection_id for page in pages for member in page.members} == names
    assert len({page.size for page in pages}) == 1
    assert 50 <= pages[0].size <= 200


def test_a_channel_that_fits_a_page_has_an_exact_size(stored: Stored) -> None:
    assert [page.size for page in stored.table.members(NEWS)] == [0]
    stored.join("news", A)
    stored.join("news", B)
    assert [page.size for page in stored.table.members(NEWS)] == [2]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "@",
        "@connection#IU3kkeN4IAMCJwA=",
        "@name#x",
        "x" * 255,
        "x" * 256,
        "é" * 128,
        "x" * 100_000,
        "\ud800",
        "\udfff\ud800",
        "\0",
        "news ",
        "é",
        "e\u0301",
        "a\nb",
        "😀" * 64,
        "\\ud800",
    ],
)
def test_any_string_names_a_channel_of_its_own(stored: Stored, name: str) -> None:
    stored.table.connect(A, NOW, HOME)
    assert stored.join(name, A)
    assert stored.members(name) == {A}
    for other in (f"{name}x", f"@{name}", f"{name}\0", name.upper() + "y"):
        assert stored.members(other) == set()
    assert stored.table.connection(A) == Connection(A, HOME, at_home=True, expires_at=EXPIRES_AT)
    assert all(len(item.get("name", {"S": ""})["S"]) <= STORED_NAME_CHARACTERS * 10 for item in stored.items())
    assert stored.table.disconnect(A) == 3


@given(any_text, any_text)
def test_two_names_never_share_a_key_and_every_key_is_legal(one: str, other: str) -> None:
    keys = {key_of(ChannelName(name)) for name in (one, other)}
    assert len(keys) == len({one, other})
    for key in keys:
        assert 0 < len(key.encode()) <= 255


@given(st.text(alphabet="@name#0123456789abcdef", max_size=80))
def test_a_name_that_looks_like_a_key_is_not_that_key(name: str) -> None:
    assert key_of(ChannelName(name)) != name or not name.startswith("@")


@pytest.mark.parametrize("bucket", ["00", "7f", "ff"])
def test_the_estimate_is_how_far_the_first_page_reached(bucket: str) -> None:
    reached = int(bucket, 16) + 0.5
    assert estimated_size(1_000, KeyRange(), Position(f"{bucket}#x")) == round(1_000 * 256 / reached)


# --- who a connection is, and until when


def test_a_record_says_who_the_connection_is_what_it_may_do_and_until_when(stored: Stored) -> None:
    stored.table.connect(A, NOW, HOME, identity=Identity("ada", READER, SOON))
    assert stored.table.connection(A) == Connection(A, HOME, True, SOON, "ada", '{"news":["subscribe"]}')
    stored.table.connect(B, NOW, None, identity=Identity("grace"))
    assert stored.table.connection(B) == Connection(B, None, False, EXPIRES_AT, "grace", None)
    assert {int(item["expires_at"]["N"]) for item in stored.items()} == {SOON, EXPIRES_AT}


@pytest.mark.parametrize(("until", "expires_at"), [(None, EXPIRES_AT), (SOON, SOON), (EXPIRES_AT + 9, EXPIRES_AT)])
def test_a_membership_ends_when_it_is_told_to_and_with_its_connection_at_the_latest(
    stored: Stored, until: int | None, expires_at: int
) -> None:
    stored.table.join(NEWS, A, "text", NOW, NOW, until=until)
    [membership] = stored.items()
    assert int(membership["expires_at"]["N"]) == expires_at
    stored.clock.now = expires_at * 1_000 - 1
    assert stored.members("news") == {A}
    stored.clock.now = expires_at * 1_000
    assert stored.members("news") == set()
    assert stored.table.membership(NEWS, A) is None


def test_a_repeated_join_takes_the_new_end_and_keeps_its_first_time(stored: Stored) -> None:
    for until in (SOON, LATER, SOON):
        stored.table.join(NEWS, A, "text", NOW, NOW, until=until)
        [membership] = stored.items()
        assert (int(membership["expires_at"]["N"]), membership["joined_at"]["N"]) == (until, str(NOW))


def test_renewing_gives_the_record_and_what_is_kept_the_new_end_and_ends_the_rest(stored: Stored) -> None:
    asked: list[ChannelName | None] = []

    def keeps(channel: ChannelName | None) -> bool:
        asked.append(channel)
        return channel in {None, "news"}

    for connection_id in (A, B):
        stored.table.connect(connection_id, NOW, HOME, identity=Identity("ada", None, SOON))
        for channel in ("news", "sport", "x" * 300):
            stored.table.join(ChannelName(channel), connection_id, "text", NOW, NOW, until=SOON)
    others = [item for item in stored.items() if item["connection_id"]["S"] == B]
    assert stored.table.renew(A, NOW, Identity("ada", READER, LATER), keeps, SOON)
    assert stored.table.connection(A) == Connection(A, HOME, True, LATER, "ada", '{"news":["subscribe"]}')
    mine = [item for item in stored.items() if item["connection_id"]["S"] == A]
    assert {int(item["expires_at"]["N"]) for item in mine} == {LATER}
    assert len(mine) == 3
    assert sorted(asked, key=str) == [None, "default", "news", "sport"]
    assert all(item in stored.items() for item in others)
    assert {item["joined_at"]["N"] for item in mine if "joined_at" in item} == {str(NOW)}


def test_a_membership_of_a_hashed_name_that_an_earlier_renewal_missed_ends_as_it_must(stored: Stored) -> None:
    stored.table.connect(A, NOW, None, identity=Identity("ada", READER, LATER))
    for channel in ("news", "x" * 300):
        stored.table.join(ChannelName(channel), A, "text", NOW, NOW, until=SOON)
    assert stored.table.renew(A, NOW, Identity("ada", READER, LATER + 60), lambda _: True, LATER)
    ends = {item["channel"]["S"][:6]: int(item["expires_at"]["N"]) for item in stored.items()}
    assert ends == {"@conne": LATER + 60, "news": LATER + 60, "@name#": SOON}


def test_renewing_without_a_capability_takes_the_old_one_away(stored: Stored) -> None:
    stored.table.connect(A, NOW, None, identity=Identity("ada", READER, SOON))
    assert stored.table.renew(A, NOW, Identity("ada"), lambda _: True, SOON)
    assert stored.table.connection(A) == Connection(A, None, False, EXPIRES_AT, "ada", None)


def test_renewing_makes_no_record_and_no_membership_anew(stored: Stored) -> None:
    assert not stored.table.renew(A, NOW, Identity("ada", READER, LATER), lambda _: True, SOON)
    assert stored.items() == []
    stored.table.join(NEWS, A, "text", NOW, NOW, until=SOON)
    stored.clock.now += 3_600_000  # the store deletes what has expired by the real clock
    stored.table.leave(HOME, A, NOW)
    before = stored.items()
    assert not stored.table.renew(A, NOW, Identity("ada", READER, LATER), lambda _: False, SOON)
    assert stored.items() == before
    stored.table.connect(A, NOW, None)
    tombstone = next(item for item in before if "joined_at" not in item)
    for kept in (True, False):
        stored.table.renew(A, NOW, Identity("ada", READER, LATER), lambda _, kept=kept: kept, SOON)  # type: ignore[misc]
        assert tombstone in stored.items()


def test_channels_are_counted_without_the_record_and_without_those_that_are_named(stored: Stored) -> None:
    stored.table.connect(A, NOW, HOME)
    for channel in ("news", "@x", "", "x" * 300):
        stored.join(channel, A)
    stored.join("news", B)
    assert stored.table.channels_of(A) == 5
    assert stored.table.channels_of(B) == 1
    assert stored.table.channels_of(A, besides=(NEWS, ChannelName("@x"), ChannelName("another"))) == 3
    stored.table.leave(NEWS, A, NOW + 1)
    assert stored.table.channels_of(A) == 4
    stored.table.leave(ChannelName("never joined"), A, NOW + 1)
    assert stored.table.channels_of(A) == 5


# --- any history


channels = st.sampled_from(["news", "sport", "", "@x", "x" * 300])
connections = st.sampled_from([A, B])
steps = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "disconnect", "prune"]), channels, connections), max_size=25
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_after_any_history_the_members_are_those_of_a_set(
    ministack: DynamoDBClient, history: list[tuple[str, str, ConnectionId]]
) -> None:
    stored = Stored(ministack)
    model: dict[str, set[str]] = {}
    for number, (step, channel, connection_id) in enumerate(history):
        members = model.setdefault(channel, set())
        match step:
            case "join":
                stored.join(channel, connection_id, at=NOW + number)
                members.add(connection_id)
            case "leave":
                stored.table.leave(ChannelName(channel), connection_id, NOW + number)
                members.discard(connection_id)
            case "prune":
                stored.table.prune(ChannelName(channel), [connection_id])
                members.discard(connection_id)
            case "disconnect":
                stored.table.disconnect(connection_id)
                for others in model.values():
                    others.discard(connection_id)
    for channel, expected in model.items():
        assert stored.members(channel) == expected
