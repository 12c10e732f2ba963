"""The state machine: clients, functions, time and failures in any order, and the checks after each step and at the end.

Every rule's arguments are plain values, so that what hypothesis prints is a program: `state = Machine()`, and what
follows, reproduces the failure as it stands. Who a rule is about is a number, counted round.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chalicelib.ranges import position_of

from . import gateway as posts
from . import lambdas as invokes
from . import store as requests
from .gateway import Client, Gateway
from .lambdas import CONNECT, DISCONNECT, MESSAGE, PUBLISH, Lambdas
from .model import MUST, NEVER, Failure, Model, Publish, Word
from .store import TableStore
from .world import KILLED, ORDERS, RAISED, RETURNED, Invocation, World

HOME, ROOM = "default", "@room"
CHANNELS = (HOME, ROOM)
"""The second is one that the table keeps by its hash."""

MOST_CLIENTS, MOST_UNDER_WAY = 6, 8

LONGEST_CONNECTION_MS = 7_200_000
YOUNG_MS = 61_000
LIFE_S = 7_800
TOKEN_S = 40
"""How long a connection is recorded, and a token that ends early holds."""

A_DAY_MS = 87_000_000

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

NUMBERS = st.integers(0, MOST_UNDER_WAY - 1)


class Machine(RuleBasedStateMachine):
    """One world. `reached` counts what all of them have come to."""

    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self._has_ended)
        self.store = TableStore(self.world)
        self.gateway = Gateway(self.world)
        self.model = Model(posts=self.gateway.posts)
        self.rights = False
        self.lambdas: Lambdas
        self.frames: dict[Invocation, tuple[Client, str, bool]] = {}
        """Those of clients: whose, the frame's own mark, and whether it is to be answered."""
        self.disconnects: dict[Invocation, Client] = {}
        self.handshakes: dict[Invocation, Client] = {}
        self.backends: list[tuple[Publish, Any, str]] = []
        """What Lambda may run again: the event of the publish function, and the request's id."""
        self.sending: dict[Invocation, Publish] = {}
        self.marks = 0
        self.failed = False
        self.tracebacks: list[str] = []
        self._after = ExitStack()
        self._listen_to_the_log()

    @property
    def clients(self) -> list[Client]:
        return [*self.gateway.clients.values()]

    # --- rules: what clients and backends do

    @initialize(
        clients=st.integers(1, 4),
        at_home=st.booleans(),
        inside=st.booleans(),
        rights=st.booleans(),
        parts=st.sampled_from([1, 3]),
        lag_ms=st.sampled_from([0, 20, 1_000]),
    )
    def begin(self, *, clients: int, at_home: bool, inside: bool, rights: bool, parts: int, lag_ms: int) -> None:
        """Some clients are connected, and perhaps in a channel. The index and reads that are not consistent are so
        late; a big channel is sent to in so many parts side by side.
        """
        self.rights = rights
        self.store.lag_ms = lag_ms
        variables = {
            "TABLE_NAME": "channels",
            "PUBLISH_FUNCTION": "channels-dev-publish",
            "AUTHENTICATION": "authorizer" if rights else "none",
            "INVOCATION_RATE": str(8_000 // parts),
        }
        self.lambdas = Lambdas(self.world, self.store, self.gateway, variables, self._hand_on)
        self._after.callback(self.lambdas.close)
        for _ in range(clients):
            self.connect(HOME if at_home else None)
        self.world.settle()
        if inside:
            for client in self.clients:
                self._say(client, "join", HOME)
            self.world.settle()

    @precondition(lambda self: len(self._here()) < MOST_CLIENTS)
    @rule(home=st.sampled_from([None, HOME]), token=st.booleans(), answer_ms=st.sampled_from([0, 500]))
    def connect(self, home: str | None, token: bool = False, answer_ms: int = 0) -> None:
        """A client begins its handshake; with `token`, one that ends soon, where the server asks for any. The answer of
        its $connect is so long on its way.
        """
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

    @precondition(lambda self: self._can_send())
    @rule(
        client=NUMBERS,
        words=st.lists(st.sampled_from([*WORDS]), min_size=1, max_size=3),
        channel=st.sampled_from(CHANNELS),
        ms=st.sampled_from([1, 0]),
    )
    def say(self, client: int, words: list[str], channel: str, ms: int) -> None:
        """A client sends joins and leaves, back to back, so long after each other."""
        who = self._pick_open(client)
        for word in words:
            self.world.pass_time(ms)
            self._say(who, word, channel)

    @precondition(lambda self: self._can_send())
    @rule(client=NUMBERS, how=st.sampled_from([*MESSAGES]), channel=st.sampled_from(CHANNELS))
    def send(self, client: int, how: str, channel: str) -> None:
        """A client sends a message."""
        self._send(self._pick_open(client), how, channel)

    @precondition(lambda self: self._can_send())
    @rule(client=NUMBERS, together=st.integers(1, 2))
    def enter(self, client: int, together: int) -> None:
        """So many y-webrtc clients subscribe and announce themselves, back to back."""
        for who in [*self._open(), *self._open()][client % len(self._open()) :][: min(together, len(self._open()))]:
            self._say(who, "subscribe", ROOM)
            self._send(who, "announce", ROOM)

    @precondition(lambda self: len(self.world.under_way) < MOST_UNDER_WAY)
    @rule(channel=st.sampled_from(CHANNELS), remaining_ms=st.sampled_from([None, 400]))
    def publish(self, channel: str, remaining_ms: int | None) -> None:
        """A backend's message; with `remaining_ms` in a function that has little time."""
        self._publish(channel, remaining_ms)

    @precondition(lambda self: len(self._here()) > 1)
    @rule(client=NUMBERS, told=st.booleans())
    def vanish(self, client: int, told: bool) -> None:
        """A client is gone, perhaps in mid-handshake, and API Gateway says so, or does not."""
        here = self._here()
        self._vanish(here[client % len(here)], told)

    # --- rules: what AWS does

    @precondition(lambda self: self.world.ready())
    @rule(which=NUMBERS, steps=st.integers(1, 4), ms=st.sampled_from([0, 0, 1, 60]))
    def run(self, which: int, steps: int, ms: int) -> None:
        """One invocation goes on for some steps, each of which takes so long."""
        ready = self.world.ready()
        invocation = ready[which % len(ready)]
        for _ in range(steps):
            if invocation not in self.world.ready():
                break
            self.world.step(invocation)
            self.world.pass_time(ms)

    @precondition(lambda self: self.world.ready())
    @rule(which=NUMBERS)
    def finish(self, which: int) -> None:
        """One invocation goes on until it sleeps or ends."""
        ready = self.world.ready()
        self._finish(ready[which % len(ready)])

    @precondition(lambda self: self.world.under_way)
    @rule(order=st.sampled_from(ORDERS), ms=st.sampled_from([0, 1, 60]))
    def settle(self, order: str, ms: int) -> None:
        """All go on until they have ended: each step takes so long."""
        self.world.settle(order, ms)

    @rule(milliseconds=st.sampled_from([1, 60, 250, 1_000, 3_000, 10_000]))
    def wait(self, milliseconds: int) -> None:
        """Time passes."""
        self.world.pass_time(milliseconds)

    @precondition(lambda self: not self.world.under_way)
    @rule(milliseconds=st.sampled_from([YOUNG_MS, YOUNG_MS, YOUNG_MS, LONGEST_CONNECTION_MS]), sweep=st.booleans())
    def rest(self, milliseconds: int, sweep: bool) -> None:
        """Much time passes. API Gateway closes what has been open for two hours, and does not say so; TTL deletes what
        has expired, or is late.
        """
        self.world.pass_time(milliseconds)
        for client in self._here():
            if self.world.now >= client.connected_at + LONGEST_CONNECTION_MS:
                self._vanish(client, told=False)
        if sweep:
            self.store.sweep()

    @precondition(lambda self: self.world.under_way)
    @rule(which=NUMBERS)
    def kill(self, which: int) -> None:
        """An invocation ends where it stands."""
        self.world.kill(self.world.under_way[which % len(self.world.under_way)])

    @precondition(lambda self: self.backends and len(self.world.under_way) < MOST_UNDER_WAY)
    @rule(which=NUMBERS)
    def run_again(self, which: int) -> None:
        """Lambda runs an asynchronous invocation once more."""
        publish, event, request_id = self.backends[which % len(self.backends)]
        self._run_publish(publish, event, request_id)

    @rule(
        how=st.sampled_from([*requests.FAULTS, *posts.FAULTS, *invokes.FAULTS]),
        times=st.integers(1, 3),
        after=st.integers(0, 2),
    )
    def fail(self, how: str, times: int, after: int) -> None:
        """This becomes of the next requests, or posts, but the first `after`."""
        for wire in (self.store, self.gateway, self.lambdas):
            if how in wire.kinds:
                wire.faults[:] = [""] * after + [how] * times

    # --- checks

    def teardown(self) -> None:
        try:
            if not self.failed and hasattr(self, "lambdas"):
                self._end()
        finally:
            self.failed = True
            self.reached["steps"] += self.world.steps
            for invocation in [*self.world.under_way]:
                self.world.kill(invocation)
            self._after.close()

    def _end(self) -> None:
        """The failures are over and everything ends; what is left then is what must be."""
        self.store.faults.clear()
        self.gateway.faults.clear()
        self.lambdas.faults.clear()
        self.world.settle()
        self.world.pass_time(max(YOUNG_MS, self.store.lag_ms))
        last = [self._publish(channel) for channel in CHANNELS]
        self.world.settle()
        for publish in last:
            for client in self.clients:
                self._check_membership(publish, client)
        self._check_records()
        self.world.pass_time(A_DAY_MS)
        self.store.sweep()
        left = {channel for channel, _member in self.store.items} - {"@address"}
        if left:
            raise Failure(f"a day later there is still something in {sorted(left)}")

    def _has_ended(self, invocation: Invocation) -> None:
        if not self.failed:
            self.failed = True  # until it has been found right: then there is nothing more to look for at the end
            self._check(invocation)
            self.failed = False

    def _check(self, invocation: Invocation) -> None:
        """What came of an invocation, and of the publish that it was the last run of."""
        if self.tracebacks:
            raise Failure(self.tracebacks[0])
        self.reached[f"invocations {invocation.outcome}"] += 1
        self.reached.update(invocation.hits)
        if client := self.handshakes.get(invocation):
            self._check_handshake(invocation, client)
        elif client := self.disconnects.get(invocation):
            self._check_disconnect(invocation, client)
        elif invocation in self.frames:
            self._check_frame(invocation)
        elif invocation.outcome == RAISED and not self._may_fail(invocation):
            raise Failure(f"{invocation} has failed without a cause: {invocation.answer!r}")
        if publish := self.sending.get(invocation):
            self.model.check_once(publish.mark)
            if publish.begun and publish.ended:
                self.reached.update(self.model.check_publish(publish, self.clients))
                self.reached["pairs"] += self.model.check_pairs(publish)

    def _check_handshake(self, invocation: Invocation, client: Client) -> None:
        """API Gateway lets the client in, or not."""
        status = invocation.answer["statusCode"] if invocation.outcome == RETURNED else 502
        if status == 200:
            client.opened = self.world.moment() if client.gone is None else None
            return
        invocation.error = str(status)
        client.gone = client.gone or self.world.moment()
        if invocation.outcome != KILLED and not self._may_fail(invocation):
            raise Failure(f"{invocation} was refused without a cause")

    def _check_disconnect(self, invocation: Invocation, client: Client) -> None:
        """Nothing is left, where nothing else has been under way and nothing has failed."""
        begun = invocation.begun
        if begun is None or not invocation.done or self._may_fail(invocation):
            return
        before = [run for run, (sender, *_) in self.frames.items() if sender is client]
        before += [run for run, sender in self.handshakes.items() if sender is client]
        seen = begun.ms - self.store.lag_ms
        if all(run.ended and run.ended < begun and run.ended.ms <= seen for run in before):
            self.reached["clean disconnects"] += 1
            left = self._items_of(client)
            if left:
                raise Failure(f"{invocation} has left {left}")

    def _check_frame(self, invocation: Invocation) -> None:
        """The client is told what came of its frame: once, and of a failure only where there was one."""
        client, mark, answered = self.frames[invocation]
        if invocation.outcome == KILLED:
            return
        if invocation.outcome == RAISED:
            raise Failure(f"{invocation} has raised {invocation.answer!r}")
        if invocation.error:
            self.reached[invocation.error] += 1
            self._check_error(invocation, client)
        else:
            self.model.check_word(invocation)
        if answered:
            self.model.check_once(mark)
            texts = {post.text for post in self.gateway.posts if post.by is invocation and mark in post.text}
            if len(texts) != 1:
                raise Failure(f"{invocation} was answered {texts}")
            answer = json.loads(texts.pop())
            publish = self.sending.get(invocation)
            if publish and answer["type"] == "ack":
                accepted = [post for post in self.model.posts_of(publish) if post.by is invocation and post.accepted]
                if answer["delivered"] != len(accepted):
                    raise Failure(f"{invocation} was answered {answer}; {len(accepted)} posts were taken")

    def _check_error(self, invocation: Invocation, client: Client) -> None:
        code = invocation.error
        words = [word for word in self.model.words if word.by is invocation]
        later = [
            word
            for said in words
            for word in self.model.said(client, said.channel)
            if not word.joins and word.at > said.at
        ]
        allowed = {
            "unavailable": self._may_fail(invocation),
            "partly_delivered": self._may_fail(invocation),
            "superseded": bool(later),
            "no_home_channel": client.home is None or client.gone is not None,
            "token_expired": self.rights and (client.gone or client.expires_at * 1_000 <= self.world.now + 1_000),
        }
        if not allowed.get(code):
            raise Failure(f"{invocation} was answered {code} without a cause")

    def _check_membership(self, publish: Publish, client: Client) -> None:
        """At the end, who is in a channel must be, and who must be is."""
        items = [item for (_channel, _member), item in self._memberships(client) if self._is_of(item, publish.channel)]
        if client.gone is not None:
            # What has expired is left to TTL.
            if any(int(item["expires_at"]["N"]) * 1_000 > self.world.now for item in items):
                raise Failure(f"{client.id} is gone, and still in {publish.channel}")
            return
        verdict, reason = self.model.verdict(publish, client)
        self.reached[f"{verdict} be a member"] += 1
        if verdict == MUST and not items:
            raise Failure(f"{client.id} is not in {publish.channel}: {reason}")
        if verdict == NEVER and items and "expired" not in reason:
            raise Failure(f"{client.id} is in {publish.channel}: {reason}")
        if items:
            self._check_attributes(publish, client, items[0])

    def _check_attributes(self, publish: Publish, client: Client, item: Mapping[str, Any]) -> None:
        """By the last of its joins in its form, and as old as the first of them, where that can be told."""
        words = self.model.said(client, publish.channel)
        if not words or not all(word.joins and word.by.done for word in words):
            return
        last = max(words, key=lambda word: (word.at, not word.home))
        if [word.at for word in words if not word.home].count(last.at) <= 1 and item["dialect"]["S"] != last.dialect:
            raise Failure(f"{client.id} is in {publish.channel} as {item['dialect']['S']}, not {last.dialect}")
        first = min(word.by.ended.ms for word in words if word.by.ended)
        if int(item["joined_at"]["N"]) > first:
            raise Failure(f"{client.id} is in {publish.channel} since later than its first join")

    def _check_records(self) -> None:
        """Who is open has its record, and at the end nobody is still connecting."""
        for client in self.clients:
            if client.gone is None and (f"@connection#{client.id}", "@") not in self.store.items:
                expired = client.expires_at * 1_000 < self.world.now
                if not expired:
                    raise Failure(f"{client.id} is open, and its record is gone")

    # --- the parts of the rules

    def _say(self, client: Client, says: str, channel: str) -> None:
        names = {"topics": [channel]} if "subscribe" in says else {"channel": channel}
        answered = "subscribe" not in says
        invocation = self._frame(client, f"{says} {channel}", WORDS[says] | names, answered)
        joins = says in DIALECTS
        if says == "subscribe" and client.home is not None:
            self.model.words.append(Word(client, client.home, False, self.world.now, invocation, home=True))
        self.model.words.append(Word(client, channel, joins, self.world.now, invocation, DIALECTS.get(says, "")))

    def _send(self, client: Client, how: str, channel: str) -> None:
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

    def _publish(self, channel: str, remaining_ms: int | None = None) -> Publish:
        mark = self._mark()
        publish = Publish(mark, channel, frozenset(), None, False)
        event, request_id = {"channel": channel, "message": mark}, f"request {mark}"
        self.backends.append((publish, event, request_id))
        self._run_publish(publish, event, request_id, remaining_ms)
        return publish

    def _run_publish(self, publish: Publish, event: Any, request_id: str, remaining_ms: int | None = None) -> None:
        name = f"publish {publish.channel} {publish.mark}"
        self._sends(self.lambdas.run(PUBLISH, name, event, request_id, remaining_ms=remaining_ms), publish)

    def _hand_on(self, event: Any) -> None:
        publish, request_id = self.sending[self.world.running], self._mark()
        self.reached["handed on"] += 1
        self.backends.append((publish, event, request_id))
        self._run_publish(publish, event, request_id)

    def _sends(self, invocation: Invocation, publish: Publish) -> None:
        if not publish.runs:
            self.model.publishes.append(publish)
        publish.runs.append(invocation)
        self.sending[invocation] = publish

    def _vanish(self, client: Client, told: bool) -> None:
        client.gone = self.world.moment()
        if told:
            invocation = self.lambdas.run(DISCONNECT, f"disconnect {client.id}", self._event("DISCONNECT", client))
            self.disconnects[invocation] = client

    def _finish(self, invocation: Invocation) -> None:
        while invocation in self.world.ready():
            self.world.step(invocation)

    def _event(self, kind: str, client: Client) -> dict[str, Any]:
        context = {
            "eventType": kind,
            "connectionId": client.id,
            "connectedAt": client.connected_at,
            "requestTimeEpoch": self.world.now,
            "requestId": "request",
            "apiId": "a1b2c3d4e5",
            "stage": "api",
        }
        return {"requestContext": context}

    def _mark(self) -> str:
        self.marks += 1
        return f"<{self.marks}>"

    def _open(self) -> list[Client]:
        return [client for client in self.clients if client.is_open]

    def _here(self) -> list[Client]:
        return [client for client in self.clients if client.gone is None]

    def _can_send(self) -> bool:
        return bool(self._open()) and len(self.world.under_way) < MOST_UNDER_WAY

    def _pick_open(self, number: int) -> Client:
        open_ones = self._open()
        return open_ones[number % len(open_ones)]

    def _may_fail(self, invocation: Invocation) -> bool:
        return bool((requests.ERRORS | {*invokes.FAULTS}).intersection(invocation.hits))

    def _items_of(self, client: Client) -> list[Any]:
        own = {f"@connection#{client.id}"}
        return [
            key
            for key, item in self.store.items.items()
            if key[0] in own or ("connection_id" in item and item["connection_id"]["S"] == client.id)
        ]

    def _memberships(self, client: Client) -> list[tuple[Any, Any]]:
        position = position_of(client.id)  # type: ignore[arg-type]
        return [(key, item) for key, item in self.store.items.items() if key[1] == position and "joined_at" in item]

    def _is_of(self, item: Mapping[str, Any], channel: str) -> bool:
        return bool((item["name"]["S"] if "name" in item else item["channel"]["S"]) == channel)

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
