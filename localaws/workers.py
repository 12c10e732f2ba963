"""Functions in processes of their own, each of which runs one event at a time, as Lambda's execution environments do.

Knows how to start a worker (_worker_child), what to say to it, and what its end means. A worker is started when an
event finds none idle, imports the app anew and is kept for the next event. It ends with this process, whatever ends
that: it holds the other end of a pipe.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from localaws.environment import worker_environment
from localaws.faults import Doom, Faults
from localaws.functions import EXIT, TIMEOUT, FunctionError, Invocation, Threads
from localaws.kills import Kills

LOG = logging.getLogger(__name__)

START_S = 30.0
"""How long a worker may take to import the app. Lambda gives 10 s, on a machine that has nothing else to do."""

END_S = 5.0
"""How long a killed process may take to be gone."""

_STDERR = 2
_PACKAGES = str(Path(__file__).parent.parent)


class Workers:
    """A Runner: at most `size` workers; further invocations wait their turn.

    `stage` is chalice's. `faults` says which invocations are to be killed; `kills` hears of each one's beginning and
    end.
    """

    full = "Each worker runs a function already; LOCALAWS_WORKERS sets how many there are."

    def __init__(self, size: int, stage: str, faults: Faults, kills: Kills) -> None:
        self._threads = Threads(size)  # one waits for each worker
        self._faults = faults
        self._workers = [Worker(number, stage, kills) for number in range(1, size + 1)]
        # Last in, first out: one that has run before is asked before another is started.
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in reversed(self._workers):
            self._idle.put(worker)

    @property
    def busy(self) -> bool:
        return self._threads.busy

    async def run(self, invocation: Invocation) -> str:
        """What the function returns, as JSON. Raises FunctionError if it fails, takes too long or its process ends."""
        dooms = self._faults.doom("invocation", invocation.connection_id, invocation.function.name)
        answer: str = await self._threads.run(lambda: self._run(invocation, dooms))
        return answer

    def close(self) -> None:
        """End them all, in mid-event if need be."""
        for worker in self._workers:
            worker.close()

    def _run(self, invocation: Invocation, dooms: Sequence[Doom]) -> str:
        worker = self._idle.get()
        try:
            return worker.run(invocation, dooms)
        except FunctionError as error:
            if error.kind in {EXIT, TIMEOUT}:  # the app's own exceptions are in the worker's log
                LOG.error("RequestId: %s %s (%s)", invocation.request_id, error.message, invocation.function.name)
            raise
        finally:
            self._idle.put(worker)


class Worker:
    """The place of one worker. Its process is replaced when it has ended."""

    def __init__(self, number: int, stage: str, kills: Kills) -> None:
        self.access_key, self._environ = worker_environment(os.environ, number, _PACKAGES)
        self._stage = stage
        self._kills = kills
        self._lock = threading.Lock()  # start and close are in different threads
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._closed = False

    def run(self, invocation: Invocation, dooms: Sequence[Doom]) -> str:
        """As Workers.run, in the calling thread."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        process, pipe = self._process, self._pipe
        assert process is not None and pipe is not None  # noqa: S101  for mypy: _start has set them
        self._kills.begin(self.access_key, dooms, process.kill)
        try:
            pipe.send_bytes(_order(invocation))
            if not pipe.poll(invocation.function.timeout_s):
                process.kill()
                process.wait(END_S)
                raise FunctionError.timeout(invocation.function.timeout_s)
            answer = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            raise _end(process) from None
        finally:
            self._kills.end(self.access_key)
        if "returned" not in answer:
            raise FunctionError(answer["kind"], answer["message"])
        return str(answer["returned"])

    def close(self) -> None:
        """End the process and start no other."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()
                self._process.wait(END_S)

    def _start(self) -> None:
        with self._lock:
            if self._closed:
                raise FunctionError(EXIT, "Error: the server stops")
            if self._pipe is not None:
                self._pipe.close()
            self._pipe, theirs = Pipe()
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  our own child
                    [sys.executable, "-u", "-m", "localaws._worker_child", str(theirs.fileno()), self._stage],
                    stdin=subprocess.DEVNULL,
                    stdout=_STDERR,
                    env=self._environ,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C is the server's; $disconnect handlers run after it
                )
        try:
            if self._pipe.poll(START_S):
                self._pipe.recv_bytes()
                return
            self._process.kill()
        except (EOFError, OSError):
            pass
        raise _end(self._process)


def _order(invocation: Invocation) -> bytes:
    order: Mapping[str, Any] = {
        "function": invocation.function.name,
        "payload": invocation.payload.decode(),
        "request_id": invocation.request_id,
    }
    return json.dumps(order).encode()


def _end(process: subprocess.Popen[bytes]) -> FunctionError:
    """What an invoker is told of a process that ends or has ended."""
    try:
        code = process.wait(END_S)
    except subprocess.TimeoutExpired:  # it has closed its pipe and goes on
        process.kill()
        code = process.wait(END_S)
    how = f"signal: {signal.strsignal(-code)}".lower() if code < 0 else f"exit status {code}"
    return FunctionError(EXIT, f"Error: Runtime exited with error: {how}")
