"""What stands before the store when faults are wanted: passes requests on, or does to them what the plan says.

Knows DynamoDB's HTTP as far as an operation's name and an error's shape. A request that no rule is for reaches the
store as it came, its Host and signature too.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from localaws import bodies
from localaws.batches import Batch
from localaws.faults import Faults
from localaws.kills import Kills
from localaws.limits import STORE_REQUEST_BYTES

# Each connection's own affair (RFC 9110, 7.6.1), or said anew for a body that was changed.
_NOT_PASSED_ON = (
    hdrs.CONNECTION,
    hdrs.KEEP_ALIVE,
    hdrs.TRANSFER_ENCODING,
    hdrs.CONTENT_LENGTH,
    hdrs.EXPECT,
    hdrs.ACCEPT_ENCODING,
    "X-Amz-Crc32",
)

KEPT_S = 3600.0
"""How long an idle connection to the store is kept, which keeps it as long (_store_child.py)."""

_ERRORS = {
    "throttle": (
        400,
        "ProvisionedThroughputExceededException",
        "Throughput exceeds the current capacity of your table.",
    ),
    "fail": (500, "InternalServerError", "Internal server error"),
    "forget": (500, "InternalServerError", "Internal server error"),
}


class StoreProxy:
    """Listens on a free loopback port for requests to the store at the URL `store`; serves from `start` to `stop`."""

    def __init__(self, store: str, faults: Faults, kills: Kills) -> None:
        self._store = store.rstrip("/")
        self._faults = faults
        self._kills = kills
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            # As many at the same time as there are functions, and kept: the store holds one that was closed half open.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=[hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE],
        )
        application = web.Application(client_max_size=STORE_REQUEST_BYTES, middlewares=[bodies.refuse_broken])
        application.router.add_route("*", "/{path:(?s:.*)}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listener).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            await self._session.close()

    async def _answer(self, request: web.Request) -> web.Response:
        return await self._kills.carry_out(request, lambda: self._strike(request))

    async def _strike(self, request: web.Request) -> web.Response:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        body = await request.read()
        error, seeds = None, []
        for strike in self._faults.strike("store", None, operation):
            if strike.do == "delay":
                await asyncio.sleep(strike.wait_s or 0)
            elif strike.do == "unprocessed":
                seeds.append(strike.seed)
            elif strike.do == "down":
                return _cut(request)
            else:
                error = strike.do
        if error in {None, "forget"}:
            answer = await self._carry_out(request, operation, body, seeds)
        return answer if error is None else _refusal(*_ERRORS[error])

    async def _carry_out(self, request: web.Request, operation: str, body: bytes, seeds: list[int]) -> web.Response:
        """Have the store do it, all but what each seed leaves undone."""
        if not seeds:
            return await self._pass_on(request, body)
        try:
            batch = Batch(operation, body, seeds[0])
        except ValueError:  # the store says best what is wrong with it
            return await self._pass_on(request, body)
        if batch.body is None:
            return web.Response(body=batch.answer(), content_type="application/x-amz-json-1.0")
        answer = await self._carry_out(request, operation, batch.body, seeds[1:])
        if answer.status == 200 and isinstance(answer.body, bytes):  # noqa: PLR2004
            answer.body = batch.answer(answer.body)
        return answer

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        url = URL(self._store + request.raw_path, encoded=True)
        headers = _passed_on(request.headers.items())
        try:
            async with self._session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                return web.Response(
                    status=answer.status, headers=_passed_on(answer.headers.items()), body=await answer.read()
                )
        except aiohttp.ClientError:  # what the store does to us is done to the client
            return _cut(request)


def _cut(request: web.Request) -> web.Response:
    """End the TCP connection. The answer is for aiohttp, which finds that nobody is there to take it."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _passed_on(headers: Iterable[tuple[str, str]]) -> CIMultiDict[str]:
    passed = CIMultiDict(headers)
    for name in _NOT_PASSED_ON:
        passed.popall(name, None)
    return passed


def _refusal(status: int, kind: str, message: str) -> web.Response:
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", "message": message})
    return web.Response(status=status, text=body, content_type="application/x-amz-json-1.0")
