"""The channel table: who is in which channel. The only module that knows DynamoDB's keys and requests.

    item         channel (partition key)   member (sort key)          attributes, beside connection_id and expires_at
    membership   the channel's key         {bucket}#{connection_id}   dialect, joined_at, at, at_home?, name (if hashed)
    tombstone    the channel's key         {bucket}#{connection_id}   at
    connection   @connection#{id}          @                          connected_at, home?, at_home?

The index `by_connection` (connection_id, channel) finds all that a connection has, whatever the size of the table:
there is no Scan. `bucket` is two hex digits of a hash, because connection ids begin with a clock: without it, the
members that join in one hour would be one hot range of the sort key.

`at` is when API Gateway received the frame (ms since 1970). A join and a leave of one connection may be handled in
either order, since Lambda promises none, and the later frame wins: a leave deletes only an older membership, a join
overwrites only what is older, and a leave that finds nothing to delete leaves a tombstone for the join that it may have
overtaken. A tie keeps the member.

`at_home` marks the membership that connecting made, and the record of a connection that still has it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from .clock import Clock
from .errors import StoreError
from .limits import BATCH_WRITE_ITEMS, CONNECTION_SECONDS
from .model import TEXT, ChannelName, Connection, ConnectionId, Member

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

INDEX = "by_connection"

LONGEST_PLAIN_NAME = 255
"""A longer channel name (bytes of UTF-8) is stored by its hash: the name repeats in every membership, and in the
index's sort key, which ends at limits.SORT_KEY_BYTES.
"""

STORED_NAME_CHARACTERS = 255
"""How much of a hashed name is kept beside it, for people who look into the table."""

EXPIRY_SECONDS = CONNECTION_SECONDS + 600
"""An item lives 10 minutes longer than any connection: $disconnect is best effort, and TTL deletes what it missed."""

TOMBSTONE_SECONDS = 60
"""How long a leave waits for a join that it has overtaken; API Gateway gives up on a Lambda after 29 s."""

BATCH_ATTEMPTS = 8
"""How often what DynamoDB left unprocessed is sent, with full jitter up to 50 ms doubling: about 6 s at most."""

_BUCKETS = 256
_RECORD = "@"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a channel's members, and how many the channel has: exact if all fit one page, else an estimate."""

    members: Sequence[Member]
    channel_size: int


