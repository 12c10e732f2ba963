"""The app's functions, invoked as Lambda invokes them: JSON in, JSON out, many at the same time.

Knows chalice's registry of handlers, what functions are called on AWS, and what a Lambda context says. Where they run
is a Runner's: here in threads, in processes of their own in workers.py. Knows no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chalice.constants import DEFAULT_LAMBDA_MEMORY_SIZE, DEFAULT_LAMBDA_TIMEOUT
from chalice.local import LambdaContext
from chalice.utils import to_cfn_resource_name

from localaws.events import CONNECT, DISCONNECT, MESSAGE, Event
from localaws.limits import ASYNCHRONOUS_REPEATS

if TYPE_CHECKING:
    from chalice.app import Chalice
    from chalice.config import Config

LOG = logging.getLogger(__name__)

# What chalice calls the functions on AWS, whatever their names in Python.
_NAMES = {CONNECT: "websocket_connect", MESSAGE: "websocket_message", DISCONNECT: "websocket_disconnect"}

EXIT, TIMEOUT, MARSHAL = "Runtime.ExitError", "Sandbox.Timedout", "Runtime.MarshalError"
"""What Lambda calls failures that are no exception of the app's."""


class FunctionError(Exception):
    """The app's code failed: it raised, or what ran it ended. The server's log has it; WebSocket clients are not told.

    `kind` and `message` are what Lambda tells whoever invoked the function: the name of an exception's class and its
    text, or one of Lambda's own kinds.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    @classmethod
    def of(cls, error: BaseException) -> FunctionError:
        """What an exception of the app's is to Lambda."""
        if isinstance(error, NotMarshalled):
            return cls(MARSHAL, str(error))
        if not isinstance(error, Exception):  # sys.exit()
            return cls(EXIT, "Error: Runtime exited")
        return cls(type(error).__name__, str(error))

    @classmethod
    def timeout(cls, seconds: float) -> FunctionError:
        """What Lambda says of a function that took longer than it may."""
        return cls(TIMEOUT, f"Error: Task timed out after {seconds:.2f} seconds")


class NotMarshalled(Exception):
    """A function returned what is no JSON."""


