"""A service over a real store and a gateway that keeps @connections' rules, with clients by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chalicelib.auth import Gate
from chalicelib.broadcast import Broadcast
from chalicelib.events import Connect, MessageEvent
from chalicelib.fanout import Fanout, Sending
from chalicelib.model import Address, ChannelName, ConnectionId
from chalicelib.pacing import Pacer
from chalicelib.service import Service
from chalicelib.settings import Settings
from chalicelib.table import Table
from chalicelib.tokens import Verifier, key_ring

from .conftest import dynamodb_client, everything_in, new_table
from .fakes import ENDLESS, NOW, FakeClock, FakeGateway, InlineExecutor
from .tokens import LIFE_S, USER, token_for

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


ADDRESS = Address("a1b2c3d4e5", "api")


class World:
    """A service, its clients by name, and what each has received."""

    def __init__(self, client: DynamoDBClient, **settings: Any) -> None:
        self.client = dynamodb_client(client.meta.endpoint_url)
        self.name = new_table(client)
        self.gateway = FakeGateway()
        self.clock = FakeClock()
        self.table = Table(self.client, self.name, self.clock)
        self.handed_on: list[Sending] = []
        executor = InlineExecutor()
        broadcast = Broadcast(self._post, executor, 8, 8_000, self.clock, Pacer(self.clock))
        made = Settings(self.name, **settings)
        fanout = Fanout(made, self.table, broadcast, self.handed_on.append, executor, self.clock)
        verifier = Verifier(made.tokens, key_ring(made.tokens, self.clock), self.clock) if made.tokens else None
        self.closed: list[str] = []
        self.service = Service(fanout, executor, Gate(made, verifier, self.clock), self.closed.append)
        self.frames = 0

    def _post(self, connection_id: ConnectionId, text: str) -> None:
        self.gateway.post(connection_id, text)

    def connect(self, *names: str, **query: str) -> None:
        for name in names:
            self.gateway.open.add(name)
            self.service.connect(Connect(ConnectionId(name), NOW, query, ADDRESS))

    def enter(
        self,
        name: str,
        capability: Mapping[str, list[str]] | None = None,
        *,
        user: str = USER,
        expires_in: int = LIFE_S,
        **query: str,
    ) -> None:
        """Connects with a token of that capability."""
        headers = {"authorization": [f"Bearer {token_for(user, capability, expires_in)}"]}
        self.gateway.open.add(name)
        self.service.connect(Connect(ConnectionId(name), NOW, query, ADDRESS, headers))

    def send(self, name: str, frame: object) -> None:
        """Sends a frame, as text or as what JSON it is."""
        self.frames += 1
        body = frame if isinstance(frame, str) else json.dumps(frame)
        self.service.message(MessageEvent(ConnectionId(name), NOW, NOW + self.frames, f"r{self.frames}", body), ENDLESS)

    def received(self, name: str) -> list[Any]:
        """What that client has received since the last look: JSON where it is an object, else text."""
        texts = self.gateway.received.pop(name, [])
        return [json.loads(text) if text.startswith("{") else text for text in texts]

    def members(self, channel: str) -> set[str]:
        return {m.connection_id for page in self.table.members(ChannelName(channel)) for m in page.members}

    def items(self) -> list[dict[str, Any]]:
        """All that is in the table, in one order, but for the address that the first connect leaves."""
        items = [item for item in everything_in(self.client, self.name) if item["channel"]["S"] != "@address"]
        return sorted(items, key=lambda item: (item["channel"]["S"], item["member"]["S"]))


def error_code(frames: list[Any]) -> str:
    [frame] = frames
    assert set(frame) <= {"type", "code", "message", "id", "requestId"}
    assert frame["type"] == "error"
    return str(frame["code"])
