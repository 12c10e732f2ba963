"""DynamoDB's requests to one table: pages followed, batches sent until all is processed, failures as StoreError.

Knows neither keys nor attributes: they are table.py's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from . import aws
from .clock import Clock
from .errors import StoreError
from .limits import BATCH_WRITE_ITEMS

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

CONNECT_SECONDS = 1
ANSWER_SECONDS = 3
ATTEMPTS = 4
SOCKETS = 256
"""What a request is given, and how many sockets the client keeps open at most."""

BATCH_ATTEMPTS = 8
"""How often what DynamoDB left unprocessed is sent, with full jitter up to 50 ms doubling: about 6 s at most."""

Item: TypeAlias = Mapping[str, Any]
"""Attributes by name, each as DynamoDB writes it: {"S": "text"}."""


def connect() -> DynamoDBClient:
    """A client for the DynamoDB of the SDK's configuration; raises Misconfigured."""
    client: DynamoDBClient = aws.client(
        "dynamodb",
        attempts=ATTEMPTS,
        connect_seconds=CONNECT_SECONDS,
        answer_seconds=ANSWER_SECONDS,
        sockets=SOCKETS,
    )
    client.meta.events.register("before-parse.dynamodb.Query", _take_page_as_it_is)
    return client


def _take_page_as_it_is(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_more: object
) -> None:
    """Spares a page botocore's reading of shapes, which takes ten times as long as reading its JSON and, of strings,
    numbers and booleans, makes the same.
    """
    if response_dict["status_code"] == 200:  # noqa: PLR2004  an error is botocore's to read
        customized_response_dict.update(json.loads(response_dict["body"]))
        response_dict["body"] = b"{}"


class Store:
    """The table of that name. Every method raises StoreError when DynamoDB fails, its client's retries included."""

    def __init__(self, client: DynamoDBClient, table_name: str, clock: Clock) -> None:
        self._client = client
        self._table = table_name
        self._clock = clock

    def get(self, key: Item, attributes: str, names: Mapping[str, str] | None = None) -> Item | None:
        """Some attributes of one item, read consistently."""
        aliases = {"ExpressionAttributeNames": names} if names else {}
        response = self._call(
            self._client.get_item,
            Key=key,
            ConsistentRead=True,
            ProjectionExpression=attributes,
            **aliases,
        )
        item: Item | None = response.get("Item")
        return item

    def pages(self, *, after: Item | None = None, **query: Any) -> Iterator[Mapping[str, Any]]:
        """The pages of a Query, from its beginning or from after a key."""
        start = {} if after is None else {"ExclusiveStartKey": after}
        while True:
            page = self._call(self._client.query, **query, **start)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def put(self, **request: Any) -> bool:
        """PutItem; whether its condition held."""
        return self._conditionally(self._client.put_item, **request)

    def update(self, **request: Any) -> bool:
        """UpdateItem; whether its condition held."""
        return self._conditionally(self._client.update_item, **request)

    def delete(self, **request: Any) -> bool:
        """DeleteItem; whether its condition held."""
        return self._conditionally(self._client.delete_item, **request)

    def put_all(self, items: Iterable[Item]) -> None:
        """Writes items in batches, over what was there."""
        self._write({"PutRequest": {"Item": item}} for item in items)

    def delete_all(self, keys: Iterable[Item]) -> int:
        """Deletes items in batches; returns how many keys there were."""
        return self._write({"DeleteRequest": {"Key": key}} for key in keys)

    def _write(self, requests: Iterable[Mapping[str, Any]]) -> int:
        written = 0
        requests = iter(requests)
        while batch := list(islice(requests, BATCH_WRITE_ITEMS)):
            written += len(batch)
            for attempt in range(BATCH_ATTEMPTS):
                self._clock.sleep(random.uniform(0, 50 * 2 ** (attempt - 1)) if attempt else 0)  # noqa: S311
                response = _call(self._client.batch_write_item, RequestItems={self._table: batch})
                batch = [*response.get("UnprocessedItems", {}).get(self._table, [])]
                if not batch:
                    break
            else:
                left = f"{len(batch)} items still unprocessed after {BATCH_ATTEMPTS} attempts"
                raise StoreError("BatchWriteItem", left)
        return written

    def _conditionally(self, request: Callable[..., Any], **arguments: Any) -> bool:
        try:
            request(TableName=self._table, **arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise _store_error(error) from error
        except BotoCoreError as error:
            raise _store_error(error) from error
        return True

    def _call(self, request: Callable[..., T], **arguments: Any) -> T:
        return _call(request, TableName=self._table, **arguments)


def _call(request: Callable[..., T], **arguments: Any) -> T:
    try:
        return request(**arguments)
    except (ClientError, BotoCoreError) as error:
        raise _store_error(error) from error


def _store_error(error: ClientError | BotoCoreError) -> StoreError:
    if isinstance(error, ClientError):
        return StoreError(
            error.operation_name, f"{error.response['Error']['Code']}: {error.response['Error']['Message']}"
        )
    return StoreError("DynamoDB", str(error))
