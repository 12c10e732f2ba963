"""A plain WebSocket connection that speaks frames, and the operator's way to close anyone's."""

from __future__ import annotations

import json
from typing import Any, TypeAlias
from urllib.parse import quote

from websockets.sync.connection import Connection

from tests.localaws.signed import ask
from tests.server import Server

from .programs import SECONDS_TO_ANSWER

JSON: TypeAlias = Any


class Client:
    """One connection that sends JSON frames and receives text."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, **frame: JSON) -> None:
        self.send_text(json.dumps(frame))

    def send_text(self, text: str) -> None:
        self._connection.send(text)

    def text(self) -> str:
        """The next frame, as it came."""
        text = self._connection.recv(timeout=SECONDS_TO_ANSWER)
        assert isinstance(text, str)
        return text

    def json(self) -> JSON:
        """The next frame's JSON value."""
        return json.loads(self.text())

    def ask(self, **frame: JSON) -> JSON:
        """Sends a frame and receives the next one."""
        self.send(**frame)
        return self.json()

    def join(self, channel: str, **options: JSON) -> str:
        """Joins a channel and returns the connection's id, which the ack tells."""
        ack = self.ask(action="joinchannel", channel=channel, **options)
        assert ack == {"channel": channel, "connectionId": ack["connectionId"]}
        return str(ack["connectionId"])

    def subscribe(self, topic: str) -> None:
        """Subscribes as y-webrtc does; its own publish coming back is the only sign that it is done."""
        self.send(type="subscribe", topics=[topic])
        self.send(type="publish", topic=topic, data="subscribed?")
        assert self.json()["data"] == "subscribed?"

    def assert_nothing_came(self) -> None:
        """Nothing is on the way to this client that was sent before this call and acknowledged."""
        self.send_text("Marko?")
        assert self.text() == "Polo!"


def close_connection(server: Server, connection_id: str) -> None:
    """Has the gateway close a connection, as an operator would, or API Gateway itself after two hours."""
    path = f"/@connections/{quote(connection_id, safe='')}"
    assert ask(server.port, "DELETE", path).status == 204
