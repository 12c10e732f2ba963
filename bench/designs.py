"""Three tables that hold connections in rooms, and the requests that each is sent when a connection does something.

Channels' own, by its own Service and Table; and the two that tutorials keep, which are rivals. Whichever key a tutorial
chooses, one event finds what it needs by a Scan. Both are simplified in their favour: items hold nothing but ids.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from chalicelib.auth import Gate
from chalicelib.broadcast import Broadcast
from chalicelib.budget import Budget
from chalicelib.clock import Clock
from chalicelib.events import Connect, Disconnect, MessageEvent
from chalicelib.fanout import Fanout, Sending
from chalicelib.model import Address, ChannelName, ConnectionId
from chalicelib.pacing import Pacer
from chalicelib.service import Service
from chalicelib.settings import Settings
from chalicelib.table import Table
from localaws import dynamodb
from tests.server import ROOT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONNECTION = "probe=probe=pro="
HOME, OTHER, PUBLISHED = "lobby", "other", "room-0"

Put: TypeAlias = Mapping[str, Any]
"""A request in a BatchWriteItem."""

Rooms: TypeAlias = Iterable[tuple[str, list[str]]]
"""Names, and who is in each."""

Operations: TypeAlias = Mapping[str, Callable[[], object]]
"""In this order: connect to HOME, join and leave OTHER, publish to PUBLISHED, disconnect."""


class Design(Protocol):
    """A table for connections in rooms."""

    @property
    def name(self) -> str:
        """What it is called beside the others."""

    @property
    def table(self) -> str:
        """The table's name."""

    @property
    def indexes(self) -> int:
        """How many indexes hold an entry for each of its items."""

    def puts(self, rooms: Rooms) -> Iterator[Put]:
        """What fills it with these rooms."""

    def operations(self) -> Operations:
        """What CONNECTION does."""


class Channels:
    """Channels' own table, filled with the items that connecting writes."""

    name = "Channels"
    table = "channels"
    indexes = 1

    def __init__(self, client: DynamoDBClient) -> None:
        dynamodb.create_table(client, dynamodb.load_definition(ROOT / ".chalice/resources.json"), self.table)
        self._clock = clock = Clock()
        threads = ThreadPoolExecutor(1)
        broadcast = Broadcast(lambda _connection_id, _text: None, threads, 1, 8_000, clock, Pacer(clock))
        table = Table(client, self.table, clock)
        settings = Settings(self.table)
        fanout = Fanout(settings, table, broadcast, _hand_nothing_over, threads, clock)
        self._service = Service(fanout, threads, Gate(settings, None, clock), lambda _connection_id: None)
        # The first connect of a process writes one item more, which says where connections are posted to.
        operations = self.operations()
        operations["connect"]()
        operations["disconnect"]()

    def puts(self, rooms: Rooms) -> Iterator[Put]:
        written = _Written()
        table = Table(written, self.table, Clock())  # type: ignore[arg-type]
        now = Clock().now_ms()
        for room, members in rooms:
            for member in members:
                table.connect(ConnectionId(member), now, ChannelName(room))
                yield from written.take()

    def operations(self) -> Operations:
        service, connection_id, now = self._service, ConnectionId(CONNECTION), self._clock.now_ms()

        def send(at: int, **frame: str) -> None:
            event = MessageEvent(connection_id, now, now + at, "request", json.dumps(frame))
            service.message(event, Budget(math.inf, math.inf))

        return {
            "connect": lambda: service.connect(Connect(connection_id, now, {"room": HOME}, Address("local", "api"))),
            "join": lambda: send(1, action="joinchannel", channel=OTHER),
            "leave": lambda: send(2, action="leavechannel", channel=OTHER),
            "publish": lambda: send(3, action="sendmessage", channel=PUBLISHED, message="hello"),
            "disconnect": lambda: service.disconnect(Disconnect(connection_id, 1001, "")),
        }


def _hand_nothing_over(sending: Sending) -> None:
    raise AssertionError(f"{sending.id} goes to one page of members")


class _Written:
    """Stands where Table's client does, and keeps what would be written."""

    def __init__(self) -> None:
        self._requests: list[Put] = []

    def batch_write_item(self, RequestItems: Mapping[str, list[Put]]) -> dict[str, Any]:  # noqa: N803  boto3's name
        self._requests += chain.from_iterable(RequestItems.values())
        return {}

    def take(self) -> list[Put]:
        taken, self._requests = self._requests, []
        return taken


class ByConnection:
    """One item for each connection, with the room that it is in: a publish scans for the room.

    https://github.com/aws-samples/simple-websockets-chat-app
    """

    name = "keyed by connection"
    table = "by-connection"
    indexes = 0

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        _create(client, self.table, "connectionId")

    def puts(self, rooms: Rooms) -> Iterator[Put]:
        for room, members in rooms:
            for member in members:
                yield {"PutRequest": {"Item": {"connectionId": {"S": member}, "room": {"S": room}}}}

    def operations(self) -> Operations:
        client, table, key = self._client, self.table, {"connectionId": {"S": CONNECTION}}
        return {
            "connect": lambda: client.put_item(TableName=table, Item={**key, "room": {"S": HOME}}),
            "join": lambda: client.update_item(
                TableName=table,
                Key=key,
                UpdateExpression="SET room = :room",
                ExpressionAttributeValues={":room": {"S": OTHER}},
            ),
            "leave": lambda: client.update_item(TableName=table, Key=key, UpdateExpression="REMOVE room"),
            "publish": lambda: _scan(client, table, "room = :room", {":room": {"S": PUBLISHED}}),
            "disconnect": lambda: client.delete_item(TableName=table, Key=key),
        }


class ByTopic:
    """One item for each room, with the set of connections in it: a disconnect scans for the connection.

    https://discuss.yjs.dev/t/serverless-signaling-server-with-aws-apigateway-dynamodb-and-lambda/680
    """

    name = "keyed by topic"
    table = "by-topic"
    indexes = 0

    def __init__(self, client: DynamoDBClient) -> None:
        self._client = client
        _create(client, self.table, "name")

    def puts(self, rooms: Rooms) -> Iterator[Put]:
        for room, members in rooms:
            yield {"PutRequest": {"Item": {"name": {"S": room}, "receivers": {"SS": members}}}}

    def operations(self) -> Operations:
        return {
            "connect": lambda: self._update("ADD", HOME),
            "join": lambda: self._update("ADD", OTHER),
            "leave": lambda: self._update("DELETE", OTHER),
            "publish": lambda: self._client.get_item(TableName=self.table, Key={"name": {"S": PUBLISHED}}),
            "disconnect": self._disconnect,
        }

    def _update(self, action: str, topic: str) -> None:
        self._client.update_item(
            TableName=self.table,
            Key={"name": {"S": topic}},
            UpdateExpression=f"{action} receivers :one",
            ExpressionAttributeValues={":one": {"SS": [CONNECTION]}},
        )

    def _disconnect(self) -> None:
        for topic in _scan(self._client, self.table, "contains(receivers, :id)", {":id": {"S": CONNECTION}}):
            self._update("DELETE", topic["name"]["S"])


def _scan(client: DynamoDBClient, table: str, condition: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    pages = client.get_paginator("scan").paginate(
        TableName=table, FilterExpression=condition, ExpressionAttributeValues=values
    )
    return [item for page in pages for item in page["Items"]]


def _create(client: DynamoDBClient, table: str, key: str) -> None:
    client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
    )
    client.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
