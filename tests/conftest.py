"""The stores that tests run against: real ones, each a process of its own that ends with the tests. And what handlers
call meanwhile, recorded.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from chalicelib import store as requests
from chalicelib.clock import Clock
from chalicelib.model import ChannelName, ConnectionId
from chalicelib.table import _membership_key
from localaws.dynamodb import Store, create_table, load_definition

from . import recorder
from .fakes import NOW

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ROOT = Path(__file__).parent.parent
DYNALITE = ROOT / "tests/clients/node_modules/.bin/dynalite"
START_SECONDS = 30

_numbers = count(1)


def dynamodb_client(endpoint: str) -> DynamoDBClient:
    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"mode": "standard", "total_max_attempts": 4}, max_pool_connections=64),
    )


def new_table(client: DynamoDBClient) -> str:
    """Makes a table of the project's one definition; returns its name."""
    name = f"channels-{next(_numbers)}"
    create_table(client, load_definition(ROOT / ".chalice/resources.json"), name)
    return name


def fill(client: DynamoDBClient, table: str, channel: ChannelName, names: Sequence[str], joined_at: int = NOW) -> None:
    """Makes members of a channel, as joins would, in batches."""
    requests.Store(client, table, Clock()).put_all(
        _membership_key(channel, ConnectionId(name))
        | {
            "connection_id": {"S": name},
            "dialect": {"S": "text"},
            "joined_at": {"N": str(joined_at)},
            "at": {"N": str(joined_at)},
            "expires_at": {"N": str(NOW // 1_000 + 7_200)},
        }
        for name in names
    )


def everything_in(client: DynamoDBClient, table: str) -> list[dict[str, Any]]:
    """All items. (Only tests scan.)"""
    pages = client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [item for page in pages for item in page["Items"]]


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Ctrl-C ends what tests start. A shell's background jobs ignore it, and their children with them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which handlers, those in this process and those in servers that tests start, have their calls."""
    folder = tmp_path_factory.mktemp("recording")
    recorder.install(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(recorder.VARIABLE, str(folder))
        yield folder


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What judges the recording comes when all else has been recorded."""
    items.sort(key=lambda item: "recorded" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def ministack() -> Iterator[DynamoDBClient]:
    with Store() as store:
        yield dynamodb_client(store.endpoint)


@pytest.fixture(scope="session")
def dynalite() -> Iterator[DynamoDBClient]:
    if not DYNALITE.exists() or not shutil.which("node"):
        reason = "dynalite is not here: install Node 20, then `make test` installs it"
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(DYNALITE), "--host", "127.0.0.1", "--port", str(port), "--createTableMs", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert process.poll() is None, "dynalite did not start"
                    assert time.monotonic() < deadline, "dynalite does not answer"
                    time.sleep(0.02)
            yield dynamodb_client(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


@pytest.fixture(params=["ministack", "dynalite"], name="store")
def each_store(request: pytest.FixtureRequest) -> DynamoDBClient:
    """Each of the two stores in turn."""
    client: DynamoDBClient = request.getfixturevalue(request.param)
    return client


class Requests:
    """The requests that a client sends, counted by operation, with the units that they consume."""

    def __init__(self, client: DynamoDBClient) -> None:
        self.operations: list[str] = []
        self.written: list[str] = []
        self.units = 0.0
        client.meta.events.register("provide-client-params.dynamodb.*", self._before)
        client.meta.events.register("after-call.dynamodb.*", self._after)

    def _before(self, params: dict[str, Any], model: Any, **_more: Any) -> Any:
        self.operations.append(model.name)
        if model.name in {"UpdateItem", "PutItem", "DeleteItem"}:
            self.written.append(model.name)
        if model.name == "BatchWriteItem":
            self.written += [next(iter(request)) for batch in params["RequestItems"].values() for request in batch]
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def _after(self, parsed: dict[str, Any], **_more: Any) -> None:
        consumed = parsed.get("ConsumedCapacity", [])
        for capacity in consumed if isinstance(consumed, list) else [consumed]:
            self.units += capacity["CapacityUnits"]

    def during(self, act: Callable[[], object]) -> tuple[list[str], int, float]:
        """What `act` sends: its operations, how many items it writes, the units consumed."""
        self.operations, self.written, self.units = [], [], 0.0
        act()
        return self.operations, len(self.written), self.units
