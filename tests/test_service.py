"""The rules, over a real store and a gateway that keeps @connections' rules."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import actions, service
from chalicelib.actions import Call
from chalicelib.broadcast import YOUNG_MS
from chalicelib.events import Disconnect
from chalicelib.limits import MESSAGE_BYTES
from chalicelib.model import ChannelName, ConnectionId
from chalicelib.service import WRITES_AT_ONCE
from chalicelib.table import Table

from .conftest import Requests
from .fakes import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


from .world import ADDRESS, World, error_code


@pytest.fixture(name="world")
def a_world(ministack: DynamoDBClient) -> World:
    return World(ministack)


# --- connecting


@pytest.mark.parametrize(
    ("query", "home"),
    [
        ({}, "default"),
        ({"room": "lobby"}, "lobby"),
        ({"channel": "lobby"}, "lobby"),
        ({"room": "lobby", "channel": "other"}, "lobby"),
        ({"room": ""}, None),
        ({"channel": ""}, None),
        ({"unrelated": "x"}, "default"),
    ],
)
def test_a_connection_is_at_home_in_the_channel_of_its_url_or_of_the_settings(
    world: World, query: dict[str, str], home: str | None
) -> None:
    world.connect("a", **query)
    record = world.table.connection(ConnectionId("a"))
    assert record is not None
    assert record.home == home
    for channel in ("default", "lobby", "other"):
        assert world.members(channel) == ({"a"} if channel == home else set())


def test_a_deployment_may_have_no_home_channel(world: World) -> None:
    world.service.settings = replace(world.service.settings, home_channel=None)
    world.connect("a")
    assert len(world.items()) == 1


def test_connects_and_disconnects_are_logged_on_one_line_without_queries(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.connect("a", room="secret room", token="secret token")
    world.service.disconnect(Disconnect(ConnectionId("a"), 1001, "Going\naway\x1b[31m"))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("channels")]
    assert lines == [
        "connected connection=a",
        "disconnected connection=a code=1001 reason='Going\\naway\\x1b[31m' items=2",
    ]


def test_a_disconnect_leaves_nothing_behind(world: World) -> None:
    world.connect("a", "b")
    world.send("a", {"action": "joinchannel", "channel": "news"})
    world.send("a", {"type": "subscribe", "topics": ["doc 1", "doc 2"]})
    world.service.disconnect(Disconnect(ConnectionId("a"), 1005, ""))
    assert {item["connection_id"]["S"] for item in world.items()} == {"b"}


# --- pubsub


def test_a_join_is_acked_once_it_is_written(world: World) -> None:
    world.connect("a", room="")
    world.send("a", {"action": "joinchannel", "channel": "news", "id": "7"})
    assert world.received("a") == [{"channel": "news", "connectionId": "a", "id": "7"}]
    world.connect("b", room="")
    world.send("b", {"action": "sendmessage", "channel": "news", "message": "hello"})
    assert world.received("a") == ["hello"]
    assert world.received("b") == []


def test_the_address_is_written_by_the_first_connect_of_a_process_alone(world: World) -> None:
    requests = Requests(world.client)
    written = [requests.during(lambda name=name: world.connect(name))[1] for name in "abc"]  # type: ignore[misc]
    assert written == [3, 2, 2]
    assert world.service.address() == ADDRESS


def test_no_ack_comes_before_the_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's write is the last step before the first post."""
    steps: list[str] = []
    join, post = Table.join, world.gateway.post

    def joining(table: Table, *arguments: Any, **named: Any) -> bool:
        joined = join(table, *arguments, **named)
        steps.append("written")
        return joined

    monkeypatch.setattr(Table, "join", joining)

    def posting(connection_id: ConnectionId, text: str) -> None:
        steps.append("acked")
        post(connection_id, text)

    monkeypatch.setattr(world.gateway, "post", posting)
    world.connect("a")
    world.send("a", {"action": "joinchannel", "channel": "news"})
    assert steps == ["written", "acked"]


