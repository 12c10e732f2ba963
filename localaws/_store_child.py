"""The store's process: ministack on a free loopback port until stdin ends.

Run by path (`python -I`), so that it imports neither this package nor chalice. The port goes to stdout once requests
are answered. stdin is a pipe that the server holds: its end is the server's end, kill -9 included, and sets off
ministack's graceful shutdown, which is when it saves its state.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
import threading
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

SAVING_S = 10.0
"""How long ministack may take to save before it is ended all the same."""

_THIS_MACHINE = {"127.0.0.1", "localhost"}


def guarded(app: Any) -> Any:
    """The app, for programs of this machine alone, and for DynamoDB alone.

    ministack answers pages of any site, and whoever asks at /_ministack/ may wipe all data, kept files too. A page's
    request carries an Origin; if its site's name was made to point here, that name is its Host.
    """

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").partition(":")[0].lower()
        if scope["type"] == "websocket":  # not DynamoDB's
            await send({"type": "websocket.close"})
        elif b"origin" in headers or host not in _THIS_MACHINE or scope["path"].startswith("/_ministack/"):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        else:
            await app(scope, receive, send)

    return answer


async def until_stdin_ends(port: int, report: int) -> None:
    """Say the port, then return when the server is gone. hypercorn calls this once it listens."""
    os.write(report, b"%d\n" % port)
    os.close(report)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    deadline = threading.Timer(SAVING_S, os._exit, (1,))
    deadline.daemon = True
    deadline.start()


def main() -> None:
    report = os.dup(1)
    os.dup2(2, 1)  # what ministack prints must not be taken for the port, nor fill a pipe that nobody reads
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        os.environ["GATEWAY_PORT"] = str(port)  # read when ministack.app is imported
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.loglevel = os.environ["LOG_LEVEL"]
        config.keep_alive_timeout = 3600  # clients pool their connections; a short one makes them race against it
        config.graceful_timeout = 0.1  # pooled connections are idle, not busy
        app = guarded(importlib.import_module("ministack.app").app)
        asyncio.run(serve(app, config, shutdown_trigger=lambda: until_stdin_ends(port, report)))


if __name__ == "__main__":
    main()
