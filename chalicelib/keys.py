"""The keys that tokens are checked with: where they come from, and how long they are known.

A secret (HS256) is in a variable, an SSM parameter or a secret of Secrets Manager; public keys (RS256, ES256) are
published at a URL as a JSON Web Key Set (RFC 7517). Knows no token: which keys may fit one is said by its `kid`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path

from . import aws, logs
from .clock import Clock
from .endpoint import Endpoint
from .errors import ClientError as Unreadable
from .errors import ConfigurationError, Misconfigured, UpstreamError
from .jsontext import NotJSON, parse
from .model import JSON

log = logs.logger("channels")

SECRET_BYTES = 32
"""The shortest secret: as long as what HS256 makes with it. https://www.rfc-editor.org/rfc/rfc7518#section-3.2"""

RSA_BITS = 2_048
"""The shortest RSA key. https://www.rfc-editor.org/rfc/rfc7518#section-3.3"""

SECRET_FRESH_MS = 300_000
JWKS_FRESH_MS = 3_600_000
"""For how long keys are used without a look at their source: a secret taken out of it is still good for so long."""

STALE_MS = 86_400_000
"""For how long they are used while their source fails: long enough for a bad day of the issuer's, and an end to what
someone gains who keeps us from the news that a key is no longer to be trusted.
"""

AGAIN_MS = 60_000
"""The shortest time between two looks at a source, whatever tokens come."""

FIRST_AGAIN_MS = 5_000
"""The same as long as no key is known, and so nobody is let in."""

ATTEMPTS = 2
CONNECT_SECONDS = 2
ANSWER_SECONDS = 3
"""What one request of a source is given: a client waits for its handshake meanwhile."""

# RFC 7517: what a set says of a key, beside the key. RS256 and ES256 by RFC 7518, section 6.1.
_KEY_TYPES = {"RS256": "RSA", "ES256": "EC"}
_CURVES = {"RS256": None, "ES256": "P-256"}

_CA_VARIABLE = "AWS_CA_BUNDLE"


@dataclass(frozen=True)
class Key:
    """A secret's bytes or a public key, as PyJWT takes them, and its name in a set."""

    material: Any = field(repr=False)
    kid: str | None = None


class Keys(NamedTuple):
    """All keys of a source at one time. `named` is whether tokens say which of them they are signed with."""

    all: tuple[Key, ...]
    named: bool

    def matching(self, kid: str | None) -> tuple[Key, ...]:
        """Those that a token with this `kid` may be signed with; without one, the only key there is."""
        if not self.named:
            return self.all
        if kid is None:
            return self.all if len(self.all) == 1 else ()
        return tuple(key for key in self.all if key.kid == kid)


Read: TypeAlias = Callable[[], Keys]
"""Asks a source for its keys. Raises UpstreamError or a ConfigurationError."""


class KeyRing:
    """The keys of one source, read when they are first needed, and again when they are old or one is missing.

    Safe to use from several threads: one reads, the others wait for what it finds. Time is the wall clock's: the other
    one may stand still while a Lambda is frozen.
    """

    def __init__(self, read: Read, fresh_ms: int, clock: Clock) -> None:
        self._read = read
        self._fresh_ms = fresh_ms
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Keys | None = None
        self._failure: Exception = UpstreamError("Reading keys", "not done yet")
        self._read_at = 0
        self._tried_at = 0

    def current(self) -> Keys:
        """The keys as they are known. Raises UpstreamError or a ConfigurationError where none are."""
        with self._lock:
            if self._known is None or not self._within(self._read_at, self._fresh_ms):
                self._look()
            return self._usable()

    def newer(self, than: Keys) -> Keys:
        """What is known by now, after another look if one is due; `than` itself where nothing has changed."""
        with self._lock:
            if self._known is than:
                self._look()
            return self._usable()

    def _look(self) -> None:
        if self._within(self._tried_at, FIRST_AGAIN_MS if self._known is None else AGAIN_MS):
            return
        try:
            found = self._read()
        except (UpstreamError, ConfigurationError) as error:
            log.warning("keys not read, %s cause=%s", "none known" if self._known is None else "old ones used", error)
            self._failure = error
        else:
            self._read_at = self._clock.now_ms()
            if found != self._known:
                self._known = found
        finally:
            self._tried_at = self._clock.now_ms()

    def _usable(self) -> Keys:
        if self._known is not None and self._clock.now_ms() - self._read_at < STALE_MS:
            return self._known
        raise self._failure.with_traceback(None)

    def _within(self, since: int, milliseconds: int) -> bool:
        """Whether that was so short a time ago. A moment still to come, because the clock was set back, was not."""
        return 0 <= self._clock.now_ms() - since < milliseconds


def of_secret(text: str, clock: Clock) -> KeyRing:
    """The secret that the variable JWT_SECRET holds."""
    return KeyRing(partial(_of_text, text, "JWT_SECRET"), SECRET_FRESH_MS, clock)


def of_parameter(name: str, clock: Clock) -> KeyRing:
    """The secret in the SSM parameter of that name."""
    return KeyRing(partial(_read_parameter, name), SECRET_FRESH_MS, clock)


