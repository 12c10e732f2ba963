"""From API Gateway's events to the rules, and what each event is answered when a rule cannot be kept.

Puts the parts together: once for each Settings, and kept between the invocations of a Lambda.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chalice.app import WebsocketAPI

from . import events, logs, publishing, store
from .actions import ACTIONS
from .auth import Gate
from .broadcast import REPLACED_MOST, Broadcast, Result
from .budget import HANDLER_MS, Budget, LambdaContext
from .clock import Clock
from .dialects import BUILT_IN_ACTIONS
from .errors import (
    AlreadySent,
    ChannelsError,
    ClientError,
    ConfigurationError,
    HandshakeRefused,
    Misconfigured,
    to_frame,
)
from .fanout import Fanout, Sending
from .jsontext import compact
from .model import ConnectionId
from .pacing import Pacer
from .service import Service
from .settings import Settings
from .table import Table
from .transport import ENDPOINT_VARIABLE, closer, poster

if TYPE_CHECKING:
    from .tokens import Verifier

log = logs.logger("channels")

_assembling = threading.Lock()

OK: Mapping[str, Any] = {"statusCode": 200}
UNAVAILABLE: Mapping[str, Any] = {"statusCode": 500}

STORE_THREADS = 16
"""For a frame's many joins and leaves, and for the next page of members. They wait for nothing but the store."""


def connect(event: Mapping[str, Any], websocket_api: WebsocketAPI) -> Mapping[str, Any]:
    """Answers $connect: 200 once the connection is recorded; 401 or 403 to whom is not let in, 500 where that cannot be
    told or recorded, each of which refuses the handshake.
    """
    with logs.request(_request_id(event)):
        try:
            subprotocol = _service(websocket_api).connect(events.connect(event))
        except HandshakeRefused as error:
            log.warning("connect refused connection=%s status=%d cause=%s", _connection_id(event), error.status, error)
            return {"statusCode": error.status}
        except ChannelsError as error:
            log.error("connect refused connection=%s cause=%s", _connection_id(event), error)
            return UNAVAILABLE
    return OK if subprotocol is None else {**OK, "headers": {"Sec-WebSocket-Protocol": subprotocol}}


def message(event: Mapping[str, Any], context: Any, websocket_api: WebsocketAPI) -> Mapping[str, Any]:
    """Acts on a frame. Its sender is answered by a post, never by what is returned: Chalice makes no route response."""
    with logs.request(_request_id(event)):
        try:
            service = _service(websocket_api)
            service.message(events.message(event), Budget.of(context, service.clock.now_ms(), HANDLER_MS))
        except (ClientError, ConfigurationError) as error:
            log.error("frame refused connection=%s cause=%s", _connection_id(event), error)
            frame = to_frame(error, request_id=_request_id(event))
            with suppress(ChannelsError):
                poster(websocket_api)(_connection_id(event), compact(frame))
    return OK


def disconnect(event: Mapping[str, Any], websocket_api: WebsocketAPI) -> Mapping[str, Any]:
    """Removes what the connection has. What a failure leaves behind, 410s and TTL remove."""
    with logs.request(_request_id(event)):
        try:
            _service(websocket_api).disconnect(events.disconnect(event))
        except ChannelsError as error:
            log.error("disconnect incomplete connection=%s cause=%s", _connection_id(event), error)
    return OK


def publish(event: Any, context: Any, websocket_api: WebsocketAPI) -> Mapping[str, Any]:
    """Sends what the event asks for, and returns how its posts ended, in this invocation; of messages of SQS, which of
    them failed. Raises a ChannelsError otherwise, for Lambda to count and to tell the caller.
    """
    with logs.request(context.aws_request_id):
        try:
            service = _service(websocket_api, {"PUBLISH_FUNCTION": context.function_name})  # it goes on in itself
            records = publishing.records(event)
            if records is not None:
                failed = [each.id for each in records if not _publish_record(service, each, context, websocket_api)]
                return {"batchItemFailures": [{"itemIdentifier": name} for name in failed]}
            sending = publishing.from_event(event, context.aws_request_id, service.clock.now_ms())
            return _publish(service, sending, context, websocket_api)
        except ChannelsError as error:
            log.error("publish failed cause=%s", error)
            raise


