"""Channels: API Gateway's three WebSocket events, and what backends publish, each handed to one function.

`chalicelib` is where to read on.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

from chalice.app import Chalice, WebsocketEvent

from chalicelib import handlers, transport

app = Chalice(app_name="channels")
app.experimental_feature_flags.update(["WEBSOCKETS"])
app.websocket_api.session = transport.Session()
app.log.setLevel(logging.INFO)


@app.on_ws_connect()
def websocket_connect(event: WebsocketEvent) -> Mapping[str, Any]:
    return handlers.connect(event.to_dict(), app.websocket_api)


@app.on_ws_message()
def websocket_message(event: WebsocketEvent) -> Mapping[str, Any]:
    return handlers.message(event.to_dict(), event.context, app.websocket_api)


@app.on_ws_disconnect()
def websocket_disconnect(event: WebsocketEvent) -> Mapping[str, Any]:
    return handlers.disconnect(event.to_dict(), app.websocket_api)


@app.lambda_function(name="publish")
def publish(event: Any, context: Any) -> Mapping[str, Any]:
    return handlers.publish(event, context, app.websocket_api)


if os.environ.get("AWS_CHALICE_CLI_MODE"):
    import localaws  # noqa: F401
