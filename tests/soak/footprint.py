"""Memory and descriptors of the server's processes: the server itself with its workers, and the store.

Knows processes and sockets, and nothing of what they are for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]

from tests.server import Server, descendants

from .ledger import Ledger

WORKER_DESCRIPTORS = 16
"""What a worker has besides connections, and the server for it, at most."""


class Memory(NamedTuple):
    """Resident bytes."""

    server: int
    worker: int
    """Of the largest of them; 0 where there is none."""
    store: int


class Footprint(NamedTuple):
    """What the processes have at one moment."""

    memory: Memory
    workers: int
    """How many there are."""
    outside: int
    """TCP connections with others: clients, most of all."""
    pooled: int
    """TCP connections of the server with itself and with its store, both ends: posts and requests in keep-alive
    pools, which stay open until they are needed again.
    """
    rest: int
    """All other descriptors: files, pipes, listening sockets, event loops."""


def memory(server: Server) -> Memory:
    """That of now."""
    sizes: dict[str, list[int]] = {"server": [0], "worker": [0], "store": [0]}
    for process in descendants(server.process.pid):
        try:
            sizes[_role(process, server)].append(process.memory_info().rss)
        except psutil.NoSuchProcess:  # a worker that has just ended
            continue
    return Memory(*(max(sizes[role]) for role in Memory._fields))


def footprint(server: Server) -> Footprint:
    """All of it. Sockets that open or close meanwhile may count as outside."""
    connected: list[Any] = []
    of_store: list[Any] = []
    listening, descriptors, workers = set(), 0, 0
    for process in descendants(server.process.pid):
        try:
            sockets, role = process.net_connections("tcp"), _role(process, server)
            descriptors += process.num_fds()
        except psutil.NoSuchProcess:
            continue
        workers += role == "worker"
        listening |= {socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN}
        connections = [socket for socket in sockets if socket.status != psutil.CONN_LISTEN]
        (of_store if role == "store" else connected).extend(connections)
    ours = {socket.laddr for socket in connected}
    # One end may be closed while the other still is in its pool: that one is known by the port that it went to.
    # The store's are all the server's, and some of them stay half closed for an hour: hypercorn keeps an idle
    # connection for its keep-alive time even if the other side has closed it.
    pooled = sum(socket.raddr in ours or (socket.raddr and socket.raddr.port in listening) for socket in connected)
    rest = descriptors - len(connected) - len(of_store)
    return Footprint(memory(server), workers, len(connected) - pooled, pooled + len(of_store), rest)


def rest_allowed(before: Footprint, after: Footprint, ledger: Ledger) -> int:
    """How many descriptors besides connections there may be afterwards. Each has a name: those from before, those of
    workers that have come, and connections to the store that were reset while they rested in a pool.
    """
    return before.rest + WORKER_DESCRIPTORS * max(0, after.workers - before.workers) + ledger.resets


def _role(process: psutil.Process, server: Server) -> str:
    if process.pid == server.process.pid:
        return "server"
    return "store" if any(argument.endswith("_store_child.py") for argument in process.cmdline()) else "worker"
