"""API Gateway's event -> a frozen Connect, MessageEvent or Disconnect. The only module that knows their shape.

Absent keys are absent, not null, and the case of headers is the client's
(https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-requests.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import WrongType
from .jsontext import plain
from .model import Address, ConnectionId


@dataclass(frozen=True, slots=True)
class Connect:
    """$connect: `connected_at` in ms since 1970, `query` the URL's parameters, free of lone surrogates, `address` the
    API that it came to.
    """

    connection_id: ConnectionId
    connected_at: int
    query: Mapping[str, str]
    address: Address


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A frame: `at` and `connected_at` in ms since 1970."""

    connection_id: ConnectionId
    connected_at: int
    at: int
    request_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """$disconnect, which API Gateway tries to send and does not promise to."""

    connection_id: ConnectionId
    code: int | None
    reason: str


def connect(event: Mapping[str, Any]) -> Connect:
    """Reads a $connect event."""
    context = event["requestContext"]
    return Connect(
        connection_id=ConnectionId(context["connectionId"]),
        connected_at=_connected_at(context),
        query={name: plain(value) for name, value in (event.get("queryStringParameters") or {}).items()},
        address=Address(context["apiId"], context["stage"]),
    )


def message(event: Mapping[str, Any]) -> MessageEvent:
    """Reads a MESSAGE event; raises WrongType for a binary frame, which API Gateway itself closes with 1003."""
    context = event["requestContext"]
    if event.get("isBase64Encoded"):
        raise WrongType(None, "text", b"")
    return MessageEvent(
        connection_id=ConnectionId(context["connectionId"]),
        connected_at=_connected_at(context),
        at=int(context["requestTimeEpoch"]),
        request_id=context.get("requestId", ""),
        body=event.get("body") or "",
    )


def disconnect(event: Mapping[str, Any]) -> Disconnect:
    """Reads a $disconnect event."""
    context = event["requestContext"]
    return Disconnect(
        connection_id=ConnectionId(context["connectionId"]),
        code=context.get("disconnectStatusCode"),
        reason=context.get("disconnectReason") or "",
    )


def _connected_at(context: Mapping[str, Any]) -> int:
    return int(context.get("connectedAt") or context["requestTimeEpoch"])
