"""What the table sends to its store: which requests, how many, and what it does when they fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.errors import StoreError
from chalicelib.model import ChannelName, ConnectionId
from chalicelib.store import BATCH_ATTEMPTS
from chalicelib.table import Table

from .conftest import dynamodb_client
from .fakes import NOW, FakeClock
from .stored import HOME, NEWS, A, B, Stored

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(name="stored")
def a_table(store: DynamoDBClient) -> Stored:
    return Stored(store)


@pytest.fixture(name="in_ministack")
def a_table_in_ministack(ministack: DynamoDBClient) -> Stored:
    return Stored(ministack)


def test_no_operation_scans_and_each_writes_what_the_design_says(in_ministack: Stored) -> None:
    stored = in_ministack
    costs = {
        "connect": stored.requests.during(lambda: stored.table.connect(A, NOW, HOME)),
        "join": stored.requests.during(lambda: stored.join("news", A)),
        "publish": stored.requests.during(lambda: list(stored.table.members(NEWS))),
        "leave": stored.requests.during(lambda: stored.table.leave(NEWS, A, NOW + 1)),
        "disconnect": stored.requests.during(lambda: stored.table.disconnect(A)),
    }
    assert {name: (operations, written) for name, (operations, written, _units) in costs.items()} == {
        "connect": (["BatchWriteItem"], 2),
        "join": (["UpdateItem"], 1),
        "publish": (["Query"], 0),
        "leave": (["DeleteItem"], 1),
        "disconnect": (["Query", "BatchWriteItem"], 2),
    }


def test_the_cost_of_an_event_does_not_grow_with_the_table(in_ministack: Stored) -> None:
    stored = in_ministack

    def costs(connection_id: ConnectionId) -> list[float]:
        steps = [
            lambda: stored.table.connect(connection_id, NOW, ChannelName("quiet")),
            lambda: stored.join("small", connection_id),
            lambda: list(stored.table.members(ChannelName("small"))),
            lambda: stored.table.leave(ChannelName("small"), connection_id, NOW + 1),
            lambda: stored.table.disconnect(connection_id),
        ]
        return [stored.requests.during(step)[2] for step in steps]

    before = costs(A)
    for number in range(300):
        stored.table.connect(ConnectionId(f"IU3kkeN4{number:04}AMC"), NOW, HOME)
    assert costs(B) == before
    assert all(units > 0 for units in before)


def test_a_publish_reads_one_query_a_page(in_ministack: Stored) -> None:
    stored = in_ministack
    for number in range(30):
        stored.join("news", ConnectionId(f"IU3kkeN4{number:04}AMC"))
    assert stored.requests.during(lambda: list(stored.table.members(NEWS)))[0] == ["Query"]


class Unprocessed:
    """Leaves part of each batch unprocessed, as DynamoDB does when it is throttled: it answers, and does not write."""

    def __init__(self, client: DynamoDBClient, keep: int) -> None:
        self._client, self._keep = client, keep
        self.meta = client.meta

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def batch_write_item(self, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803
        [(table, requests)] = RequestItems.items()
        if requests[: self._keep]:
            self._client.batch_write_item(RequestItems={table: requests[: self._keep]})
        rest = requests[self._keep :]
        return {"UnprocessedItems": {table: rest} if rest else {}}


def test_what_dynamodb_leaves_unprocessed_is_sent_again(stored: Stored) -> None:
    table = Table(Unprocessed(stored.client, keep=10), stored.name, stored.clock)  # type: ignore[arg-type]
    for number in range(60):
        stored.join(f"c{number}", A)
    assert table.disconnect(A) == 60
    assert stored.items() == []


def test_a_store_that_never_processes_the_rest_is_an_error_in_the_end(stored: Stored) -> None:
    table = Table(Unprocessed(stored.client, keep=0), stored.name, stored.clock)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=f"2 items still unprocessed after {BATCH_ATTEMPTS} attempts"):
        table.connect(A, NOW, HOME)


def test_a_table_that_is_not_there_is_a_store_error_with_its_cause(store: DynamoDBClient) -> None:
    table = Table(store, "no-such-table", FakeClock())
    for act in (
        lambda: table.connect(A, NOW, HOME),
        lambda: table.join(NEWS, A, "text", NOW, NOW),
        lambda: table.leave(NEWS, A, NOW),
        lambda: list(table.members(NEWS)),
        lambda: table.disconnect(A),
    ):
        with pytest.raises(StoreError, match="ResourceNotFoundException") as raised:
            act()
        assert isinstance(raised.value.__cause__, ClientError)


@pytest.fixture(name="silent")
def a_store_that_does_not_answer() -> Iterator[Table]:
    client = dynamodb_client("http://127.0.0.1:9")
    yield Table(client, "channels", FakeClock())
    client.close()


def test_a_store_that_is_down_is_a_store_error(silent: Table) -> None:
    with pytest.raises(StoreError, match="Could not connect"):
        silent.join(NEWS, A, "text", NOW, NOW)
    with pytest.raises(StoreError, match="Could not connect"):
        list(silent.members(NEWS))
