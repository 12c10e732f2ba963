"""Programs that show a token to a real server: a Python client and wscat; and what such a server's log has of it all.

Browser pages are test_token_pages.py's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.jwks import OTHERS, SECRET, signed
from tests.localaws.signed import ask
from tests.server import Server, running_server
from tests.tokens import USER, VARIABLES, token_for

from .plain_client import Client
from .programs import SECONDS_TO_ANSWER, installed, talking

RIGHTS = {"lobby": ["subscribe"], "news": ["publish"]}
TOKEN = token_for(USER, RIGHTS)
FORGED = signed("HS256", {"sub": USER, "exp": 9_999_999_999}, OTHERS["HS256"])
EXPIRED = token_for(USER, RIGHTS, expires_in=-3_600)

PAGE = "https://app.example.com"

OURS = re.compile(r"channels(\.[a-z]+)? - (INFO|WARNING|ERROR) - [ -~]+")
"""A line of the log."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """Our server with tokens, and with pages of one origin let in."""
    with running_server(env={**VARIABLES, "ALLOWED_ORIGINS": PAGE}) as server:
        yield server


def shown(place: str, token: str) -> tuple[str, dict[str, Any]]:
    """What to put behind the server's address, and what else to hand to `connect`."""
    if place == "URL":
        return f"?token={token}", {}
    if place == "subprotocols":
        return "", {"subprotocols": ["bearer", token]}
    return "", {"additional_headers": {"Authorization": f"Bearer {token}"}}


PLACES = pytest.mark.parametrize("place", ["header", "subprotocols", "URL"])


def test_two_tokens_in_a_url_are_refused(guarded: Server) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(f"{guarded.url}?token={FORGED}&token={TOKEN}"):
        pass
    assert refused.value.response.status_code == 401


@PLACES
def test_a_python_client_shows_its_token_and_may_do_what_that_says(guarded: Server, place: str) -> None:
    query, options = shown(place, TOKEN)
    with connect(guarded.url + query, **options) as connection:
        assert connection.subprotocol == ("bearer" if place == "subprotocols" else None)
        client = Client(connection)
        client.join("lobby")
        for operation, channel, frame in (
            ("subscribe", "news", {"action": "joinchannel", "channel": "news"}),
            ("publish", "lobby", {"action": "sendmessage", "channel": "lobby", "message": "hello"}),
            ("publish", "lobby", {"action": "chat", "channel": "lobby", "message": "hello"}),
        ):
            message = f"This connection may not {operation} to '{channel}'."
            assert client.ask(**frame) == {"type": "error", "code": "forbidden", "message": message}
        ack = client.ask(action="sendmessage", channel="news", message="hello", ack=True)
        assert ack == {"type": "ack", "delivered": 0, "stale": 0}


@PLACES
@pytest.mark.parametrize("token", [FORGED, EXPIRED, "canary"], ids=["forged", "expired", "no token at all"])
def test_a_python_client_with_a_token_that_is_no_good_does_not_get_in(guarded: Server, place: str, token: str) -> None:
    query, options = shown(place, token)
    assert answer_to_handshake(guarded.url + query, **options) == 401


def test_a_python_client_learns_by_the_status_why_it_does_not_get_in(guarded: Server) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert answer_to_handshake(guarded.url) == 401
    assert answer_to_handshake(f"{guarded.url}?room=news", additional_headers=bearer) == 403
    assert answer_to_handshake(guarded.url, additional_headers=bearer, origin="https://evil.example") == 403
    assert answer_to_handshake(guarded.url, additional_headers=bearer, origin=PAGE) == 101


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", ["--header", f"Authorization: Bearer {TOKEN}"]),
        ("", ["--subprotocol", "bearer", "--subprotocol", TOKEN]),
        (f"?token={TOKEN}", []),
        (f"?token={TOKEN}", ["--origin", PAGE]),
    ],
    ids=["header", "subprotocols", "URL", "origin"],
)
def test_wscat_shows_its_token(guarded: Server, query: str, options: Sequence[str]) -> None:
    wscat = [installed(".bin/wscat"), "--connect", guarded.url + query, *options, "--wait", "-1"]
    with talking(*wscat, "--execute", '{"action":"joinchannel","channel":"lobby"}') as terminal:
        assert json.loads(terminal.line())["channel"] == "lobby"


