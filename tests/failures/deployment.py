"""A whole deployment in one process, over a store that may fail: events in, through the handlers; posts out, kept."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from botocore.exceptions import ClientError
from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from chalicelib import handlers, service
from chalicelib import table as tables
from chalicelib.actions import ACTIONS, Call
from chalicelib.auth import Gate
from chalicelib.broadcast import YOUNG_MS, Broadcast
from chalicelib.errors import ChannelsError, NotHandedOn
from chalicelib.fanout import Fanout, Sending
from chalicelib.model import ChannelName
from chalicelib.pacing import Pacer
from chalicelib.publishing import to_event
from chalicelib.service import Service
from chalicelib.settings import Settings
from chalicelib.table import Table
from chalicelib.tokens import Verifier, key_ring
from chalicelib.transport import closer, poster
from tests.captured import event
from tests.fakes import NOW, Context, FakeClock, InlineExecutor
from tests.fuzz.store import Item
from tests.handshakes import handshake
from tests.tokens import USER, token_for

from .store import Failing

OK = "ok"
SENDER = "sender"


class Gateway(WebsocketAPI):
    """@connections: keeps what reaches those that are `open`. `failures` are what its next posts to a connection
    come to, None where they are delivered; each post takes `post_ms`.
    """

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.open: set[str] = set()
        self.posts: list[str] = []
        self.received: dict[str, list[str]] = {}
        self.failures: dict[str, list[Exception | None]] = {}
        self.post_ms = 0
        self._clock = clock

    def send(self, connection_id: str, message: str) -> None:
        self._clock.sleep(self.post_ms)
        self.posts.append(connection_id)
        failures = self.failures.get(connection_id)
        failure = failures.pop(0) if failures else None
        if failure is not None:
            raise failure.with_traceback(None)
        if connection_id not in self.open:
            raise WebsocketDisconnectedError(connection_id)
        self.received.setdefault(connection_id, []).append(message)

    def configure_from_api_id(self, api_id: str, stage: str) -> None:
        assert (api_id, stage) == ("a1b2c3d4e5", "api")


def answered(status: int, code: str) -> ClientError:
    """What an error of @connections is to botocore."""
    response: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PostToConnection")


@dataclass(frozen=True)
class Told:
    """What an event came to, as far as it is said to whom it concerns: `OK`, an error's code, a handshake's status, or
    for the publish function the raised error's code or the failed messages of SQS.
    """

    outcome: str
    request: str


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Deployment:
    """Each event has a request of its own, and comes a millisecond after the one before."""

    def __init__(self, lines: Lines, settings: Mapping[str, Any]) -> None:
        self.lines = lines
        self.clock = FakeClock()
        self.store = Failing()
        self.gateway = Gateway(self.clock)
        self.settings = Settings("channels", **settings)
        self.handed_on: list[Sending] = []
        self.hand_on_failures: list[str | None] = []
        self.requests = 0
        self.start_over()

    def start_over(self) -> None:
        """What comes next is the first event of another Lambda environment."""
        executor, settings, clock = InlineExecutor(), self.settings, self.clock
        table = Table(self.store, settings.table_name, clock)  # type: ignore[arg-type]
        broadcast = Broadcast(poster(self.gateway), executor, 1, 8_000, clock, Pacer(clock))
        fanout = Fanout(settings, table, broadcast, self._hand_on, executor, clock)
        tokens = settings.tokens
        verifier = None if tokens is None else Verifier(tokens, key_ring(tokens, clock), clock)
        self.service = Service(fanout, executor, Gate(settings, verifier, clock), closer(self.gateway))

    # --- events

    def connect(self, name: str, capability: Mapping[str, list[str]] | None = None, **query: str) -> Told:
        """With a token, where the deployment asks for one."""
        headers = [] if self.settings.is_open else [("Authorization", f"Bearer {token_for(USER, capability)}")]
        payload = handshake(headers, list(query.items()), connectionId=name, requestId=self._next())
        answer = handlers.connect(payload, self.gateway)
        if answer["statusCode"] == 200:
            self.gateway.open.add(name)
        return self._told(OK if answer == handlers.OK else str(answer["statusCode"]))

    def enter(self, *names: str, **query: str) -> None:
        for name in names:
            assert self.connect(name, None, **query).outcome == OK

    def send(self, name: str, frame: object, at: int | None = None) -> Told:
        """`at` is when API Gateway has received it, if that is not now."""
        request, before = self._next(), len(self.errors_to(name))
        times = {"connectedAt": NOW, "requestTimeEpoch": self.clock.now if at is None else at}
        body = frame if isinstance(frame, str) else json.dumps(frame)
        payload = event("message", connectionId=name, requestId=request, body=body, **times)
        assert handlers.message(payload, Context(), self.gateway) == handlers.OK
        errors = self.errors_to(name)[before:]
        assert len(errors) <= 1, errors
        if errors and errors[0]["code"] in SERVER_CODES:
            assert errors[0]["requestId"] == request
        return self._told(errors[0]["code"] if errors else OK)

    def disconnect(self, name: str) -> Told:
        self.gateway.open.discard(name)
        payload = event("disconnect", connectionId=name, requestId=self._next())
        assert handlers.disconnect(payload, self.gateway) == handlers.OK
        return self._told(OK)

    def publish(self, payload: object) -> Told:
        """By the publish function."""
        context = Context()
        context.aws_request_id = self._next()
        try:
            answer = handlers.publish(payload, context, self.gateway)
        except ChannelsError as error:
            return self._told(error.code)
        failed = [each["itemIdentifier"] for each in answer.get("batchItemFailures", [])]
        return self._told(" ".join(failed) or OK)

    def invoke_what_is_handed_on(self) -> list[Told]:
        """As Lambda does: each once."""
        told = []
        while self.handed_on:
            told.append(self.publish(to_event(self.handed_on.pop(0))))
        return told

    def _hand_on(self, sending: Sending) -> None:
        failure = self.hand_on_failures.pop(0) if self.hand_on_failures else None
        if failure != "refused":
            self.handed_on.append(sending)
        if failure is not None:
            raise NotHandedOn("Invoke", failure)

    def _next(self) -> str:
        self.requests += 1
        self.clock.sleep(1)
        self.lines.records.clear()
        return f"r{self.requests}"

    def _told(self, outcome: str) -> Told:
        request = f"r{self.requests}"
        for record in self.lines.records:
            line = record.getMessage()
            assert line.endswith(f" request={request}"), line
            assert not record.exc_info, logging.Formatter().format(record)
        return Told(outcome, request)

    # --- what came of it

    def complaints(self) -> list[str]:
        """What the last event has logged beyond information."""
        return [record.getMessage() for record in self.lines.records if record.levelno >= logging.WARNING]

    def errors_to(self, name: str) -> list[Any]:
        return [json.loads(text) for text in self.gateway.received.get(name, []) if text.startswith(ERROR)]

    def heard(self) -> Counter[tuple[str, str]]:
        """Who has received which text how often: but for error frames, and times."""
        return Counter(
            (name, _timeless(text))
            for name, texts in self.gateway.received.items()
            for text in texts
            if not text.startswith(ERROR)
        )

    def probe(self, channels: Sequence[str]) -> Counter[tuple[str, str]]:
        """A minute later, when nobody is young any more: who hears a publish in each channel. Prunes who is gone."""
        self.clock.sleep(YOUNG_MS)
        before = self.heard()
        for channel in channels:
            assert self.publish({"channel": channel, "message": f"probe of {channel}"}).outcome == OK
        return self.heard() - before


ERROR = '{"type":"error",'
SERVER_CODES = ("unavailable", "partly_delivered", "misconfigured", "internal")


def _timeless(text: str) -> str:
    """Without when it was sent, which a repeat changes."""
    if not text.startswith("{"):
        return text
    return json.dumps({name: value for name, value in json.loads(text).items() if name != "at"})


def kind_of(item: Item) -> str:
    """What an item of the table is. Asserts that it has all that its kind must have."""
    channel = item["channel"]["S"]
    if channel == "@address":
        kind, needed = "address", {"api_id", "stage"}
    elif channel.startswith("@claim#"):
        kind, needed = "claim", {"owner", "expires_at"}
    elif channel.startswith("@connection#"):
        kind, needed = "record", {"connection_id", "connected_at", "expires_at"}
    elif "joined_at" in item:
        kind, needed = "membership", {"connection_id", "dialect", "joined_at", "at", "expires_at"}
    else:
        kind, needed = "tombstone", {"connection_id", "at", "expires_at"}
    assert needed <= item.keys(), item
    return kind


@contextmanager
def one_deployment(lines: Lines, **settings: Any) -> Iterator[Deployment]:
    """With pages of two members, two actions that go wrong half way, and its address to be found in the table."""
    made = Deployment(lines, settings)
    with (
        patch.object(handlers, "_service", lambda *_arguments: made.service),
        patch.object(tables, "PAGE_MEMBERS", 2),
        patch.object(service, "ACTIONS", {**ACTIONS, "twice": _twice, "last_words": _last_words}),
    ):
        yield made


def _twice(call: Call) -> None:
    for channel in ("news", "sport"):
        call.publish(ChannelName(channel), {"said": channel})


def _last_words(call: Call) -> None:
    call.publish(ChannelName("news"), {"said": "goodbye"})
    call.leave(ChannelName("news"))
