"""Kills of invocations: which invocation a request comes from, and whether it is that one's last.

Knows who calls by the access key that signs a request, one for each worker (workers.py), and neither processes nor what
a request asks for.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from localaws.faults import Doom

# https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
_ACCESS_KEY = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/")


@dataclass(frozen=True)
class _Running:
    """The invocation that a worker runs."""

    dooms: Sequence[Doom]
    kill: Callable[[], None]
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    """Of its requests."""

    def ends(self, number: int, *, after: bool) -> bool:
        """Whether it ends before or after that request; if so, it has."""
        due = any(doom.due(number, after=after) for doom in self.dooms)
        if due:
            self.kill()
        return due


class Kills:
    """The invocations of workers that are up for a kill."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    def begin(self, access_key: str, dooms: Sequence[Doom], kill: Callable[[], None]) -> None:
        """An invocation begins; requests signed with this key are its own until `end`. May kill at once."""
        if dooms:
            running = self._running[access_key] = _Running(dooms, kill)
            running.ends(0, after=False)

    def end(self, access_key: str) -> None:
        self._running.pop(access_key, None)

    async def carry_out(self, request: web.Request, act: Callable[[], Awaitable[web.Response]]) -> web.Response:
        """What `act` answers to a request, unless the request is the one that kills whoever sends it."""
        key = _access_key(request) if self._running else ""
        running = self._running.get(key)
        if running is None:
            return await act()
        number = next(running.numbers)
        if running.ends(number, after=False):
            return web.Response()  # nobody is there to read it
        answer = await act()
        if self._running.get(key) is running:  # a request may outlast its invocation, and the worker serve the next
            running.ends(number, after=True)
        return answer


def _access_key(request: web.Request) -> str:
    match = _ACCESS_KEY.match(request.headers.get(hdrs.AUTHORIZATION, ""))
    return match[1] if match else ""
