"""A stand-in for Lambda: environments of the publish function, and its Invoke API for what is handed on.

As on AWS an environment runs one invocation at a time, an idle one is used again, and a new one is started where all
are busy.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from bench.machine import CLIENT_CORE, Child

PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Invocation:
    """What became of one. Times are of the machine's monotonic clock, in seconds."""

    began: float
    ended: float
    peak_mb: float
    result: Mapping[str, int] = field(default_factory=dict)
    error: str = ""


class Function:
    """The publish function with variables of its own. All its environments share the senders' core.

    Each invocation has `remaining_ms` to its timeout, and hands on what it has no time for. With `twice` what is handed
    on is run again at the same time, as Lambda may do it. To be used as a context.
    """

    def __init__(self, env: Mapping[str, str], *, remaining_ms: int, twice: bool) -> None:
        self._remaining_ms = remaining_ms
        self._runs = 2 if twice else 1
        self._environments: list[Child] = []
        self._idle: list[Child] = []
        self._done: list[Invocation] = []
        self._under_way = 0
        self._changed = threading.Condition()
        self._api = ThreadingHTTPServer(("127.0.0.1", 0), self._invoke_api())
        self._env = {**env, "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{self._api.server_port}"}

    def warm(self, environments: int, event: Mapping[str, Any]) -> None:
        """Makes so many environments ready, each with an invocation behind it."""
        self._environments += [self._environment() for _ in range(environments)]
        for environment in self._environments:
            environment.hear()
            self._ask(environment, event, str(uuid.uuid4()))
        self._idle = [*self._environments]

    def invoke(self, event: Mapping[str, Any]) -> list[Invocation]:
        """Runs the function and waits for all that is handed on; the first invocation comes first.

        RuntimeError if that takes longer than PATIENCE_SECONDS.
        """
        self._done = []
        self._begin(event, runs=1)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._under_way, PATIENCE_SECONDS):
                raise RuntimeError(f"{self._under_way} invocations have not ended after {PATIENCE_SECONDS:.0f} s")
        return sorted(self._done, key=lambda invocation: invocation.began)

    def __enter__(self) -> Function:
        threading.Thread(target=self._api.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.shutdown()
        self._api.server_close()
        for environment in self._environments:
            environment.close()

    def _environment(self) -> Child:
        return Child.python("bench.runtime", env=self._env, core=CLIENT_CORE)

    def _begin(self, event: Mapping[str, Any], runs: int) -> None:
        request_id = str(uuid.uuid4())
        with self._changed:
            self._under_way += runs
        for _ in range(runs):
            threading.Thread(target=self._run, args=(event, request_id), daemon=True).start()

    def _run(self, event: Mapping[str, Any], request_id: str) -> None:
        began = time.monotonic()
        try:
            environment = self._take()
            invocation = self._ask(environment, event, request_id)
            self._idle.append(environment)
        except RuntimeError as error:  # the environment has ended
            invocation = Invocation(began, time.monotonic(), 0.0, error=f"{error}")
        with self._changed:
            self._done.append(invocation)
            self._under_way -= 1
            self._changed.notify_all()

    def _take(self) -> Child:
        """An idle environment, or else a new one."""
        with suppress(IndexError):
            return self._idle.pop()
        environment = self._environment()
        self._environments.append(environment)
        environment.hear()
        return environment

    def _ask(self, environment: Child, event: Mapping[str, Any], request_id: str) -> Invocation:
        return Invocation(**environment.ask(event=event, request_id=request_id, remaining_ms=self._remaining_ms))

    def _invoke_api(self) -> type[BaseHTTPRequestHandler]:
        begin, runs = self._begin, self._runs

        class InvokeApi(BaseHTTPRequestHandler):
            """Takes asynchronous invocations. https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"""

            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asynchronous = self.headers["X-Amz-Invocation-Type"] == "Event"
                if asynchronous:
                    begin(event, runs)
                self.send_response(202 if asynchronous else 400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Nothing: the counts say it all."""

        return InvokeApi