@pytest.mark.parametrize(
    ("query", "options", "status"),
    [
        ("", [], 401),
        (f"?token={FORGED}", [], 401),
        (f"?token={TOKEN}&room=news", [], 403),
        (f"?token={TOKEN}", ["--origin", "https://evil.example"], 403),
    ],
    ids=["no token", "forged", "no right", "origin"],
)
def test_wscat_says_with_which_status_it_was_refused(
    guarded: Server, query: str, options: Sequence[str], status: int
) -> None:
    wscat = [installed(".bin/wscat"), "--connect", guarded.url + query, *options]
    with talking("sh", "-c", 'exec "$@" 2>&1', "sh", *wscat) as terminal:
        assert terminal.line() == f"error: Unexpected server response: {status}"


def test_a_servers_log_has_one_line_for_each_event_and_in_none_a_token_a_secret_or_a_message(guarded: Server) -> None:
    before = len(guarded.log())
    hostile = quote("canary\r\nforged\x1b[31m", safe="")
    for place in ("header", "subprotocols", "URL"):
        for token in (TOKEN, FORGED, EXPIRED, "canary"):
            query, options = shown(place, token)
            answer_to_handshake(guarded.url + query, **options)
    for query in (f"?room={hostile}", f"?token={hostile}", f"?token={TOKEN}&room={hostile}"):
        answer_to_handshake(guarded.url + query)
    answer_to_handshake(guarded.url, origin="https://canary.example", user_agent_header="canary")
    answer_to_handshake(guarded.url, additional_headers={"Authorization": "Basic canary"})
    with connect(f"{guarded.url}?token={TOKEN}&canary=canary") as connection:
        client = Client(connection)
        for frame in (
            {"action": "authenticate", "token": FORGED},
            {"action": "authenticate", "token": "canary"},
            {"action": "authenticate", "token": token_for("grace", RIGHTS)},
            {"action": "joinchannel", "channel": "canary\nforged"},
            {"action": "sendmessage", "channel": "news", "message": "canary", "id": "canary\n", "ack": True},
            {"action": "authenticate", "token": TOKEN},
        ):
            client.ask(**frame)
        connection.close(reason="bye\nforged \x1b[31m")
    wait_until_logged(guarded, "reason='bye")

    lines = re.split("[\r\n]+", guarded.log()[before:].strip())
    assert [line for line in lines if not OURS.fullmatch(line)] == []
    assert sum("connected connection=" in line and "disconnected" not in line for line in lines) == 4
    assert sum("connect refused connection=" in line for line in lines) == 14
    everything = guarded.log()
    for secret in (SECRET, "eyJ", *TOKEN.split("."), *FORGED.split("."), *EXPIRED.split("."), "canary", "?token="):
        assert secret not in everything


def test_a_server_that_is_open_says_so_once(channels: Server) -> None:
    for _ in range(3):
        with connect(channels.url) as connection:
            Client(connection).assert_nothing_came()
    publish = "/2015-03-31/functions/channels-dev-publish/invocations"
    answer = ask(channels.port, "POST", publish, b'{"channel":"nobody","message":1}', "lambda")
    assert json.loads(answer.body)["delivered"] == 0
    warning = "this server is open: anyone may connect, join and publish; AUTHENTICATION changes that"
    [said] = re.findall(".*is open.*", channels.log())
    assert said.startswith(f"channels - WARNING - {warning} request=")


def test_a_server_that_asks_for_tokens_does_not_say_that_it_is_open(guarded: Server) -> None:
    assert answer_to_handshake(guarded.url) == 401
    assert "is open" not in guarded.log()


def test_a_server_whose_settings_cannot_be_used_refuses_every_handshake_and_says_what_to_set() -> None:
    variables = {**VARIABLES, "DEFAULT_CAPABILITY": "lobby"}
    with running_server(env=variables) as server:
        for query in ("", f"?token={TOKEN}"):
            assert answer_to_handshake(server.url + query) == 500
        refused = re.findall("^channels - ERROR - connect refused connection=.*", server.log(), re.MULTILINE)
        assert len(refused) == 2
        assert all("DEFAULT_CAPABILITY cannot be used: a capability must be a JSON object" in line for line in refused)
        assert SECRET not in server.log()
        assert TOKEN not in server.log()


def answer_to_handshake(url: str, **options: Any) -> int:
    """The status that a handshake is answered with; one that is 101 is closed again."""
    try:
        with connect(url, **options):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def wait_until_logged(server: Server, part: str) -> None:
    """Waits for what the server logs when nobody waits for its answer any more."""
    give_up = time.monotonic() + SECONDS_TO_ANSWER
    while part not in server.log():
        assert time.monotonic() < give_up, f"the log does not have {part}:\n{server.log()}"
        time.sleep(0.02)
