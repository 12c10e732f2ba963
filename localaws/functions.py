"""The app's functions, invoked as Lambda invokes them: each event in a thread, many at the same time.

Knows chalice's registry of handlers, what functions are called on AWS, and what a Lambda context says. Knows no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalice.constants import DEFAULT_LAMBDA_MEMORY_SIZE, DEFAULT_LAMBDA_TIMEOUT
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
    """The app's code raised `cause`, SystemExit included. The server's log has it; WebSocket clients are not told."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause


class NotMarshalled(Exception):
    """A function returned what is no JSON."""


class TimedOut(Exception):
    """A function took longer than its own timeout."""


@dataclass(frozen=True)
class Function:
    """One function of the app."""

    name: str
    """Its name on AWS, like channels-dev-publish."""
    handler: Callable[[Any, LambdaContext], Any]
    memory_mb: int
    timeout_s: int | None
    """None where none is configured."""

    def context(self, default_timeout_s: int) -> LambdaContext:
        """The context of an invocation that starts now."""
        return LambdaContext(self.name, self.memory_mb, (self.timeout_s or default_timeout_s) * 1000)


class Functions:
    """The functions of one chalice app: WebSocket handlers by their route, and these and pure functions by name."""

    def __init__(self, app: Chalice, config: Config, threads: Threads) -> None:
        self._threads = threads
        # A registered function itself lacks chalice's middleware; its wrapper in handler_map is what Lambda calls.
        self._by_route = {
            route_key: _function(config, _NAMES[route_key], app.handler_map[handler.name])
            for route_key, handler in app.websocket_handlers.items()
        }
        pure = [_function(config, each.name, app.handler_map[each.name]) for each in app.pure_lambda_functions]
        self.pure = [function.name for function in pure]
        """Names on AWS of the functions that are there to be invoked directly."""
        self.by_name = {function.name: function for function in (*self._by_route.values(), *pure)}

    @property
    def busy(self) -> bool:
        """Whether one more invocation would have to wait for another to end."""
        return self._threads.busy

    def has(self, route_key: str) -> bool:
        return route_key in self._by_route

    async def invoke(self, event: Event) -> Any:
        """What the handler for the event's route returns. Raises FunctionError if it raises or takes too long."""
        function = self._by_route[event["requestContext"]["routeKey"]]
        context = function.context(INTEGRATION_TIMEOUT_S)
        return await self._run(function, lambda: function.handler(event, context), function.timeout_s)

    async def call(self, function: Function, payload: bytes, request_id: str) -> str:
        """What the function returns for a JSON payload, as JSON.

        Raises FunctionError if it raises, returns none or takes too long.
        """

        def call() -> str:
            context = function.context(DEFAULT_LAMBDA_TIMEOUT)
            context.aws_request_id = request_id
            # Parsed anew for each call: a handler may change its event.
            answer = function.handler(json.loads(payload), context)
            try:
                return json.dumps(answer, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise NotMarshalled(f"Unable to marshal response: {error}") from error

        answer: str = await self._run(function, call, function.timeout_s or DEFAULT_LAMBDA_TIMEOUT)
        return answer

    async def _run(self, function: Function, call: Callable[[], Any], timeout_s: int | None) -> Any:
        """What `call` returns, if it does so in time. A thread cannot be ended: it goes on, and nobody waits for it."""
        try:
            return await asyncio.wait_for(self._threads.run(call), timeout_s)
        except asyncio.TimeoutError:
            timed_out = TimedOut(f"Task timed out after {timeout_s:.2f} seconds")
            LOG.error("%s: %s; its thread goes on.", function.name, timed_out)
            raise FunctionError(timed_out) from None


def _function(config: Config, name: str, handler: Callable[[Any, LambdaContext], Any]) -> Function:
    scoped = config.scope(config.chalice_stage, name)
    return Function(
        f"{config.app_name}-{config.chalice_stage}-{name}",
        handler,
        scoped.lambda_memory_size or DEFAULT_LAMBDA_MEMORY_SIZE,
        scoped.lambda_timeout,
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
        self._taken = 0

    @property
    def busy(self) -> bool:
        """Whether a further call would have to wait its turn."""
        return self._taken >= self._size

    async def run(self, call: Callable[[], Any]) -> Any:
        """What `call` returns. Raises FunctionError if it raises anything."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()

        def settle(settler: Callable[[Any], None], value: Any) -> None:
            self._taken -= 1
            if not outcome.done():  # its waiter may have been cancelled
                settler(value)

        def work() -> None:
            try:
                settler, value = outcome.set_result, call()
            except BaseException as error:  # sys.exit() in a handler ends neither this thread nor the server
                LOG.exception("The app raised.")
                settler, value = outcome.set_exception, FunctionError(error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended before the handler
                loop.call_soon_threadsafe(settle, settler, value)

        self._taken += 1
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
