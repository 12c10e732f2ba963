"""Stand-ins for AWS on a laptop: `chalice local` serves WebSockets, @connections, Lambda's Invoke API and a DynamoDB.

Importing this package replaces the class that `chalice local` builds its server from, and does nothing else: it
loads neither aiohttp nor boto3 nor a store, so that `chalice deploy` and `chalice package`, which import app.py too,
start nothing and pay nothing. Gateway and store start when chalice makes its server.

A map of the package:

    server        what chalice starts and stops: binds the port, starts the store, serves
    apigateway    the front door: which request goes where; the life of one WebSocket
    connections   open connections, each with a bounded outgoing buffer
    management    the @connections API over HTTP
    signatures    whether requests to it and to Lambda are signed by a key that this server knows
    throttle      token buckets: requests and connections a second
    deliveries    a post on its way to its client
    events        the events that API Gateway hands to Lambda
    invoke        Lambda's Invoke API over HTTP, asynchronous invocations and their retries
    functions     the app's functions, invoked as Lambda invokes them
    workers       or in processes of their own (_worker_child), one event at a time
    kills         which of their requests is an invocation's last
    callers       whether a page in a browser may have sent a request
    bodies        requests whose body cannot be read
    pages         everything else over HTTP: the app's own routes, the welcome page
    dynamodb      the store, a child process (_store_child), and the table in it
    store_proxy   what stands before the store when faults are wanted; batches cuts its batches in two
    environment   what AWS SDKs in this process read, so that nothing leaves the machine
    settings      LOCALAWS_* and PERSIST -> one frozen Settings
    limits        the numbers AWS publishes
    faults        what goes wrong on purpose: the plan, its dice, the ledger
    control       the HTTP control of faults
    errors        what can go wrong at start, said in one line
    reload        which files restart the server when they change
    lifeline      a process of ours ends with its parent
    __main__      what `make run` executes
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# First, so that it remembers the parent as early as can be: the imports below take a while.
from localaws import lifeline

import chalice.local  # isort: skip

from localaws import reload  # isort: skip

if TYPE_CHECKING:
    from chalice.app import Chalice
    from chalice.config import Config

    from localaws.server import LocalServer


def make_server(app: Chalice, config: Config, host: str, port: int) -> LocalServer:
    """What `chalice local` calls instead of its own server's constructor."""
    from localaws import server  # noqa: PLC0415  aiohttp and boto3 are for `chalice local` alone

    return server.start(app, config, host, port)


chalice.local.LocalDevServer = make_server  # type: ignore[assignment, misc]
reload.watch_only_sources()
if "CHALICE_WORKER" in os.environ:
    lifeline.end_with_parent()
