"""Which faults a soak puts in, and the server's control of them, /_faults.

Faults that are losses (drop, fail, cut, …) and faults that must come to nothing (delay, forget, unprocessed, …) are
mixed at random; the ledger tells them apart afterwards.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from .history import JSON
from .ledger import Hit

CONTROL_S = 30.0

CALM: list[dict[str, Any]] = [
    {"at": "frame", "do": "delay", "share": 0.2, "ms": "0-80"},
    {"at": "frame", "do": "delay", "share": 0.01, "ms": "1000-2000"},
    {"at": "frame", "do": "fail", "share": 0.005},
    {"at": "delivery", "do": "delay", "share": 0.05, "ms": "0-300"},
    {"at": "delivery", "do": "drop", "share": 0.004},
    {"at": "delivery", "do": "double", "share": 0.004},
    {"at": "delivery", "do": "throttle", "share": 0.005},
    {"at": "delivery", "do": "fail", "share": 0.003},
    {"at": "delivery", "do": "forget", "share": 0.003},
    {"at": "store", "do": "delay", "share": 0.03, "ms": "0-100"},
    {"at": "store", "do": "throttle", "share": 0.01},
    {"at": "store", "do": "fail", "share": 0.005},
    {"at": "store", "do": "forget", "share": 0.005},
    {"at": "store", "do": "down", "share": 0.002},
    {"at": "store", "do": "unprocessed", "share": 0.05},
    {"at": "disconnect", "do": "lose", "share": 0.2},
    {"at": "socket", "do": "freeze", "share": 0.01, "ms": "2000-8000"},
    {"at": "socket", "do": "freeze", "share": 0.004},
    {"at": "socket", "do": "cut", "share": 0.03, "ms": "3000-60000"},
]
"""All the time."""

KILLS: list[dict[str, Any]] = [
    {"at": "invocation", "do": "kill", "match": "websocket_message", "share": 0.006},
    {"at": "invocation", "do": "kill", "match": "websocket_message", "share": 0.006, "after": True},
    {"at": "invocation", "do": "kill", "match": "websocket_message", "share": 0.006, "request": 4},
    {"at": "invocation", "do": "kill", "match": "websocket_connect", "share": 0.01, "after": True},
    {"at": "invocation", "do": "kill", "match": "websocket_disconnect", "share": 0.02},
    {"at": "invocation", "do": "kill", "match": "publish", "share": 0.02, "request": 3},
]
"""All the time too, where functions run in processes of their own."""

STORM: list[dict[str, Any]] = [{"at": "store", "do": "fail", "share": 0.9}]
"""Beside these, for some seconds: so often that the SDK's own retries do not hide it."""


def environment(workers: int) -> dict[str, str]:
    """What a server is started with for a soak, its functions in so many processes: faults, and no quotas. A storm of
    clients is refused by these as it should be, and that is not what a soak is to find.
    """
    return {
        "LOCALAWS_FAULTS": "{}",
        "LOCALAWS_WORKERS": str(workers),
        "LOCALAWS_CONNECT_RATE": "0",
        "LOCALAWS_REQUEST_RATE": "0",
    }


class Control:
    """The faults of the server at that address. Every method raises OSError if it does not answer."""

    def __init__(self, http: str) -> None:
        self._url = f"{http}/_faults"
        self._last = 0

    async def put(self, rules: list[dict[str, Any]], seed: int) -> None:
        """These from now on, with dice of that seed."""
        await self._ask("PUT", "", {"seed": seed, "rules": rules})

    async def clear(self) -> None:
        """None from now on; what is frozen thaws."""
        await self._ask("DELETE", "")

    async def new_hits(self) -> list[Hit]:
        """What has been put in since the last time. The server keeps 100,000: ask more often than that."""
        answer = await self._ask("GET", f"/hits?after={self._last}")
        self._last = answer["last"]
        return [Hit(hit["at"], hit["do"], hit["connection"], hit["detail"]) for hit in answer["hits"]]

    async def _ask(self, method: str, path: str, body: JSON = None) -> JSON:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)

        def ask() -> JSON:
            try:
                with urlopen(request, timeout=CONTROL_S) as response:
                    return json.loads(response.read() or b"null")
            except HTTPError as error:
                with error:
                    raise RuntimeError(f"{method} {request.full_url}: {error.code} {error.read()!r}") from None

        return await asyncio.to_thread(ask)
