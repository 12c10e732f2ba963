"""(d) Units that DynamoDB bills for what clients do, by how many connections are in the table.

Knows how to fill the tables of designs.py and to add up what their requests consume: each is asked for its
ReturnConsumedCapacity. Nothing is computed that a store reports as AWS does; what none reports is said (Meter).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
from botocore.config import Config
from rich.progress import Progress

from bench import plots
from bench.designs import ByConnection, ByTopic, Channels, Design, Put
from bench.report import Measured, Table
from bench.store import running_store
from localaws import dynamodb

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SIZES = (10, 1_000, 10_000, 100_000)
QUICK_SIZES = (10, 1_000)
"""Also where only ministack is there, whose Query goes through the whole table."""

ROOM_MEMBERS = 10
DESIGNS = (Channels, ByConnection, ByTopic)
OPERATIONS = ("connect", "join", "leave", "publish", "disconnect")
UNCHANGING = ("connect", "join", "leave", "disconnect")

LOADING_THREADS = 4
FILLED_AT_ONCE = 1_000
BATCH_ITEMS = 25
"""https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html"""

READS = ("GetItem", "Query", "Scan")
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem")


@dataclass(frozen=True)
class Units:
    """Of reading and of writing, which are billed apart."""

    reads: float = 0.0
    writes: float = 0.0

    @property
    def total(self) -> float:
        return self.reads + self.writes

    def __str__(self) -> str:
        return " + ".join(f"{units:,.10g} {kind}" for units, kind in ((self.reads, "r"), (self.writes, "w")) if units)


Rows: TypeAlias = Mapping[str, Mapping[str, Sequence[Units]]]
"""By design and operation: one for each size."""


class Meter:
    """Adds up what a client's requests consume.

    dynalite leaves out of a write what the table's indexes consume, ministack counts it. Where `counts_indexes` is
    false, AWS's rule is applied: an item that appears or goes away costs each index that holds it one more write for
    each KB of its entry there. Here every write is of that kind, and no entry comes near 1 KB.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html#GSI.ThroughputConsiderations
    """

    def __init__(self, client: DynamoDBClient, *, counts_indexes: bool) -> None:
        self._counts_indexes = counts_indexes
        self._reads = self._writes = 0.0
        self._items_written = 0
        events = client.meta.events
        for operation in (*READS, *WRITES):
            events.register(f"provide-client-params.dynamodb.{operation}", self._ask)  # type: ignore[arg-type]
        for operation in READS:
            events.register(f"after-call.dynamodb.{operation}", self._read)
        for operation in WRITES:
            events.register(f"after-call.dynamodb.{operation}", self._wrote)

    def during(self, act: Callable[[], object], indexes: int) -> Units:
        """What `act` consumes in a table with so many indexes."""
        self._reads = self._writes = 0.0
        self._items_written = 0
        act()
        by_rule = 0 if self._counts_indexes else indexes * self._items_written
        return Units(self._reads, self._writes + by_rule)

    def _ask(self, params: dict[str, Any], model: Any, **_more: Any) -> dict[str, Any]:
        if model.name in WRITES:
            self._items_written += sum(map(len, params.get("RequestItems", {"": [""]}).values()))
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def _read(self, parsed: dict[str, Any], **_more: Any) -> None:
        self._reads += _consumed(parsed)

    def _wrote(self, parsed: dict[str, Any], **_more: Any) -> None:
        self._writes += _consumed(parsed)


def measure(quick: bool, progress: Progress) -> Measured:
    """A row for each design and operation, a column for each size of the table."""
    with running_store() as store:
        counts_indexes = store.name == "ministack"
        sizes = QUICK_SIZES if quick or counts_indexes else SIZES
        rows = _rows(store.endpoint, sizes, progress, counts_indexes=counts_indexes)
    with dynamodb.Store() as ministack:
        second = _rows(ministack.endpoint, sizes[:1], progress, counts_indexes=True)
    ours = rows[Channels.name]
    failures = [
        f"{operation} consumes {' / '.join(map(str, ours[operation]))} with {_list(sizes)} connections in the table"
        for operation in UNCHANGING
        if len(set(ours[operation])) > 1
    ]
    failures += [
        f"{design}, {operation}: {units[0]} on {store.name}, {second[design][operation][0]} on ministack"
        for design, of_design in rows.items()
        for operation, units in of_design.items()
        if units[0] != second[design][operation][0]
    ]
    if not quick:
        _plot(rows, sizes)
    figures = {f"units_{operation}": [units.total for units in ours[operation]] for operation in UNCHANGING}
    return Measured([_table(rows, sizes, store.name)], figures, failures)


def _rows(endpoint: str, sizes: Sequence[int], progress: Progress, *, counts_indexes: bool) -> Rows:
    loading, metered = _client(endpoint), _client(endpoint)
    designs: list[Design] = [design(metered) for design in DESIGNS]
    meter = Meter(metered, counts_indexes=counts_indexes)
    rows: dict[str, dict[str, list[Units]]] = {each.name: {name: [] for name in OPERATIONS} for each in designs}
    task = progress.add_task(f"filling tables with {_list(sizes)} connections", total=len(designs) * sizes[-1])
    for loaded, size in zip((0, *sizes), sizes, strict=False):
        for design in designs:
            for first in range(loaded, size, FILLED_AT_ONCE):
                end = min(first + FILLED_AT_ONCE, size)
                _fill(loading, design.table, design.puts(_rooms(first, end)))
                progress.advance(task, end - first)
            for name, operation in design.operations().items():
                rows[design.name][name].append(meter.during(operation, design.indexes))
    progress.remove_task(task)
    return rows


def _rooms(first: int, end: int) -> Iterator[tuple[str, list[str]]]:
    for start in range(first, end, ROOM_MEMBERS):
        yield f"room-{start // ROOM_MEMBERS}", [f"{number:015}=" for number in range(start, start + ROOM_MEMBERS)]


def _fill(client: DynamoDBClient, table: str, puts: Iterator[Put]) -> None:
    def write(batch: list[Put]) -> None:
        left = client.batch_write_item(RequestItems={table: batch})["UnprocessedItems"]  # type: ignore[dict-item]
        if left:
            raise RuntimeError(f"the store has left {len(left[table])} items of {table} unprocessed")

    with ThreadPoolExecutor(LOADING_THREADS) as threads:
        for _ in threads.map(write, iter(lambda: [*islice(puts, BATCH_ITEMS)], [])):
            pass


def _client(endpoint: str) -> DynamoDBClient:
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(max_pool_connections=LOADING_THREADS),
    )


def _consumed(parsed: Mapping[str, Any]) -> float:
    capacity = parsed["ConsumedCapacity"]
    return float(sum(each["CapacityUnits"] for each in (capacity if isinstance(capacity, list) else [capacity])))


def _list(sizes: Sequence[int]) -> str:
    return " / ".join(f"{size:,}" for size in sizes)


def _table(rows: Rows, sizes: Sequence[int], store: str) -> Table:
    return Table(
        f"(d) DynamoDB units by connections in the table, on {store} (r: read, w: write)",
        ("", "table", *(f"{size:,}" for size in sizes)),
        [(operation, design, *map(str, rows[design][operation])) for operation in OPERATIONS for design in rows],
        (
            f"Rooms of {ROOM_MEMBERS}, which a publish goes to. connect: into one room, and not the first one of a "
            "process, which writes one item more. disconnect: out of one room.",
            f"{ByConnection.name}: as in aws-samples/simple-websockets-chat-app. {ByTopic.name}: as in serverless "
            "signaling for Yjs, discuss.yjs.dev/t/680, where 400 KB end a topic at some 20,000 members.",
            "Half of Channels' writes are its index's. dynalite does not report those: they are counted by AWS's rule, "
            "one for each item that appears or goes away. ministack reports them: both agree on the first column, or "
            "this fails.",
        ),
    )


def _plot(rows: Rows, sizes: Sequence[int]) -> None:
    def line(label: str, design: str, operation: str, *, rival: bool = False) -> plots.Line:
        totals = [units.total for units in rows[design][operation]]
        return plots.Line(label, [*zip(sizes, totals, strict=True)], rival=rival)

    plots.save(
        "units",
        "DynamoDB units for one event, by the size of the table",
        "connections in the table",
        "units",
        [
            line("Channels: disconnect", Channels.name, "disconnect"),
            line("Channels: connect", Channels.name, "connect"),
            line("Channels: join, leave", Channels.name, "join"),
            line(f"Channels: publish to {ROOM_MEMBERS}", Channels.name, "publish"),
            line("tutorial: publish,\ntable keyed by connection", ByConnection.name, "publish", rival=True),
            line("tutorial: disconnect,\ntable keyed by topic", ByTopic.name, "disconnect", rival=True),
        ],
    )
