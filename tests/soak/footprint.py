"""Memory and descriptors of the server's processes: the server itself with its workers, and the store.

Knows processes and sockets, and nothing of what they are for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psutil  # type: ignore[import-untyped]

from tests.server import Server, descendants


class Footprint(NamedTuple):
    """What the processes have at one moment."""

    server_bytes: int
    """Resident memory."""
    store_bytes: int
    outside: int
    """TCP connections with others: clients, most of all."""
    pooled: int
    """TCP connections of the server with itself and with its store, both ends: posts and requests in keep-alive
    pools, which stay open until they are needed again.
    """
    rest: int
    """All other descriptors: files, pipes, listening sockets, event loops."""


def memory(server: Server) -> tuple[int, int]:
    """Resident bytes of the server and its workers, and of the store."""
    sizes = [0, 0]
    for process in descendants(server.process.pid):
        try:
            sizes[_is_store(process)] += process.memory_info().rss
        except psutil.NoSuchProcess:  # a worker that has just ended
            continue
    return sizes[0], sizes[1]


def footprint(server: Server) -> Footprint:
    """All of it. Sockets that open or close meanwhile may count as outside."""
    connected: list[Any] = []
    of_store: list[Any] = []
    listening, descriptors = set(), 0
    for process in descendants(server.process.pid):
        try:
            sockets, store = process.net_connections("tcp"), _is_store(process)
            descriptors += process.num_fds()
        except psutil.NoSuchProcess:
            continue
        listening |= {socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN}
        (of_store if store else connected).extend(socket for socket in sockets if socket.status != psutil.CONN_LISTEN)
    ours = {socket.laddr for socket in connected}
    # One end may be closed while the other still is in its pool: that one is known by the port that it went to.
    # The store's are all the server's, and some of them stay half closed for an hour: hypercorn keeps an idle
    # connection for its keep-alive time even if the other side has closed it.
    pooled = sum(socket.raddr in ours or (socket.raddr and socket.raddr.port in listening) for socket in connected)
    rest = descriptors - len(connected) - len(of_store)
    return Footprint(*memory(server), len(connected) - pooled, pooled + len(of_store), rest)


def _is_store(process: psutil.Process) -> bool:
    return any(argument.endswith("_store_child.py") for argument in process.cmdline())
