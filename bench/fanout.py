"""One channel on a running server: when its members have each message, and whether one was lost or came twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect

CONNECTING_AT_ONCE = 50
PATIENCE_SECONDS = 120.0


@dataclass
class Fanout:
    """What became of `publishes` messages to `connections` members. Times are in seconds."""

    connections: int
    publishes: int
    connected_in: float = 0.0
    sent_in: float = 0.0
    latencies: list[float] = field(default_factory=list)
    lost: int = 0
    twice: int = 0
    acked: int = 0
    """Deliveries that the server's own acks count."""


async def measure(
    url: str, connections: int, publishes: int, size: int, progress: Callable[[str], None] = lambda _line: None
) -> Fanout:
    """Connects the members, then publishes messages of `size` bytes, each once the one before is acked."""
    report = Fanout(connections, publishes)
    received = [Counter[int]() for _ in range(connections)]
    sent_at: dict[int, float] = {}
    done = asyncio.Event()
    missing = connections * publishes

    async def listen(member: int, socket: ClientConnection) -> None:
        nonlocal missing
        async for text in socket:
            number = int(str(text).partition(" ")[0])
            received[member][number] += 1
            if received[member][number] == 1:
                report.latencies.append(time.perf_counter() - sent_at[number])
                missing -= 1
                if not missing:
                    done.set()

    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def join() -> ClientConnection:
        async with gate:
            socket = await connect(f"{url}?room=", compression=None, open_timeout=PATIENCE_SECONDS, max_queue=None)
            await socket.send(json.dumps({"action": "joinchannel", "channel": "fanout"}))
            await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS)
            return socket

    started = time.perf_counter()
    members = await asyncio.gather(*(join() for _ in range(connections)))
    report.connected_in = time.perf_counter() - started
    progress(f"{connections:,} members joined in {report.connected_in:.1f} s")
    listeners = [asyncio.create_task(listen(number, socket)) for number, socket in enumerate(members)]
    async with connect(f"{url}?room=", compression=None) as publisher:
        started = time.perf_counter()
        for number in range(publishes):
            message = f"{number} ".ljust(size, "x")
            sent_at[number] = time.perf_counter()
            await publisher.send(
                json.dumps({"action": "sendmessage", "channel": "fanout", "message": message, "ack": True})
            )
            ack = json.loads(await asyncio.wait_for(publisher.recv(), PATIENCE_SECONDS))
            report.acked += ack["delivered"]
            progress(f"message {number + 1} of {publishes} acked")
        report.sent_in = time.perf_counter() - started
        try:
            await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)
        except asyncio.TimeoutError:
            progress(f"{missing:,} deliveries still missing after {PATIENCE_SECONDS:.0f} s")
    # What comes twice comes before the close frame that answers ours.
    await asyncio.gather(*(socket.close() for socket in members))
    await asyncio.gather(*listeners)
    report.lost = missing
    report.twice = sum(count - 1 for counts in received for count in counts.values())
    return report
