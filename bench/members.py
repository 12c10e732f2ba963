"""Members by the thousand, in a real table: what their joining wrote, written in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import boto3
from botocore.config import Config

from bench.machine import ROOT, SINK_CORE, on_core
from bench.store import Store, running_store
from chalicelib.clock import Clock
from chalicelib.model import ChannelName, ConnectionId
from chalicelib.table import Table
from localaws.dynamodb import create_table, load_definition
from localaws.events import new_connection_id

TABLE = "channels-bench"

AGE_MS = 600_000
"""How long ago they connected: a 410 of one that is younger than a minute may be of one that is still connecting."""

BATCH = 25
"""Items in a BatchWriteItem."""
THREADS = 4


@contextmanager
def store_beside_sink() -> Iterator[Store]:
    """A store on the sink's core, so that senders have the other for themselves; it ends with the block."""
    with ExitStack() as stack:
        with on_core(SINK_CORE):
            store = stack.enter_context(running_store())
        yield store


class Members:
    """The table of that name in the store at `endpoint`, and who is in it."""

    def __init__(self, endpoint: str) -> None:
        self._client: Any = boto3.client(
            "dynamodb",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(max_pool_connections=THREADS),
        )
        create_table(self._client, load_definition(ROOT / ".chalice/resources.json"), TABLE)
        self._table = Table(self._client, TABLE, Clock())

    def join(self, channel: str, count: int, loaded: Callable[[int], object]) -> list[str]:
        """New connections become members of the channel; returns their ids. `loaded` is told of each batch."""
        connected_at = time.time_ns() // 1_000_000 - AGE_MS
        ids = [new_connection_id(connected_at) for _ in range(count)]
        with ThreadPoolExecutor(THREADS) as executor:
            for written in executor.map(self._write, _batches(_memberships(channel, ids, connected_at))):
                loaded(written)
        return ids

    def disconnect(self, connection_id: str) -> None:
        """What $disconnect does to the table."""
        self._table.disconnect(ConnectionId(connection_id))

    def _write(self, batch: Sequence[Mapping[str, Any]]) -> int:
        unprocessed = {TABLE: batch}
        while unprocessed:
            unprocessed = self._client.batch_write_item(RequestItems=unprocessed)["UnprocessedItems"]
        return len(batch)


class _Past(Clock):
    def __init__(self, at_ms: int) -> None:
        self._at_ms = at_ms

    def now_ms(self) -> int:
        return self._at_ms


class _Memory:
    """In a DynamoDB client's place, takes what a Table writes and keeps the memberships."""

    def __init__(self) -> None:
        self.memberships: list[Mapping[str, Any]] = []

    def batch_write_item(self, RequestItems: Mapping[str, Sequence[Mapping[str, Any]]]) -> Mapping[str, Any]:  # noqa: N803
        requests = RequestItems[TABLE]
        self.memberships += [request for request in requests if "dialect" in request["PutRequest"]["Item"]]
        return {}


def _memberships(channel: str, ids: Sequence[str], connected_at: int) -> Iterator[Mapping[str, Any]]:
    """The writes of memberships as the table itself makes them at $connect."""
    memory = _Memory()
    client: Any = memory
    table = Table(client, TABLE, _Past(connected_at))
    for connection_id in ids:
        table.connect(ConnectionId(connection_id), connected_at, ChannelName(channel))
        yield memory.memberships.pop()


def _batches(writes: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    batch = []
    for write in writes:
        batch.append(write)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
