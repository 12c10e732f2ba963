"""API Gateway's event -> a frozen Connect, MessageEvent or Disconnect. The only module that knows their shape.

Absent keys are absent, not null, and the case of headers is the client's
(https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-requests.html).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import Misconfigured, WrongType
from .jsontext import plain
from .model import Address, ConnectionId

TOKEN_PARAMETER = "token"  # noqa: S105  its name
"""The URL's parameter that carries a token. It is read here and goes nowhere else."""


@dataclass(frozen=True, slots=True)
class Connect:
    """$connect: `connected_at` in ms since 1970, `query` the URL's parameters, free of lone surrogates, `address` the
    API that it came to.

    `headers` have lower-case names and every value that came. `tokens` are the values of the URL's `token`.
    `authorizer` is what an authorizer of API Gateway's said, None where there is none.
    """

    connection_id: ConnectionId
    connected_at: int
    query: Mapping[str, str]
    address: Address
    headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tokens: Sequence[str] = ()
    authorizer: Mapping[str, Any] | None = None
    source_ip: str = ""


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
    """Reads a $connect event; raises Misconfigured where it is another, which must not let anyone in."""
    context = _context(event, "CONNECT")
    query = {name: plain(value) for name, value in (event.get("queryStringParameters") or {}).items()}
    every_query = event.get("multiValueQueryStringParameters") or {}
    return Connect(
        connection_id=ConnectionId(context["connectionId"]),
        connected_at=_connected_at(context),
        query={name: value for name, value in query.items() if name != TOKEN_PARAMETER},
        address=Address(context["apiId"], context["stage"]),
        headers=_headers(event),
        tokens=every_query.get(TOKEN_PARAMETER) or [query[name] for name in query if name == TOKEN_PARAMETER],
        authorizer=context.get("authorizer"),
        source_ip=(context.get("identity") or {}).get("sourceIp", ""),
    )


def message(event: Mapping[str, Any]) -> MessageEvent:
    """Reads a MESSAGE event; raises WrongType for a binary frame, which API Gateway itself closes with 1003, and
    Misconfigured where the event is another.
    """
    context = _context(event, "MESSAGE")
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
    """Reads a $disconnect event; raises Misconfigured where it is another, which must not end a connection."""
    context = _context(event, "DISCONNECT")
    return Disconnect(
        connection_id=ConnectionId(context["connectionId"]),
        code=context.get("disconnectStatusCode"),
        reason=context.get("disconnectReason") or "",
    )


def _context(event: Mapping[str, Any], expected: str) -> Mapping[str, Any]:
    context: Mapping[str, Any] = event["requestContext"]
    if context.get("eventType") != expected:
        raise Misconfigured(f"An event that is no {expected} has reached its handler; check the API's routes.")
    return context


def _headers(event: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    every = event.get("multiValueHeaders") or {name: [value] for name, value in (event.get("headers") or {}).items()}
    headers: dict[str, list[str]] = {}
    for name, values in every.items():
        headers.setdefault(name.lower(), []).extend(values)
    return headers


def _connected_at(context: Mapping[str, Any]) -> int:
    return int(context.get("connectedAt") or context["requestTimeEpoch"])
