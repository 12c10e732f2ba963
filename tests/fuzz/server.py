"""A server in one process, and after each event a look at all that it has done.

Everything is the real code, from the handlers down to the requests: but for the table, which is in memory, the posts,
which are kept instead of sent, the threads, and the clock.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Protocol

from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from chalicelib import handlers
from chalicelib.auth import Gate
from chalicelib.broadcast import Broadcast
from chalicelib.errors import NotHandedOn
from chalicelib.fanout import Fanout, Sending
from chalicelib.model import ConnectionId
from chalicelib.pacing import Pacer
from chalicelib.ranges import position_of
from chalicelib.service import Service
from chalicelib.settings import Settings
from chalicelib.table import Table
from chalicelib.tokens import Verifier
from chalicelib.transport import closer, poster
from tests.fakes import Context, FakeClock, InlineExecutor

from .generators import Scene, Step
from .model import OVER_A_LIMIT, Model, Outcome, Sent
from .reading import Meaning, read
from .rights import Rights
from .store import Item, Key
from .tally import Tally
from .wallet import CANARY, START_MS, TOKEN_CANARIES

STRAYS_RAISE = (KeyError, TypeError, AttributeError, ValueError)
"""What an event may raise that is none of API Gateway's: Lambda then answers 500, which lets nobody in."""

_ERROR = '{"type":"error",'
_TOKENS = re.compile("|".join(map(re.escape, TOKEN_CANARIES)))
_SECRETS = re.compile(f"{_TOKENS.pattern}|{CANARY}")
"""What must not be in a log: besides tokens and secrets, what clients have said."""


class Store(Protocol):
    """A DynamoDB client, and a look into its one table."""

    touched: set[Key]

    def peek(self, key: Key) -> Item | None: ...

    def everything(self) -> Iterator[tuple[Key, Item]]: ...


class Failure(AssertionError):
    """Something that must not be. `check` says of which kind it is."""

    def __init__(self, check: str, details: str) -> None:
        super().__init__(f"{check}: {details}")
        self.check = check


class Clock(FakeClock):
    def __init__(self) -> None:
        self.now = START_MS


class Gateway(WebsocketAPI):
    """Keeps what is posted, to whom, and whether it was delivered: to those that are `open`."""

    def __init__(self) -> None:
        super().__init__()
        self.open: set[str] = set()
        self.posts: list[tuple[str, str, bool]] = []
        self.closed: list[str] = []

    def send(self, connection_id: str, message: str) -> None:
        message.encode()
        self.posts.append((connection_id, message, connection_id in self.open))
        if connection_id not in self.open:
            raise WebsocketDisconnectedError(connection_id)

    def close(self, connection_id: str) -> None:
        self.closed.append(connection_id)


