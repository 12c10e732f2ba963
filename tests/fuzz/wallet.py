"""Tokens, good and bad, and what the good ones say.

Each holds canaries: the first bytes of every header and of every payload are the same, and so is their Base64. Where
these, or the secret, turn up, something of a token has been let out.
"""

from __future__ import annotations

import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from chalicelib.keys import Key, KeyRing, Keys
from tests import jwks
from tests.fakes import FakeClock

from .texts import mangled

START_MS = 1_900_000_000_000
"""When every round begins: the same in each run, so that a seed brings back what it brought."""
START_S = START_MS // 1_000

LEEWAY_S = 30
ISSUER, AUDIENCE, KID = "https://issuer.example.com", "channels", "key-1"

PRINCIPALS = ("ada@users.example", "grace@users.example", "Ænne Ö@users.example", "*@users.example")

CANARY = "canary-"
_HEADER, _CLAIMS = {"cty": "canary-header"}, {"jti": "canary-claims"}
_HEADER_BYTES, _CLAIMS_BYTES = b'{"cty": "canary', b'{"jti": "canary'
TOKEN_CANARIES = (jwks.SECRET, *(urlsafe_b64encode(part).decode() for part in (_HEADER_BYTES, _CLAIMS_BYTES)))

PATTERNS = (
    *("*", "news", "orders", "orders:*", "orders:7", "orders*", "*:7", "*:*", "a:*:c", "a:*", "lobby", "default", ""),
    *(
        "inbox:ada",
        "inbox:*",
        "home",
        "@address",
        "x" * 300,
        "doc\ud800",
        "*:",
        ":*",
        "a::c",
        "a.c",
        "[*]*",
        "members-only",
    ),
)
OPERATIONS = ("subscribe", "publish", "*", "history", "Subscribe", "publish ")

WRONG_CAPABILITIES: tuple[Any, ...] = (
    *(None, 1, [], ["news"], "", "news", "[]", '{"news":', {"news": "subscribe"}, {"news": None}, {"news": [1]}),
    *({"news": ["subscribe", ["publish"]]}, {"x" * 5_000: ["*"]}, {"news": {"subscribe": True}}, '{"news":[NaN]}'),
    *({"é" * 3_000: ["*"]}, {f"channel {number}": ["*"] for number in range(1_000)}, "[" * 3_000),
)


@dataclass(frozen=True)
class Credential:
    """What a good token, or an authorizer, says. Times in seconds since 1970; `claim` is None where it says nothing of
    what may be done.
    """

    principal: str
    claim: Mapping[str, list[str]] | None
    expires_at: int | None
    starts_at: int = 0

    def holds(self, now_ms: int) -> bool:
        return self.starts_at * 1_000 <= now_ms and (self.expires_at is None or now_ms < self.expires_at * 1_000)


def random_claim(rng: random.Random) -> dict[str, list[str]]:
    return {
        pattern: rng.sample(OPERATIONS, rng.choice((0, 1, 1, 1, 2, 3)))
        for pattern in rng.sample(PATTERNS, rng.choice((0, 1, 2, 3, 5)))
    }


