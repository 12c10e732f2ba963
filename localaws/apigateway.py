"""API Gateway's front door on one port, and Lambda's: which request goes where, and the life of a WebSocket.

Knows the order of things: $connect decides on the handshake, each message is one invocation, $disconnect follows the
end. How an event looks is events.py's, how a handler runs is functions.py's, which frames are taken is frames.py's, how
long a connection lasts is connections.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import HttpVersion11, hdrs, web

from localaws import callers, events, frames, invoke, management
from localaws.connections import GOING_AWAY, BufferFull, Connection
from localaws.control import Control
from localaws.events import CONNECT, DISCONNECT, MESSAGE, Event, Identity
from localaws.faults import Doom, Faults
from localaws.functions import FunctionError, Functions
from localaws.invoke import Invocations
from localaws.kills import Kills
from localaws.limits import CLOSE_GOING_AWAY, URL_CHARACTERS
from localaws.management import Management
from localaws.pages import Pages
from localaws.settings import Settings
from localaws.signatures import Signatures
from localaws.throttle import TokenBucket

FRAMES_AT_ONCE = 64
"""Invocations of one socket at the same time. AWS has no such bound, but more threads than a laptop."""


class Gateway:
    """Holds the connections of one WebSocket API with one stage."""

    def __init__(
        self,
        functions: Functions,
        pages: Pages,
        settings: Settings,
        stage: str,
        *,
        signatures: Signatures,
        faults: Faults,
        kills: Kills,
        loopback: bool,
    ) -> None:
        """`loopback`: this machine alone can reach it, and its APIs are for this machine's own programs."""
        self._functions = functions
        self._faults = faults
        self._kills = kills
        self._loopback = loopback
        self._control = None if settings.faults is None else Control(faults, self._thaw)
        self._invocations = Invocations(functions, signatures)
        self._pages = pages
        self._settings = settings
        self._stage = stage
        self._upgraded = {"/", f"/{stage}"}
        self._frames_at_once = 1 if settings.serial_frames else FRAMES_AT_ONCE
        self._integration_s = settings.integration_s
        # AWS publishes no burst of new connections: a second's worth.
        self._connects = TokenBucket(settings.connect_rate, settings.connect_rate)
        self._requests = TokenBucket(settings.request_rate, settings.request_burst)
        self._connections: dict[str, Connection] = {}
        self._management = Management(self._connections, signatures, self._requests, faults)
        self._sockets: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        if self._control is not None and (answer := await self._control.respond(request)) is not None:
            return answer
        if "websocket" in ",".join(request.headers.getall(hdrs.UPGRADE, ())).lower():
            return await self._upgrade(request)
        if (answer := await self._call(request)) is not None:
            return answer
        if not self._requests.take():
            return web.json_response({"message": _THROTTLED}, status=HTTPStatus.TOO_MANY_REQUESTS)
        return await self._pages.respond(request)

    async def stop(self, timeout: float) -> None:
        """Close every socket with 1001 and let functions end, for `timeout` seconds at most.

        $disconnect handlers come first: they may invoke others.
        """
        self._stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        for connection in self._connections.values():
            connection.close(CLOSE_GOING_AWAY, GOING_AWAY)
        if self._sockets:
            await asyncio.wait(self._sockets, timeout=timeout)
        await self._invocations.stop(deadline - loop.time())

    async def _call(self, request: web.Request) -> web.Response | None:
        """The answer of @connections or of Lambda's API; None if the request is for neither."""
        connection_id = management.connection_id(request.rel_url.raw_path, self._stage)
        function_name = invoke.function_name(request.rel_url.raw_path)
        if connection_id is None and function_name is None:
            return None
        if self._loopback and callers.may_be_a_page(request):
            return _forbidden()
        if connection_id is not None:
            return await self._kills.carry_out(request, lambda: self._management.respond(request, connection_id))
        return await self._invocations.respond(request, function_name or "")

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        if request.path not in self._upgraded:
            return web.json_response({"message": "Forbidden"}, status=HTTPStatus.FORBIDDEN)
        if len(f"wss://{request.host}{request.rel_url.raw_path_qs}") > URL_CHARACTERS:
            return _refusal(HTTPStatus.REQUEST_URI_TOO_LONG, f"A URL has at most {URL_CHARACTERS} characters.\n")
        # https://datatracker.ietf.org/doc/html/rfc6455#section-4.2.1
        if request.method != hdrs.METH_GET or request.version != HttpVersion11 or request.body_exists:
            return _refusal(HTTPStatus.BAD_REQUEST, "A WebSocket connection opens with GET, HTTP/1.1 and no body.\n")
        answer = frames.handshake(request.path, request.headers.items())
        if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return _refusal(answer.status_code, answer.body.decode())
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  for mypy: aiohttp runs every handler in one
        self._sockets.add(task)
        task.add_done_callback(self._sockets.discard)
        return await self._serve(request, web.StreamResponse(status=answer.status_code, headers=answer.headers))

    async def _serve(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        transport = request.transport
        if transport is None:  # the client has left already
            return response
        identity = self._identify(request)
        event = events.connect(identity, request.headers.items(), request.rel_url.raw_query_string)
        status, protocol = await self._connect(event)
        if not 200 <= status < 300:  # noqa: PLR2004  "2xx"
            return web.json_response(_notice("Handshake refused", event), status=status)
        if protocol is not None:
            response.headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = protocol
        connection = Connection(identity, transport, idle_s=self._settings.idle_s, life_s=self._settings.life_s)
        self._connections[identity.connection_id] = connection
        try:
            await self._exchange(request, response, connection)
        finally:
            del self._connections[identity.connection_id]
            await self._disconnect(connection)
        return response

    def _identify(self, request: web.Request) -> Identity:
        now = events.now_ms()
        return Identity(
            connection_id=events.new_connection_id(now),
            connected_at=now,
            stage=self._stage,
            domain_name=request.host,
            source_ip=request.remote or "",
            user_agent=request.headers.get(hdrs.USER_AGENT),
        )

    async def _connect(self, event: Event) -> tuple[int, str | None]:
        """The handshake's status and the subprotocol picked."""
        if not (self._connects.take() and self._requests.take()):
            return HTTPStatus.TOO_MANY_REQUESTS, None
        if not self._functions.has(CONNECT):
            return HTTPStatus.OK, None
        try:
            answer = await self._integrate(event)
            status, protocol = int(answer["statusCode"]), _subprotocol(answer.get("headers") or {})
        except asyncio.TimeoutError:
            return HTTPStatus.GATEWAY_TIMEOUT, None
        except (FunctionError, AttributeError, KeyError, TypeError, ValueError):
            return HTTPStatus.BAD_GATEWAY, None
        if not 200 <= status <= 599:  # noqa: PLR2004  what can end a request
            return HTTPStatus.BAD_GATEWAY, None
        return status, protocol

    async def _integrate(self, event: Event) -> Any:
        """What the function returns. Raises FunctionError, or asyncio.TimeoutError where the client waits no longer."""
        return await asyncio.wait_for(self._functions.invoke(event), self._integration_s)

    async def _exchange(self, request: web.Request, response: web.StreamResponse, connection: Connection) -> None:
        try:
            await response.prepare(request)
        except ConnectionError:  # the client left while $connect ran
            connection.feed_eof()
            return
        # aiohttp has no documented way to hand over a socket. This is the one its own WebSockets take: all that comes
        # from here on, and what came early, goes to feed_data, and the end to feed_eof.
        self._strike_socket(connection)  # first: of a frozen socket not even that is read
        request.protocol.set_parser(connection)  # type: ignore[arg-type]
        if self._stopping:
            connection.close(CLOSE_GOING_AWAY, GOING_AWAY)
        in_flight = asyncio.Semaphore(self._frames_at_once)
        invocations: set[asyncio.Task[None]] = set()
        while texts := await connection.read():
            for text in texts:
                # Waiting here is backpressure: a client cannot fill the memory with frames faster than they are run.
                await in_flight.acquire()
                invocation = asyncio.create_task(self._message(connection, text))
                invocations.add(invocation)  # asyncio itself holds tasks but weakly
                invocation.add_done_callback(invocations.discard)
                invocation.add_done_callback(lambda _: in_flight.release())
        if self._frames_at_once == 1 and invocations:
            await asyncio.wait(invocations)  # in order: $disconnect after the last frame

    async def _message(self, connection: Connection, text: str) -> None:
        event = events.message(connection.identity, text)
        if not self._requests.take():
            self._tell(connection, _notice(_THROTTLED, event))
            return
        for strike in self._faults.strike("frame", connection.identity.connection_id, text):
            if strike.do == "fail":
                self._tell(connection, _notice("Internal server error", event))
                return
            await asyncio.sleep(strike.wait_s or 0)
        if not self._functions.has(MESSAGE):
            self._tell(connection, _notice("Forbidden", event))
            return
        try:
            await self._integrate(event)
        except asyncio.TimeoutError:
            self._tell(connection, _notice("Endpoint request timed out", event))
        except FunctionError:
            self._tell(connection, _notice("Internal server error", event))

    async def _disconnect(self, connection: Connection) -> None:
        if self._faults.strike("disconnect", connection.identity.connection_id):
            return
        if self._functions.has(DISCONNECT) and connection.closed is not None:
            closed = connection.closed
            with contextlib.suppress(FunctionError):
                await self._functions.invoke(events.disconnect(connection.identity, closed.code, closed.reason))

    def _strike_socket(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection_id = connection.identity.connection_id
        for cut in self._faults.doom("socket", connection_id):
            loop.call_later(cut.wait_s or 0, _cut, connection, cut)
        if frozen_s := [freeze.wait_s for freeze in self._faults.strike("socket", connection_id)]:
            connection.freeze()
            if None not in frozen_s:  # the longest counts
                loop.call_later(max(each for each in frozen_s if each is not None), connection.thaw)

    def _thaw(self) -> None:
        for connection in self._connections.values():
            connection.thaw()

    def _tell(self, connection: Connection, notice: dict[str, str]) -> None:
        if connection.closed is None:
            with contextlib.suppress(BufferFull):
                connection.post(json.dumps(notice).encode())


def _cut(connection: Connection, cut: Doom) -> None:
    """Cut its TCP connection, unless the client or the plan has gone meanwhile."""
    if connection.closed is None and cut.comes():
        connection.cut()


def _forbidden() -> web.Response:
    return web.json_response(
        {"message": "@connections and Lambda are for this machine's own programs, not for pages."},
        status=HTTPStatus.FORBIDDEN,
        headers={"x-amzn-ErrorType": "ForbiddenException"},
    )


def _refusal(status: int, why: str) -> web.Response:
    """No upgrade, with what would be taken: https://datatracker.ietf.org/doc/html/rfc6455#section-4.4"""
    headers = {hdrs.UPGRADE: "websocket", hdrs.SEC_WEBSOCKET_VERSION: "13"}
    response = web.Response(status=status, text=why, headers=headers)
    response.force_close()
    return response


def _subprotocol(headers: Mapping[str, str]) -> str | None:
    """The one that $connect picks. Raises AttributeError or ValueError for what are no headers."""
    picked = {name.lower(): value for name, value in headers.items()}.get("sec-websocket-protocol")
    if picked is not None and not (picked.isascii() and picked.isprintable()):
        raise ValueError(picked)
    return picked


_THROTTLED = "Too Many Requests"


def _notice(message: str, event: Event) -> dict[str, str]:
    context = event["requestContext"]
    return {
        "message": message,
        "connectionId": context["connectionId"],
        "requestId": context["requestId"],
    }