def test_a_leave_is_acked_and_ends_the_messages(world: World) -> None:
    world.connect("a", "b", room="")
    world.send("a", {"action": "joinchannel", "channel": "news"})
    world.send("a", {"action": "leavechannel", "channel": "news"})
    world.send("b", {"action": "sendmessage", "channel": "news", "message": "hello"})
    assert world.received("a") == [
        {"channel": "news", "connectionId": "a"},
        {"channel": "news", "connectionId": "a", "left": True},
    ]


def test_a_message_without_a_channel_goes_to_default(world: World) -> None:
    world.connect("a", "b")
    world.send("a", {"action": "sendmessage", "message": {"x": [1, None]}})
    assert world.received("b") == [{"x": [1, None]}]
    assert world.received("a") == []


def test_a_publish_can_be_acked_with_its_counts(world: World) -> None:
    world.connect("a", "b", "gone")
    world.clock.now += YOUNG_MS
    world.gateway.open.discard("gone")
    world.send("a", {"action": "sendmessage", "message": "hello", "ack": True, "id": "9"})
    assert world.received("a") == [{"type": "ack", "id": "9", "delivered": 1, "stale": 1}]


def test_a_join_that_a_later_leave_overtook_is_answered_so(world: World) -> None:
    world.connect("a", room="")
    world.table.leave(ChannelName("news"), ConnectionId("a"), NOW + 50)
    world.send("a", {"action": "joinchannel", "channel": "news", "id": "7"})
    [answer] = world.received("a")
    assert (answer["code"], answer["id"]) == ("superseded", "7")
    assert world.members("news") == set()


# --- rooms, everyone, actions


def test_rooms_reach_everyone_else_at_home(world: World) -> None:
    world.connect("a", "b", room="lobby")
    world.connect("c")
    world.send("a", {"action": "message", "messageBody": "hello"})
    assert [world.received(name) for name in "abc"] == [[], ["hello"], []]
    world.send("a", {"action": "message", "messageBody": "hello", "room": "default"})
    assert [world.received(name) for name in "abc"] == [[], [], ["hello"]]


def test_everyone_reaches_everyone_at_home_the_sender_too(world: World) -> None:
    world.connect("a", "b", room="lobby")
    world.connect("c")
    world.send("a", {"type": "message", "data": "hello"})
    assert [world.received(name) for name in "abc"] == [["hello"], ["hello"], []]


def test_text_that_is_not_json_is_greeted(world: World) -> None:
    world.connect("a")
    for text in ("Marko?", "Polo!"):
        world.send("a", text)
    assert world.received("a") == ["Polo!", "Marko?"]


@pytest.mark.parametrize(
    "frame",
    [{"type": "message", "data": 1}, {"action": "message", "messageBody": 1}, {"action": "chat", "message": 1}],
)
def test_a_frame_that_needs_a_home_says_what_to_do_without_one(world: World, frame: dict[str, Any]) -> None:
    world.connect("a", room="")
    world.send("a", frame)
    assert error_code(world.received("a")) == "no_home_channel"


def test_chat_tells_who_sent_it_and_where(world: World) -> None:
    world.connect("a", "b")
    world.send("b", {"action": "joinchannel", "channel": "news"})
    world.received("b")
    world.send("a", {"action": "chat", "message": {"t": 1}, "channel": "news", "ack": True, "id": "3"})
    world.send("a", {"action": "chat", "message": "hello"})
    chat = {"action": "chat", "from": "a"}
    assert world.received("b") == [
        {**chat, "channel": "news", "message": {"t": 1}},
        {**chat, "channel": "default", "message": "hello"},
    ]
    assert world.received("a") == [{"type": "ack", "id": "3", "delivered": 1, "stale": 0}]