@dataclass(frozen=True)
class Function:
    """One function of the app."""

    name: str
    """Its name on AWS, like channels-dev-publish."""
    handler: Callable[[Any, LambdaContext], Any]
    memory_mb: int
    timeout_s: int
    repeats: int
    """How often an asynchronous invocation that fails is run again."""

    def run(self, payload: bytes, request_id: str) -> str:
        """What the handler returns for a JSON payload, as JSON. Raises what it raises, and NotMarshalled."""
        context = LambdaContext(self.name, self.memory_mb, self.timeout_s * 1000)
        context.aws_request_id = request_id
        # Parsed anew for each run: a handler may change its event.
        answer = self.handler(json.loads(payload), context)
        try:
            return json.dumps(answer, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise NotMarshalled(f"Unable to marshal response: {error}") from error


@dataclass(frozen=True)
class Invocation:
    """One event for one function."""

    function: Function
    payload: bytes
    """JSON."""
    request_id: str
    connection_id: str | None
    """Whose event it is; None if it is no WebSocket's."""


class Runner(Protocol):
    """Where functions run."""

    full: str
    """What to say to one invocation more than can run."""

    @property
    def busy(self) -> bool:
        """Whether a further invocation would have to wait its turn."""

    async def run(self, invocation: Invocation) -> str:
        """What the function returns, as JSON. Raises FunctionError if it fails."""


def registered(app: Chalice, config: Config) -> tuple[dict[str, Function], list[Function]]:
    """An app's WebSocket functions by route key, and its pure functions."""
    # A registered function itself lacks chalice's middleware; its wrapper in handler_map is what Lambda calls.
    by_route = {
        route_key: _function(config, _NAMES[route_key], app.handler_map[handler.name])
        for route_key, handler in app.websocket_handlers.items()
    }
    pure = [_function(config, each.name, app.handler_map[each.name]) for each in app.pure_lambda_functions]
    return by_route, pure


def _repeats(config: Config, name: str) -> int:
    """How often .chalice/resources.json says, which `chalice package` merges into its template; or 2."""
    value: Any
    try:
        value = json.loads((Path(config.project_dir or ".") / ".chalice" / "resources.json").read_text("utf-8"))
    except (OSError, ValueError):  # the store says what is wrong with a file that is needed
        return ASYNCHRONOUS_REPEATS
    for key in ("Resources", to_cfn_resource_name(name), "Properties", "EventInvokeConfig", "MaximumRetryAttempts"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) else ASYNCHRONOUS_REPEATS


def keep_here(app: Chalice) -> None:
    """Have the app's posts go where the environment says, and nobody told where credentials are from."""
    # chalice would make https://{apiId}.execute-api… of each event; the default session must stay here, too.
    app.websocket_api._endpoint = os.environ["AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"]
    logging.getLogger("botocore").setLevel(logging.WARNING)  # at INFO it tells where it found the dummies


class Functions:
    """The functions of one chalice app: WebSocket handlers by their route, and these and pure functions by name."""

    def __init__(self, app: Chalice, config: Config, runner: Runner) -> None:
        self._runner = runner
        self._by_route, pure = registered(app, config)
        self.pure = [function.name for function in pure]
        """Names on AWS of the functions that are there to be invoked directly."""
        self.by_name = {function.name: function for function in (*self._by_route.values(), *pure)}

    @property
    def busy(self) -> bool:
        """Whether one more invocation would have to wait for another to end."""
        return self._runner.busy

    @property
    def full(self) -> str:
        """What to say to one that is not to wait."""
        return self._runner.full

    def has(self, route_key: str) -> bool:
        return route_key in self._by_route

    async def invoke(self, event: Event) -> Any:
        """What the handler for the event's route returns.

        Raises FunctionError if it fails, takes too long or returns no JSON.
        """
        context = event["requestContext"]
        function = self._by_route[context["routeKey"]]
        payload = json.dumps(event).encode()
        answer = await self._runner.run(Invocation(function, payload, str(uuid.uuid4()), context["connectionId"]))
        return json.loads(answer)

    async def call(self, function: Function, payload: bytes, request_id: str) -> str:
        """What the function returns for a JSON payload, as JSON.

        Raises FunctionError if it fails, takes too long or returns none.
        """
        return await self._runner.run(Invocation(function, payload, request_id, None))


def _function(config: Config, name: str, handler: Callable[[Any, LambdaContext], Any]) -> Function:
    scoped = config.scope(config.chalice_stage, name)
    return Function(
        f"{config.app_name}-{config.chalice_stage}-{name}",
        handler,
        scoped.lambda_memory_size or DEFAULT_LAMBDA_MEMORY_SIZE,
        scoped.lambda_timeout or DEFAULT_LAMBDA_TIMEOUT,
        _repeats(config, name),
    )


class InThreads:
    """Runs functions in this process, each in a thread. One that takes too long is told so to its invoker, and goes on:
    a thread cannot be ended.
    """

    full = "Each thread runs a function already; LOCALAWS_THREADS sets how many there are."

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    @property
    def busy(self) -> bool:
        return self._threads.busy

    async def run(self, invocation: Invocation) -> str:
        function = invocation.function
        began = threading.Event()

        def call() -> str:
            began.set()
            return function.run(invocation.payload, invocation.request_id)

        try:
            answer: str = await asyncio.wait_for(self._threads.run(call), function.timeout_s)
        except asyncio.TimeoutError:
            error, rest = (
                FunctionError.timeout(function.timeout_s),
                "its thread goes on" if began.is_set() else "no thread was free",
            )
            LOG.error("RequestId: %s %s (%s); %s.", invocation.request_id, error.message, function.name, rest)
            raise error from None
        return answer


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
        """What `call` returns. Raises FunctionError if it raises anything.

        One that is cancelled while it waits its turn is not begun.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()

        def settle(settler: Callable[[Any], None], value: Any) -> None:
            self._taken -= 1
            if not outcome.done():  # its waiter may have been cancelled
                settler(value)

        def work() -> None:
            try:
                settler, value = outcome.set_result, None if outcome.cancelled() else call()
            except FunctionError as error:
                settler, value = outcome.set_exception, error
            except BaseException as error:  # sys.exit() in a handler ends neither this thread nor the server
                LOG.exception("The app raised.")
                settler, value = outcome.set_exception, FunctionError.of(error)
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
