"""Who is let in: where a handshake carries its token, what an authorizer says, and pages of which origins.

From API Gateway's event to the table, by way of the handlers. What a token must be is tests/test_tokens.py's.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from .handshakes import FAILED, FORBIDDEN, ME, OK, UNAUTHENTICATED, Handlers, handshake
from .jwks import NOW_S, SECRET, signed
from .tokens import LIFE_S, USER, VARIABLES, token_for

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from .handshakes import Pairs

ECHO = {"Sec-WebSocket-Protocol": "bearer"}

TOKEN = token_for(USER, {"*": ["*"]})
HUGE = token_for(USER, {"*": ["*"]}, padding="x" * 8_192)

PLACES: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "header": ([("Authorization", f"Bearer {TOKEN}")], []),
    "subprotocols": ([("Sec-WebSocket-Protocol", f"bearer, {TOKEN}")], []),
    "URL": ([], [("token", TOKEN)]),
}
"""Headers and query for each place that a token may be in."""


@pytest.fixture(name="server")
def a_server_that_takes_tokens(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Handlers:
    return Handlers(ministack, monkeypatch, VARIABLES)


@pytest.fixture(name="open_server")
def a_server_that_takes_anyone(ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> Handlers:
    return Handlers(ministack, monkeypatch, {})


# --- where a token is


@pytest.mark.parametrize(
    ("headers", "query", "echo"),
    [
        *((*PLACES[place], place == "subprotocols") for place in PLACES),
        ([("authorization", f"bearer {TOKEN}")], [], False),
        ([("AUTHORIZATION", f"  BEARER   {TOKEN}  ")], [], False),
        ([("sec-websocket-protocol", f"bearer,{TOKEN}")], [], True),
        ([("SEC-WEBSOCKET-PROTOCOL", f" bearer ,  {TOKEN} ")], [], True),
        ([("Sec-WebSocket-Protocol", "bearer"), ("Sec-WebSocket-Protocol", TOKEN)], [], True),
        ([("Authorization", f"Bearer {TOKEN}"), ("Sec-WebSocket-Protocol", "chat, superchat")], [], False),
        ([], [("token", TOKEN), ("room", "lobby"), ("Token", "another parameter")], False),
    ],
)
def test_a_token_may_be_in_one_of_three_places(server: Handlers, headers: Pairs, query: Pairs, echo: bool) -> None:
    server.lets_in(handshake(headers, query), ECHO if echo else None)
    record = server.record()
    assert (record["principal"], record["capability"]) == (USER, '{"*":["*"]}')
    assert int(record["expires_at"]) == NOW_S + LIFE_S + 30


@pytest.mark.parametrize("places", [*combinations(PLACES, 2), tuple(PLACES)])
def test_a_token_in_two_places_is_refused_though_each_is_good(server: Handlers, places: tuple[str, ...]) -> None:
    headers = [pair for place in places for pair in PLACES[place][0]]
    query = [pair for place in places for pair in PLACES[place][1]]
    server.refuses(handshake(headers, query), UNAUTHENTICATED)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        # twice in one place
        ([("Authorization", f"Bearer {TOKEN}")] * 2, []),
        ([("Authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")], []),
        ([("Authorization", f"Bearer {TOKEN}"), ("AUTHORIZATION", "Bearer")], []),
        ([("Sec-WebSocket-Protocol", f"bearer, {TOKEN}")] * 2, []),
        ([("Sec-WebSocket-Protocol", f"bearer, {TOKEN}"), ("sec-websocket-protocol", "chat")], []),
        ([], [("token", TOKEN)] * 2),
        ([], [("token", ""), ("token", TOKEN)]),
        # none
        ([], []),
        ([], [("room", "lobby")]),
        ([], [("Token", TOKEN), ("TOKEN", TOKEN), ("access_token", TOKEN), ("token ", TOKEN)]),
        ([("Cookie", f"token={TOKEN}"), ("X-Token", TOKEN), ("Proxy-Authorization", f"Bearer {TOKEN}")], []),
        # empty
        ([("Authorization", "")], []),
        ([("Authorization", "Bearer")], []),
        ([("Authorization", "Bearer ")], []),
        ([], [("token", "")]),
        ([("Sec-WebSocket-Protocol", "bearer")], []),
        ([("Sec-WebSocket-Protocol", "bearer, ")], []),
        ([("Sec-WebSocket-Protocol", "")], []),
        # another scheme, or none
        ([("Authorization", f"Basic {TOKEN}")], []),
        ([("Authorization", "Basic YWRhOnNlY3JldA==")], []),
        ([("Authorization", f"Token {TOKEN}")], []),
        ([("Authorization", TOKEN)], []),
        ([("Authorization", f"Bearer{TOKEN}")], []),
        ([("Authorization", f"Bearer:{TOKEN}")], []),
        ([("Authorization", f"Bearer Bearer {TOKEN}")], []),
        ([("Authorization", f"Bearer {TOKEN}, Bearer {TOKEN}")], []),
        ([("Authorization", "Basic eA=="), ("Sec-WebSocket-Protocol", f"bearer, {TOKEN}")], []),
        # subprotocols that are not the pair
        ([("Sec-WebSocket-Protocol", f"{TOKEN}, bearer")], []),
        ([("Sec-WebSocket-Protocol", f"bearer, {TOKEN}, chat")], []),
        ([("Sec-WebSocket-Protocol", f"chat, bearer, {TOKEN}")], []),
        ([("Sec-WebSocket-Protocol", f"bearer, bearer, {TOKEN}")], []),
        ([("Sec-WebSocket-Protocol", f"bearer,, {TOKEN}")], []),
        ([("Sec-WebSocket-Protocol", f"bearer {TOKEN}")], []),
        ([("Sec-WebSocket-Protocol", f"Bearer, {TOKEN}")], []),
        ([("Sec-WebSocket-Protocol", f"BEARER, {TOKEN}")], []),
        ([("Sec-WebSocket-Protocol", TOKEN)], []),
        # a token that is none
        ([("Authorization", f"Bearer {HUGE}")], []),
        ([], [("token", HUGE)]),
        ([], [("token", f"{TOKEN} ")]),
        ([], [("token", f"Bearer {TOKEN}")]),
        ([], [("token", "\ud800")]),
        ([], [("token", token_for(USER, {"*": ["*"]}, expires_in=-60))]),
    ],
)
def test_a_handshake_without_one_good_token_is_refused(server: Handlers, headers: Pairs, query: Pairs) -> None:
    server.refuses(handshake(headers, query), UNAUTHENTICATED)


def test_a_huge_token_is_a_good_one_but_for_its_length() -> None:
    assert jwt.decode(HUGE, SECRET, algorithms=["HS256"])["sub"] == USER


def test_a_good_token_that_may_not_connect_is_another_answer(server: Handlers) -> None:
    token = token_for(USER, {"news": ["subscribe"]})
    server.refuses(handshake(query=[("token", token), ("room", "secret")]), FORBIDDEN)


def test_without_its_keys_a_server_lets_nobody_in_and_calls_nobody_a_stranger(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"AUTHENTICATION": "RS256", "JWT_JWKS_URL": "http://127.0.0.1:9/jwks.json"}
    server = Handlers(ministack, monkeypatch, variables)
    token = signed("RS256", {"sub": USER, "exp": NOW_S + LIFE_S})
    server.refuses(handshake(query=[("token", token)]), FAILED)


@pytest.mark.parametrize(
    "variables",
    [
        {"AUTHENTICATION": "HS256"},
        {"AUTHENTICATION": "HS256", "JWT_SECRET": "short"},
        {"AUTHENTICATION": "hs256", "JWT_SECRET": SECRET},
        {"JWT_SECRET": SECRET},
        {**VARIABLES, "DEFAULT_CAPABILITY": "*"},
        {**VARIABLES, "ALLOWED_ORIGINS": "app.example.com"},
        {**VARIABLES, "MISSING_ORIGIN": "maybe"},
    ],
)
def test_a_server_that_is_configured_wrongly_lets_nobody_in(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    Handlers(ministack, monkeypatch, variables).refuses(handshake(*PLACES["header"]), FAILED)


@pytest.mark.parametrize(
    ("headers", "query", "echo"),
    [
        ([], [], False),
        *((*PLACES[place], place == "subprotocols") for place in PLACES),
        ([*PLACES["header"][0], *PLACES["subprotocols"][0]], PLACES["URL"][1] * 2, True),
        ([("Authorization", "Basic YWRhOnNlY3JldA==")] * 2, [("token", "")], False),
        ([("Sec-WebSocket-Protocol", "chat, bearer")], [], False),
    ],
)
def test_an_open_server_does_not_mind_tokens(open_server: Handlers, headers: Pairs, query: Pairs, echo: bool) -> None:
    open_server.lets_in(handshake(headers, query), ECHO if echo else None)
    assert not {"principal", "capability"} & open_server.record().keys()


# --- an authorizer of API Gateway's


SAID = {"principalId": "grace", "capability": '{"news":["publish"]}', "exp": str(NOW_S + LIFE_S)}


@pytest.fixture(name="authorized", params=["authorizer", "HS256"])
def a_server_behind_an_authorizer(
    request: pytest.FixtureRequest, ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> Handlers:
    variables = VARIABLES if request.param == "HS256" else {"AUTHENTICATION": request.param}
    return Handlers(ministack, monkeypatch, variables)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([], []),
        *PLACES.values(),
        (PLACES["header"][0] * 2, PLACES["URL"][1] * 2),
        ([("Authorization", "Basic YWRhOnNlY3JldA==")], [("token", "bad")]),
        ([("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE")], []),
    ],
)
def test_what_an_authorizer_says_counts_and_a_token_beside_it_does_not(
    authorized: Handlers, headers: Pairs, query: Pairs
) -> None:
    echo = any(name.startswith("Sec") for name, _ in headers)
    authorized.lets_in(handshake(headers, query, authorizer=SAID), ECHO if echo else None)
    record = authorized.record()
    assert (record["principal"], record["capability"]) == ("grace", '{"news":["publish"]}')
    assert record["expires_at"] == str(NOW_S + LIFE_S)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"principalId": ""},
        {"principalId": None},
        {"principalId": 5},
        {"principalId": "a\nb"},
        {**SAID, "exp": NOW_S},
        {**SAID, "exp": "0"},
        {**SAID, "exp": "soon"},
        {**SAID, "exp": None},
        {**SAID, "capability": "everything"},
        {**SAID, "capability": None},
    ],
)
def test_what_an_authorizer_says_and_cannot_be_taken_is_refused_whatever_token_is_beside_it(
    authorized: Handlers, said: dict[str, Any]
) -> None:
    authorized.refuses(handshake(*PLACES["header"], authorizer=said), UNAUTHENTICATED)


@pytest.mark.parametrize("place", [None, *PLACES])
def test_where_an_authorizer_is_to_say_who_it_is_no_token_can(
    ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, place: str | None
) -> None:
    server = Handlers(ministack, monkeypatch, {"AUTHENTICATION": "authorizer"})
    server.refuses(handshake(*(PLACES[place] if place else ())), UNAUTHENTICATED)


# --- origins


ORIGINS = {"ALLOWED_ORIGINS": "https://app.example.com https://*.example.org http://localhost:3000"}


@pytest.fixture(name="strict", params=[True, False], ids=["with tokens", "open"])
def a_server_of_some_origins(
    request: pytest.FixtureRequest, ministack: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> Handlers:
    return Handlers(ministack, monkeypatch, {**ORIGINS, **(VARIABLES if request.param else {})})


def from_origin(*origins: str, name: str = "Origin") -> dict[str, Any]:
    """A handshake of a page of that origin, with a good token."""
    return handshake([*PLACES["header"][0], *((name, origin) for origin in origins)])


@pytest.mark.parametrize("name", ["Origin", "origin", "ORIGIN"])
@pytest.mark.parametrize("origin", ["https://app.example.com", "https://a.b.example.org", "http://localhost:3000"])
def test_a_page_of_an_allowed_origin_may_connect(strict: Handlers, name: str, origin: str) -> None:
    strict.lets_in(from_origin(origin, name=name))


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "*",
        "https://evil.io",
        "https://app.example.com.evil.io",
        "https://evil-app.example.com",
        "https://evilexample.org",
        "https://example.org",
        "https://app.example.com@evil.io",
        "https://user:secret@app.example.com",
        "https://evil.io:443@app.example.com",
        "https://app.example.com:444",
        "https://app.example.com:443.evil.io",
        "http://app.example.com",
        "http://localhost",
        "https://app.example.com/",
        "https://evil.io/https://app.example.com",
        "https://evil.io#https://app.example.com",
        "https://evil.io?.example.org",
        "https://evil.io/.example.org",
        r"https://evil.io\.example.org",
        "https://app.example.com, https://evil.io",
        "https://evil.io https://app.example.com",
        "https://app.example.com\0.evil.io",
        "https://app.example.com\n",
        "https://\u0430pp.example.com",
        "https://app.example.com.",
    ],
)
def test_a_page_of_any_other_origin_is_refused_whatever_its_token(strict: Handlers, origin: str) -> None:
    strict.refuses(from_origin(origin), FORBIDDEN)


@pytest.mark.parametrize("second", ["https://app.example.com", "https://evil.io", ""])
def test_two_origins_are_refused_though_both_are_allowed(strict: Handlers, second: str) -> None:
    strict.refuses(from_origin("https://app.example.com", second), FORBIDDEN)
    strict.refuses(from_origin(second, "https://app.example.com"), FORBIDDEN)
    payload = handshake([*PLACES["header"][0], ("Origin", "https://app.example.com"), ("origin", second)])
    strict.refuses(payload, FORBIDDEN)


@pytest.mark.parametrize("listed", [ORIGINS, {}])
@pytest.mark.parametrize(("setting", "answer"), [("allow", OK), ("refuse", FORBIDDEN), ("", OK)])
def test_a_client_that_is_no_page_names_no_origin_and_is_let_in_or_not_by_a_setting(
    ministack: DynamoDBClient,
    monkeypatch: pytest.MonkeyPatch,
    listed: dict[str, str],
    setting: str,
    answer: dict[str, int],
) -> None:
    server = Handlers(ministack, monkeypatch, {**VARIABLES, **listed, "MISSING_ORIGIN": setting})
    assert server.connect(from_origin()) == answer
    assert bool(server.items()) == (answer == OK)
    if not listed:
        assert server.connect(from_origin("")) == answer
    assert server.connect(from_origin("http://localhost:3000")) == OK


def test_without_a_list_any_origin_may_connect(server: Handlers) -> None:
    for origin in ("null", "https://evil.io", "any text"):
        server.lets_in(from_origin(origin))


def test_the_origin_is_looked_at_before_the_token_and_neither_gets_into_the_log(
    strict: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    headers = [("Origin", "https://canary\n.io"), ("Authorization", "Bearer canary")]
    strict.refuses(handshake(headers, requestId="r1"), FORBIDDEN)
    [line] = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    said = f"connect refused connection={ME} status=403 cause=an origin that is not in ALLOWED_ORIGINS"
    assert line == f"{said} request=r1"
