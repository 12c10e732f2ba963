"""Whose pages may connect: the list of ALLOWED_ORIGINS, and whether an Origin header is on it.

A WebSocket has no CORS: a browser lets any page open one, with the visitor's cookies, and says truthfully in `Origin`
whose page it is. Both sides are read by one strict parser into scheme, host and port, and these are compared; no text
is searched. What the parser does not take is not on any list. It is no URL parser on purpose: those forgive (Python's
drops newlines), and an origin is less than a URL.

Knows nothing of events and headers, nor what to do without an Origin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import NamedTuple

from .errors import shown

ANY = "*"

_DEFAULT_PORTS = {"http": 80, "https": 443}

_SOCKETS = {"ws": "http", "wss": "https"}
"""The schemes of WebSockets, which no page is from, and the one that its writer meant."""

_MOST_CHARACTERS = len("https://") + 253 + len(":65535")
"""The longest name of a host has 253 (RFC 1035, without the dot at its end)."""

_GREATEST_PORT = 65_535

_ORIGIN = re.compile(
    r"""(?P<scheme> [a-z][a-z0-9+.-]* )
        ://
        (?: \[ (?P<ipv6> [0-9a-f:.]+ ) \] | (?P<name> [a-z0-9_-]{1,63} (?: \. [a-z0-9_-]{1,63} )* ) )
        (?: : (?P<port> [1-9][0-9]{0,4} ) )?""",
    re.VERBOSE,
)
"""RFC 6454, section 6.2, in lower case. Hosts are names as browsers send them: ASCII, and without a dot at the end."""


class _Origin(NamedTuple):
    scheme: str
    host: tuple[str, ...]
    """The labels of a name; of an IPv6 address its one spelling."""
    port: int | None
    """None where the scheme has no default and none is given."""


@dataclass(frozen=True, slots=True)
class Origins:
    """A list of origins. `below` has those whose subdomains are on it, of any depth, and not they themselves."""

    exact: frozenset[_Origin]
    below: frozenset[_Origin]
    anyone: bool

    @classmethod
    def parse(cls, text: str) -> Origins:
        """Reads entries between commas and spaces: `https://app.example.com`, `http://localhost:3000`,
        `https://*.example.com` (any subdomain), or `*` alone for any origin at all.

        Whether strangers can have subdomains of that domain too (`*.github.io`) is not known here. Raises ValueError,
        which says in one clause what to write instead.
        """
        entries = text.replace(",", " ").split()
        if not entries:
            raise ValueError("write at least one origin, such as https://app.example.com, or * alone for any")
        if entries == [ANY]:
            return cls(frozenset(), frozenset(), anyone=True)
        exact: set[_Origin] = set()
        below: set[_Origin] = set()
        for entry in entries:
            read = _read_entry(entry)
            if read is None:
                raise ValueError(_advice(entry))
            origin, subdomains = read
            (below if subdomains else exact).add(origin)
        return cls(frozenset(exact), frozenset(below), anyone=False)

    def allows(self, origin: str) -> bool:
        """Whether the value of an Origin header is on the list; on the list `*` is any value at all."""
        if self.anyone:
            return True
        read = _read(origin)
        if read is None:
            return False
        parents = (read._replace(host=read.host[labels:]) for labels in range(1, len(read.host)))
        return read in self.exact or any(parent in self.below for parent in parents)


def _read(text: str) -> _Origin | None:
    """The parts of an origin; None for what is none, as `null` (what browsers send for all that have none)."""
    # ASCII first: to lower() the Kelvin sign is a k.
    if len(text) > _MOST_CHARACTERS or not text.isascii():
        return None
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, ipv6, name, digits = match["scheme"], match["ipv6"], match["name"], match["port"]
    port = int(digits) if digits else _DEFAULT_PORTS.get(scheme)
    if port is not None and port > _GREATEST_PORT:
        return None
    if name is not None:
        return _Origin(scheme, tuple(name.split(".")), port)
    try:
        return _Origin(scheme, (IPv6Address(ipv6).exploded,), port)
    except ValueError:
        return None


def _read_entry(entry: str) -> tuple[_Origin, bool] | None:
    """An entry's origin, and whether its subdomains are meant; None for what is no entry."""
    scheme, subdomains, rest = entry.partition("://*.")
    origin = _read(f"{scheme}://{rest}" if subdomains else entry)
    if origin is None or origin.scheme in _SOCKETS:
        return None
    # A top-level domain is no one's own, and an address has no subdomains.
    if subdomains and (len(origin.host) == 1 or origin.host[-1].isdecimal()):
        return None
    return origin, bool(subdomains)


def _advice(entry: str) -> str:
    """What to write instead of `entry`. A password before an @ is not repeated."""
    if entry.lower() == "null":
        return "null is what any page can send from a sandboxed frame; write your page's origin, or * alone for any"
    scheme, mark, rest = entry.partition("://")
    if not mark:
        scheme, rest = "https", entry
    scheme = _SOCKETS.get(scheme.lower(), scheme)
    host = re.split(r"[/?#\\]", rest, maxsplit=1)[0].rpartition("@")[2].rstrip(".")
    better = f"{scheme}://{host}"
    if not host.isascii():
        return f"write the host {shown(host)} in ASCII, as browsers send it: https://xn--…"
    if _read_entry(better):
        return (
            "an origin is the page's scheme (https, or http), its host, its port where it has one, and nothing else; "
            f"write {shown(better)}"
        )
    if ANY in entry:
        return "a * may stand alone for any origin, or for the subdomains of a domain, as in https://*.example.com"
    came = "" if "@" in entry else f"; {shown(entry)} is none"
    return f"write origins such as https://app.example.com, http://localhost:3000 or https://*.example.com{came}"
