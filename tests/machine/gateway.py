"""API Gateway: who is connected, what was sent to whom, and the failures that a test orders.

A connection answers 410 until its $connect has returned, and again once it is gone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from botocore.exceptions import ClientError, ReadTimeoutError
from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from chalicelib.endpoint import NotFullyWritten

from .world import Invocation, Moment, World

HANG_MS = 5_000
"""How long transport.py waits for an answer."""

THROTTLED, UNWRITTEN = "429", "not written"
LOST, UNANSWERED, HUNG, SWALLOWED = "lost", "delivered without an answer", "hung", "200, and not delivered"
FAULTS = (THROTTLED, UNWRITTEN, LOST, UNANSWERED, HUNG, SWALLOWED)

REPEATABLE = frozenset({THROTTLED, UNWRITTEN})
"""Those after which the code is to try again."""

_URL = "https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com/api"


@dataclass(eq=False)
class Client:
    """One connection. `opened` is when its $connect had returned, `gone` when it was no more."""

    id: str
    home: str | None
    connected_at: int
    expires_at: int
    """By its token or by the table's own rule (s since 1970)."""
    opened: Moment | None = None
    gone: Moment | None = None

    @property
    def is_open(self) -> bool:
        return self.opened is not None and self.gone is None


@dataclass(frozen=True)
class Post:
    """A post that `by` has tried."""

    by: Invocation
    to: str
    text: str
    at: Moment
    fault: str
    delivered: bool
    accepted: bool
    """Whether the code was told so."""


@dataclass
class Gateway(WebsocketAPI):
    """`app.websocket_api` over a world's clients. `faults` are for the posts that come next."""

    world: World
    clients: dict[str, Client] = field(default_factory=dict)
    posts: list[Post] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kinds: ClassVar[Sequence[str]] = FAULTS

    def configure_from_api_id(self, api_id: str, stage: str) -> None:
        assert f"https://{api_id}.execute-api.us-east-1.amazonaws.com/{stage}" == _URL

    def send(self, connection_id: str, message: str) -> None:
        self.world.give_way()
        client = self.clients[connection_id]
        if message.startswith('{"type":"error",'):
            self.world.running.error = json.loads(message)["code"]
        fault = self.faults.pop(0) if self.faults else ""
        arrives = client.is_open and fault in {"", UNANSWERED, HUNG}
        self.posts.append(
            Post(
                self.world.running,
                connection_id,
                message,
                self.world.moment(),
                fault,
                arrives,
                client.is_open and fault in {"", SWALLOWED},
            )
        )
        if fault == THROTTLED:
            raise ClientError(_answer(429, "LimitExceededException"), "PostToConnection")
        if fault == UNWRITTEN:
            raise NotFullyWritten(endpoint_url=_URL, error="broken pipe")
        if fault == HUNG:
            self.world.give_way(self.world.now + HANG_MS)
        if fault in {LOST, UNANSWERED, HUNG}:
            raise ReadTimeoutError(endpoint_url=_URL)
        if not client.is_open:
            raise WebsocketDisconnectedError(connection_id)


def _answer(status: int, code: str) -> Any:
    return {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
