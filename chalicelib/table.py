"""The channel table: who is in which channel. The only module that knows its keys and attributes.

    item         channel (partition key)   member (sort key)          attributes, beside connection_id and expires_at
    membership   the channel's key         {bucket}#{connection_id}   dialect, joined_at, at, at_home?, name (if hashed)
    tombstone    the channel's key         {bucket}#{connection_id}   at
    connection   @connection#{id}          @                          connected_at, home?, at_home?, principal?,
                                                                      capability?
    claim        @claim#{message id}       @{range's start}           owner
    address      @address                  @                          api_id, stage  (neither connection_id nor expiry)

The index `by_connection` (connection_id, channel) finds all that a connection has, whatever the size of the table:
there is no Scan. `bucket` is two hex digits of a hash, because connection ids begin with a clock: without it, the
members that join in one hour would be one hot range of the sort key.

`at` is when API Gateway received the frame (ms since 1970). A join and a leave of one connection may be handled in
either order, since Lambda promises none, and the later frame wins: a leave deletes only an older membership, a join
overwrites only what is older, and a leave that finds nothing to delete leaves a tombstone for the join that it may have
overtaken. A tie keeps the member.

`at_home` marks the membership that connecting made, and the record of a connection that still has it.

A claim says that a key range of a message's receivers is being sent to, so that no other run sends to it again. The
address is the way to the connections, for functions that API Gateway does not tell it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import names
from .clock import Clock
from .errors import StoreError
from .identity import Identity
from .limits import CONNECTION_SECONDS
from .model import TEXT, Address, ChannelName, Connection, ConnectionId, KeyRange, Member, Page, Position
from .ranges import estimated_size, position_of
from .store import Store

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

INDEX = "by_connection"

EXPIRY_SECONDS = CONNECTION_SECONDS + 600
"""An item lives 10 minutes longer than any connection: $disconnect is best effort, and TTL deletes what it missed."""

TOMBSTONE_SECONDS = 60
"""How long a leave waits for a join that it has overtaken; API Gateway gives up on a Lambda after 29 s."""

CLAIM_SECONDS = 86_400
"""How long a claim is kept: Lambda tries an asynchronous invocation again for 6 hours
(https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html).
"""

PAGE_MEMBERS = 1_000
"""Members in one page. DynamoDB would give 7,000, and the first of them would wait until all are read and decoded."""


class Table:
    """The table of that name. Every method raises StoreError when DynamoDB fails, its client's retries included."""

    def __init__(self, client: DynamoDBClient, name: str, clock: Clock) -> None:
        self._store = Store(client, name, clock)
        self._clock = clock

    # --- connections

    def connect(
        self,
        connection_id: ConnectionId,
        connected_at: int,
        home: ChannelName | None,
        address: Address | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Writes the connection's record and, where it has a home channel, its membership there. Items written: 1 or 2,
        and one more where the address is to be remembered. Both expire with the identity, where it does.

        `home` is UTF-8 without lone surrogates (events.connect and Settings see to it): the record holds the name
        itself.
        """
        expires_at = _expiry(connected_at, identity.expires_at if identity else None)
        record = _record_key(connection_id) | {
            "connection_id": _s(connection_id),
            "connected_at": _n(connected_at),
            "expires_at": _n(expires_at),
        }
        if identity is not None:
            record |= _rights(identity)
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
        if address is not None:
            items.append({**_ADDRESS_KEY, "api_id": _s(address.api_id), "stage": _s(address.stage)})
        self._store.put_all(items)

    def connection(self, connection_id: ConnectionId) -> Connection | None:
        """The connection's record, read consistently."""
        item = self._store.get(_record_key(connection_id), "home, at_home, expires_at, principal, capability")
        if item is None:
            return None
        return Connection(
            connection_id,
            ChannelName(item["home"]["S"]) if "home" in item else None,
            "at_home" in item,
            int(item["expires_at"]["N"]),
            item["principal"]["S"] if "principal" in item else None,
            item["capability"]["S"] if "capability" in item else None,
        )

    def renew(
        self,
        connection_id: ConnectionId,
        connected_at: int,
        identity: Identity,
        keeps: Callable[[ChannelName | None], bool],
        until: int,
    ) -> bool:
        """Gives the connection that identity's rights and expiry, and the same expiry to its memberships of channels
        that `keeps` says yes to; the others end. False where the connection has no record any more.

        `keeps` is asked with None for a channel whose name is stored by its hash: whether all such are kept that end
        with the rights so far, at `until`. One that does not was missed by an earlier renewal, and ends as it must.
        Items written: 1 and one a membership. One that the index does not show yet keeps its own expiry.
        """
        expires_at = _n(_expiry(connected_at, identity.expires_at))
        rights = _rights(identity)
        gone = [name for name in ("principal", "capability") if name not in rights]
        if not self._store.update(
            Key=_record_key(connection_id),
            UpdateExpression="SET expires_at = :expires_at"
            + "".join(f", {name} = :{name}" for name in rights)
            + (f" REMOVE {', '.join(gone)}" if gone else ""),
            ConditionExpression="attribute_exists(connected_at)",
            ExpressionAttributeValues={":expires_at": expires_at, **{f":{name}": rights[name] for name in rights}},
        ):
            return False
        for key in self._keys_of(connection_id):
            channel = key["channel"]["S"]
            if channel.startswith(_RECORD_PREFIX):
                continue
            hashed = channel.startswith(names.HASHED_PREFIX)
            if keeps(None if hashed else ChannelName(channel)):
                self._store.update(
                    Key=key,
                    UpdateExpression="SET expires_at = :expires_at",
                    ConditionExpression="attribute_exists(joined_at)" + " AND expires_at = :until" * hashed,
                    ExpressionAttributeValues={":expires_at": expires_at} | ({":until": _n(until)} if hashed else {}),
                )
            else:
                self._store.delete(Key=key, ConditionExpression="attribute_exists(joined_at)")
        return True

    def channels_of(self, connection_id: ConnectionId, besides: Iterable[ChannelName] = ()) -> int:
        """How many channels the connection is in, `besides` those, as far as the index shows it yet. One that it has
        left without being in it counts too, until TTL deletes the tombstone.
        """
        not_counted = {*map(names.key_of, besides), f"{_RECORD_PREFIX}{connection_id}"}
        return sum(key["channel"]["S"] not in not_counted for key in self._keys_of(connection_id))

    def leave_home(self, connection_id: ConnectionId, home: ChannelName) -> None:
        """Ends the membership that connecting made, unless a join has made it its own, and says so in the record."""
        self._store.delete(
            Key=_membership_key(home, connection_id),
            ConditionExpression="attribute_exists(at_home)",
        )
        # Without its condition this would make a record anew, without an expiry, of a connection that has just gone.
        self._store.update(
            Key=_record_key(connection_id),
            UpdateExpression="REMOVE at_home",
            ConditionExpression="attribute_exists(at_home)",
        )

    def disconnect(self, connection_id: ConnectionId) -> int:
        """Removes all that the connection has; returns how many items. One Query of the index for each 1 MB of keys.

        The index lags the table by milliseconds. A membership written just before may stay; a 410 or TTL ends it.
        """
        return self._store.delete_all(self._keys_of(connection_id))

    def address(self) -> Address | None:
        """Where connections are posted to; None where there has never been one."""
        item = self._store.get(_ADDRESS_KEY, "api_id, stage")
        return None if item is None else Address(item["api_id"]["S"], item["stage"]["S"])

    def _keys_of(self, connection_id: ConnectionId) -> Iterator[Mapping[str, Any]]:
        pages = self._store.pages(
            IndexName=INDEX,
            KeyConditionExpression="connection_id = :id",
            ExpressionAttributeNames={"#member": "member"},
            ExpressionAttributeValues={":id": _s(connection_id)},
            ProjectionExpression="channel, #member",
        )
        return (item for page in pages for item in page["Items"])

    # --- memberships

    def join(
        self,
        channel: ChannelName,
        connection_id: ConnectionId,
        dialect: str,
        at: int,
        connected_at: int,
        *,
        until: int | None = None,
    ) -> bool:
        """Makes the connection a member; true once that is written, false where a later leave came first. Items
        written: 1.

        `joined_at` is this clock just before the first write, and a repeated join keeps it. `at` and `connected_at` are
        in ms. The membership ends at `until` (s since 1970), if that is before the connection must.
        """
        assignments = {
            "connection_id": _s(connection_id),
            "dialect": _s(dialect),
            "at": _n(at),
            "expires_at": _n(_expiry(connected_at, until)),
        } | _name_beside(channel)
        joined_at = self._clock.now_ms()
        written = self._store.update(
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
        deleted = self._store.delete(
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
            self._store.put(
                Item=key | tombstone,
                ConditionExpression="attribute_not_exists(#at) OR #at < :at",
                ExpressionAttributeNames={"#at": "at"},
                ExpressionAttributeValues={":at": _n(at)},
            )

    def membership(self, channel: ChannelName, connection_id: ConnectionId) -> Member | None:
        """The connection's own membership, by its key and read consistently."""
        item = self._store.get(
            _membership_key(channel, connection_id), f"{_MEMBER_ATTRIBUTES}, expires_at", _MEMBER_NAMES
        )
        if item is None or "joined_at" not in item or int(item["expires_at"]["N"]) <= self._now_s():
            return None
        return _member(item)

    def members(self, channel: ChannelName, within: KeyRange = KeyRange()) -> Iterator[Page]:  # noqa: B008  it is frozen
        """The channel's members within that range as of now, page by page: one consistent Query a page.

        Members whose TTL has passed are left out, since deletion by TTL may lag by days. Of no members: one empty page.
        """
        condition, values = "channel = :channel", {":channel": _s(names.key_of(channel))}
        if within.up_to is not None:
            condition, values[":up_to"] = f"{condition} AND #member <= :up_to", _s(within.up_to)
        size: int | None = None
        for page in self._store.pages(
            after=None if within.after is None else _key(channel, within.after),
            KeyConditionExpression=condition,
            FilterExpression="attribute_exists(joined_at) AND expires_at > :now",
            ExpressionAttributeNames=_MEMBER_NAMES,
            ExpressionAttributeValues={**values, ":now": _n(self._now_s())},
            ProjectionExpression=_MEMBER_ATTRIBUTES,
            ConsistentRead=True,
            Limit=PAGE_MEMBERS,
        ):
            members = [_member(item) for item in page["Items"]]
            key = page.get("LastEvaluatedKey")
            last = Position(key["member"]["S"]) if key else None
            if size is None:
                size = estimated_size(len(members), within, last)
            yield Page(members, size, last)

    def prune(self, channel: ChannelName, connection_ids: Iterable[ConnectionId]) -> None:
        """Deletes the memberships of connections that are gone. Their ids are never used again, so no condition is
        needed.
        """
        self._store.delete_all(_membership_key(channel, connection_id) for connection_id in connection_ids)

    def claim(self, message_id: str, start: Position | None) -> str | None:
        """Takes it upon the caller to send that message to the members from `start` on, which one of all runs that
        ever ask may, within a day. Returns the name that gives the claim back; None where another run has it.
        """
        owner = secrets.token_hex(8)
        try:
            if self._write_claim(
                message_id, start, owner, "attribute_not_exists(channel) OR #owner = :expected", _NOBODY
            ):
                return owner
            # Its own claim, if the request was written, its answer lost, and the request repeated by the client.
            item = self._store.get(_claim_key(message_id, start), "#owner", {"#owner": "owner"})
        except StoreError:
            with suppress(StoreError):  # it may be written all the same
                self.give_back(message_id, start, owner)
            raise
        return owner if item is not None and item["owner"]["S"] == owner else None

    def give_back(self, message_id: str, start: Position | None, owner: str) -> None:
        """Lets another run have what this one has claimed under that name, for it has sent nothing."""
        self._write_claim(message_id, start, _NOBODY, "#owner = :expected", owner)

    def _write_claim(self, message_id: str, start: Position | None, owner: str, condition: str, expected: str) -> bool:
        return self._store.put(
            Item=_claim_key(message_id, start) | {"owner": _s(owner), "expires_at": _n(self._now_s() + CLAIM_SECONDS)},
            ConditionExpression=condition,
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={":expected": _s(expected)},
        )

    def _now_s(self) -> int:
        return self._clock.now_ms() // 1_000


_NOBODY = "nobody"
"""Whose a claim is that was given back. (Deleting it would need a right that the publish function has no other use
for.)
"""


def _s(text: str) -> dict[str, str]:
    return {"S": text}


def _n(number: int) -> dict[str, str]:
    return {"N": str(number)}


_MEMBER_ATTRIBUTES = "#member, dialect, joined_at"
_MEMBER_NAMES = {"#member": "member"}

_ADDRESS_KEY: Mapping[str, Any] = {"channel": _s("@address"), "member": _s("@")}


def _member(item: Mapping[str, Any]) -> Member:
    _bucket, _, connection_id = item["member"]["S"].partition("#")
    return Member(ConnectionId(connection_id), item["dialect"]["S"], int(item["joined_at"]["N"]))


def _expiry(connected_at: int, until: int | None = None) -> int:
    longest = connected_at // 1_000 + EXPIRY_SECONDS
    return longest if until is None else min(longest, until)


def _rights(identity: Identity) -> dict[str, Any]:
    capability = {} if identity.capability is None else {"capability": _s(identity.capability.text)}
    return {"principal": _s(identity.principal), **capability}


_RECORD_PREFIX = "@connection#"


def _record_key(connection_id: ConnectionId) -> dict[str, Any]:
    return {"channel": _s(f"{_RECORD_PREFIX}{connection_id}"), "member": _s("@")}


def _claim_key(message_id: str, start: Position | None) -> dict[str, Any]:
    return {"channel": _s(f"@claim#{message_id}"), "member": _s(f"@{start or ''}")}


def _membership_key(channel: ChannelName, connection_id: ConnectionId) -> dict[str, Any]:
    return _key(channel, position_of(connection_id))


def _key(channel: ChannelName, position: Position) -> dict[str, Any]:
    return {"channel": _s(names.key_of(channel)), "member": _s(position)}


def _name_beside(channel: ChannelName) -> dict[str, Any]:
    return {} if names.is_plain(channel) else {"name": _s(names.shown(channel))}
