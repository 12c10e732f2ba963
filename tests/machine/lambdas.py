"""The Lambda functions: the handlers and all that is behind them, in environments that serve one event at a time.

Only the wire is not real: the requests to DynamoDB, the posts to API Gateway, and the one request to Lambda.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from itertools import cycle
from typing import Any
from unittest.mock import patch

from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from chalicelib import handlers, publishing, table
from chalicelib.auth import Gate
from chalicelib.broadcast import Broadcast
from chalicelib.fanout import Fanout
from chalicelib.pacing import Pacer
from chalicelib.publishing import Invoke
from chalicelib.service import Service
from chalicelib.settings import Settings
from chalicelib.table import Table
from chalicelib.transport import closer, poster

from .gateway import Gateway
from .store import TableStore
from .world import Invocation, World, WorldClock

CONNECT, MESSAGE, DISCONNECT, PUBLISH = "connect", "message", "disconnect", "publish"

TIMEOUTS_MS = {CONNECT: 29_000, MESSAGE: 30_000, DISCONNECT: 60_000, PUBLISH: 60_000}
"""As .chalice/config.json has them."""

INVOKE_UNREACHABLE, INVOKE_UNANSWERED = "Lambda unreachable", "Lambda did not answer"
FAULTS = (INVOKE_UNREACHABLE, INVOKE_UNANSWERED)
"""What may become of handing on: not done; done, and told to have failed."""

MEMBERS_A_PAGE = 2

_URL = "https://lambda.us-east-1.amazonaws.com"


class Context:
    """What Lambda hands to a function beside its event. The time that it says remains is of its own clock."""

    function_name = "channels-dev-publish"

    def __init__(self, world: World, invocation: Invocation, request_id: str, remaining_ms: int | None) -> None:
        self.aws_request_id = request_id
        self._world = world
        self._until = invocation.deadline if remaining_ms is None else world.now + remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._until - self._world.now


class Inline(Executor):
    """Runs each call at once, in the calling thread; what it raises comes with its result."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  as an executor's thread would
            future.set_exception(error)
        return future


class Lambdas:
    """Runs events. `handed_on` is called with an event that one invocation leaves to another. The environments' clocks
    are fast and slow by `skew_ms` in turn. `faults` are for the requests to Lambda that come next.
    """

    kinds = FAULTS

    def __init__(
        self,
        world: World,
        store: TableStore,
        gateway: Gateway,
        variables: Mapping[str, str],
        handed_on: Callable[[Any], object],
        *,
        skew_ms: int,
    ) -> None:
        self.faults: list[str] = []
        self._world, self._store, self._gateway = world, store, gateway
        self._settings = Settings.from_env(variables)
        self._handed_on = handed_on
        self._skews = cycle((skew_ms, -skew_ms))
        self._idle: dict[str, list[Service]] = defaultdict(list)
        self._serving: dict[Invocation, Service] = {}
        self._after = ExitStack()
        self._after.enter_context(patch.object(handlers, "_service", self._service))
        self._after.enter_context(patch.object(publishing, "_lambda_client", lambda: self))
        self._after.enter_context(patch.object(table, "PAGE_MEMBERS", MEMBERS_A_PAGE))

    def close(self) -> None:
        self._after.close()

    def run(
        self,
        function: str,
        name: str,
        event: Any,
        request_id: str = "",
        *,
        remaining_ms: int | None = None,
        answer_ms: int = 0,
    ) -> Invocation:
        """Begins an invocation with that event. `remaining_ms` is what it is told that it has, when it begins;
        API Gateway has the answer of a $connect `answer_ms` after it has returned.
        """

        def act(invocation: Invocation) -> object:
            idle = self._idle[function]
            self._serving[invocation] = service = idle.pop() if idle else self._new_service()
            context = Context(self._world, invocation, request_id, remaining_ms)
            remaining = context.get_remaining_time_in_millis()
            invocation.patience_ms = int(min(remaining * 0.79, 23_900 if function == MESSAGE else remaining))
            try:
                if function == CONNECT:
                    answer = handlers.connect(event, self._gateway)
                    self._world.give_way(self._world.now + answer_ms)
                    return answer
                if function == MESSAGE:
                    return handlers.message(event, context, self._gateway)
                if function == DISCONNECT:
                    return handlers.disconnect(event, self._gateway)
                return handlers.publish(event, context, self._gateway)
            finally:
                del self._serving[invocation]
                if not invocation.outcome:  # which it has already where it is killed: its environment ends with it
                    idle.append(service)

        invocation = Invocation(self._world, name, act, TIMEOUTS_MS[function])
        self._world.begin(invocation)
        return invocation

    def invoke(self, FunctionName: str, InvocationType: str, Payload: str) -> None:  # noqa: N803  boto3's names
        """As boto3's client of Lambda."""
        assert (FunctionName, InvocationType) == (Context.function_name, "Event")
        self._world.give_way()
        fault = self.faults.pop(0) if self.faults else ""
        if fault:
            self._world.running.hits.append(fault)
        if fault == INVOKE_UNREACHABLE:
            raise EndpointConnectionError(endpoint_url=_URL)
        self._handed_on(json.loads(Payload))
        if fault == INVOKE_UNANSWERED:
            raise ReadTimeoutError(endpoint_url=_URL)

    def _service(self, *_arguments: Any) -> Service:
        return self._serving[self._world.running]

    def _new_service(self) -> Service:
        clock, executor, settings = WorldClock(self._world, next(self._skews)), Inline(), self._settings
        members = Table(self._store, settings.table_name, clock)  # type: ignore[arg-type]
        broadcast = Broadcast(poster(self._gateway), executor, 1, settings.broadcast_rate, clock, Pacer(clock))
        hand_over = Invoke(settings.publish_function)
        fanout = Fanout(settings, members, broadcast, hand_over, executor, clock)
        return Service(fanout, executor, Gate(settings, None, clock), closer(self._gateway))
