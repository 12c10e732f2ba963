"""One channel on a running server: when its members have each message, and whether one was lost or came twice.

The members are WebSocket clients in processes of their own (clients.py); this process publishes, and asks them.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, count
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

from tests.server import ROOT

CHANNEL = "fanout"
PROCESSES = 3
PATIENCE_SECONDS = 20.0
"""How long nothing may come before what is missing is lost."""

ACK_SECONDS = 120.0
END_SECONDS = 20.0

Progress = Callable[[int], None]
"""Is told how many connections are open, or how many messages have come."""


@dataclass(frozen=True)
class Fanout:
    """What became of some messages. Times are in seconds since the publish frame was sent."""

    latencies: list[list[float]]
    """Of each message, those of its deliveries, the first one first."""
    lost: int
    """At members that stayed to the end."""
    twice: int
    """At any member."""
    acked: int
    """Deliveries that the server's own acks count."""
    errors: list[str]
    """What the publisher was answered instead of an ack."""

    @property
    def posts_per_second(self) -> float:
        return sum(map(len, self.latencies)) / self.seconds

    @property
    def seconds(self) -> float:
        """From each publish to its last delivery, summed up."""
        return sum(message[-1] for message in self.latencies if message)


def measure(url: str, members: int, publishes: int, size: int) -> Fanout:
    """Connects members to the server at `url` and publishes messages of `size` bytes to them."""
    with Members(url, members) as channel:
        channel.connect()
        return channel.publish(publishes, size)


class Members:
    """The members of CHANNEL on the server at `url`: gone at the end of the block, or when this process ends."""

    def __init__(self, url: str, members: int) -> None:
        self.connected_in = 0.0
        self._url = url
        self._members = members
        self._numbers = count()
        self._heard: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        self._answers: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._processes: list[subprocess.Popen[str]] = []
        self._listeners: list[threading.Thread] = []

    def __enter__(self) -> Members:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for listener in self._listeners:
            listener.join()

    def connect(self, progress: Progress = lambda _opened: None) -> None:
        """Connects them all. Raises RuntimeError if one of them cannot."""
        for number in range(PROCESSES):
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.clients"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._processes.append(process)
            listener = threading.Thread(target=self._listen, args=(number, process), daemon=True)
            self._listeners.append(listener)
            listener.start()
        started = time.monotonic()
        self._tell("connect", members=_shares(self._members), url=f"{self._url}?room={CHANNEL}")
        self._await("connect", progress)
        self.connected_in = time.monotonic() - started

    def publish(
        self,
        publishes: int,
        size: int,
        *,
        leaving: int = 0,
        within: float = 0.0,
        progress: Progress = lambda _came: None,
    ) -> Fanout:
        """Publishes messages of `size` bytes, each once the one before has come to all who stay.

        `leaving` members leave meanwhile, at random times in the next `within` seconds.
        """
        if leaving:
            self._tell("leave", members=_shares(leaving), seconds=within)
        numbers: list[int] = []
        acked, errors = 0, []
        with connect(f"{self._url}?room=", compression=None) as publisher:
            for _ in range(publishes):
                numbers.append(number := next(self._numbers))
                message = f"{number} {time.monotonic_ns()} ".ljust(size, "x")
                frame = {"action": "sendmessage", "channel": CHANNEL, "message": message, "ack": True}
                publisher.send(json.dumps(frame))
                answer = json.loads(publisher.recv(ACK_SECONDS))
                if answer["type"] == "ack":
                    acked += answer["delivered"]
                else:
                    errors.append(str(answer))
                self._tell("await", message=number, patience=PATIENCE_SECONDS)
                self._await("await")
                progress(len(numbers))
        if leaving:
            self._await("leave")
        self._tell("count", messages=numbers)
        counts = self._await("count")
        of_each = zip(*(each["latencies"] for each in counts), strict=True)
        latencies = [sorted(chain.from_iterable(of_message)) for of_message in of_each]
        lost, twice = (sum(each[name] for each in counts) for name in ("missing", "twice"))
        return Fanout(latencies, lost, twice, acked, errors)

    def _tell(self, what: str, **arguments: Any) -> None:
        """Gives each process a command; of an argument that is a tuple, each gets its own."""
        for number, process in enumerate(self._processes):
            own = {name: value[number] if isinstance(value, tuple) else value for name, value in arguments.items()}
            assert process.stdin is not None
            process.stdin.write(json.dumps({"do": what, **own}) + "\n")
            process.stdin.flush()

    def _await(self, done: str, progress: Progress = lambda _opened: None) -> list[dict[str, Any]]:
        """The answers of all processes to a command."""
        opened = [0] * PROCESSES
        while len(self._answers[done]) < PROCESSES:
            number, answer = self._heard.get()
            if "error" in answer:
                raise RuntimeError(answer["error"])
            if "opened" in answer:
                opened[number] = answer["opened"]
                progress(sum(opened))
            else:
                self._answers[answer["done"]].append(answer)
        return self._answers.pop(done)

    def _listen(self, number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._heard.put((number, json.loads(line)))
        self._heard.put((number, {"error": "a process of clients has ended"}))


def _shares(total: int) -> tuple[int, ...]:
    """`total` in PROCESSES parts, as equal as they can be."""
    return tuple((total + number) // PROCESSES for number in range(PROCESSES))
