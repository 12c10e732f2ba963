"""No frame of a connection without the right is acted on: every dialect, every command, every right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

import pytest

from chalicelib import service
from chalicelib.actions import ACTIONS, Call
from chalicelib.capability import Capability, Operation
from chalicelib.dialects import DIALECTS, Command, Join, Publish, Run
from chalicelib.errors import NotAllowed
from chalicelib.events import Disconnect
from chalicelib.model import ChannelName, ConnectionId

from .conftest import Requests
from .fakes import NOW
from .frames import CHANNEL, CUSTOM, FREE, HOME, NEEDY, ROWS, Row, label
from .jwks import NOW_S
from .tokens import HS256
from .world import World, error_code

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SENDER = ConnectionId("sender")
AT_HOME = {HOME: ["subscribe"]}
"""What every sender here may do: be at home."""

WITNESSES = {"bare": "text", "enveloped": "envelope", "page": "ywebrtc"}
"""A member of each kind, in the channel that is meant."""

BEFORE_THE_END = 3_600


@pytest.fixture(autouse=True)
def custom_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ACTIONS", {**ACTIONS, **CUSTOM})


@pytest.fixture(name="world")
def a_world(ministack: DynamoDBClient) -> World:
    return World(ministack, **HS256)


def add_witnesses(world: World, channel: str) -> None:
    for name, dialect in WITNESSES.items():
        world.gateway.open.add(name)
        world.table.join(ChannelName(channel), ConnectionId(name), dialect, NOW, NOW)


def heard(world: World) -> list[int]:
    """How much each of the witnesses has received."""
    return [len(world.received(name)) for name in WITNESSES]


def other(operation: Operation) -> Operation:
    return "publish" if operation == "subscribe" else "subscribe"


def too_little(operation: Operation, channel: str) -> dict[str, Mapping[str, list[str]]]:
    return {
        "no right": {},
        "the other operation": {channel: [other(operation)], "*": [other(operation)]},
        "other channels": {name: ["*"] for name in (f"{channel}x", f"{channel}:below", f"{channel}*", f"x:{channel}")},
        "other spellings": {name: ["*"] for name in (channel.upper(), f" {channel}", f"{channel}\0", "", "@", "**")},
        "an operation that is none": {channel: [operation.upper(), f"{operation} ", "history"]},
    }


def enough(operation: Operation, channel: str) -> dict[str, Mapping[str, list[str]]]:
    return {
        "the right": {channel: [operation]},
        "both rights": {channel: ["subscribe", "publish"]},
        "any operation": {channel: ["*"]},
        "any channel": {"*": [operation]},
        "it and all below": {f"{channel}:*": [operation]},
    }


def together(*some: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """A capability of several: what one gives, no other takes away."""
    names = {name for one in some for name in one}
    return {name: [operation for one in some for operation in one.get(name, ())] for name in names}


def enter_as_sender(world: World, capability: Mapping[str, list[str]], **more: Any) -> None:
    world.enter(SENDER, together(AT_HOME, capability), room=HOME, **more)


def assert_acted_on(world: World, row: Row) -> None:
    assert all(frame.get("type") != "error" for frame in world.received(SENDER) if isinstance(frame, dict))
    if row.operation == "subscribe":
        assert world.members(row.channel) >= {SENDER}
    if row.operation == "publish":
        assert heard(world) == [1, 1, 1]


# --- the table is whole


def test_every_frame_of_every_dialect_has_a_row() -> None:
    named = {(row.dialect, row.name) for row in ROWS}
    for dialect in DIALECTS:
        assert dialect.name in {row.dialect for row in ROWS}
        assert {(dialect.name, name) for name in (*dialect.types, *dialect.actions)} <= named
    assert {("actions", name) for name in ACTIONS} <= named


def test_every_command_has_a_row_and_joining_and_publishing_need_their_rights() -> None:
    needs: dict[type, Operation] = {Join: "subscribe", Publish: "publish"}
    found: set[type] = set()
    for row in ROWS:
        for command in row.commands():
            found.add(type(command))
            if not isinstance(command, Run):
                assert needs.get(type(command)) == row.operation
    assert found == set(get_args(Command))


def test_everything_that_an_action_may_do_has_a_row() -> None:
    offered = {name for name, value in vars(Call).items() if callable(value) and not name.startswith("_")}
    assert offered == {"channel", *CUSTOM}
    assert {row.name: row.operation for row in ROWS if row.name in CUSTOM} == {
        "join": "subscribe",
        "publish": "publish",
        "leave": None,
        "reply": None,
    }


# --- dialect x operation x right


@pytest.mark.parametrize(("row", "lacking"), [*product(NEEDY, too_little("publish", ""))], ids=label)
def test_without_the_right_nothing_is_written_nobody_hears_of_it_and_the_connection_lives_on(
    world: World, row: Row, lacking: str
) -> None:
    assert row.operation
    assert not isinstance(row.frame, str)
    enter_as_sender(world, too_little(row.operation, row.channel)[lacking])
    add_witnesses(world, row.channel)
    before, posts = world.items(), len(world.gateway.posts)
    world.send(SENDER, {**row.frame, "id": "7"})
    assert world.items() == before
    assert world.gateway.posts[posts:] == [SENDER]
    correlates = {dialect.name: dialect.correlates for dialect in DIALECTS}[row.dialect]
    message = f"This connection may not {row.operation} to {row.channel!r}."
    answer = {"type": "error", "code": "forbidden", "message": message}
    assert world.received(SENDER) == [{**answer, "id": "7"} if correlates else answer]
    world.send(SENDER, "Marko?")
    assert world.received(SENDER) == ["Polo!"]
    assert world.closed == []


@pytest.mark.parametrize(("row", "holding"), [*product(NEEDY, enough("publish", ""))], ids=label)
def test_with_the_right_it_is_acted_on(world: World, row: Row, holding: str) -> None:
    assert row.operation
    enter_as_sender(world, enough(row.operation, row.channel)[holding])
    add_witnesses(world, row.channel)
    world.send(SENDER, row.text)
    assert_acted_on(world, row)


@pytest.mark.parametrize("row", NEEDY, ids=label)
def test_once_the_token_has_ended_nothing_is_done_any_more(world: World, row: Row) -> None:
    enter_as_sender(world, {"*": ["*"]}, expires_in=BEFORE_THE_END)
    add_witnesses(world, row.channel)
    before, posts = world.items(), len(world.gateway.posts)
    world.clock.now = (NOW_S + BEFORE_THE_END) * 1_000
    world.send(SENDER, row.text)
    assert (world.items(), world.gateway.posts[posts:]) == (before, [SENDER])
    assert error_code(world.received(SENDER)) == "token_expired"


@pytest.mark.parametrize("row", NEEDY, ids=label)
def test_a_millisecond_before_the_token_ends_it_still_holds(world: World, row: Row) -> None:
    world.service.settings = replace(world.service.settings, rendezvous_ms=0)
    enter_as_sender(world, {"*": ["*"]}, expires_in=BEFORE_THE_END)
    add_witnesses(world, row.channel)
    world.clock.now = (NOW_S + BEFORE_THE_END) * 1_000 - 1
    world.send(SENDER, row.text)
    assert_acted_on(world, row)


def test_a_token_that_ends_while_a_publish_waits_for_its_subscribe_does_not_publish(world: World) -> None:
    enter_as_sender(world, {"*": ["*"]}, expires_in=BEFORE_THE_END)
    add_witnesses(world, "news")
    world.clock.now = (NOW_S + BEFORE_THE_END) * 1_000 - 1
    world.send(SENDER, {"type": "publish", "topic": "news", "data": "hi"})
    assert error_code(world.received(SENDER)) == "token_expired"
    assert heard(world) == [0, 0, 0]


def test_a_publisher_that_may_not_subscribe_waits_for_nothing(world: World) -> None:
    enter_as_sender(world, {"news": ["publish"]})
    add_witnesses(world, "news")
    before = world.clock.now
    world.send(SENDER, {"type": "publish", "topic": "news", "data": "hi"})
    assert world.clock.now == before
    assert sum(heard(world)) > 0


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_an_open_server_asks_for_no_right(ministack: DynamoDBClient, row: Row) -> None:
    world = World(ministack)
    world.connect(SENDER, room=HOME)
    add_witnesses(world, row.channel)
    world.send(SENDER, row.text)
    assert_acted_on(world, row)


@pytest.mark.parametrize("row", FREE, ids=label)
@pytest.mark.parametrize("ended", [False, True])
def test_what_is_neither_joining_nor_publishing_needs_no_right(world: World, row: Row, ended: bool) -> None:
    enter_as_sender(world, {}, expires_in=BEFORE_THE_END)
    add_witnesses(world, row.channel)
    world.clock.now += BEFORE_THE_END * 1_000 * ended
    world.send(SENDER, row.text)
    if ended and row.dialect == "actions":
        assert error_code(world.received(SENDER)) == "token_expired"
    else:
        assert_acted_on(world, row)
    assert heard(world) == [0, 0, 0]


# --- several topics, and home


def test_of_several_topics_those_that_are_allowed_are_joined_and_one_answer_names_the_first_other(
    world: World,
) -> None:
    enter_as_sender(world, {"a": ["subscribe"], "d:*": ["subscribe"], "b": ["publish"]})
    world.send(SENDER, {"type": "subscribe", "topics": ["a", "b", "c", "d:1", "a"]})
    [answer] = world.received(SENDER)
    assert answer["message"] == "This connection may not subscribe to 'b'."
    channels = {item["channel"]["S"] for item in world.items()}
    assert channels == {"a", "d:1", f"@connection#{SENDER}"}


def test_a_home_that_the_url_names_needs_the_right_to_subscribe(world: World) -> None:
    queries: list[dict[str, Any]] = [{"room": HOME}, {"channel": HOME}, {"room": HOME, "channel": "lobby"}]
    for query in queries:
        with pytest.raises(NotAllowed, match="no right to subscribe to the channel that its URL names"):
            world.enter(SENDER, {HOME: ["publish"], "lobby": ["*"]}, **query)
    assert world.items() == []


def test_a_home_of_the_settings_that_the_token_does_not_allow_is_left_out(world: World) -> None:
    world.enter(SENDER, {"news": ["*"]})
    [record] = world.items()
    assert "home" not in record
    world.send(SENDER, {"type": "message", "data": "hello"})
    assert error_code(world.received(SENDER)) == "no_home_channel"


@pytest.mark.parametrize("room", ["", "lobby"])
def test_a_url_may_name_no_home_or_one_that_the_token_allows(world: World, room: str) -> None:
    world.enter(SENDER, {"lobby": ["subscribe"]}, room=room)
    record = world.table.connection(SENDER)
    assert record is not None
    assert record.home == (room or None)
    assert world.members("lobby") == ({SENDER} if room else set())


def test_a_token_that_does_not_say_what_it_may_do_may_do_what_is_configured(ministack: DynamoDBClient) -> None:
    world = World(ministack, **HS256, default_capability=Capability.parse({"lobby": ["subscribe"]}))
    world.enter(SENDER, None, room="lobby")
    world.send(SENDER, {"action": "joinchannel", "channel": CHANNEL})
    assert error_code(world.received(SENDER)) == "forbidden"
    with pytest.raises(NotAllowed):
        world.enter("another", None, room=CHANNEL)


# --- whose rights


@pytest.mark.parametrize("row", NEEDY, ids=label)
def test_naming_another_connection_in_a_frame_gives_none_of_its_rights(world: World, row: Row) -> None:
    assert not isinstance(row.frame, str)
    world.enter("admin", {"*": ["*"]}, user="root")
    enter_as_sender(world, {})
    add_witnesses(world, row.channel)
    before = world.items()
    names = ("connectionId", "connection_id", "from", "sender", "principal", "sub", "user")
    world.send(SENDER, {**row.frame, **dict.fromkeys(names, "admin"), "capability": {"*": ["*"]}})
    assert error_code(world.received(SENDER)) == "forbidden"
    assert (world.items(), heard(world), world.received("admin")) == (before, [0, 0, 0], [])


@pytest.mark.parametrize("channel", ["@connection#admin", "@connection#sender", "@name#x", "@", "*", "", "@address"])
def test_a_channel_that_is_called_like_a_key_is_a_channel_like_any_other(world: World, channel: str) -> None:
    world.enter("admin", {"*": ["*"]}, user="root")
    enter_as_sender(world, {"news": ["*"]})
    before = world.items()
    world.send(SENDER, {"action": "joinchannel", "channel": channel})
    assert error_code(world.received(SENDER)) == "forbidden"
    assert world.items() == before
    world.send("admin", {"action": "joinchannel", "channel": channel})
    [membership] = [item for item in world.items() if item not in before]
    assert membership["connection_id"] == {"S": "admin"}
    assert world.members(channel) == {"admin"}
    assert all(item in world.items() for item in before)


@pytest.mark.parametrize("row", NEEDY, ids=label)
def test_a_connection_whose_record_is_gone_has_no_right(world: World, row: Row) -> None:
    enter_as_sender(world, {"*": ["*"]})
    add_witnesses(world, row.channel)
    world.service.disconnect(Disconnect(SENDER, 1000, ""))
    before = world.items()
    world.send(SENDER, row.text)
    assert world.items() == before
    assert heard(world) == [0, 0, 0]
    assert error_code(world.received(SENDER)) == "token_expired"


@pytest.mark.parametrize("row", NEEDY, ids=label)
def test_a_connection_of_a_time_when_the_server_was_open_has_no_right(world: World, row: Row) -> None:
    world.gateway.open.add(SENDER)
    world.table.connect(SENDER, NOW, ChannelName(HOME))
    add_witnesses(world, row.channel)
    before = world.items()
    world.send(SENDER, row.text)
    assert error_code(world.received(SENDER)) == "token_expired"
    assert (world.items(), heard(world)) == (before, [0, 0, 0])


def test_a_record_that_cannot_be_read_gives_no_right(world: World) -> None:
    enter_as_sender(world, {})
    key = {"channel": {"S": f"@connection#{SENDER}"}, "member": {"S": "@"}}
    world.client.update_item(
        TableName=world.name,
        Key=key,
        UpdateExpression="SET capability = :text",
        ExpressionAttributeValues={":text": {"S": '{"*":'}},
    )
    before = world.items()
    world.send(SENDER, {"action": "joinchannel", "channel": CHANNEL})
    assert error_code(world.received(SENDER)) == "internal"
    assert world.items() == before


def test_an_action_is_told_who_its_sender_is(world: World) -> None:
    enter_as_sender(world, {}, user="grace")
    world.send(SENDER, {"action": "reply"})
    assert world.received(SENDER) == [{"principal": "grace"}]


# --- what it costs


@pytest.mark.parametrize("row", ROWS, ids=label)
def test_an_open_server_reads_nothing_for_rights_and_another_the_record_once(
    ministack: DynamoDBClient, row: Row
) -> None:
    def requests_of(world: World) -> list[str]:
        world.table.join(ChannelName(CHANNEL), SENDER, "text", NOW, NOW)
        operations, _written, _units = Requests(world.client).during(partial(world.send, SENDER, row.text))
        return operations

    unlocked, locked = World(ministack), World(ministack, **HS256)
    unlocked.connect(SENDER, room=HOME)
    enter_as_sender(locked, {"*": ["*"]})
    before = list(row.requests)
    assert requests_of(unlocked) == before
    after = requests_of(locked)
    if row.dialect == "authentication":
        assert after == ["GetItem", "UpdateItem", "Query", "DeleteItem", "DeleteItem"]
    elif row.reads_record or not (row.operation or row.dialect == "actions"):
        assert after == before
    else:
        assert after == ["GetItem", *before]


def test_rights_of_many_topics_read_the_record_once(world: World) -> None:
    enter_as_sender(world, {"*": ["*"]})
    topics = [f"doc {number}" for number in range(50)]
    subscribe = partial(world.send, SENDER, {"type": "subscribe", "topics": topics})
    operations, _written, _units = Requests(world.client).during(subscribe)
    assert sorted(operations) == sorted(["GetItem", "DeleteItem", "UpdateItem", *["UpdateItem"] * 50])