class Lines(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Server:
    """The handlers and all that is behind them, and the model that they are held against."""

    def __init__(self, scene: Scene, store: Store, lines: Lines, tally: Tally) -> None:
        self.scene, self.store, self.lines, self.tally = scene, store, lines, tally
        self.model = Model(scene.variables, scene.wallet, scene.hooked)
        self.gateway, self.clock = Gateway(), Clock()
        settings, executor = Settings.from_env(scene.variables), InlineExecutor()
        table = Table(store, settings.table_name, self.clock)  # type: ignore[arg-type]
        broadcast = Broadcast(poster(self.gateway), executor, 1, 1e9, self.clock, Pacer(self.clock))
        fanout = Fanout(settings, table, broadcast, _hand_over, executor, self.clock)
        tokens = settings.tokens
        verifier = None if tokens is None else Verifier(tokens, scene.wallet.ring(self.clock), self.clock)
        self.service = Service(fanout, executor, Gate(settings, verifier, self.clock), closer(self.gateway))

    def take(self, step: Step) -> None:
        """Handles the event; raises Failure where it comes to what it must not."""
        self.clock.now = max(self.clock.now, step.at)
        self.gateway.posts, self.lines.records = [], []
        self.store.touched.clear()
        self.model.changed.clear()
        if step.stray:
            self._take_stray(step)
        elif step.handler == "connect":
            self._connect(step)
        elif step.handler == "message":
            self._message(step)
        else:
            self._handle(step)
            self._end(step.event["requestContext"]["connectionId"])
        self._check_table()

    # --- one handler each

    def _connect(self, step: Step) -> None:
        assert step.handshake
        expected = self.model.connect(step.handshake, self.clock.now)
        answer = self._handle(step)
        echoed = {"headers": {"Sec-WebSocket-Protocol": "bearer"}} if expected == 200 and step.handshake.echoes else {}
        if answer != {"statusCode": expected, **echoed}:
            _fail("handshake", f"answered {answer}, expected {expected} {echoed}")
        if expected == 200:
            self.gateway.open.add(step.handshake.connection_id)
        if self.gateway.posts:
            _fail("post", f"a handshake has posted {self.gateway.posts}")
        self.tally.handshake(expected)

    def _message(self, step: Step) -> None:
        context, text = step.event["requestContext"], step.event.get("body") or ""
        name, now = context["connectionId"], self.clock.now
        binary = bool(step.event.get("isBase64Encoded"))
        meaning = Meaning(faults={"wrong_type"}) if binary else read(text, self.model.max_bytes)
        self._handle(step)
        posts = self.gateway.posts
        error = _error(posts[-1][1]) if posts and posts[-1][0] == name else None
        at, came = context["requestTimeEpoch"], context.get("connectedAt")
        outcome = self.model.message(Sent(meaning, name, at, came or at, now), error and error["code"])
        self._check_posts(name, outcome, error, meaning)
        self._check_secrecy(name, text, meaning, posts[len(posts) - outcome.replies :])
        self.tally.frame(meaning, error and error["code"])
        if self.gateway.closed:
            self._close(name, error)

    def _close(self, name: str, error: Any) -> None:
        """API Gateway closes the connection, and says so."""
        if self.gateway.closed != [name] or not error or error["code"] not in OVER_A_LIMIT:
            _fail("close", f"{self.gateway.closed} closed after {error} to {name}")
        self.gateway.closed = []
        self.tally.closed += 1
        event = {
            "requestContext": {"eventType": "DISCONNECT", "connectionId": name, "requestTimeEpoch": self.clock.now}
        }
        handlers.disconnect(event, self.gateway)
        self._end(name)

    def _end(self, name: str) -> None:
        self.model.disconnect(name)
        self.gateway.open.discard(name)

    def _take_stray(self, step: Step) -> None:
        try:
            answer = self._handle(step, STRAYS_RAISE)
        except STRAYS_RAISE:
            self.tally.strays["raised"] += 1
        else:
            self.tally.strays[f"answered {answer['statusCode']}"] += 1
            if step.handler == "connect" and answer["statusCode"] == 200:
                _fail("stray", "a handshake that is none was let in")
        codes = {error and error["code"] for _name, text, _delivered in self.gateway.posts for error in (_error(text),)}
        if not codes <= {"misconfigured"} or self.store.touched:
            _fail("stray", f"posted {self.gateway.posts}, written {self.store.touched}")

    def _handle(self, step: Step, may_raise: tuple[type[Exception], ...] = ()) -> Any:
        try:
            if step.handler == "message":
                answer = handlers.message(step.event, Context(), self.gateway)
            elif step.handler == "connect":
                answer = handlers.connect(step.event, self.gateway)
            else:
                answer = handlers.disconnect(step.event, self.gateway)
        except may_raise:
            raise
        except Exception:  # noqa: BLE001  whatever it is, it should not have come so far
            _fail("exception", traceback.format_exc())
        self._check_log(step)
        return answer

    # --- checks

    def _check_posts(self, name: str, outcome: Outcome, error: Any, meaning: Meaning) -> None:
        posts = self.gateway.posts
        if bool(error) != bool(outcome.codes) or (error and error["code"] not in outcome.codes):
            _fail("refusal", f"answered {error}, expected {sorted(outcome.codes) or 'no error'}; {meaning}")
        if error and (set(error) - {"type", "code", "message", "id"} or error.get("id", meaning.id) != meaning.id):
            _fail("refusal", f"an error of another form: {error}")
        sent, answers = posts[: len(posts) - outcome.replies], posts[len(posts) - outcome.replies :]
        heard = tuple(sorted(to for to, _text, delivered in sent if delivered))
        self.tally.deliveries += len(heard)
        if heard != outcome.heard:
            _fail("receivers", f"{heard} have received it, expected {outcome.heard}; {meaning}")
        if [to for to, _text, _delivered in answers] != [name] * outcome.replies:
            _fail("answers", f"expected {outcome.replies} to {name} at the end of {posts}; {meaning}")
        if any(len(text.encode()) > 131_072 for _to, text, _delivered in posts):
            _fail("size", "a post is longer than API Gateway takes")

    def _check_secrecy(self, name: str, frame: str, meaning: Meaning, answers: Sequence[tuple[str, str, bool]]) -> None:
        """Nothing of a token that was shown as one, and nothing about others but what the sender itself has named."""
        hidden = frame if meaning.does != "authenticate" else meaning.id or ""
        for _to, text, _delivered in self.gateway.posts:
            if _TOKENS.search(text) and not _TOKENS.search(hidden):
                _fail("secret", f"a post holds something of a token: {text}")
        for _to, text, _delivered in answers:
            for other, peer in self.model.peers.items():
                for said in (other, peer.principal):
                    mine = other == name or said == self.model.peers.get(name, peer).principal
                    if said and said in text and not mine and said not in frame:
                        _fail("leak", f"an answer to {name} names {said}: {text}")

    def _check_log(self, step: Step) -> None:
        expected = step.stray or bool(step.event.get("isBase64Encoded"))
        for record in self.lines.records:
            line = record.getMessage()
            if record.exc_info or (record.levelno >= logging.ERROR and not expected):
                _fail("log", logging.Formatter().format(record))
            if not line.isprintable():
                _fail("log", f"more than one line, or no text: {line!r}")
            if _SECRETS.search(line):
                _fail("secret", f"a log line holds something secret: {line}")

    def _check_table(self) -> None:
        for key in {*map(_pair, self.store.touched), *self.model.changed}:
            self._check_row(key)

    def check_whole_table(self) -> None:
        """At the end of a round: what is there, and nothing else."""
        rows = {*(_pair(key) for key, _item in self.store.everything()), *self.model.rows()}
        for key in rows:
            self._check_row(key)

    def _check_row(self, key: tuple[str, str]) -> None:
        channel, name = key
        if channel == "@address":
            return
        member = "@" if channel.startswith("@connection#") else position_of(ConnectionId(name))
        item = self.store.peek((channel, member))
        row, expected = item and _row_of(item), self.model.row(key)
        if self.model.open and not self.model.is_open(name):
            # Nobody has let it in, or it is gone: where it joins all the same, the next post to it may prune it.
            if item is None:
                self.model.seats.pop(key, None)
        elif row != expected:
            _fail("table", f"{key} is {row}, expected {expected}")
        if item and (found := _TOKENS.search(json.dumps({**item, "channel": "", "name": ""}))):
            _fail("secret", f"an item holds something of a token: {found[0]}")
        if item and "capability" in item:
            rights = self.model.peers[name].rights
            if rights is None or Rights(json.loads(item["capability"]["S"])).words != rights.words:
                _fail("table", f"{key} has the rights {item['capability']}")


def _hand_over(_sending: Sending) -> NoReturn:
    raise NotHandedOn("Invoke", "there is no other invocation here")


def _fail(check: str, details: str) -> NoReturn:
    raise Failure(check, details)


def _error(text: str) -> Any:
    return json.loads(text) if text.startswith(_ERROR) else None


def _pair(key: Key) -> tuple[str, str]:
    """An item's channel and connection."""
    channel, member = key
    return channel, channel.partition("#")[2] if channel.startswith("@connection#") else member.partition("#")[2]


def _row_of(item: Item) -> Any:
    """What Model.row says of an item."""
    if item["member"]["S"] == "@":
        home = item["home"]["S"] if "home" in item else None
        principal = item["principal"]["S"] if "principal" in item else None
        return principal, int(item["expires_at"]["N"]), home, "at_home" in item
    if "joined_at" not in item:
        return int(item["at"]["N"])
    return int(item["at"]["N"]), item["dialect"]["S"], int(item["expires_at"]["N"]), "at_home" in item
