"""What goes wrong, and who is told: the sender by an error frame, the operator by the log, nobody else."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from chalicelib import service
from chalicelib.actions import Call
from chalicelib.broadcast import RETRY_MS, YOUNG_MS
from chalicelib.errors import ConnectionGone, StoreError, Throttled
from chalicelib.limits import MESSAGE_BYTES
from chalicelib.model import ChannelName, KeyRange, Page
from chalicelib.table import Table

from .conftest import Requests

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


from .world import World, error_code


@pytest.fixture(name="world")
def a_world(ministack: DynamoDBClient) -> World:
    return World(ministack)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("null", "wrong_type"),
        ("[1]", "wrong_type"),
        ('{"type":"message","data":1e400}', "invalid_number"),
        ("[" * 100_000, "too_deep"),
        ('{"action":"joinchannel"}', "missing_field"),
        ('{"action":"joinchannel","channel":5}', "wrong_type"),
        ('{"type":"unheard"}', "unknown_action"),
        ('{"type":"message","data":"' + "x" * 131_100 + '"}', "too_large"),
    ],
)
def test_a_bad_frame_is_answered_and_others_notice_nothing(world: World, frame: str, code: str) -> None:
    world.connect("a", "b")
    world.send("a", frame)
    assert error_code(world.received("a")) == code
    assert world.received("b") == []
    world.send("a", {"type": "message", "data": "still here"})
    assert world.received("b") == ["still here"]


def test_a_message_that_only_its_added_fields_push_over_the_limit_reaches_nobody(world: World) -> None:
    world.connect("a", "b", room="")
    world.send("b", {"type": "subscribe", "topics": ["c"]})
    frame = json.dumps({"type": "publish", "topic": "c", "data": ""})
    full = frame.replace('""', json.dumps("x" * (MESSAGE_BYTES - len(frame))))
    assert len(full) == MESSAGE_BYTES
    world.send("a", full)
    assert error_code(world.received("a")) == "too_large"
    assert world.received("b") == []


def test_an_ack_that_would_be_too_large_is_refused_before_anything_is_written(world: World) -> None:
    world.connect("a", room="")
    world.send("a", {"action": "joinchannel", "channel": "x" * (MESSAGE_BYTES - 20)})
    assert error_code(world.received("a")) == "too_large"
    assert len(world.items()) == 1


@pytest.mark.parametrize("channel", ["", "x" * 100_000, "@connection#a", "@name#0", "\ud800"])
def test_any_channel_name_works(world: World, channel: str) -> None:
    world.connect("a", "b", room="")
    world.send("a", {"action": "joinchannel", "channel": channel})
    world.send("b", {"action": "sendmessage", "channel": channel, "message": "hello"})
    assert world.received("a") == [{"channel": channel, "connectionId": "a"}, "hello"]


def test_a_store_that_fails_is_told_to_the_client_and_its_cause_to_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.connect("a")
    world.client.delete_table(TableName=world.name)
    world.send("a", {"action": "joinchannel", "channel": "news", "id": "5"})
    [answer] = world.received("a")
    assert (answer["code"], answer["id"], answer["requestId"]) == ("unavailable", "5", "r1")
    assert world.name not in json.dumps(answer)
    assert "ResourceNotFoundException" in caplog.text


def test_an_action_that_fails_is_told_to_the_client_and_its_cause_to_the_log(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_call: Call) -> None:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr(service, "ACTIONS", {"broken": broken})
    world.connect("a")
    world.send("a", {"action": "broken"})
    [answer] = world.received("a")
    assert answer["code"] == "internal"
    assert "secret" not in json.dumps(answer)
    assert "the secret cause" in caplog.text


def test_an_action_that_has_published_and_then_meets_a_failing_store_is_no_case_for_a_repeat(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(call: Call) -> None:
        for channel in (call.channel(), ChannelName("news")):
            call.publish(channel, {"said": channel})

    def down(*_arguments: object) -> Iterator[Page]:
        raise StoreError("Query", "down")

    members = Table.members
    monkeypatch.setattr(service, "ACTIONS", {"twice": twice})
    monkeypatch.setattr(Table, "members", lambda *given: (down if given[1] == "news" else members)(*given))
    world.connect("a", "b")
    world.send("a", {"action": "twice", "ack": True})
    assert error_code(world.received("a")) == "partly_delivered"
    assert world.received("b") == [{"said": "default"}]
    monkeypatch.setattr(Table, "members", down)
    world.send("a", {"action": "twice", "ack": True})
    assert error_code(world.received("a")) == "unavailable"


def test_a_store_that_fails_in_mid_broadcast_is_told_apart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    members = Table.members

    def half(table: Table, channel: ChannelName, within: KeyRange) -> Iterator[Page]:
        yield from members(table, channel, within)
        raise StoreError("Query", "down")

    world.connect("a", "b")
    monkeypatch.setattr(Table, "members", half)
    world.send("a", {"action": "sendmessage", "message": "hello", "ack": True})
    assert error_code(world.received("a")) == "partly_delivered"
    assert world.received("b") == ["hello"]


def test_a_sender_that_is_gone_is_no_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.connect("a", "b")
    world.gateway.open.discard("a")
    world.send("a", "Marko?")
    world.send("a", {"action": "joinchannel"})
    world.send("a", {"action": "sendmessage", "message": "goodbye"})
    assert world.received("b") == ["goodbye"]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_member_that_is_gone_loses_that_one_membership(world: World) -> None:
    world.connect("a", "gone")
    world.send("gone", {"action": "joinchannel", "channel": "news"})
    world.gateway.open.discard("gone")
    world.clock.now += YOUNG_MS
    requests = Requests(world.client)
    operations, written, _units = requests.during(lambda: world.send("a", {"type": "message", "data": "hello"}))
    assert (operations, written) == (["GetItem", "Query", "BatchWriteItem"], 1)
    assert (world.members("default"), world.members("news")) == ({"a"}, {"gone"})


def test_a_member_that_is_still_connecting_is_never_pruned(world: World) -> None:
    world.connect("a", "connecting")
    world.gateway.open.discard("connecting")
    world.send("a", {"type": "message", "data": "too early"})
    assert world.members("default") == {"a", "connecting"}
    world.gateway.open.add("connecting")
    world.send("a", {"type": "message", "data": "hello"})
    assert world.received("connecting") == ["hello"]


def test_a_member_that_opens_within_the_retry_gets_the_message(world: World) -> None:
    world.connect("a", "connecting")
    world.gateway.failures["connecting"] = [ConnectionGone("PostToConnection", "410")]
    world.send("a", {"type": "message", "data": "hello"})
    assert world.received("connecting") == ["hello"]


def test_an_answer_to_a_client_that_does_not_read_is_given_up_while_all_posts_are_slowed(world: World) -> None:
    world.connect("a")
    pacer = world.service.broadcast.pacer
    for _ in range(1_000):
        world.clock.sleep(pacer.reserve(1_000))
        pacer.throttled()
    assert pacer.slowed
    world.gateway.failures["a"] = [Throttled("PostToConnection", "429")] * 10_000
    begun_at = world.clock.now_ms()
    world.send("a", {"type": "ping"})
    assert world.clock.now_ms() - begun_at <= RETRY_MS