def test_an_action_can_do_all_that_its_call_offers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def move(call: Call) -> None:
        call.leave(call.channel())
        call.join(ChannelName(call.frame.string("to")))
        call.publish(ChannelName(call.frame.string("to")), {"moved": call.sender}, to_sender=True)
        call.reply({"done": True})
        call.reply("bare")

    monkeypatch.setattr(service, "ACTIONS", {**actions.ACTIONS, "move": move})
    world.connect("a")
    world.send("a", {"action": "move", "to": "news", "id": "1"})
    assert world.received("a") == [{"moved": "a"}, {"done": True, "id": "1"}, '"bare"']
    assert (world.members("default"), world.members("news")) == (set(), {"a"})


def test_a_reply_that_is_too_large_is_told_to_the_client(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ACTIONS", {"big": lambda call: call.reply("x" * MESSAGE_BYTES)})
    world.connect("a")
    world.send("a", {"action": "big"})
    assert error_code(world.received("a")) == "too_large"


def test_an_unknown_action_is_told_the_known_ones(world: World) -> None:
    world.connect("a")
    world.send("a", {"action": "dance", "id": "4"})
    [answer] = world.received("a")
    assert (answer["code"], answer["id"]) == ("unknown_action", "4")
    assert "chat, joinchannel, leavechannel, message, sendmessage" in answer["message"]


# --- y-webrtc


def test_a_ywebrtc_publish_goes_to_every_subscriber_with_their_number(world: World) -> None:
    world.connect("a", "b", "c", room="")
    for name in "ab":
        world.send(name, {"type": "subscribe", "topics": ["doc"]})
    signal = {"type": "publish", "topic": "doc", "data": {"type": "signal"}, "extra": 1, "clients": 99}
    world.send("a", signal)
    world.send("c", signal)
    for name in "ab":
        assert world.received(name) == [{**signal, "clients": 2}] * 2
    assert world.received("c") == []


def test_a_ywebrtc_publish_to_nobody_is_silence(world: World) -> None:
    world.connect("a", room="")
    world.send("a", {"type": "publish", "topic": "doc", "data": 1})
    world.send("a", {"type": "publish", "topic": "", "data": 1})
    assert world.received("a") == []


def test_a_ywebrtc_client_is_not_at_home_from_its_first_subscribe_on(world: World) -> None:
    world.connect("page", "b")
    world.send("page", {"type": "subscribe", "topics": []})
    assert world.members("default") == {"page", "b"}
    world.send("page", {"type": "subscribe", "topics": ["doc"]})
    assert world.members("default") == {"b"}
    world.send("b", {"type": "message", "data": "raw text"})
    assert world.received("page") == []


def test_the_home_membership_ends_before_the_first_subscription_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes: list[set[str]] = []
    join = Table.join

    def joining(table: Table, *arguments: Any, **named: Any) -> bool:
        homes.append(world.members("default"))
        return join(table, *arguments, **named)

    monkeypatch.setattr(Table, "join", joining)
    world.connect("page")
    world.send("page", {"type": "subscribe", "topics": ["doc"]})
    assert homes == [set()]


def test_a_topic_that_is_the_home_channel_becomes_a_ywebrtc_membership(world: World) -> None:
    world.connect("page", "b")
    world.send("page", {"type": "subscribe", "topics": ["default"]})
    world.send("b", {"type": "message", "data": "raw text"})
    assert world.received("page") == [{"type": "publish", "topic": "default", "data": "raw text", "clients": 2}]


def test_a_page_that_is_gone_before_its_subscribe_is_handled_leaves_no_item_without_an_expiry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_home = Table.leave_home

    def too_late(table: Table, connection_id: ConnectionId, home: ChannelName) -> None:
        table.disconnect(connection_id)
        leave_home(table, connection_id, home)

    monkeypatch.setattr(Table, "leave_home", too_late)
    world.connect("page")
    world.send("page", {"type": "subscribe", "topics": ["doc"]})
    [membership] = world.items()
    assert {"connection_id", "expires_at"} <= membership.keys()


def test_two_first_subscribes_at_once_take_no_subscription_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has read that the page is at home; then the first joins the home channel; then the second goes on."""
    leave_home = Table.leave_home

    def overtaken(table: Table, connection_id: ConnectionId, home: ChannelName) -> None:
        monkeypatch.setattr(Table, "leave_home", leave_home)
        world.send("page", {"type": "subscribe", "topics": ["default"]})
        leave_home(table, connection_id, home)

    monkeypatch.setattr(Table, "leave_home", overtaken)
    world.connect("page")
    world.send("page", {"type": "subscribe", "topics": ["doc"]})
    assert (world.members("default"), world.members("doc")) == ({"page"}, {"page"})


def test_a_home_channel_that_was_joined_by_name_is_kept_at_a_ywebrtc_subscribe(world: World) -> None:
    world.connect("a")
    world.send("a", {"action": "joinchannel", "channel": "default", "envelope": True})
    world.send("a", {"type": "subscribe", "topics": ["doc"]})
    assert world.members("default") == {"a"}


def test_a_repeated_subscribe_writes_one_item_and_reads_one(world: World) -> None:
    world.connect("page")
    world.send("page", {"type": "subscribe", "topics": ["doc"]})
    requests = Requests(world.client)
    operations, written, _units = requests.during(lambda: world.send("page", {"type": "subscribe", "topics": ["doc"]}))
    assert (operations, written) == (["GetItem", "UpdateItem"], 1)


class Pool(ThreadPoolExecutor):
    """Remembers how many calls it was given at once at most: those of others would have to wait for them."""

    most = 0

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        [channels] = iterables
        self.most = max(self.most, len(channels))
        return super().map(fn, channels, **options)


def test_two_thousand_topics_in_one_subscribe_are_two_thousand_memberships(world: World) -> None:
    world.connect("page", room="")
    with Pool() as executor:
        world.service._writers = executor
        world.send("page", {"type": "subscribe", "topics": [f"doc {n}" for n in range(2_000)]})
    assert world.received("page") == []
    assert len(world.items()) == 2_001
    assert executor.most == WRITES_AT_ONCE
    world.service.disconnect(Disconnect(ConnectionId("page"), 1000, ""))
    assert world.items() == []


# --- across dialects


def test_each_member_of_a_channel_gets_what_its_own_dialect_says(world: World) -> None:
    world.connect("bare", "enveloped", "page", "sender", room="")
    world.send("bare", {"action": "joinchannel", "channel": "c"})
    world.send("enveloped", {"action": "joinchannel", "channel": "c", "envelope": True})
    world.send("page", {"type": "subscribe", "topics": ["c"]})
    world.connect("raw", channel="c")
    for name in ("bare", "enveloped"):
        world.received(name)

    world.send("sender", {"action": "sendmessage", "channel": "c", "message": "m"})
    envelope = {"channel": "c", "from": "sender"}
    assert world.received("bare") == world.received("raw") == ["m"]
    assert world.received("enveloped") == [{**envelope, "message": "m", "at": NOW + world.frames}]
    assert world.received("page") == [{"type": "publish", "topic": "c", "data": "m", "clients": 4}]

    signal = {"type": "publish", "topic": "c", "data": {"type": "signal"}}
    world.send("sender", signal)
    assert world.received("bare") == world.received("raw") == [signal]
    assert world.received("enveloped") == [{**envelope, "message": signal, "at": NOW + world.frames}]
    assert world.received("page") == [{**signal, "clients": 4}]

    world.send("raw", {"type": "message", "data": "to all"})
    assert world.received("bare") == world.received("raw") == ["to all"]
    assert world.received("page") == [{"type": "publish", "topic": "c", "data": "to all", "clients": 4}]

    world.send("sender", {"action": "chat", "channel": "c", "message": "m"})
    chat = {"action": "chat", "channel": "c", "from": "sender", "message": "m"}
    assert world.received("bare") == world.received("raw") == world.received("page") == [chat]