class Wallet:
    """Tokens for a server that takes one algorithm. Texts that are not known here are bad."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.by_principal: dict[str, list[str]] = {principal: [] for principal in PRINCIPALS}
        self.bad: list[str] = []
        self._known: dict[tuple[str, bytes], Credential] = {}
        rng = random.Random(algorithm)
        for principal in PRINCIPALS:
            for life_s in (20, 120, 3_600, 3_600, 3_600, 36_000, 36_000) * 6:
                self._issue(rng, principal, life_s)
        self._forge()
        self.good = [text for texts in self.by_principal.values() for text in texts]

    def credential(self, text: str) -> Credential | None:
        """What it says, if it is a good one: the very text that was signed, with that signature in any spelling."""
        signed, _, signature = text.rpartition(".")
        return self._known.get((signed, _decoded(signature)))

    def pick(self, rng: random.Random, principal: str | None = None) -> str:
        """A token: a good one, mostly, and of that principal, mostly, if there is one."""
        dice = rng.random()
        if dice < 0.1:
            return rng.choice(self.bad)
        good = rng.choice(self.good if principal is None or dice < 0.3 else self.by_principal[principal])
        return mangled(rng, good) if dice < 0.2 else good

    def ring(self, clock: FakeClock) -> KeyRing:
        """The keys that the server knows."""
        key = jwks.KEYS[self.algorithm]
        keys = (Key(key),) if self.algorithm == "HS256" else (Key(key.public_key(), KID), Key(_other_key(), "key-2"))
        return KeyRing(lambda: Keys(keys, named=self.algorithm != "HS256"), 300_000, clock)

    def _issue(self, rng: random.Random, principal: str, life_s: int) -> None:
        claim = rng.choice((None, {"*": ["*"]}, {"*": ["subscribe"]}, *(random_claim(rng) for _ in range(5))))
        starts_at = START_S + 60 if rng.random() < 0.05 else None
        claims = self._claims(sub=principal, exp=START_S + life_s)
        if claim is not None:
            claims["capability"] = claim
        if starts_at is not None:
            claims[rng.choice(("nbf", "iat"))] = starts_at
        text = self._signed(claims)
        signed, _, signature = text.rpartition(".")
        self._known[signed, _decoded(signature)] = Credential(
            principal, claim, START_S + life_s + LEEWAY_S, 0 if starts_at is None else starts_at - LEEWAY_S
        )
        self.by_principal[principal].append(text)

    def _forge(self) -> None:
        own, other = jwks.KEYS[self.algorithm], jwks.OTHERS[self.algorithm]
        admin = self._claims(sub=PRINCIPALS[0], exp=START_S + 3_600, capability={"*": ["*"]})
        wrong: list[dict[str, Any]] = [
            *({"sub": sub} for sub in (None, "", 7, "a\nb", "\x1b[31m", "a" * 257, "\ud800", ["ada"], "ada\u2028")),
            *({"exp": exp} for exp in (None, "soon", float("nan"), float("inf"), START_MS, -1, True, START_S - 60, 0)),
            *({name: value} for name in ("nbf", "iat") for value in ("x", START_S + 86_400, float("nan"), None)),
            *({"iss": iss} for iss in (None, "", "https://issuer.example.com/", [ISSUER], 1)),
            *({"aud": aud} for aud in (None, "", "other", ["other"], {"channels": 1}, 1)),
            *({"capability": capability} for capability in WRONG_CAPABILITIES),
        ]
        for change in wrong:
            self.bad.append(self._signed({**admin, **change}))
        for name in ("sub", "exp", "iss", "aud"):
            self.bad.append(self._signed({key: value for key, value in admin.items() if key != name}))
        public = jwks.public_pem(jwks.rsa_key()), jwks.public_pem(jwks.ec_key())
        signers: list[tuple[str, Callable[[bytes], bytes]]] = [
            (self.algorithm, jwks.signer(self.algorithm, other)),
            *(("HS256", jwks.signer("HS256", pem)) for pem in public),
            *((alg, jwks.signer(alg, jwks.KEYS[alg])) for alg in jwks.KEYS if alg != self.algorithm),
            *((alg, jwks.signer(self.algorithm, own)) for alg in ("none", "None", "HS512", "", self.algorithm.lower())),
            *((alg, lambda _signed: b"") for alg in ("none", "NONE", self.algorithm)),
        ]
        self.bad += [jwks.token({**_HEADER, "alg": alg, "kid": KID}, admin, sign) for alg, sign in signers]
        sign = jwks.signer(self.algorithm, own)
        heads: list[Any] = [{}, [], None, {"alg": None}, {"alg": [self.algorithm]}, b"\xff", b"{", {"alg": "x" * 9_000}]
        self.bad += [jwks.token(head, admin, sign) for head in heads]
        bodies: list[Any] = [[], None, b"{"]
        self.bad += [jwks.token({**_HEADER, "alg": self.algorithm, "kid": KID}, one, sign) for one in bodies]
        self.bad += [
            "",
            ".",
            "..",
            "a.b.c",
            "canary-garbage",
            "canary-\u00e9.\ud800.x",
            "canary-" * 2_000,
            self._signed(admin)[:-9],
        ]

    def _claims(self, **claims: Any) -> dict[str, Any]:
        return {**_CLAIMS, "iss": ISSUER, "aud": AUDIENCE, **claims}

    def _signed(self, claims: Mapping[str, Any]) -> str:
        header = {**_HEADER, "alg": self.algorithm, "kid": KID}
        return jwks.token(header, dict(claims), jwks.signer(self.algorithm, jwks.KEYS[self.algorithm]))


@lru_cache(maxsize=3)
def wallet(algorithm: str) -> Wallet:
    return Wallet(algorithm)


def _other_key() -> Any:
    return jwks.ec_key(3).public_key()


def _decoded(signature: str) -> bytes:
    try:
        return urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except ValueError:
        return b""
