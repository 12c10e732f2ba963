"""Tokens as a backend makes them for its users, and the settings of a server that takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chalicelib.tokens import TokenSettings

from .jwks import NOW_S, SECRET, signed

USER = "ada"
LIFE_S = 7_200
"""How long a token lives if nothing else is said: longer than all tests together."""

HS256: Mapping[str, Any] = {"authentication": "HS256", "tokens": TokenSettings("HS256", secret=SECRET, leeway_s=0)}
"""Settings; and as environment variables:"""
VARIABLES = {"AUTHENTICATION": "HS256", "JWT_SECRET": SECRET}


def token_for(
    user: str, capability: Mapping[str, list[str]] | None = None, expires_in: int = LIFE_S, **claims: Any
) -> str:
    """A token that ends so many seconds after NOW. Without a capability it does not say what it may do."""
    rights = {} if capability is None else {"capability": capability}
    return signed("HS256", {"sub": user, "exp": NOW_S + expires_in, **rights, **claims})
