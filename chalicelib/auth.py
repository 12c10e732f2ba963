"""Who may connect: the origin of the page, and the token or the authorizer that says who it is.

Knows where a handshake carries a token. What a token must hold is tokens.py's, which origins are allowed origins.py's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clock import Clock
from .errors import BadToken, NotAllowed, Unauthenticated
from .events import Connect
from .identity import Identity
from .settings import Settings

if TYPE_CHECKING:
    from .tokens import Verifier

BEARER = "bearer"
"""The scheme of the Authorization header, and the first of the two subprotocols that carry a token: browsers cannot
send headers, but `new WebSocket(url, ["bearer", token])` they can.
"""


class Gate:
    """Lets in whom the settings let in. `verifier` is None where no tokens are taken."""

    def __init__(self, settings: Settings, verifier: Verifier | None, clock: Clock) -> None:
        self._settings = settings
        self._verifier = verifier
        self._clock = clock

    def admit(self, event: Connect) -> tuple[Identity | None, str | None]:
        """Who connects, None where the server is open, and the subprotocol to be echoed.

        Raises NotAllowed and Unauthenticated, and UpstreamError where the keys cannot be had.
        """
        self._check_origin(event)
        echoed = BEARER if _subprotocols(event)[0] == BEARER else None
        if self._settings.is_open:
            return None, echoed
        try:
            return self._identify(event), echoed
        except BadToken as error:
            raise Unauthenticated(error.reason) from error

    def renew(self, token: str) -> Identity | None:
        """Whom a later token names, None where the server asks for none. Raises BadToken, UpstreamError."""
        if self._settings.is_open:
            return None
        if self._verifier is None:
            raise BadToken("this server takes none after connecting; connect again")
        return self._verifier.verify(token)

    def _identify(self, event: Connect) -> Identity:
        # What else the handshake carries was for the authorizer to read.
        if event.authorizer is not None:
            from .tokens import identity_of_authorizer  # noqa: PLC0415  an open server has no use for it

            identity = identity_of_authorizer(event.authorizer)
            if identity.expires_at is not None and identity.expires_at * 1_000 <= self._clock.now_ms():
                raise Unauthenticated("what API Gateway's authorizer said has expired")
            return identity
        if self._verifier is None:
            raise Unauthenticated("API Gateway's authorizer said nothing of this connection; is it on the route?")
        token = presented_by(event)
        if token is None:
            raise Unauthenticated("no token")
        return self._verifier.verify(token)

    def _check_origin(self, event: Connect) -> None:
        origins = event.headers.get("origin", ())
        if len(origins) > 1:
            raise NotAllowed("more than one Origin header")
        if not any(origins) and not self._settings.missing_origin:
            raise NotAllowed("no Origin header, which MISSING_ORIGIN refuses")
        allowed = self._settings.allowed_origins
        if origins and allowed is not None and not allowed.allows(origins[0]):
            raise NotAllowed("an origin that is not in ALLOWED_ORIGINS")


def presented_by(event: Connect) -> str | None:
    """The token of a handshake, from the one place that carries it; raises Unauthenticated where it is not clear which
    one is meant.
    """
    subprotocols = _subprotocols(event)
    found = [*event.tokens, *map(_of_authorization, event.headers.get("authorization", ()))]
    if BEARER in subprotocols:
        if len(subprotocols) != 2 or subprotocols[0] != BEARER:  # noqa: PLR2004  the pair
            raise Unauthenticated('subprotocols that are not the pair "bearer", token')
        found.append(subprotocols[1])
    if len(found) > 1:
        raise Unauthenticated("more than one token")
    return found[0] if found else None


def _subprotocols(event: Connect) -> list[str]:
    """Those that the client offers, in its order; one that is empty where it offers none."""
    return [name.strip() for name in ",".join(event.headers.get("sec-websocket-protocol", ())).split(",")]


def _of_authorization(value: str) -> str:
    scheme, _, token = value.strip().partition(" ")
    if scheme.lower() != BEARER:
        raise Unauthenticated("an Authorization header of another scheme than Bearer")
    return token.strip()