def _publish_record(
    service: Service, record: publishing.Record, context: LambdaContext, websocket_api: WebsocketAPI
) -> bool:
    try:
        _publish(service, publishing.from_record(record, service.clock.now_ms()), context, websocket_api)
    except ChannelsError as error:
        log.error("publish failed message=%s cause=%s", record.id, error)
        return False
    return True


def _publish(
    service: Service, sending: Sending, context: LambdaContext, websocket_api: WebsocketAPI
) -> Mapping[str, Any]:
    result, again = Result(), False
    if _knows_the_way(service, websocket_api):
        try:
            result = service.fanout.send(sending, Budget.of(context, service.clock.now_ms()), claim=True)
        except AlreadySent as error:
            log.warning("not sent again cause=%s", error)
            again = True
    return {"id": sending.id, **result.counts(), **({"already_sent": True} if again else {})}


def _knows_the_way(service: Service, websocket_api: WebsocketAPI) -> bool:
    """Tells Chalice's API its endpoint, which it learns by itself from API Gateway's events only.

    It is in the environment, or else in the table, where a $connect has left it. False where there has never been one,
    and so no receiver.
    """
    if ENDPOINT_VARIABLE in os.environ:
        websocket_api.configure("the endpoint", f"of {ENDPOINT_VARIABLE}")
        return True
    address = service.address()
    if address is None:
        return False
    try:
        websocket_api.configure_from_api_id(address.api_id, address.stage)
    except ValueError as error:
        raise Misconfigured(f"{error}") from error
    return True


def _connection_id(event: Mapping[str, Any]) -> ConnectionId:
    return ConnectionId(event["requestContext"]["connectionId"])


def _request_id(event: Mapping[str, Any]) -> str:
    return event["requestContext"].get("requestId") or ""


def _service(websocket_api: WebsocketAPI, variables: Mapping[str, str] = MappingProxyType({})) -> Service:
    with _assembling:
        return _assembled(Settings.from_env({**os.environ, **variables}), websocket_api)


@lru_cache(maxsize=8)
def _assembled(settings: Settings, websocket_api: WebsocketAPI) -> Service:
    taken = sorted(BUILT_IN_ACTIONS & ACTIONS.keys())
    if taken:
        raise Misconfigured(f"chalicelib/actions registers {taken[0]!r}, which a dialect takes; give it another name.")
    clock = Clock()
    table = Table(store.connect(), settings.table_name, clock)
    window = settings.broadcast_threads
    posters = logs.Threads(window * (1 + REPLACED_MOST), thread_name_prefix="post")
    storers = logs.Threads(STORE_THREADS, thread_name_prefix="store")
    broadcast = Broadcast(poster(websocket_api), posters, window, settings.broadcast_rate, clock, Pacer(clock))
    fanout = Fanout(settings, table, broadcast, publishing.Invoke(settings.publish_function), storers, clock)
    if settings.is_open:
        log.warning("this server is open: anyone may connect, join and publish; AUTHENTICATION changes that")
    return Service(fanout, storers, Gate(settings, _verifier(settings, clock), clock), closer(websocket_api))


def _verifier(settings: Settings, clock: Clock) -> Verifier | None:
    if settings.tokens is None:
        return None
    from .tokens import Verifier, key_ring  # noqa: PLC0415  an open server has no use for them

    if settings.tokens.secret is not None and "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        log.warning("whoever may look at this function sees JWT_SECRET; JWT_SECRET_PARAMETER keeps it out of sight")

    return Verifier(settings.tokens, key_ring(settings.tokens, clock), clock)
