"""The @connections API: post to a connection, look at it, close it.

Knows its paths, answers and errors, as boto3's apigatewaymanagementapi client takes them.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from localaws.connections import BufferFull, Connection
from localaws.deliveries import deliver
from localaws.faults import Faults
from localaws.limits import CLOSE_NORMAL, MESSAGE_BYTES
from localaws.signatures import CONNECTIONS, Refused, Signatures
from localaws.throttle import TokenBucket

_ID = re.compile(r"[A-Za-z0-9_-]{15}=")
"""What can be a connection's id: URL-safe base64 of 11 bytes. AWS does not say where it draws this line."""


def connection_id(path: str, stage: str) -> str | None:
    """The id in a path, percent-encoded or not, of the @connections API with or without its stage; None elsewhere."""
    match = re.fullmatch(rf"(?:/{re.escape(stage)})?/@connections/([^/]+)", unquote(path))
    return match[1] if match else None


class Management:
    """Answers for the open connections, which it looks up and does not keep."""

    def __init__(
        self, connections: Mapping[str, Connection], signatures: Signatures, requests: TokenBucket, faults: Faults
    ) -> None:
        self._connections = connections
        self._signatures = signatures
        self._requests = requests
        self._faults = faults

    async def respond(self, request: web.Request, connection_id: str) -> web.Response:
        """Answer a request about the connection of that id."""
        try:
            body = await request.read()
            self._signatures.check(request, body, CONNECTIONS)
        except web.HTTPRequestEntityTooLarge:  # more than the server takes from anybody
            return _too_large()
        except Refused as refused:
            return refused.response()
        if not self._requests.take():
            return _limit_exceeded("Too Many Requests")
        return self._answer(request.method, connection_id, body)

    def _answer(self, method: str, connection_id: str, body: bytes) -> web.Response:
        if method not in _METHODS:
            return _error(405, "MethodNotAllowedException", f"@connections takes {', '.join(_METHODS)}.")
        if not _ID.fullmatch(connection_id):
            return _error(400, "BadRequestException", f"Invalid connectionId: {connection_id}")
        if len(body) > MESSAGE_BYTES:
            return _too_large()
        connection = self._connections.get(connection_id)
        if connection is None or connection.closed is not None:
            return _error(410, "GoneException")
        return _METHODS[method](connection, body, self._faults)


def _post(connection: Connection, body: bytes, faults: Faults) -> web.Response:
    try:
        # What is no UTF-8 is replaced, not refused.
        fault = deliver(connection, body.decode(errors="replace"), faults)
    except BufferFull:
        return _limit_exceeded("The client's buffer is full.")
    if fault == "throttle":
        return _limit_exceeded("Too Many Requests")
    if fault in {"fail", "forget"}:
        return _error(500, "InternalServerErrorException", "Internal server error")
    return web.Response()


def _get(connection: Connection, _body: bytes, _faults: Faults) -> web.Response:
    identity = connection.identity
    agent = {} if identity.user_agent is None else {"userAgent": identity.user_agent}
    return web.json_response(
        {
            "connectedAt": _iso_8601(identity.connected_at),
            "identity": {"sourceIp": identity.source_ip, **agent},
            "lastActiveAt": _iso_8601(connection.last_active_at),
        }
    )


def _delete(connection: Connection, _body: bytes, _faults: Faults) -> web.Response:
    connection.close(CLOSE_NORMAL)
    return web.Response(status=204)


_METHODS = {"POST": _post, "GET": _get, "DELETE": _delete}


def _too_large() -> web.Response:
    return _error(413, "PayloadTooLargeException", f"Messages end at {MESSAGE_BYTES} bytes.")


def _limit_exceeded(message: str) -> web.Response:
    return _error(429, "LimitExceededException", message)


def _error(status: int, kind: str, message: str | None = None) -> web.Response:
    body: Mapping[str, Any] = {"message": message} if message else {}
    return web.json_response(body, status=status, headers={"x-amzn-ErrorType": kind})


def _iso_8601(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
