"""The @connections API: post to a connection, look at it, close it.

Knows its paths, answers and errors, as boto3's apigatewaymanagementapi client takes them. Signatures are not checked.
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


def connection_id(path: str, stage: str) -> str | None:
    """The id in a path, percent-encoded or not, of the @connections API with or without its stage; None elsewhere."""
    match = re.fullmatch(rf"(?:/{re.escape(stage)})?/@connections/([^/]+)", unquote(path))
    return match[1] if match else None


async def respond(request: web.Request, connection: Connection | None, faults: Faults) -> web.Response:
    """Answer a request about `connection`, which is None if there is none that could be posted to."""
    body = await request.read()
    if request.method not in _METHODS:
        return _error(405, "MethodNotAllowedException", f"@connections takes {', '.join(_METHODS)}.")
    if len(body) > MESSAGE_BYTES:
        return _error(413, "PayloadTooLargeException", f"Messages end at {MESSAGE_BYTES} bytes.")
    if connection is None or connection.closed is not None:
        return _error(410, "GoneException")
    return _METHODS[request.method](connection, body, faults)


def _post(connection: Connection, body: bytes, faults: Faults) -> web.Response:
    try:
        fault = deliver(connection, body, faults)
    except UnicodeDecodeError:
        return _error(400, "BadRequestException", "A text frame carries UTF-8.")
    except BufferFull:
        return _error(429, "LimitExceededException", "The client's buffer is full.")
    if fault == "throttle":
        return _error(429, "LimitExceededException", "Too many requests.")
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


def _error(status: int, kind: str, message: str | None = None) -> web.Response:
    body: Mapping[str, Any] = {"message": message} if message else {}
    return web.json_response(body, status=status, headers={"x-amzn-ErrorType": kind})


def _iso_8601(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
