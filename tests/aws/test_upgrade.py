"""A table that the version before made and wrote to goes on under this one, and loses no connection.

version_before.json is what that version (commit 83d6979) defined and wrote: connections with and without a home
channel, memberships of each dialect, one of a channel whose name is hashed, one that was left, a claim and the address.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.events import Disconnect
from chalicelib.model import ConnectionId
from localaws.dynamodb import create_table
from ops.project import load_resources, load_stage
from ops.table import define, ensure
from tests import world as tests_world
from tests.conftest import everything_in
from tests.fakes import NOW
from tests.world import ADDRESS, World

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BEFORE = json.loads(Path(__file__).with_name("version_before.json").read_text())
CONNECTED = ("at-home", "in-a-room", "homeless", "reader", "y-webrtc", "left")

_numbers = count(1)


@pytest.fixture
def world(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> World:
    """The service over that table, once a deploy has seen to it, and the clients of before, still connected."""
    name = f"of-the-version-before-{next(_numbers)}"
    create_table(ministack, BEFORE["definition"], name)
    items = [as_if_written_now(item) for item in BEFORE["items"]]
    for item in items:
        ministack.put_item(TableName=name, Item=item)
    ensure(ministack, define(load_resources(), replace(load_stage("dev"), table=name)))
    assert sorted(map(str, everything_in(ministack, name))) == sorted(map(str, items))
    monkeypatch.setattr(tests_world, "new_table", lambda client: name)
    world = World(ministack)
    world.gateway.open.update(CONNECTED)
    return world


@pytest.mark.parametrize(
    ("frame", "reached"),
    [
        ({"type": "message", "data": "hi"}, {"at-home": "hi"}),
        ({"action": "message", "room": "lobby", "messageBody": "hi"}, {"in-a-room": "hi"}),
        (
            {"action": "sendmessage", "channel": "news", "message": "hi"},
            {"reader": "hi", "homeless": {"channel": "news", "message": "hi", "from": "new", "at": NOW + 1}},
        ),
        ({"action": "sendmessage", "channel": "@ops", "message": "hi"}, {"reader": "hi"}),
        (
            {"type": "publish", "topic": "doc", "data": "hi"},
            {"y-webrtc": {"type": "publish", "topic": "doc", "data": "hi", "clients": 1}},
        ),
    ],
)
def test_members_of_before_get_messages_in_their_form(world: World, frame: Any, reached: dict[str, Any]) -> None:
    world.connect("new")
    world.send("new", frame)
    assert {name: world.received(name) for name in CONNECTED} == {
        name: [reached[name]] if name in reached else [] for name in CONNECTED
    }


def test_members_of_before_send_to_their_home(world: World) -> None:
    world.connect("new", room="lobby")
    world.send("in-a-room", {"action": "message", "messageBody": "hi"})
    assert world.received("new") == ["hi"]


def test_a_first_subscribe_ends_the_home_membership_of_before(world: World) -> None:
    world.send("at-home", {"type": "subscribe", "topics": ["doc"]})
    assert (world.members("default"), world.members("doc")) == (set(), {"at-home", "y-webrtc"})


def test_a_disconnect_removes_all_that_a_connection_of_before_has(world: World) -> None:
    for name in CONNECTED:
        world.service.disconnect(Disconnect(ConnectionId(name), 1001, "Going away"))
    [claim] = world.items()
    assert claim["channel"] == {"S": "@claim#a-message"}


def test_the_publish_function_knows_the_way_and_what_it_has_sent(world: World) -> None:
    assert world.table.address() == ADDRESS
    assert not world.table.claim("a-message", None)


def as_if_written_now(item: dict[str, Any]) -> dict[str, Any]:
    """What expired meanwhile is of no use to anyone."""
    passed = NOW - BEFORE["written_at"]
    later = {"at": passed, "joined_at": passed, "connected_at": passed, "expires_at": passed // 1_000}
    return item | {name: {"N": str(int(item[name]["N"]) + later[name])} for name in item.keys() & later.keys()}
