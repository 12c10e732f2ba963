"""Who a connection is and what it may do: what a token or an authorizer says of it, and the table remembers."""

from __future__ import annotations

from typing import NamedTuple

from .capability import Capability


class Identity(NamedTuple):
    """`principal` is the user's name (a token's `sub`), `capability` what it may do, None where nothing says so;
    `expires_at` is when the right ends (s since 1970), None for never.
    """

    principal: str
    capability: Capability | None = None
    expires_at: int | None = None
