"""No token, secret, query or message body gets where it does not belong, and no name breaks a line of the log.

Handshakes and frames, good and bad, through the handlers, with every logger at DEBUG: then a look for canaries.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import handlers, hooks, service
from chalicelib.actions import ACTIONS, Call
from chalicelib.table import Table

from .captured import event
from .connections import Connections, connections_endpoint
from .fakes import NOW
from .handshakes import Handlers, Pairs, handshake
from .jwks import NOW_S, SECRET, ec_key, public_pem, signed
from .tokens import LIFE_S, USER, VARIABLES, token_for

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CANARY = "canary"
TOKEN = token_for(USER, {"*": ["*"]}, padding="x" * 40)
FORGED = signed("HS256", {"sub": USER, "exp": NOW_S + LIFE_S}, f"{CANARY} of at least thirty-two bytes".encode())
BAD_TOKENS = (FORGED, CANARY, f"{CANARY}.{CANARY}.{CANARY}", f"{TOKEN}{CANARY}", CANARY * 2_000, f"Basic {CANARY}")
SECRETS = (SECRET, CANARY, *TOKEN.split("."), *FORGED.split("."))

HOSTILE = (
    "a\nb",
    "a\r\nERROR b",
    "\x1b[31mred\x1b[0m",
    "a\u2028b",
    "\u202egnp",
    "\x00\x07",
    "a\x85b",
    "\ud800",
    "%s %d {x}",
)

ME, OTHER = "IU3kkeN4IAMCJwA=", "IU3kkeN4IAMCJwB="


class Run(Handlers):
    """The handlers, with where posts go, and what every logger has said."""

    clients: Connections
    caplog: pytest.LogCaptureFixture
    numbers = count()

    def enter(self, name: str, headers: Pairs = (), query: Pairs = (), **context: Any) -> Any:
        return self.connect(handshake(headers, query, connectionId=name, **context))["statusCode"]

    def send(self, name: str, frame: object) -> None:
        body = frame if isinstance(frame, str) else json.dumps(frame)
        times = {"connectedAt": NOW, "requestTimeEpoch": NOW + next(self.numbers)}
        self.message(event("message", connectionId=name, body=body, **times))

    def leave(self, name: str, reason: str) -> None:
        self.disconnect(event("disconnect", connectionId=name, disconnectReason=reason))

    def logged(self) -> str:
        """All of it, tracebacks and what exceptions say of themselves included."""
        formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
        texts = []
        for record in self.caplog.records:
            texts.append(formatter.format(record))
            if record.exc_info and record.exc_info[1]:
                texts += traceback.format_exception(record.exc_info[1])
        return "\n".join(texts)

    def lines(self) -> list[str]:
        """What our own loggers have said."""
        return [record.getMessage() for record in self.caplog.records if record.name.startswith("channels")]

    def codes(self, name: str) -> list[str]:
        """The codes of the errors that it has been answered."""
        frames = [json.loads(text) for text in self.clients.posts[name] if text.startswith("{")]
        return [frame["code"] for frame in frames if "code" in frame]


@pytest.fixture(name="run")
def a_run(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Run]:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "channels")
    with connections_endpoint() as clients:
        run = Run(ministack, monkeypatch, VARIABLES, clients.url)
        run.clients, run.caplog = clients, caplog
        yield run


def assert_no_canary(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text


def assert_nothing_leaked(run: Run) -> None:
    """Neither into the log or the table, nor to others. What comes back to its own sender is no token."""
    assert_no_canary(run.logged())
    assert_no_canary(json.dumps(run.items()))
    assert_no_canary("".join(run.clients.posts[OTHER]))
    assert TOKEN not in (mine := "".join(run.clients.posts[ME]))
    assert SECRET not in mine
    assert FORGED not in mine


def admit_both(run: Run) -> None:
    """`OTHER` is in every channel that is meant below, `ME` at home."""
    for name in (ME, OTHER):
        query = [("room", "lobby"), ("ref", CANARY), (f"{CANARY}", "x")]
        assert run.enter(name, [("Authorization", f"Bearer {TOKEN}"), ("Cookie", f"id={CANARY}")], query) == 200
    run.send(OTHER, {"type": "subscribe", "topics": ["news", "secret"]})


# --- handshakes


def test_handshakes_good_and_bad_leave_no_trace_of_their_tokens_and_queries(run: Run) -> None:
    admit_both(run)
    assert run.enter("u", query=[("token", TOKEN), ("room", "lobby"), ("ref", CANARY)]) == 200
    assert run.enter("s", [("Sec-WebSocket-Protocol", f"bearer, {TOKEN}")]) == 200
    for bad in BAD_TOKENS:
        assert run.enter("x", [("Authorization", f"Bearer {bad}")]) == 401
        assert run.enter("x", [("Authorization", bad)]) == 401
        assert run.enter("x", [("Sec-WebSocket-Protocol", f"bearer, {bad}")]) == 401
        assert run.enter("x", [("Authorization", f"Bearer {TOKEN}")], [("token", bad)]) == 401
        assert run.enter("x", query=[("token", bad), ("room", CANARY)]) == 401
    assert run.enter("x", query=[("token", token_for(USER, {"a": ["*"]})), ("room", CANARY)]) == 403
    assert run.enter("x", authorizer={"principalId": "", "capability": CANARY, "claim": CANARY}) == 401
    assert run.enter("x", authorizer={"principalId": USER, "capability": "{}", "exp": CANARY}) == 401
    assert sum("connect refused" in line for line in run.lines()) == len(BAD_TOKENS) * 5 + 3
    assert_nothing_leaked(run)


def test_a_refused_origin_is_not_repeated(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://app.example.com")
    assert run.enter("x", [("Origin", f"https://{CANARY}:{CANARY}@example.com")]) == 403
    assert_nothing_leaked(run)


@pytest.mark.parametrize(
    "variables",
    [
        {"JWT_SECRET": CANARY},
        {"JWT_SECRET": f"{SECRET}\n{CANARY}"},
        {"JWT_SECRET": f"{SECRET}\n{SECRET}\n{CANARY}"},
        {"JWT_SECRET": public_pem(ec_key()).decode().replace("\n", "") + CANARY},
        {"AUTHENTICATION": "RS256", "JWT_SECRET": CANARY},
        {"AUTHENTICATION": "none", "JWT_SECRET": CANARY},
        {"AUTHENTICATION": "authorizer", "JWT_SECRET": CANARY},
        {"JWT_SECRET_PARAMETER": "/jwt", "JWT_SECRET": CANARY},
        {"DEFAULT_CAPABILITY": f'{{"a":["{CANARY}"'},
        {"ALLOWED_ORIGINS": f"https://user:{CANARY}@example.com"},
        {"AUTHENTICATION": "RS256", "JWT_SECRET": "", "JWT_JWKS_URL": f"http://user:{CANARY}@example.com/"},
        {"AUTHENTICATION": "RS256", "JWT_SECRET": "", "JWT_JWKS_URL": f"http://127.0.0.1:9/{CANARY}?{CANARY}"},
    ],
)
def test_what_is_configured_wrongly_is_said_without_its_secret(
    run: Run, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    algorithm = variables.get("AUTHENTICATION")
    token = signed("RS256", {"sub": USER, "exp": NOW_S + LIFE_S}) if algorithm == "RS256" else TOKEN
    assert run.enter(ME, [("Authorization", f"Bearer {token}")]) == 500
    run.send(ME, {"action": "sendmessage", "message": CANARY})
    run.leave(ME, "bye")
    said = "\n".join(run.lines())
    assert any(name in said for name in variables)
    assert_nothing_leaked(run)


# --- frames


FRAMES: tuple[object, ...] = (
    CANARY,
    f'{{"{CANARY}',
    f'"{CANARY}"',
    f'{{"message":"{CANARY}","x":1e999}}',
    [CANARY],
    {CANARY: CANARY},
    {"type": CANARY},
    {"action": CANARY, "message": CANARY},
    {"action": [CANARY]},
    {"action": "joinchannel", "channel": [CANARY]},
    {"action": "sendmessage", "channel": "secret", "message": CANARY, "id": 5},
    {"action": "sendmessage", "channel": "secret", "message": CANARY, "id": CANARY * 20},
    {"action": "sendmessage", "channel": "secret", "message": CANARY, "ack": CANARY},
    {"action": "sendmessage", "channel": "secret", "message": CANARY * 30_000},
    {"action": "sendmessage", "channel": 5, "message": CANARY},
    {"action": "message", "messageBody": CANARY, "room": {CANARY: 1}},
    {"action": "chat", "message": CANARY, "channel": [CANARY]},
    {"action": "failing", "message": CANARY},
    {"action": "authenticate", "token": {CANARY: CANARY}},
    *({"action": "authenticate", "token": bad, "id": "1"} for bad in BAD_TOKENS),
    {"action": "authenticate", "token": token_for(CANARY, {})},
)
"""None is for others to see."""


def failing_action(call: Call) -> None:
    raise KeyError(call.frame.id)


def test_frames_that_are_refused_are_seen_by_nobody_and_logged_nowhere(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ACTIONS", {**ACTIONS, "failing": failing_action})
    admit_both(run)
    for frame in FRAMES:
        run.send(ME, frame)
    assert len(run.clients.posts[ME]) == len(FRAMES)
    expected = {
        "too_large",
        "wrong_type",
        "missing_field",
        "unknown_action",
        "invalid_number",
        "invalid_token",
        "internal",
    }
    assert set(run.codes(ME)) == expected
    assert run.clients.posts[OTHER] == []
    assert_nothing_leaked(run)


def test_what_is_published_is_in_no_log_and_in_no_item(run: Run) -> None:
    admit_both(run)
    for frame in (
        {"action": "sendmessage", "channel": "news", "message": CANARY, "ack": True, "id": CANARY},
        {"action": "message", "messageBody": {CANARY: CANARY}, "room": "news"},
        {"type": "message", "data": CANARY},
        {"type": "publish", "topic": "news", "data": CANARY, CANARY: CANARY},
        {"action": "chat", "message": CANARY, "channel": "news"},
    ):
        run.send(ME, frame)
    run.send(ME, {"action": "authenticate", "token": TOKEN})
    assert CANARY in "".join(run.clients.posts[OTHER])
    assert_no_canary(run.logged())
    assert_no_canary(json.dumps(run.items()))


def test_without_the_right_nobody_sees_and_nothing_keeps_what_was_sent(run: Run) -> None:
    admit_both(run)
    run.send(ME, {"action": "authenticate", "token": token_for(USER, {"lobby": ["subscribe"]})})
    before = run.items()
    for frame in (
        {"action": "sendmessage", "channel": "news", "message": CANARY},
        {"type": "publish", "topic": "news", "data": CANARY},
        {"action": "joinchannel", "channel": CANARY},
        {"type": "message", "data": CANARY},
    ):
        run.send(ME, frame)
    assert run.codes(ME) == ["forbidden"] * 4
    assert run.items() == before
    assert run.clients.posts[OTHER] == []
    assert_nothing_leaked(run)


def test_failing_hooks_say_what_failed_and_not_on_what(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: Any) -> Any:
        return subject.body["no such key"] if hasattr(subject, "body") else subject.no_such_attribute

    admit_both(run)
    for row in ("ON_CONNECT", "ON_JOIN", "ON_PUBLISH"):
        monkeypatch.setattr(hooks, row, [broken])
    assert run.enter("x", [("Authorization", f"Bearer {TOKEN}")], [("ref", CANARY)]) == 403
    for message in (CANARY, {CANARY: CANARY}):
        run.send(ME, {"action": "sendmessage", "channel": "news", "message": message})
    run.send(ME, {"action": "joinchannel", "channel": "news"})
    assert run.codes(ME) == ["refused"] * 3
    assert_nothing_leaked(run)


def test_a_store_that_fails_takes_nothing_into_the_log(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    admit_both(run)
    run.client.delete_table(TableName=run.name)
    assert run.enter("x", [("Authorization", f"Bearer {TOKEN}")], [("ref", CANARY)]) == 500
    run.send(ME, {"action": "sendmessage", "channel": "news", "message": CANARY})
    run.send(ME, {"action": "authenticate", "token": TOKEN})
    monkeypatch.setattr(Table, "connection", lambda *_: 1 / 0)
    run.send(ME, {"action": "sendmessage", "channel": "news", "message": CANARY})
    assert run.codes(ME) == ["unavailable", "unavailable", "internal"]
    assert_no_canary(run.logged())
    assert_no_canary("".join(run.clients.posts[OTHER]))


def test_a_gateway_that_fails_takes_nothing_into_the_log(run: Run) -> None:
    admit_both(run)
    for status in (403, 410, 413, 429, 500):
        run.clients.status[OTHER] = status
        run.send(ME, {"action": "sendmessage", "channel": "news", "message": CANARY, "ack": True})
    assert_no_canary(run.logged())


def test_the_settings_do_not_show_their_secret(run: Run) -> None:
    assert SECRET not in repr(handlers._service(run.api).settings)


# --- one line each


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_makes_two_lines_of_one_or_speaks_to_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def no(_subject: object) -> None:
        raise hooks.Refused(name)

    in_utf8 = name.encode("utf-8", "replace").decode()
    said = {"principalId": USER, "capability": json.dumps({name: ["*"], "*": ["*"]})}
    assert run.enter(ME, query=[("room", name)], authorizer=said) == 200
    assert run.enter(OTHER, [("Origin", name), ("User-Agent", name)], authorizer={"principalId": f"é {in_utf8}"}) in {
        200,
        401,
    }
    run.enter("x", [("Authorization", name)])
    run.enter("x", [("Sec-WebSocket-Protocol", f"bearer, {name}")], [("room", name)])
    for frame in (
        {"action": "joinchannel", "channel": name, "id": name},
        {"action": "sendmessage", "channel": name, "message": name, "ack": True, "id": name},
        {"type": "publish", "topic": name, "data": name},
        {"type": "subscribe", "topics": [name]},
        {"action": name, "id": name},
        {"action": "authenticate", "token": name},
        {"action": "leavechannel", "channel": name},
        name,
    ):
        run.send(ME, frame)
    monkeypatch.setattr(hooks, "ON_JOIN", [no])
    run.send(ME, {"action": "joinchannel", "channel": name})
    run.enter("x", authorizer=said)
    run.leave(OTHER, name)
    run.client.delete_table(TableName=run.name)
    run.send(ME, {"action": "leavechannel", "channel": name})
    run.enter("x", query=[("room", "")], authorizer=said)
    run.leave(ME, name)
    for said_of in ("connected", "connect refused", "published", "hook no refused", "disconnected", "frame failed"):
        assert any(line.startswith(said_of) for line in run.lines())
    for line in run.lines():
        assert line.isascii()
        assert line.isprintable()
