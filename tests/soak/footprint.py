"""Memory and descriptors of the server's processes: the server itself with its workers, and the store.

Knows processes and sockets, and nothing of what they are for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]

from chalicelib.store import SOCKETS
from tests.server import Server, descendants

from .crowd import ENTERING_AT_ONCE, UNDER_WAY_AT_MOST

POSTS_AT_REST = 16
"""Ends of connections that posts, and invocations, may have for each worker once their pools have rested: of one post
or a few.
"""

STORE_ENDS = 4
"""Of a request to the store: two to the proxy that puts faults in, and two from there."""

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
    posts: int
    """TCP connections of the server with itself, both ends: in pools of posts, which keep them until the pool is next
    used, and then only those that have not rested for too long.
    """
    store: int
    """TCP connections on the way to the store, all ends, in pools of requests, which keep as many as there were ever
    needed at once; and all other descriptors of the store.
    """
    rest: int
    """All other descriptors of the server and its workers: files, pipes, listening sockets, event loops."""


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
    listening, descriptors, of_store, workers = set(), 0, 0, 0
    for process in descendants(server.process.pid):
        try:
            sockets, role, has = process.net_connections("tcp"), _role(process, server), process.num_fds()
        except psutil.NoSuchProcess:
            continue
        workers += role == "worker"
        listening |= {socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN}
        # All that the store has is the server's. Some stays half closed for an hour: hypercorn keeps an idle connection
        # for its keep-alive time even if the other side has closed it. What was reset is no TCP connection any more.
        if role == "store":
            of_store += has
        else:
            descriptors += has
            connected += [socket for socket in sockets if socket.status != psutil.CONN_LISTEN]
    ours = {socket.laddr for socket in connected}
    # One end may be closed while the other still is in its pool: that one is known by the port that it went to.
    pooled = [
        socket for socket in connected if socket.raddr and (socket.raddr in ours or socket.raddr.port in listening)
    ]
    posts = sum(server.port in {socket.laddr.port, socket.raddr.port} for socket in pooled)
    return Footprint(
        memory(server),
        workers,
        outside=len(connected) - len(pooled),
        posts=posts,
        store=len(pooled) - posts + of_store,
        rest=descriptors - len(connected),
    )


def posts_allowed(after: Footprint) -> int:
    """How many connections posts may have once their pools have rested."""
    return POSTS_AT_REST * max(1, after.workers)


def store_allowed(clients: int, after: Footprint) -> int:
    """How many connections to the store there may be: of the requests that there may be at once, when all clients go
    together, or all that may act do. A function makes one at a time and reads one ahead.
    """
    at_once = clients + UNDER_WAY_AT_MOST + ENTERING_AT_ONCE
    return STORE_ENDS * min(at_once, SOCKETS * max(1, after.workers))


def rest_allowed(before: Footprint, after: Footprint) -> int:
    """How many descriptors besides connections there may be afterwards: those from before, and those of workers
    that have come.
    """
    come = max(0, after.workers - before.workers)
    return before.rest + WORKER_DESCRIPTORS * come


def _role(process: psutil.Process, server: Server) -> str:
    if process.pid == server.process.pid:
        return "server"
    return "store" if any(argument.endswith("_store_child.py") for argument in process.cmdline()) else "worker"
