"""Handshakes as strangers make them, with what is known of each: which tokens it shows, whose page it is from."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from tests.captured import event

from .model import Handshake
from .texts import CHANNELS
from .wallet import PRINCIPALS, START_MS, WRONG_CAPABILITIES, Credential, Wallet, random_claim

ALLOWED_ORIGINS = "https://app.example.com, https://*.example.org http://localhost:3000"
GOOD_ORIGINS = (
    *("https://app.example.com", "HTTPS://App.Example.Com", "https://app.example.com:443", "http://localhost:3000"),
    *("https://a.example.org", "https://a.b.example.org"),
)
BAD_ORIGINS = (
    *(
        "null",
        "",
        "*",
        "https://example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://example.org",
    ),
    *("https://app.example.com.evil.io", "https://app.example.com@evil.io", "https://evil.io/https://app.example.com"),
    *(
        "https://app.example.com/",
        "https://app.example.com\n",
        " https://app.example.com",
        "https://xexample.org",
        "file://",
    ),
    *("https://evil.io#.example.org", "https://.example.org", "https://a..example.org", "https://\u212a.example.org"),
    *(
        "wss://app.example.com",
        "http://localhost",
        "https://app.example.com\0",
        "https://app.example.com." * 500,
        "\ud800",
    ),
)
HEADERS = (
    *(
        ("User-Agent", "\x1b[31m\nX: canary-agent"),
        ("X-Forwarded-For", "192.0.2.1, \ud800"),
        ("", ""),
        ("Cookie", "canary-cookie"),
    ),
    *(
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("x" * 3_000, "y" * 9_000),
        ("__proto__", "Ünïcode"),
        ("Host", "evil.io"),
    ),
)


AUTHORIZER = {
    "principalId": (None, "", 7, "a\nb", ["ada"], "a" * 300),
    "capability": WRONG_CAPABILITIES,
    "exp": (None, "", "soon", "nan", "1e400", [1], True, -1, START_MS),
}
"""What an authorizer says wrongly."""


class Arrival:
    """One handshake in the making, at `now`; `authorized` is whether an authorizer has most likely looked at it."""

    def __init__(self, rng: random.Random, name: str, now: int, keys: Wallet, authorized: bool) -> None:
        self._rng, self._wallet, self._now = rng, keys, now
        self._headers: list[tuple[str, str]] = rng.sample(HEADERS, 2) if rng.random() < 0.1 else []
        self._query: list[tuple[str, str]] = []
        self._tokens: list[str] = []
        self._malformed = self._echoes = False
        self._show_tokens()
        origin = self._name_origin()
        room = self._name_room()
        authorizer, context = self._authorize() if rng.random() < (0.9 if authorized else 0.02) else (None, {})
        rng.shuffle(self._headers)
        self.event = event("connect", connectionId=name, connectedAt=now, requestTimeEpoch=now, **context)
        if rng.random() < 0.1:
            del self.event["requestContext"]["identity"]
        self._put("headers", "multiValueHeaders", self._headers)
        self._put("queryStringParameters", "multiValueQueryStringParameters", self._query)
        self.handshake = Handshake(
            name, now, origin, tuple(self._tokens), self._malformed, authorizer, room, self._echoes
        )

    def credentials(self) -> list[Credential]:
        """The good ones that it shows."""
        shown = (self.handshake.authorizer, *map(self._wallet.credential, self._tokens))
        return [said for said in shown if isinstance(said, Credential)]

    def _put(self, single: str, multiple: str, pairs: list[tuple[str, str]]) -> None:
        """As API Gateway does: every value in one place, the last of each name in another; or, where no name comes
        twice, in that other place alone.
        """
        every: dict[str, list[str]] = {}
        for name, value in pairs:
            every.setdefault(name, []).append(value)
        self.event |= {single: dict(pairs) or None, multiple: every or None}
        if len(every) == len(pairs) and self._rng.random() < 0.1:
            del self.event[multiple]

    def _show_tokens(self) -> None:
        rng = self._rng
        dice = rng.random()
        places = rng.sample("hqs", 2) if dice < 0.04 else [] if dice < 0.08 else [rng.choice("hhhqs")]
        for place in places:
            token = self._wallet.pick(rng)
            pairs = self._query if place == "q" else self._headers
            if place == "h":
                token = self._show_in_header(token)
            elif place == "q":
                pairs.append(("token", token))
                token = _plain(token)
            else:
                token = self._show_as_subprotocol(token)
            self._tokens.append(token)
            if rng.random() < 0.02:
                pairs.append(pairs[-1])
                self._tokens.append(token)
        if not places and rng.random() < 0.3:
            self._headers.append(("Sec-WebSocket-Protocol", rng.choice(("graphql-ws", "", "Bearer, x", ", ,"))))
        # A comma would begin another subprotocol, and two headers of them are one list.
        lists = sum(name.lower() == "sec-websocket-protocol" for name, _value in self._headers)
        self._malformed |= self._echoes and (lists > 1 or any("," in token for token in self._tokens))

    def _show_in_header(self, token: str) -> str:
        scheme = self._rng.choice(("Bearer", "Bearer", "bearer", "BEARER"))
        if self._rng.random() < 0.04:
            scheme, self._malformed = self._rng.choice(("Basic", "", "Bearer:", "Bear", "Token")), True
        self._headers.append((self._cased("Authorization"), f"{scheme} {token}"))
        return token.strip()

    def _show_as_subprotocol(self, token: str) -> str:
        rng = self._rng
        right = (f"bearer, {token}", f"bearer,{token}", f" bearer ,  {token} ")
        wrong = (f"bearer, {token}, graphql-ws", "bearer", f"{token}, bearer", f"graphql-ws, bearer, {token}")
        offered = rng.choice(wrong if rng.random() < 0.3 else right)
        self._malformed |= offered in wrong
        self._echoes = offered in (*right, *wrong[:2])
        self._headers.append((self._cased("Sec-WebSocket-Protocol"), offered))
        return token.strip()

    def _name_origin(self) -> str:
        rng = self._rng
        dice = rng.random()
        if dice < 0.2:
            return "none"
        origin = rng.choice(GOOD_ORIGINS if dice < 0.9 else BAD_ORIGINS)
        self._headers.append((self._cased("Origin"), origin))
        if dice < 0.98:
            return "good" if dice < 0.9 else "bad" if origin else "empty"
        self._headers.append((self._cased("Origin"), rng.choice(GOOD_ORIGINS)))
        return "several"

    def _name_room(self) -> str | None:
        rng = self._rng
        if rng.random() < 0.6:
            return None
        room = rng.choice((*CHANNELS, "news", "lobby", "orders:7"))
        first, *others = rng.choice((("room",), ("channel",), ("room", "channel")))
        self._query += [(first, room), *((name, "other") for name in others)]
        return _plain(room)

    def _authorize(self) -> tuple[Credential | str, Mapping[str, Any]]:
        """What an authorizer says, and the same as a part of the event's context."""
        rng = self._rng
        principal, claim = rng.choice(PRINCIPALS), random_claim(rng) if rng.random() < 0.7 else None
        ends = self._now // 1_000 + rng.choice((-1, 0, 20, 90, 3_600, 36_000)) if rng.random() < 0.8 else None
        context: dict[str, Any] = {"principalId": principal, "integrationLatency": 7}
        if claim is not None:
            context["capability"] = json.dumps(claim)
        if ends is not None:
            context["exp"] = rng.choice((ends, str(ends), f"{ends}.0"))
        if rng.random() < 0.15:
            name = rng.choice(tuple(AUTHORIZER))
            return "bad", {"authorizer": {**context, name: rng.choice(AUTHORIZER[name])}}
        if rng.random() < 0.05:
            return "bad", {"authorizer": {}}
        return Credential(principal, claim, ends), {"authorizer": context}

    def _cased(self, name: str) -> str:
        return self._rng.choice((name, name, name.lower(), name.upper()))


def _plain(text: str) -> str:
    """With U+FFFD for what UTF-8 cannot carry."""
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
