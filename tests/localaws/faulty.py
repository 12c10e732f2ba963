"""A small app on a server that takes faults, with a table or without, and what is really in the table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import dynamodb_client, everything_in
from tests.localaws.tiny import RECORDER, TABLE, TABLE_NAME, Tiny, served
from tests.server import ROOT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@contextmanager
def faulty(folder: Path, handlers: str = RECORDER, *, plan: str = "{}", **more: Any) -> Iterator[Tiny]:
    """Served with LOCALAWS_FAULTS; `more` is what `served` takes."""
    env: Mapping[str, str] = more.pop("env", {})
    with served(folder, handlers, env={"LOCALAWS_FAULTS": plan, **env}, **more) as tiny:
        yield tiny


@contextmanager
def faulty_with_table(folder: Path, handlers: str, env: Mapping[str, str] | None = None) -> Iterator[Tiny]:
    """The same, with a table."""
    (folder / ".chalice").mkdir()
    shutil.copy(ROOT / ".chalice" / "resources.json", folder / ".chalice")
    with faulty(folder, handlers, config=TABLE, env=env or {}) as tiny:
        yield tiny


def emptied(tiny: Tiny) -> DynamoDBClient:
    """The store itself, behind all faults, with nothing in the table."""
    client = dynamodb_client(tiny.server.store)
    for item in everything_in(client, TABLE_NAME):
        client.delete_item(TableName=TABLE_NAME, Key={name: item[name] for name in ("channel", "member")})
    return client


def stored(client: DynamoDBClient) -> list[int]:
    """The items there are, by the numbers that their `member` is."""
    return sorted(int(each["member"]["S"]) for each in everything_in(client, TABLE_NAME))
