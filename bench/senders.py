"""Ways to send from Python, each in a process of its own: `python -m bench.senders HOW CONNECTIONS ADDRESS`.

Warms up, says {}, and then answers each {"seconds": s} on stdin with what it sent in that time and the CPU that took:
{"sends": n, "seconds": s, "cpu": s}. What came before the first line, imports and handshakes, costs nobody anything.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any, Protocol

import boto3
from botocore.config import Config
from chalice.app import Chalice

from bench.gateway import STAGE
from chalicelib.model import ConnectionId

BODY = "x" * 2_048
RECEIVERS = 1_000

WARM_SECONDS = 0.1
"""Before each round, unmeasured: connections that were idle in the rounds of others are made or looked at."""


UNPACED = 1e6
MANY = 100_000
LEAST = 4
"""A broadcast is given so many receivers for each connection even when its time is up, so that each is made."""


def receivers() -> Iterator[str]:
    return cycle([f"{number:011}AAAA=" for number in range(RECEIVERS)])


def chalices_default(address: str) -> Callable[[str], object]:
    """What every tutorial has: `websocket_api.send` over the session that Chalice's documentation shows."""
    api = Chalice("bench").websocket_api
    api.session = boto3.session.Session()
    api.configure(address, STAGE)
    return lambda receiver: api.send(receiver, BODY)


def plain_boto3(connections: int, address: str) -> Callable[[str], object]:
    """One boto3 client for all threads, with a pool as large as they are many."""
    client = boto3.client(
        "apigatewaymanagementapi",
        endpoint_url=f"https://{address}/{STAGE}",
        config=Config(max_pool_connections=connections),
    )
    return lambda receiver: client.post_to_connection(ConnectionId=receiver, Data=BODY)


def our_transport(address: str) -> Callable[[str], object]:
    """`websocket_api.send` over our session."""
    from chalicelib.transport import Session  # noqa: PLC0415  the rivals do without

    api = Chalice("bench").websocket_api
    api.session = Session()
    api.configure(address, STAGE)
    return lambda receiver: api.send(receiver, BODY)


class Sender(Protocol):
    """Sends for as long as it is told, and says how many it sent."""

    def run(self, seconds: float) -> int: ...


class Threads:
    """A send in a loop, in as many threads as there are connections; in this very thread if there is one."""

    def __init__(self, send: Callable[[str], object], connections: int) -> None:
        self._send = send
        self._connections = connections
        self._executor = ThreadPoolExecutor(connections)
        together = threading.Barrier(connections)
        self._on_all(lambda: together.wait() + self._loop(0.0))

    def run(self, seconds: float) -> int:
        return self._loop(seconds) if self._connections == 1 else self._on_all(lambda: self._loop(seconds))

    def _on_all(self, act: Callable[[], int]) -> int:
        return sum(future.result() for future in [self._executor.submit(act) for _ in range(self._connections)])

    def _loop(self, seconds: float) -> int:
        end, sends = time.monotonic() + seconds, 0
        for receiver in receivers():
            self._send(receiver)
            sends += 1
            if time.monotonic() >= end:
                break
        return sends


class OurBroadcast:
    """Broadcasts of one text over our transport, with as many threads as there are connections and no pace."""

    def __init__(self, connections: int, address: str) -> None:
        from chalicelib import broadcast, pacing, transport  # noqa: PLC0415  the rivals do without
        from chalicelib.clock import Clock  # noqa: PLC0415

        api = Chalice("bench").websocket_api
        api.session = transport.Session()
        api.configure(address, STAGE)
        clock = Clock()
        executor = ThreadPoolExecutor(connections * (1 + broadcast.REPLACED_MOST))
        self._delivery = broadcast.Delivery
        self._least = LEAST * connections
        self._broadcast = broadcast.Broadcast(
            transport.poster(api), executor, connections, UNPACED, clock, pacing.Pacer(clock)
        )
        self.run(0.0)

    def run(self, seconds: float) -> int:
        result = self._broadcast.send(self._deliveries(time.monotonic() + seconds), prune=_no_prune, expected=MANY)
        assert result.interrupted is None
        assert not result.failed + result.stale + result.throttled + result.not_open
        return result.delivered

    def _deliveries(self, end: float) -> Iterator[Any]:
        for number, receiver in enumerate(receivers()):
            if time.monotonic() >= end and number >= self._least:
                return
            yield self._delivery(ConnectionId(receiver), BODY, joined_at=0)


def _no_prune(_connection_ids: Sequence[ConnectionId]) -> None:
    """All are there."""


WAYS: dict[str, Callable[[int, str], Sender]] = {
    "chalice": lambda connections, address: Threads(chalices_default(address), connections),
    "boto3": lambda connections, address: Threads(plain_boto3(connections, address), connections),
    "ours": lambda connections, address: Threads(our_transport(address), connections),
    "broadcast": OurBroadcast,
}


def main() -> None:
    how, connections, address = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    sender = WAYS[how](connections, address)
    print("{}", flush=True)
    for line in sys.stdin:
        sender.run(WARM_SECONDS)
        began, cpu = time.monotonic(), _cpu()
        sends = sender.run(json.loads(line)["seconds"])
        print(json.dumps({"sends": sends, "seconds": time.monotonic() - began, "cpu": _cpu() - cpu}), flush=True)
    os._exit(0)  # no one waits for the threads


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
