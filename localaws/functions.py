"""The app's WebSocket handlers, invoked as Lambda invokes them: each event in a thread, many at the same time.

Knows chalice's registry of handlers and what a Lambda context says. Knows no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chalice.local import LambdaContext

from localaws.events import CONNECT, DISCONNECT, MESSAGE, Event
from localaws.limits import INTEGRATION_TIMEOUT_S

if TYPE_CHECKING:
    from chalice.app import Chalice
    from chalice.config import Config

LOG = logging.getLogger(__name__)

# What chalice calls the functions on AWS, whatever their names in Python.
_NAMES = {CONNECT: "websocket_connect", MESSAGE: "websocket_message", DISCONNECT: "websocket_disconnect"}


class FunctionError(Exception):
    """The app's code raised, SystemExit included. Why is in the server's log, and nowhere else."""


class Functions:
    """The handlers of one chalice app, found by the route that they are for."""

    def __init__(self, app: Chalice, config: Config, threads: Threads) -> None:
        self._app = app
        self._config = config
        self._threads = threads

    def has(self, route_key: str) -> bool:
        return route_key in self._app.websocket_handlers

    async def invoke(self, event: Event) -> Any:
        """What the handler for the event's route returns. Raises FunctionError if it raises."""
        route_key = event["requestContext"]["routeKey"]
        # The registered function itself lacks chalice's middleware; its wrapper in handler_map is what Lambda calls.
        handler = self._app.handler_map[self._app.websocket_handlers[route_key].name]
        context = self._context(route_key)
        return await self._threads.run(lambda: handler(event, context))

    def _context(self, route_key: str) -> LambdaContext:
        config = self._config.scope(self._config.chalice_stage, _NAMES[route_key])
        return LambdaContext(
            f"{config.app_name}-{config.chalice_stage}-{_NAMES[route_key]}",
            config.lambda_memory_size or 128,
            (config.lambda_timeout or INTEGRATION_TIMEOUT_S) * 1000,
        )


class Threads:
    """At most `size` calls at the same time, each in a thread; further ones wait their turn.

    concurrent.futures refuses work from the moment the interpreter begins to end, and waits for what runs. These
    threads still run the $disconnect handlers that Ctrl-C sets off, and a hanging handler does not keep the server
    alive.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0

    async def run(self, call: Callable[[], Any]) -> Any:
        """What `call` returns. Raises FunctionError if it raises anything."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()

        def settle(settler: Callable[[Any], None], value: Any) -> None:
            if not outcome.done():  # its waiter may have been cancelled
                settler(value)

        def work() -> None:
            try:
                settler, value = outcome.set_result, call()
            except BaseException:  # sys.exit() in a handler ends neither this thread nor the server
                LOG.exception("The app raised; the client is not told why.")
                settler, value = outcome.set_exception, FunctionError()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended before the handler
                loop.call_soon_threadsafe(settle, settler, value)

        self._calls.put(work)
        self._provide()
        return await outcome

    def _provide(self) -> None:
        if self._idle.acquire(blocking=False) or self._started == self._size:
            return
        with contextlib.suppress(RuntimeError):  # an interpreter that ends starts no threads; those there do the work
            threading.Thread(target=self._work, name=f"function-{self._started}", daemon=True).start()
            self._started += 1

    def _work(self) -> None:
        while True:
            self._calls.get()()
            self._idle.release()
