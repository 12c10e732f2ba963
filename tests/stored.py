"""A fresh table in a store, its clock, and a look at what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chalicelib.model import ChannelName, ConnectionId
from chalicelib.table import Table

from .conftest import Requests, dynamodb_client, everything_in, new_table
from .fakes import NOW, FakeClock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

A, B = ConnectionId("IU3kkeN4IAMCJwA="), ConnectionId("IU3kkeN4IAMCJwB=")
NEWS = ChannelName("news")
HOME = ChannelName("default")


class Stored:
    """A fresh table in a store, its clock, and a look at what it holds."""

    def __init__(self, client: DynamoDBClient) -> None:
        self.client = dynamodb_client(client.meta.endpoint_url)
        self.name = new_table(client)
        self.clock = FakeClock()
        self.table = Table(self.client, self.name, self.clock)
        self.requests = Requests(self.client)

    def join(self, channel: str, connection_id: ConnectionId, at: int = NOW, dialect: str = "text") -> bool:
        return self.table.join(ChannelName(channel), connection_id, dialect, at, NOW)

    def members(self, channel: str) -> set[str]:
        return {m.connection_id for page in self.table.members(ChannelName(channel)) for m in page.members}

    def items(self) -> list[dict[str, Any]]:
        return everything_in(self.client, self.name)
