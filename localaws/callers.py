"""Who sends a request: a program of this machine, or perhaps a page in a browser on it.

A page of any site can make a browser send requests to this machine. Such a request carries an Origin where it may
change anything; one of a page whose site's name was made to point here carries that name as its Host.
"""

from __future__ import annotations

import ipaddress

from aiohttp import hdrs, web


def may_be_a_page(request: web.Request) -> bool:
    """Whether it carries an Origin, or calls this machine by a name that is not its own."""
    return hdrs.ORIGIN in request.headers or not _is_loopback(request.host)


def _is_loopback(authority: str) -> bool:
    """Whether a Host header names this machine, whatever the port: localhost, 127.0.0.1, [::1]."""
    name = authority[1:].partition("]")[0] if authority.startswith("[") else authority.partition(":")[0]
    try:
        return name.lower() == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