def of_secrets_manager(secret_id: str, clock: Clock) -> KeyRing:
    """The secret of Secrets Manager of that name or ARN."""
    return KeyRing(partial(_read_secret, secret_id), SECRET_FRESH_MS, clock)


def of_jwks(url: str, algorithm: str, clock: Clock) -> KeyRing:
    """The public keys for `algorithm` in the set at `url`."""
    return KeyRing(partial(_read_jwks, url, algorithm), JWKS_FRESH_MS, clock)


def secrets(text: str, where: str) -> tuple[bytes, ...]:
    """One secret or two, one a line: while one replaces the other, both are good.

    Raises Misconfigured, which names `where` they are and nothing of what they are.
    """
    try:
        found = tuple(line.encode() for line in re.split("\r?\n", text) if line)
    except UnicodeEncodeError:
        found = ()
    if not 1 <= len(found) <= 2 or min(map(len, found)) < SECRET_BYTES:  # noqa: PLR2004  as said above
        raise Misconfigured(f"{where} must hold one secret or two, one a line, of at least {SECRET_BYTES} bytes each.")
    return found


def _of_text(text: str, where: str) -> Keys:
    import jwt  # noqa: PLC0415  see tokens.py

    prepare = jwt.get_algorithm_by_name("HS256").prepare_key
    try:
        return Keys(tuple(Key(prepare(secret)) for secret in secrets(text, where)), named=False)
    except jwt.InvalidKeyError:
        raise Misconfigured(f"{where} must hold a secret; this is a public key, or a key of another kind.") from None


def _read_parameter(name: str) -> Keys:
    try:
        found = _client("ssm").get_parameter(Name=name, WithDecryption=True)
    except (ClientError, BotoCoreError) as error:
        advice = f"JWT_SECRET_PARAMETER must name a parameter that this function's role may read; it is {name}"
        raise UpstreamError("GetParameter", f"{error}; {advice}") from error
    return _of_text(found["Parameter"]["Value"], f"The parameter {name}")


def _read_secret(secret_id: str) -> Keys:
    try:
        found = _client("secretsmanager").get_secret_value(SecretId=secret_id)
    except (ClientError, BotoCoreError) as error:
        advice = f"JWT_SECRET_ID must name a secret that this function's role may read; it is {secret_id}"
        raise UpstreamError("GetSecretValue", f"{error}; {advice}") from error
    return _of_text(found.get("SecretString", ""), f"The secret {secret_id}")


@lru_cache(maxsize=2)
def _client(service: str) -> Any:
    return aws.client(
        service, attempts=ATTEMPTS, connect_seconds=CONNECT_SECONDS, answer_seconds=ANSWER_SECONDS, sockets=1
    )


def _read_jwks(url: str, algorithm: str) -> Keys:
    parts = urlsplit(url)
    try:
        endpoint = Endpoint(
            urlunsplit((parts.scheme, parts.netloc, "", "", "")),
            connect_seconds=CONNECT_SECONDS,
            answer_seconds=ANSWER_SECONDS,
            ca_file=os.environ.get(_CA_VARIABLE) or get_cert_path(True),
        )
    except (OSError, ValueError) as error:
        raise _not_read(f"{error}. Is {_CA_VARIABLE} set wrongly?") from error
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {endpoint.host}\r\nAccept: application/json\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
    try:
        response = endpoint.exchange(request.encode("ascii"))
    except BotoCoreError as error:
        raise _not_read(f"{error.__cause__ or error}") from error
    if response.status != 200:  # noqa: PLR2004  redirects lead where nobody has configured
        raise _not_read(f"the answer was {response.status}")
    try:
        content = parse(response.body.decode())
    except (UnicodeDecodeError, NotJSON, Unreadable):
        raise _not_read("the answer is not JSON") from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise _not_read("the answer is not a JSON Web Key Set")
    found = tuple(key for entry in entries if isinstance(entry, dict) and (key := _public_key(entry, algorithm)))
    if not found:
        raise _not_read(f"the answer has no key for {algorithm}")
    return Keys(found, named=True)


def _not_read(reason: str) -> UpstreamError:
    return UpstreamError("Reading JWT_JWKS_URL", reason)


def _public_key(jwk: Mapping[str, JSON], algorithm: str) -> Key | None:
    """The key of an entry; None for one of another type or use, of too few bits, or that is none at all.

    A private key is none that anything signed with it could be trusted for: whoever can read the set has it.
    """
    import jwt  # noqa: PLC0415  see tokens.py

    operations, kid = jwk.get("key_ops", ["verify"]), jwk.get("kid")
    if (
        jwk.get("kty") != _KEY_TYPES[algorithm]
        or jwk.get("crv") != _CURVES[algorithm]
        or jwk.get("use", "sig") != "sig"
        or jwk.get("alg", algorithm) != algorithm
        or not (isinstance(operations, list) and "verify" in operations)
        or not (kid is None or isinstance(kid, str))
        or "d" in jwk
    ):
        return None
    try:
        material = jwt.PyJWK(dict(jwk), algorithm).key
    except jwt.PyJWTError:
        return None
    return None if algorithm == "RS256" and material.key_size < RSA_BITS else Key(material, kid)
