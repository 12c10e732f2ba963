"""The events that API Gateway hands to Lambda for a WebSocket API, field by field.

Knows their shape and nothing of sockets or handlers. A field that AWS leaves out is left out here, never null.
https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
"""

from __future__ import annotations

import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

Event = dict[str, Any]

CONNECT, MESSAGE, DISCONNECT = "$connect", "$default", "$disconnect"
"""Route keys. chalice makes no others."""

API_ID = "localaws00"
_EVENT_TYPES = {CONNECT: "CONNECT", MESSAGE: "MESSAGE", DISCONNECT: "DISCONNECT"}
_HOP_BY_HOP = {"connection", "upgrade"}


@dataclass(frozen=True)
class Identity:
    """What API Gateway says of a connection in each of its events."""

    connection_id: str
    connected_at: int
    """Milliseconds since 1970."""
    stage: str
    domain_name: str
    source_ip: str
    user_agent: str | None


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_connection_id(at_ms: int) -> str:
    """16 characters: URL-safe base64 of 11 bytes, of which the first five are a millisecond clock."""
    clock = (at_ms % 2**40).to_bytes(5, "big")
    return urlsafe_b64encode(clock + secrets.token_bytes(6)).decode()


def connect(identity: Identity, headers: Iterable[tuple[str, str]], query_string: str) -> Event:
    """$connect: the only event that shows the request, its headers as the client spelled them."""
    multi_value: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() not in _HOP_BY_HOP:
            multi_value.setdefault(name, []).append(value)
    queries: dict[str, list[str]] = {}
    for name, value in parse_qsl(query_string, keep_blank_values=True):
        queries.setdefault(name, []).append(value)
    return {
        "headers": {name: values[-1] for name, values in multi_value.items()},
        "multiValueHeaders": multi_value,
        **(_query(queries) if queries else {}),
        "requestContext": _context(identity, CONNECT),
        "isBase64Encoded": False,
    }


def _query(queries: dict[str, list[str]]) -> Event:
    last = {name: values[-1] for name, values in queries.items()}
    return {"queryStringParameters": last, "multiValueQueryStringParameters": queries}


def message(identity: Identity, body: str) -> Event:
    """$default: one text message."""
    return {
        "requestContext": {**_context(identity, MESSAGE), "messageId": _opaque(11)},
        "body": body,
        "isBase64Encoded": False,
    }


def disconnect(identity: Identity, status_code: int, reason: str) -> Event:
    """$disconnect: the connection is closed already."""
    closed = {"disconnectStatusCode": status_code, "disconnectReason": reason}
    return {
        "headers": {"Host": identity.domain_name},
        "multiValueHeaders": {"Host": [identity.domain_name]},
        "requestContext": {**_context(identity, DISCONNECT), **closed},
        "isBase64Encoded": False,
    }


def _context(identity: Identity, route_key: str) -> dict[str, Any]:
    now = now_ms()
    request_id = _opaque(11)
    agent = {} if identity.user_agent is None else {"userAgent": identity.user_agent}
    return {
        "routeKey": route_key,
        "eventType": _EVENT_TYPES[route_key],
        "extendedRequestId": request_id,
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now / 1000)),
        "messageDirection": "IN",
        "stage": identity.stage,
        "connectedAt": identity.connected_at,
        "requestTimeEpoch": now,
        "identity": {"sourceIp": identity.source_ip, **agent},
        "requestId": request_id,
        "domainName": identity.domain_name,
        "connectionId": identity.connection_id,
        "apiId": API_ID,
    }


def _opaque(size: int) -> str:
    return b64encode(secrets.token_bytes(size)).decode()
