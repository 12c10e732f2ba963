"""What a token must be to be taken, and whom it then names.

A token is a JSON Web Token (RFC 7519), signed by an algorithm that the settings fix; one that is not is refused before
any key is looked at. PyJWT reads and checks it. Times are checked here, by our clock and more strictly. Where API
Gateway has an authorizer of its own, what that says of a connection is read here too.

Knows neither where a handshake carries a token nor where keys come from. No part of a token gets into an error.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url

from . import keys
from .capability import Capability
from .clock import Clock
from .errors import BadToken, InvalidSetting, Misconfigured, MissingSetting
from .identity import Identity
from .keys import Key, KeyRing
from .settings import ALGORITHMS

if TYPE_CHECKING:
    from jwt.types import Options

# PyJWT is imported where it is used: it and cryptography cost an event that brings no token as much as half of all the
# rest, and whoever has left the server open more still.

TOKEN_BYTES = 8_192
"""The longest token. API Gateway takes 10,240 bytes of headers in all, the request line with its query included.
https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
"""

PRINCIPAL_CHARACTERS = 256

LEEWAY_S = 30
MOST_LEEWAY_S = 300

LATEST_S = 253_402_300_799
"""The end of the year 9999. A time beyond it is one in milliseconds."""

_SECRETS = ("JWT_SECRET", "JWT_SECRET_PARAMETER", "JWT_SECRET_ID")
_JWKS = ("JWT_JWKS_URL",)

_OPTIONS: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""What is checked here instead, or has no meaning here."""


class Reason(Enum):
    """Why a token is not taken, as its owner and the log are told."""

    TOO_LONG = f"it is longer than {TOKEN_BYTES:,} bytes"
    MALFORMED = "it is not a signed JSON Web Token that can be read"
    ALGORITHM = "it is not signed by the algorithm that this server takes"
    SIGNATURE = "no key of this server fits its signature"
    TIME = "its times (exp, which it must have, nbf, iat) must be numbers of seconds since 1970"
    EXPIRED = "it has expired"
    NOT_YET = "it is not valid yet (nbf, iat)"
    ISSUER = "it is not of the issuer (iss) that this server takes"
    AUDIENCE = "it is not meant for this server (aud)"
    PRINCIPAL = f"its user's name (sub, principalId) must be 1 to {PRINCIPAL_CHARACTERS} printable characters"
    CAPABILITY = (
        "its capability is not an object that gives each channel pattern an array of operations, in at most 4,096 bytes"
    )


@dataclass(frozen=True)
class TokenSettings:
    """How tokens are checked: by one algorithm, with keys from one source."""

    algorithm: str
    secret: str | None = field(default=None, repr=False)
    secret_parameter: str | None = None
    secret_id: str | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None
    leeway_s: int = LEEWAY_S
    """By how much clocks may differ: a token counts as valid so much earlier and longer."""

    @classmethod
    def from_env(cls, env: Mapping[str, str], algorithm: str) -> TokenSettings:
        """Reads the variables JWT_*. Raises a ConfigurationError that says what to set; never what a secret is."""
        if algorithm not in ALGORITHMS:
            raise InvalidSetting("AUTHENTICATION", f"one of {', '.join(ALGORITHMS)}", algorithm)
        source = _source(env, algorithm)
        secret, jwks_url = source.get("JWT_SECRET"), source.get("JWT_JWKS_URL")
        if secret is not None:
            keys.secrets(secret, "JWT_SECRET")
        if jwks_url is not None and not _is_jwks_url(jwks_url):
            raise Misconfigured(
                "JWT_JWKS_URL must be a URL that begins with https:// (on this machine itself, http:// will do), "
                "in ASCII, without a user's name or password."
            )
        return cls(
            algorithm=algorithm,
            secret=secret,
            secret_parameter=source.get("JWT_SECRET_PARAMETER"),
            secret_id=source.get("JWT_SECRET_ID"),
            jwks_url=jwks_url,
            issuer=env.get("JWT_ISSUER") or None,
            audience=env.get("JWT_AUDIENCE") or None,
            leeway_s=_leeway(env.get("JWT_LEEWAY_SECONDS", "")),
        )


def key_ring(settings: TokenSettings, clock: Clock) -> KeyRing:
    """The keys of the settings' source. Nothing is read before there is a token."""
    if settings.secret is not None:
        return keys.of_secret(settings.secret, clock)
    if settings.secret_parameter is not None:
        return keys.of_parameter(settings.secret_parameter, clock)
    if settings.secret_id is not None:
        return keys.of_secrets_manager(settings.secret_id, clock)
    if settings.jwks_url is not None:
        return keys.of_jwks(settings.jwks_url, settings.algorithm, clock)
    raise Misconfigured("The settings of tokens name no source of keys.")


