"""The emulator's process: ministack on two sockets of its parent, plain and TLS, until stdin ends."""

from __future__ import annotations

import asyncio
import importlib
import os
import ssl
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

from localaws._store_child import until_stdin_ends


class WithoutTickets(Config):
    """Sends clients nothing of TLS's own after the handshake.

    A thread that reads such a ticket while another writes its first request hangs, and so does the other: OpenSSL takes
    both for a handshake. With websockets.sync, which reads and writes in two threads, that was one connect in 160 on a
    busy machine (Python 3.11).
    """

    def create_ssl_context(self) -> ssl.SSLContext | None:
        context = super().create_ssl_context()
        if context is not None:
            context.num_tickets = 0
        return context


def main(plain: int, tls: int, certificate: str) -> None:
    report = os.dup(1)
    os.dup2(2, 1)  # what ministack prints must not be taken for the report, nor fill a pipe that nobody reads
    config = WithoutTickets()
    config.bind = [f"fd://{tls}"]
    config.insecure_bind = [f"fd://{plain}"]
    config.certfile = config.keyfile = certificate
    config.loglevel = os.environ["LOG_LEVEL"]
    config.keep_alive_timeout = 3600  # clients pool their connections; a short one makes them race against it
    config.graceful_timeout = 0.1  # pooled connections are idle, not busy
    # A changed function stays "InProgress" for half a second there, and chalice waits for that eight times a deploy.
    vars(importlib.import_module("ministack.services.lambda_svc"))["_LAMBDA_STATE_TRANSITION_DELAY"] = 0.01
    app = importlib.import_module("ministack.app").app
    asyncio.run(serve(app, config, shutdown_trigger=lambda: until_stdin_ends(plain, report)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
