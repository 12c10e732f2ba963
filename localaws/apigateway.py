"""API Gateway's front door on one port, and Lambda's: which request goes where, and the life of a WebSocket.

Knows the order of things: $connect decides on the handshake, each message is one invocation, $disconnect follows the
end. How an event looks is events.py's, how a handler runs is functions.py's, how a frame is sent is connections.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web

from localaws import events, invoke, management
from localaws.connections import BufferFull, Connection
from localaws.control import Control
from localaws.events import CONNECT, DISCONNECT, MESSAGE, Event, Identity
from localaws.faults import Faults
from localaws.functions import FunctionError, Functions
from localaws.invoke import Invocations
from localaws.kills import Kills
from localaws.limits import CLOSE_ABNORMAL, CLOSE_GOING_AWAY, MESSAGE_BYTES
from localaws.pages import Pages
from localaws.settings import Settings

# It warns of each subprotocol that a client asks for: here the $connect handler picks one, not aiohttp.
logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)


# Far more than a message may have: one that is too big is read to its end, or the kernel would answer what is left
# unread with a reset, which can overtake the close frame that says 1009.
RECEIVED_BYTES = 128 * MESSAGE_BYTES

FRAMES_AT_ONCE = 64
"""Invocations of one socket at the same time. AWS has no such bound, but more threads than a laptop."""


class Gateway:
    """Holds the connections of one WebSocket API with one stage."""

    def __init__(
        self, functions: Functions, pages: Pages, settings: Settings, stage: str, *, faults: Faults, kills: Kills
    ) -> None:
        self._functions = functions
        self._faults = faults
        self._kills = kills
        self._control = None if settings.faults is None else Control(faults, self._thaw)
        self._invocations = Invocations(functions)
        self._pages = pages
        self._stage = stage
        self._upgraded = {"/", f"/{stage}"}
        self._frames_at_once = 1 if settings.serial_frames else FRAMES_AT_ONCE
        self._frame_delay_s = settings.frame_delay_s
        self._random = random.Random(settings.seed)  # noqa: S311  a test's dice
        self._connections: dict[str, Connection] = {}
        self._sockets: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        if self._control is not None and (answer := await self._control.respond(request)) is not None:
            return answer
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._upgrade(request)
        connection_id = management.connection_id(request.rel_url.raw_path, self._stage)
        if connection_id is not None:
            connection = self._connections.get(connection_id)
            return await self._kills.carry_out(request, lambda: management.respond(request, connection, self._faults))
        function_name = invoke.function_name(request.rel_url.raw_path)
        if function_name is not None:
            return await self._invocations.respond(request, function_name)
        return await self._pages.respond(request)

    async def stop(self, timeout: float) -> None:
        """Close every socket with 1001 and let functions end, for `timeout` seconds at most.

        $disconnect handlers come first: they may invoke others.
        """
        self._stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        for connection in self._connections.values():
            connection.close(CLOSE_GOING_AWAY, _GOING_AWAY)
        if self._sockets:
            await asyncio.wait(self._sockets, timeout=timeout)
        await self._invocations.stop(deadline - loop.time())

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=RECEIVED_BYTES)
        if request.path not in self._upgraded:
            return web.json_response({"message": "Forbidden"}, status=HTTPStatus.FORBIDDEN)
        if not socket.can_prepare(request):
            return web.json_response({"message": "Bad Request"}, status=HTTPStatus.BAD_REQUEST)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  for mypy: aiohttp runs every handler in one
        self._sockets.add(task)
        task.add_done_callback(self._sockets.discard)
        return await self._serve(request, socket)

    async def _serve(self, request: web.Request, socket: web.WebSocketResponse) -> web.StreamResponse:
        identity = self._identify(request)
        event = events.connect(identity, request.headers.items(), request.rel_url.raw_query_string)
        status, protocol = await self._connect(event)
        if not 200 <= status < 300:  # noqa: PLR2004  "2xx"
            return web.json_response(_notice("Handshake refused", event), status=status)
        if protocol is not None:
            socket.headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = protocol
        connection = Connection(identity, socket, request.transport)
        self._connections[identity.connection_id] = connection
        try:
            await self._exchange(request, socket, connection)
        finally:
            del self._connections[identity.connection_id]
            await self._disconnect(connection)
        return socket

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
        if not self._functions.has(CONNECT):
            return HTTPStatus.OK, None
        try:
            answer = await self._functions.invoke(event)
            status = int(answer["statusCode"])
        except (FunctionError, KeyError, TypeError, ValueError):
            return HTTPStatus.BAD_GATEWAY, None
        if not 200 <= status <= 599:  # noqa: PLR2004  what can end a request
            return HTTPStatus.BAD_GATEWAY, None
        headers = {name.lower(): value for name, value in (answer.get("headers") or {}).items()}
        return status, headers.get("sec-websocket-protocol")

    async def _exchange(self, request: web.Request, socket: web.WebSocketResponse, connection: Connection) -> None:
        try:
            await socket.prepare(request)
        except ConnectionError:  # the client left while $connect ran
            connection.close(CLOSE_ABNORMAL)
            return
        if self._stopping:
            connection.close(CLOSE_GOING_AWAY, _GOING_AWAY)
        self._strike_socket(connection)
        writer = asyncio.create_task(connection.write())
        in_flight = asyncio.Semaphore(self._frames_at_once)
        invocations: set[asyncio.Task[None]] = set()
        try:
            while (text := await connection.read()) is not None:
                # Waiting here is backpressure: a client cannot fill the memory with frames faster than they are run.
                await in_flight.acquire()
                invocation = asyncio.create_task(self._message(connection, text))
                invocations.add(invocation)  # asyncio itself holds tasks but weakly
                invocation.add_done_callback(invocations.discard)
                invocation.add_done_callback(lambda _: in_flight.release())
            if self._frames_at_once == 1 and invocations:
                await asyncio.wait(invocations)  # in order: $disconnect after the last frame
        finally:
            writer.cancel()

    async def _message(self, connection: Connection, text: str) -> None:
        event = events.message(connection.identity, text)
        if self._frame_delay_s[1]:
            await asyncio.sleep(self._random.uniform(*self._frame_delay_s))
        for strike in self._faults.strike("frame", connection.identity.connection_id, text):
            if strike.do == "fail":
                self._tell(connection, _notice("Internal server error", event))
                return
            await asyncio.sleep(strike.wait_s or 0)
        if not self._functions.has(MESSAGE):
            self._tell(connection, _notice("Forbidden", event))
            return
        try:
            await self._functions.invoke(event)
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
        for strike in self._faults.strike("socket", connection.identity.connection_id):
            if strike.do == "cut":
                loop.call_later(strike.wait_s or 0, connection.cut)
                continue
            connection.freeze()
            if strike.wait_s is not None:
                loop.call_later(strike.wait_s, connection.thaw)

    def _thaw(self) -> None:
        for connection in self._connections.values():
            connection.thaw()

    def _tell(self, connection: Connection, notice: dict[str, str]) -> None:
        if connection.closed is None:
            with contextlib.suppress(BufferFull):
                connection.post(json.dumps(notice).encode())


_GOING_AWAY = "Going away"


def _notice(message: str, event: Event) -> dict[str, str]:
    context = event["requestContext"]
    return {
        "message": message,
        "connectionId": context["connectionId"],
        "requestId": context["requestId"],
    }