class Verifier:
    """Takes tokens that fit the settings and are signed with a key of the ring. Safe to use from several threads."""

    def __init__(self, settings: TokenSettings, ring: KeyRing, clock: Clock) -> None:
        self._settings = settings
        self._ring = ring
        self._clock = clock

    def verify(self, token: str) -> Identity:
        """Whom the token names. Its `expires_at` is later than now: the token's, and the leeway.

        Raises BadToken, whose reason is one of Reason's; UpstreamError or a ConfigurationError where there are no keys.
        """
        kid = self._kid(token)
        known = self._ring.current()
        claims = self._claims(token, known.matching(kid))
        if claims is None:
            newer = self._ring.newer(known)
            claims = None if newer is known else self._claims(token, newer.matching(kid))
        if claims is None:
            raise _bad(Reason.SIGNATURE)
        return Identity(_principal(claims.get("sub")), _capability(claims), self._expiry(claims))

    def _kid(self, token: str) -> str | None:
        """The name that the token gives its key; refuses what is not worth a look at any."""
        import jwt  # noqa: PLC0415

        if len(token) > TOKEN_BYTES:
            raise _bad(Reason.TOO_LONG)
        if not token.isascii():
            raise _bad(Reason.MALFORMED)
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise _bad(Reason.MALFORMED) from None
        if header.get("alg") != self._settings.algorithm:
            raise _bad(Reason.ALGORITHM)
        kid: str | None = header.get("kid")
        return kid

    def _claims(self, token: str, candidates: Iterable[Key]) -> dict[str, Any] | None:
        """What the token says, if it is signed with one of these keys."""
        import jwt  # noqa: PLC0415

        for key in candidates:
            try:
                return jwt.decode(
                    token,
                    key.material,
                    algorithms=[self._settings.algorithm],
                    issuer=self._settings.issuer,
                    audience=self._settings.audience,
                    options=_OPTIONS,
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidIssuerError:
                raise _bad(Reason.ISSUER) from None
            except jwt.InvalidAudienceError:
                raise _bad(Reason.AUDIENCE) from None
            except jwt.MissingRequiredClaimError as error:
                raise _bad(Reason.ISSUER if error.claim == "iss" else Reason.AUDIENCE) from None
            except jwt.InvalidTokenError:
                raise _bad(Reason.MALFORMED) from None
        return None

    def _expiry(self, claims: Mapping[str, Any]) -> int:
        now, leeway = self._clock.now_ms() / 1_000, self._settings.leeway_s
        expires_at = _whole_seconds(claims.get("exp")) + leeway
        if expires_at <= now:
            raise _bad(Reason.EXPIRED)
        if any(_whole_seconds(claims[name]) - leeway > now for name in ("nbf", "iat") if name in claims):
            raise _bad(Reason.NOT_YET)
        return expires_at


def identity_of_authorizer(context: Mapping[str, Any]) -> Identity:
    """Whom API Gateway's authorizer names: `requestContext.authorizer`, its principalId and what else it says.

    It may say `capability`, as JSON text, and `exp`, a number or the text of one, in seconds since 1970, which is for
    the caller to compare with the time. Raises BadToken, whose reason is one of Reason's.
    """
    expiry = context.get("exp")
    if isinstance(expiry, str):
        try:
            expiry = float(expiry)
        except ValueError:
            raise _bad(Reason.TIME) from None
    expires_at = _whole_seconds(expiry) if "exp" in context else None
    return Identity(_principal(context.get("principalId")), _capability(context), expires_at)


def _bad(reason: Reason) -> BadToken:
    return BadToken(reason.value)


def _principal(name: object) -> str:
    """It gets into logs and the table: no control characters, no invisible ones, nothing that UTF-8 cannot carry."""
    if not isinstance(name, str) or not 1 <= len(name) <= PRINCIPAL_CHARACTERS or not name.isprintable():
        raise _bad(Reason.PRINCIPAL)
    return name


def _capability(said: Mapping[str, Any]) -> Capability | None:
    if "capability" not in said:
        return None
    try:
        return Capability.parse(said["capability"])
    except ValueError:
        raise _bad(Reason.CAPABILITY) from None


def _whole_seconds(value: object) -> int:
    """A time, rounded up: RFC 7519 allows fractions. Python's NaN and Infinity, which its JSON reads too, are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST_S:
        raise _bad(Reason.TIME)
    return math.ceil(value)


def _source(env: Mapping[str, str], algorithm: str) -> dict[str, str]:
    """The one variable that says where keys come from, with its value."""
    fitting = _SECRETS if algorithm == "HS256" else _JWKS
    given = {name: env[name] for name in (*_SECRETS, *_JWKS) if env.get(name)}
    for name in given:
        if name not in fitting:
            raise Misconfigured(f"{name} is set, but keys for {algorithm} come from {' or '.join(fitting)}.")
    if len(given) > 1:
        raise Misconfigured(f"{' and '.join(given)} are set; set one of them.")
    if not given:
        if fitting is _JWKS:
            raise MissingSetting("JWT_JWKS_URL", "the URL at which the issuer of tokens publishes its keys")
        raise MissingSetting(
            "JWT_SECRET_PARAMETER",
            "the name of the SSM parameter with the secret of the tokens (or JWT_SECRET_ID that of a secret of "
            "Secrets Manager or, on a laptop, JWT_SECRET the secret itself)",
        )
    return given


def _is_jwks_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        valid = is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = re.fullmatch("[!-~]+", url) and "@" not in parts.netloc and port != 0
    return bool(valid and plain) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _leeway(text: str) -> int:
    if not text:
        return LEEWAY_S
    if not re.fullmatch("[0-9]{1,3}", text) or int(text) > MOST_LEEWAY_S:
        raise InvalidSetting("JWT_LEEWAY_SECONDS", f"a whole number from 0 to {MOST_LEEWAY_S}", text)
    return int(text)
