"""Each limit: told with its code, nothing done, and closed by who does not heed it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import service
from chalicelib.actions import ACTIONS
from chalicelib.conduct import STRIKES_MS
from chalicelib.model import ChannelName, ConnectionId

from .conftest import Requests
from .fakes import NOW
from .frames import CHANNEL, CUSTOM, HOME, NEEDY, Row, label
from .tokens import HS256
from .world import World, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MAX_BYTES, MAX_TOPICS, MAX_CHANNELS = 300, 3, 4
LIMITS = {"max_message_bytes": MAX_BYTES, "max_topics": MAX_TOPICS, "max_channels": MAX_CHANNELS}

TOO_LARGE = {"type": "message", "data": "x" * MAX_BYTES}
TOO_MANY_TOPICS = {"type": "subscribe", "topics": ["1", "2", "3", "4"]}


def join(channel: str) -> dict[str, str]:
    return {"action": "joinchannel", "channel": channel}


def subscribe(*topics: str) -> dict[str, Any]:
    return {"type": "subscribe", "topics": topics}


def sign_in(world: World, *channels: str) -> None:
    """Connects `a` without a home, and `b`, and makes `a` a member of those channels."""
    world.connect("a", room="")
    world.connect("b", room=CHANNEL)
    for channel in channels:
        world.send("a", join(channel))
        assert "connectionId" in world.received("a")[0]


def code_of_answer(world: World, frame: object) -> str | None:
    """The code of the error that `a` is answered, if it is."""
    world.send("a", frame)
    answers = [answer for answer in world.received("a") if isinstance(answer, dict) and "code" in answer]
    return error_code(answers) if answers else None


# --- bytes and topics


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (TOO_LARGE, "too_large"),
        ("x" * (MAX_BYTES + 1), "too_large"),
        ("é" * (MAX_BYTES // 2 + 1), "too_large"),
        (TOO_MANY_TOPICS, "too_many_topics"),
        ({"type": "unsubscribe", "topics": ["1", "2", "3", "4"]}, "too_many_topics"),
    ],
)
def test_over_a_limit_nothing_is_done_and_the_client_is_told(
    ministack: DynamoDBClient, frame: object, code: str
) -> None:
    world = World(ministack, **LIMITS)
    sign_in(world)
    before = world.items()
    assert code_of_answer(world, frame) == code
    assert (world.items(), world.received("b")) == (before, [])


@pytest.mark.parametrize(
    "frame", ["x" * MAX_BYTES, "é" * (MAX_BYTES // 2), subscribe("1", "2", "3"), subscribe("1", "1", "2", "2", "3")]
)
def test_at_a_limit_all_is_well(ministack: DynamoDBClient, frame: object) -> None:
    world = World(ministack, **LIMITS)
    sign_in(world)
    assert code_of_answer(world, frame) is None


# --- channels


@pytest.fixture(name="narrow")
def a_world_of_few_channels(ministack: DynamoDBClient) -> World:
    return World(ministack, max_channels=MAX_CHANNELS)


def test_the_channels_of_one_frame_are_joined_together_or_not_at_all(narrow: World) -> None:
    sign_in(narrow)
    before = narrow.items()
    assert code_of_answer(narrow, subscribe("1", "2", "3", "4", "5")) == "too_many_channels"
    assert narrow.items() == before
    assert code_of_answer(narrow, subscribe("1", "2", "3", "4")) is None


def test_channels_are_counted_over_time(narrow: World) -> None:
    sign_in(narrow, "1", "2", "3")
    before = narrow.items()
    assert code_of_answer(narrow, subscribe("4", "5")) == "too_many_channels"
    assert narrow.items() == before
    assert code_of_answer(narrow, join("4")) is None
    assert code_of_answer(narrow, join("5")) == "too_many_channels"


def test_joining_again_where_one_is_makes_no_channel_more(narrow: World) -> None:
    """y-webrtc subscribes again with each announce."""
    names = ("1", "@2", "", "x" * 300)
    sign_in(narrow, *names)
    for name in names:
        assert code_of_answer(narrow, join(name)) is None
    assert code_of_answer(narrow, subscribe("1", "@2")) is None
    assert code_of_answer(narrow, subscribe("1", "another")) == "too_many_channels"


def test_leaving_makes_room(narrow: World) -> None:
    sign_in(narrow, "1", "2", "3", "4")
    narrow.send("a", {"action": "leavechannel", "channel": "2"})
    narrow.received("a")
    assert code_of_answer(narrow, join("5")) is None


def test_leaving_a_channel_that_one_is_not_in_takes_room_away(narrow: World) -> None:
    """What such a leave leaves behind looks like a membership in the index."""
    sign_in(narrow, "1", "2", "3")
    narrow.clock.now += 3_600_000  # the store deletes what has expired by the real clock
    narrow.send("a", {"action": "leavechannel", "channel": "never joined"})
    narrow.received("a")
    assert code_of_answer(narrow, join("4")) == "too_many_channels"
    assert code_of_answer(narrow, join("never joined")) is None


def test_the_home_channel_counts(narrow: World) -> None:
    sign_in(narrow)
    narrow.connect("a")
    assert code_of_answer(narrow, subscribe("1", "2", "3", "4")) is None
    narrow.connect("a")
    assert code_of_answer(narrow, join("5")) == "too_many_channels"


def test_the_home_that_a_first_subscribe_ends_does_not_count_and_goes_on_where_it_is_refused(narrow: World) -> None:
    sign_in(narrow)
    narrow.connect("a")
    assert code_of_answer(narrow, subscribe("1", "2", "3", "4", "5")) == "too_many_channels"
    assert narrow.members("default") == {"a"}
    assert code_of_answer(narrow, subscribe("1", "2", "3", "4")) is None
    assert narrow.members("default") == set()


def test_channels_that_are_not_allowed_are_not_counted(ministack: DynamoDBClient) -> None:
    world = World(ministack, **HS256, max_channels=2, home_channel=None)
    world.enter("a", {"ok:*": ["subscribe"]})
    assert code_of_answer(world, subscribe("ok:1", "no:1", "no:2", "ok:2")) == "forbidden"
    assert world.members("ok:1") == world.members("ok:2") == {"a"}


def test_one_connections_channels_are_not_anothers(narrow: World) -> None:
    sign_in(narrow, "1", "2", "3", "4")
    for channel in ("1", "2", "3"):
        narrow.send("b", join(channel))
    assert [set(answer) for answer in narrow.received("b")] == [{"channel", "connectionId"}] * 3


def test_counting_channels_costs_a_query_of_the_index_and_no_limit_costs_nothing(ministack: DynamoDBClient) -> None:
    for settings, expected in (({"max_channels": 9}, ["Query", "UpdateItem"]), ({}, ["UpdateItem"])):
        world = World(ministack, **settings)
        sign_in(world)
        operations, _written, _units = Requests(world.client).during(partial(world.send, "a", join("1")))
        assert operations == expected


# --- frames a second


def test_frames_over_the_rate_are_not_acted_on(ministack: DynamoDBClient) -> None:
    world = World(ministack, frames_per_second=2)
    world.connect("a", "b", room=CHANNEL)
    publish = {"type": "message", "data": "hello"}
    codes = [code_of_answer(world, publish) for _ in range(4)]
    assert codes == [None, None, "rate_limited", "rate_limited"]
    assert world.received("b") == ["hello"] * 2
    world.send("b", publish)
    assert world.received("b") == ["hello"]
    world.clock.now += 500
    assert [code_of_answer(world, publish) for _ in range(2)] == [None, "rate_limited"]


@pytest.mark.parametrize("frame", ["Marko?", "{", {}, {"type": "ping"}, {"action": "unheard of"}, "x" * 200_000])
def test_every_frame_counts_whatever_it_is(ministack: DynamoDBClient, frame: object) -> None:
    world = World(ministack, frames_per_second=1)
    sign_in(world)
    world.send("a", frame)
    world.received("a")
    assert code_of_answer(world, frame) == "rate_limited"


# --- strikes


def overdo(world: World, code: str) -> None:
    frames: dict[str, object] = {
        "too_large": TOO_LARGE,
        "too_many_topics": TOO_MANY_TOPICS,
        "too_many_channels": subscribe("7", "8", "9"),
        "rate_limited": {"type": "ping"},
    }
    assert code_of_answer(world, frames[code]) == code


@pytest.mark.parametrize("code", ["too_large", "too_many_topics", "too_many_channels", "rate_limited"])
def test_who_is_over_a_limit_again_and_again_is_told_each_time_and_then_closed(
    ministack: DynamoDBClient, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    rate = {"frames_per_second": 1} if code == "rate_limited" else {}
    world = World(ministack, **{**LIMITS, "max_channels": 2}, **rate, strikes=3)
    world.connect("a", "b", room="")
    world.send("a", {"type": "ping"})
    world.received("a")
    overdo(world, code)
    overdo(world, code)
    assert world.closed == []
    overdo(world, code)
    assert world.closed == ["a"]
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line == "closed for being over a limit again and again connection=a"


def test_strikes_of_several_limits_count_together(ministack: DynamoDBClient) -> None:
    world = World(ministack, **LIMITS, strikes=2)
    sign_in(world)
    overdo(world, "too_large")
    overdo(world, "too_many_topics")
    assert world.closed == ["a"]


def test_strikes_are_forgotten_after_a_minute_and_are_nobody_elses(ministack: DynamoDBClient) -> None:
    world = World(ministack, **LIMITS, strikes=2)
    sign_in(world)
    for _ in range(3):
        overdo(world, "too_large")
        world.send("b", TOO_LARGE)
        world.clock.now += STRIKES_MS + 1
    assert world.closed == []


@pytest.mark.parametrize(
    "frame",
    [
        {"action": "unheard of"},
        {"action": "joinchannel"},
        "[]",
        {"action": "message", "messageBody": 1},
        {"action": "joinchannel", "channel": "forbidden"},
        {"action": "authenticate", "token": "bad"},
    ],
)
def test_other_mistakes_close_nobody(ministack: DynamoDBClient, frame: object) -> None:
    world = World(ministack, **HS256, strikes=1, home_channel=None)
    world.enter("a", {"news": ["*"]})
    assert code_of_answer(world, frame) is not None
    assert world.closed == []


# --- publishing to channels that one has not joined


PUBLISHES = tuple(row for row in NEEDY if row.operation == "publish")


@pytest.fixture(name="members_only")
def a_world_where_members_publish(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(service, "ACTIONS", {**ACTIONS, **CUSTOM})
    world = World(ministack, publish_unjoined=False)
    world.connect("a", room=HOME)
    world.table.leave(ChannelName(HOME), ConnectionId("a"), NOW + 1)
    for name, dialect in (("bare", "text"), ("page", "ywebrtc")):
        world.gateway.open.add(name)
        for channel in {row.channel for row in PUBLISHES}:
            world.table.join(ChannelName(channel), ConnectionId(name), dialect, NOW, NOW)
    return world


@pytest.mark.parametrize("row", PUBLISHES, ids=label)
def test_where_members_publish_nobody_else_does(members_only: World, row: Row) -> None:
    before = members_only.items()
    assert code_of_answer(members_only, row.frame) == "not_joined"
    assert members_only.items() == before
    assert (members_only.received("bare"), members_only.received("page"), members_only.closed) == ([], [], [])


@pytest.mark.parametrize("row", PUBLISHES, ids=label)
def test_where_members_publish_they_do_and_that_costs_a_read(members_only: World, row: Row) -> None:
    members_only.table.join(ChannelName(row.channel), ConnectionId("a"), "text", NOW + 2, NOW)
    requests = Requests(members_only.client)
    operations, _written, _units = requests.during(partial(members_only.send, "a", row.frame))
    assert len(members_only.received("bare")) == len(members_only.received("page")) == 1
    reads = () if row.dialect == "ywebrtc" else ("GetItem",)
    assert sorted(operations) == sorted((*row.requests, *reads))


def test_a_membership_that_has_ended_is_none(members_only: World) -> None:
    ends = NOW // 1_000 + 60
    members_only.table.join(ChannelName(CHANNEL), ConnectionId("a"), "text", NOW, NOW, until=ends)
    members_only.clock.now += 60_000
    assert code_of_answer(members_only, {"action": "sendmessage", "channel": CHANNEL, "message": 1}) == "not_joined"
