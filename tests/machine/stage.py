"""What clients and backends do to the functions, and what was under way because of whom."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, ClassVar
from unittest.mock import patch

from .gateway import Client, Gateway
from .lambdas import CONNECT, DISCONNECT, MESSAGE, PUBLISH, Lambdas
from .model import Model, Publish, Word
from .store import TableStore
from .world import Invocation, World

HOME, ROOM = "default", "@room"
CHANNELS = (HOME, ROOM)
"""The second is one that the table keeps by its hash."""

REQUEST_ID = "request"

LIFE_S = 7_800
TOKEN_S = 40
"""How long a connection is recorded, and a token that ends early holds."""

WORDS: Mapping[str, Any] = {
    "join": {"action": "joinchannel"},
    "join for envelopes": {"action": "joinchannel", "envelope": True},
    "leave": {"action": "leavechannel"},
    "subscribe": {"type": "subscribe"},
    "unsubscribe": {"type": "unsubscribe"},
}
DIALECTS = {"join": "text", "join for envelopes": "envelope", "subscribe": "ywebrtc"}

MESSAGES: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "send": ({"action": "sendmessage", "ack": True}, "channel", "message"),
    "message a room": ({"action": "message", "ack": True}, "room", "messageBody"),
    "message all": ({"type": "message", "ack": True}, "", "data"),
    "chat": ({"action": "chat", "ack": True}, "channel", "message"),
    "signal": ({"type": "publish"}, "topic", "data"),
    "announce": ({"type": "publish"}, "topic", "data"),
}
"""The frame, and which of its fields are the channel and the message."""

TO_SENDER_TOO = {"message all", "signal", "announce"}


class Stage:
    """One world, its functions and its clients. `ended` is called with each invocation when it has ended."""

    unclosed: ClassVar[list[Stage]] = []
    """Those that are not closed: what they have patched stays so until then."""

    def __init__(self, ended: Callable[[Invocation], object]) -> None:
        self.world = World(ended)
        self.store = TableStore(self.world)
        self.gateway = Gateway(self.world)
        self.model = Model(posts=self.gateway.posts, written=self.store.written)
        self.rights, self.skew_ms = False, 0
        self.lambdas: Lambdas
        self.frames: dict[Invocation, tuple[Client, str, bool]] = {}
        """Those of clients: whose, the frame's own mark, and whether it is to be answered."""
        self.disconnects: dict[Invocation, Client] = {}
        self.handshakes: dict[Invocation, Client] = {}
        self.backends: list[tuple[Publish, Any, str]] = []
        """What Lambda may run again: the event of the publish function, and the request's id."""
        self.sending: dict[Invocation, Publish] = {}
        self.handed_on = 0
        self.tracebacks: list[str] = []
        self._marks = 0
        self._after = ExitStack()
        self.unclosed.append(self)
        self._after.callback(self.unclosed.remove, self)
        self._listen_to_the_log()

    def begin(self, *, rights: bool, parts: int, lag_ms: int, skew_ms: int) -> None:
        """Deploys the functions: with `rights` each connection has a token. Their clocks are off by `skew_ms`."""
        self.rights, self.skew_ms = rights, skew_ms
        self.store.lag_ms = lag_ms
        variables = {
            "TABLE_NAME": "channels",
            "PUBLISH_FUNCTION": "channels-dev-publish",
            "AUTHENTICATION": "authorizer" if rights else "none",
            "INVOCATION_RATE": str(8_000 // parts),
        }
        self.lambdas = Lambdas(self.world, self.store, self.gateway, variables, self._hand_on, skew_ms=skew_ms)
        self._after.callback(self.lambdas.close)

    def close(self) -> None:
        """Ends whatever is under way."""
        for invocation in [*self.world.under_way]:
            self.world.kill(invocation)
        self._after.close()

    @property
    def clients(self) -> list[Client]:
        return [*self.gateway.clients.values()]

    def connect(self, home: str | None, token: bool = False, answer_ms: int = 0) -> None:
        name = f"c{len(self.clients)}"
        expires_at = self.world.now // 1_000 + (TOKEN_S if token and self.rights else LIFE_S)
        client = Client(name, home, self.world.now, expires_at)
        self.gateway.clients[name] = client
        event = self._event("CONNECT", client) | {"queryStringParameters": {"room": home or ""}}
        if self.rights:
            event["requestContext"]["authorizer"] = {"principalId": "user"} | (
                {"exp": str(expires_at)} if token else {}
            )
        invocation = self.lambdas.run(CONNECT, f"connect {name}", event, answer_ms=answer_ms)
        self.handshakes[invocation] = client
        if home is not None:
            self.model.words.append(Word(client, home, True, client.connected_at, invocation, "text", home=True))

    # --- the parts of the rules

    def say(self, client: Client, says: str, channel: str) -> None:
        names = {"topics": [channel]} if "subscribe" in says else {"channel": channel}
        answered = "subscribe" not in says
        invocation = self._frame(client, f"{says} {channel}", WORDS[says] | names, answered)
        joins = says in DIALECTS
        if says == "subscribe" and client.home is not None:
            self.model.words.append(Word(client, client.home, False, self.world.now, invocation, home=True))
        self.model.words.append(Word(client, channel, joins, self.world.now, invocation, DIALECTS.get(says, "")))

    def send(self, client: Client, how: str, channel: str) -> None:
        fields, channel_field, field = MESSAGES[how]
        mark = self._mark()
        named = {channel_field: channel} if channel_field else {}
        message: Any = {"type": how, "mark": mark} if field == "data" and channel_field else mark
        exclude = frozenset() if how in TO_SENDER_TOO else frozenset({client.id})
        publish = Publish(mark, channel if named else client.home or "", exclude, client, how == "announce")
        invocation = self._frame(client, f"{how} {channel} {mark}", fields | named | {field: message}, "ack" in fields)
        self._sends(invocation, publish)

    def _frame(self, client: Client, name: str, frame: Mapping[str, Any], answered: bool) -> Invocation:
        mark = self._mark()
        event = self._event("MESSAGE", client) | {"body": json.dumps({**frame, "id": mark})}
        invocation = self.lambdas.run(MESSAGE, f"{client.id}: {name}", event)
        self.frames[invocation] = client, mark, answered
        return invocation

    def publish(self, channel: str, remaining_ms: int | None = None) -> Publish:
        mark = self._mark()
        publish = Publish(mark, channel, frozenset(), None, False)
        event, request_id = {"channel": channel, "message": mark}, f"request {mark}"
        self.backends.append((publish, event, request_id))
        self.run_publish(publish, event, request_id, remaining_ms)
        return publish

    def run_publish(self, publish: Publish, event: Any, request_id: str, remaining_ms: int | None = None) -> None:
        name = f"publish {publish.channel} {publish.mark}"
        self._sends(self.lambdas.run(PUBLISH, name, event, request_id, remaining_ms=remaining_ms), publish)

    def _hand_on(self, event: Any) -> None:
        publish, request_id = self.sending[self.world.running], self._mark()
        self.handed_on += 1
        self.backends.append((publish, event, request_id))
        self.run_publish(publish, event, request_id)

    def _sends(self, invocation: Invocation, publish: Publish) -> None:
        if not publish.runs:
            self.model.publishes.append(publish)
        publish.runs.append(invocation)
        self.sending[invocation] = publish

    def vanish(self, client: Client, told: bool) -> None:
        client.gone = self.world.moment()
        if told:
            invocation = self.lambdas.run(DISCONNECT, f"disconnect {client.id}", self._event("DISCONNECT", client))
            self.disconnects[invocation] = client

    def _event(self, kind: str, client: Client) -> dict[str, Any]:
        context = {
            "eventType": kind,
            "connectionId": client.id,
            "connectedAt": client.connected_at,
            "requestTimeEpoch": self.world.now,
            "requestId": REQUEST_ID,
            "apiId": "a1b2c3d4e5",
            "stage": "api",
        }
        return {"requestContext": context}

    def _mark(self) -> str:
        self._marks += 1
        return f"<{self._marks}>"

    def open(self) -> list[Client]:
        return [client for client in self.clients if client.is_open]

    def here(self) -> list[Client]:
        return [client for client in self.clients if client.gone is None]

    def wires(self) -> tuple[TableStore, Gateway, Lambdas]:
        """What may fail."""
        return self.store, self.gateway, self.lambdas

    def _listen_to_the_log(self) -> None:
        log = logging.getLogger("channels")
        self._after.enter_context(patch.object(log, "propagate", new=False))
        self._after.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)
        handler = _Tracebacks(self.tracebacks)
        log.addHandler(handler)
        self._after.callback(log.removeHandler, handler)


class _Tracebacks(logging.Handler):
    """What no one foresaw is logged with its traceback."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._found.append(logging.Formatter().format(record))