class Table:
    """The table of that name. Every method raises StoreError when DynamoDB fails, its client's retries included."""

    def __init__(self, client: DynamoDBClient, name: str, clock: Clock) -> None:
        self._client = client
        self._name = name
        self._clock = clock

    # --- connections

    def connect(self, connection_id: ConnectionId, connected_at: int, home: ChannelName | None) -> None:
        """Writes the connection's record and, where it has a home channel, its membership there. Items written: 1 or 2.

        `home` is UTF-8 without lone surrogates (events.connect and Settings see to it): the record holds the name
        itself.
        """
        expires_at = _expiry(connected_at)
        record = _record_key(connection_id) | {
            "connection_id": _s(connection_id),
            "connected_at": _n(connected_at),
            "expires_at": _n(expires_at),
        }
        items = [record]
        if home is not None:
            record |= {"home": _s(home), "at_home": {"BOOL": True}}
            membership = {
                "connection_id": _s(connection_id),
                "dialect": _s(TEXT),
                "joined_at": _n(self._clock.now_ms()),
                "at": _n(connected_at),
                "expires_at": _n(expires_at),
                "at_home": {"BOOL": True},
            }
            items.append(_membership_key(home, connection_id) | membership | _name_beside(home))
        self._write([{"PutRequest": {"Item": item}} for item in items])

    def connection(self, connection_id: ConnectionId) -> Connection | None:
        """The connection's record, read consistently."""
        item = self._get(_record_key(connection_id), "home, at_home")
        if item is None:
            return None
        home = ChannelName(item["home"]["S"]) if "home" in item else None
        return Connection(connection_id, home, "at_home" in item)

    def leave_home(self, connection_id: ConnectionId, home: ChannelName) -> None:
        """Ends the membership that connecting made, unless a join has made it its own, and says so in the record."""
        self._conditionally(
            self._client.delete_item,
            TableName=self._name,
            Key=_membership_key(home, connection_id),
            ConditionExpression="attribute_exists(at_home)",
        )
        # Without its condition this would make a record anew, without an expiry, of a connection that has just gone.
        self._conditionally(
            self._client.update_item,
            TableName=self._name,
            Key=_record_key(connection_id),
            UpdateExpression="REMOVE at_home",
            ConditionExpression="attribute_exists(at_home)",
        )

    def disconnect(self, connection_id: ConnectionId) -> int:
        """Removes all that the connection has; returns how many items. One Query of the index for each 1 MB of keys.

        The index lags the table by milliseconds. A membership written just before may stay; a 410 or TTL ends it.
        """
        pages = self._pages(
            IndexName=INDEX,
            KeyConditionExpression="connection_id = :id",
            ExpressionAttributeNames={"#member": "member"},
            ExpressionAttributeValues={":id": _s(connection_id)},
            ProjectionExpression="channel, #member",
        )
        return self._delete(item for page in pages for item in page["Items"])

    # --- memberships

    def join(self, channel: ChannelName, connection_id: ConnectionId, dialect: str, at: int, connected_at: int) -> bool:
        """Makes the connection a member; true once that is written, false where a later leave came first. Items
        written: 1.

        `joined_at` is this clock just before the first write, and a repeated join keeps it. `at` and `connected_at` are
        in ms.
        """
        assignments = {
            "connection_id": _s(connection_id),
            "dialect": _s(dialect),
            "at": _n(at),
            "expires_at": _n(_expiry(connected_at)),
        } | _name_beside(channel)
        joined_at = self._clock.now_ms()
        written = self._conditionally(
            self._client.update_item,
            TableName=self._name,
            Key=_membership_key(channel, connection_id),
            UpdateExpression="SET joined_at = if_not_exists(joined_at, :joined_at), "
            + ", ".join(f"#{name} = :{name}" for name in assignments)
            + " REMOVE at_home",
            ConditionExpression="attribute_not_exists(#at) OR #at <= :at",
            ExpressionAttributeNames={f"#{name}": name for name in assignments},
            ExpressionAttributeValues={f":{name}": value for name, value in assignments.items()}
            | {":joined_at": _n(joined_at)},
        )
        return written or self.membership(channel, connection_id) is not None

    def leave(self, channel: ChannelName, connection_id: ConnectionId, at: int) -> None:
        """Ends a membership that is older than `at` (ms). Items written: 1."""
        key = _membership_key(channel, connection_id)
        deleted = self._conditionally(
            self._client.delete_item,
            TableName=self._name,
            Key=key,
            ConditionExpression="attribute_exists(joined_at) AND #at < :at",
            ExpressionAttributeNames={"#at": "at"},
            ExpressionAttributeValues={":at": _n(at)},
        )
        if not deleted:
            tombstone = {
                "connection_id": _s(connection_id),
                "at": _n(at),
                "expires_at": _n(self._clock.now_ms() // 1_000 + TOMBSTONE_SECONDS),
            }
            self._conditionally(
                self._client.put_item,
                TableName=self._name,
                Item=key | tombstone,
                ConditionExpression="attribute_not_exists(#at) OR #at < :at",
                ExpressionAttributeNames={"#at": "at"},
                ExpressionAttributeValues={":at": _n(at)},
            )

    def membership(self, channel: ChannelName, connection_id: ConnectionId) -> Member | None:
        """The connection's own membership, by its key and read consistently."""
        item = self._get(_membership_key(channel, connection_id), _MEMBER_ATTRIBUTES)
        return self._member(item) if item else None

    def members(self, channel: ChannelName) -> Iterator[Page]:
        """The channel's members as of now, page by page (1 MB, about 7,000 each): one consistent Query a page.

        Members whose TTL has passed are left out, since deletion by TTL may lag by days. Of a channel without members:
        one empty page.
        """
        size: int | None = None
        for page in self._pages(
            KeyConditionExpression="channel = :channel",
            ExpressionAttributeNames={"#member": "member"},
            ExpressionAttributeValues={":channel": _s(_channel_key(channel))},
            ProjectionExpression=_MEMBER_ATTRIBUTES,
            ConsistentRead=True,
        ):
            members = [member for item in page["Items"] if (member := self._member(item))]
            if size is None:
                size = _estimated_size(len(members), page.get("LastEvaluatedKey"))
            yield Page(members, size)

    def prune(self, channel: ChannelName, connection_ids: Iterable[ConnectionId]) -> None:
        """Deletes the memberships of connections that are gone. Their ids are never used again, so no condition is
        needed.
        """
        self._delete(_membership_key(channel, connection_id) for connection_id in connection_ids)

    def _member(self, item: Mapping[str, Any]) -> Member | None:
        if "joined_at" not in item or int(item["expires_at"]["N"]) * 1_000 <= self._clock.now_ms():
            return None
        _bucket, _, connection_id = item["member"]["S"].partition("#")
        return Member(ConnectionId(connection_id), item["dialect"]["S"], int(item["joined_at"]["N"]))

    # --- requests

    def _get(self, key: Mapping[str, Any], attributes: str) -> Mapping[str, Any] | None:
        names = {"ExpressionAttributeNames": {"#member": "member"}} if "#member" in attributes else {}
        response = self._call(
            self._client.get_item,
            TableName=self._name,
            Key=key,
            ConsistentRead=True,
            ProjectionExpression=attributes,
            **names,
        )
        item: Mapping[str, Any] | None = response.get("Item")
        return item

    def _pages(self, **query: Any) -> Iterator[Mapping[str, Any]]:
        start: dict[str, Any] = {}
        while True:
            page = self._call(self._client.query, TableName=self._name, **query, **start)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _delete(self, keys: Iterable[Mapping[str, Any]]) -> int:
        return self._write({"DeleteRequest": {"Key": key}} for key in keys)

    def _write(self, requests: Iterable[Mapping[str, Any]]) -> int:
        """Sends `requests` in batches until all are processed; returns how many there were."""
        count = 0
        requests = iter(requests)
        while batch := list(islice(requests, BATCH_WRITE_ITEMS)):
            count += len(batch)
            for attempt in range(BATCH_ATTEMPTS):
                self._clock.sleep(random.uniform(0, 50 * 2 ** (attempt - 1)) if attempt else 0)  # noqa: S311
                response = self._call(self._client.batch_write_item, RequestItems={self._name: batch})
                batch = [*response.get("UnprocessedItems", {}).get(self._name, [])]
                if not batch:
                    break
            else:
                raise StoreError(
                    "BatchWriteItem", f"{len(batch)} items still unprocessed after {BATCH_ATTEMPTS} attempts"
                )
        return count

    def _conditionally(self, request: Callable[..., Any], **arguments: Any) -> bool:
        """Whether the request's condition held."""
        try:
            request(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise _store_error(error) from error
        except BotoCoreError as error:
            raise _store_error(error) from error
        return True

    def _call(self, request: Callable[..., T], **arguments: Any) -> T:
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


def _s(text: str) -> dict[str, str]:
    return {"S": text}


def _n(number: int) -> dict[str, str]:
    return {"N": str(number)}


_MEMBER_ATTRIBUTES = "#member, dialect, joined_at, expires_at"


def _expiry(connected_at: int) -> int:
    return connected_at // 1_000 + EXPIRY_SECONDS


def _record_key(connection_id: ConnectionId) -> dict[str, Any]:
    return {"channel": _s(f"@connection#{connection_id}"), "member": _s(_RECORD)}


def _membership_key(channel: ChannelName, connection_id: ConnectionId) -> dict[str, Any]:
    bucket = hashlib.sha256(connection_id.encode()).hexdigest()[:2]
    return {"channel": _s(_channel_key(channel)), "member": _s(f"{bucket}#{connection_id}")}


def _is_plain(channel: ChannelName) -> bool:
    if not channel or channel.startswith("@"):
        return False
    try:
        return len(channel.encode()) <= LONGEST_PLAIN_NAME
    except UnicodeEncodeError:
        return False


def _channel_key(channel: ChannelName) -> str:
    """A channel's partition key: its name, or a hash of names that are empty, long, like keys of ours or not UTF-8.

    No two names share a key: a plain name never starts with '@'.
    """
    if _is_plain(channel):
        return channel
    return f"@name#{hashlib.sha256(channel.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _name_beside(channel: ChannelName) -> dict[str, Any]:
    if _is_plain(channel):
        return {}
    return {"name": _s(channel[:STORED_NAME_CHARACTERS].encode("utf-8", "backslashreplace").decode())}


def _estimated_size(counted: int, last_key: Mapping[str, Any] | None) -> int:
    """How many members there are if the rest is spread as the first page was: uniformly over the buckets."""
    if last_key is None:
        return counted
    bucket = int(last_key["member"]["S"][:2], 16)
    return round(counted * _BUCKETS / (bucket + 0.5))
