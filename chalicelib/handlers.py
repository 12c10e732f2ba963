"""From API Gateway's events to the rules, and what each event is answered when a rule cannot be kept.

Puts the parts together: once for each Settings, and kept between the invocations of a Lambda.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any

from chalice.app import WebsocketAPI

from . import aws, events
from .actions import ACTIONS
from .broadcast import Broadcast
from .clock import Clock
from .dialects import BUILT_IN_ACTIONS
from .errors import ChannelsError, ClientError, ConfigurationError, Misconfigured, to_frame
from .jsontext import compact
from .model import ConnectionId
from .service import Service
from .settings import Settings
from .table import Table
from .transport import poster

log = logging.getLogger("channels")

_assembling = threading.Lock()

OK: Mapping[str, Any] = {"statusCode": 200}
UNAVAILABLE: Mapping[str, Any] = {"statusCode": 500}

STORE_CONNECT_SECONDS = 1
STORE_ANSWER_SECONDS = 3
STORE_ATTEMPTS = 4
STORE_SOCKETS = 256


def connect(event: Mapping[str, Any], websocket_api: WebsocketAPI) -> Mapping[str, Any]:
    """Answers $connect: 200 once the connection is recorded, else 500, which refuses the handshake."""
    try:
        _service(websocket_api).connect(events.connect(event))
    except ChannelsError as error:
        log.error("connect refused connection=%s cause=%s", _connection_id(event), error)
        return UNAVAILABLE
    return OK


def message(event: Mapping[str, Any], websocket_api: WebsocketAPI) -> Mapping[str, Any]:
    """Acts on a frame. Its sender is answered by a post, never by what is returned: Chalice makes no route response."""
    try:
        service = _service(websocket_api)
        service.message(events.message(event))
    except (ClientError, ConfigurationError) as error:
        log.error("frame refused connection=%s cause=%s", _connection_id(event), error)
        with suppress(ChannelsError):
            poster(websocket_api)(_connection_id(event), compact(to_frame(error)))
    return OK


def disconnect(event: Mapping[str, Any], websocket_api: WebsocketAPI) -> Mapping[str, Any]:
    """Removes what the connection has. What a failure leaves behind, 410s and TTL remove."""
    try:
        _service(websocket_api).disconnect(events.disconnect(event))
    except ChannelsError as error:
        log.error("disconnect incomplete connection=%s cause=%s", _connection_id(event), error)
    return OK


def _connection_id(event: Mapping[str, Any]) -> ConnectionId:
    return ConnectionId(event["requestContext"]["connectionId"])


def _service(websocket_api: WebsocketAPI) -> Service:
    with _assembling:
        return _assembled(Settings.from_env(os.environ), websocket_api)


@lru_cache(maxsize=8)
def _assembled(settings: Settings, websocket_api: WebsocketAPI) -> Service:
    taken = sorted(BUILT_IN_ACTIONS & ACTIONS.keys())
    if taken:
        raise Misconfigured(f"chalicelib/actions registers {taken[0]!r}, which a dialect takes; give it another name.")
    store = aws.client(
        "dynamodb",
        attempts=STORE_ATTEMPTS,
        connect_seconds=STORE_CONNECT_SECONDS,
        answer_seconds=STORE_ANSWER_SECONDS,
        sockets=STORE_SOCKETS,
    )
    clock = Clock()
    executor = ThreadPoolExecutor(settings.broadcast_threads, thread_name_prefix="post")
    table = Table(store, settings.table_name, clock)
    broadcast = Broadcast(poster(websocket_api), executor, settings.broadcast_threads, clock)
    return Service(settings, table, broadcast, executor, clock)
