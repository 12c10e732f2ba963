"""The table, as DynamoDB may show it: each request a step of its invocation, with the failures that a test orders.

A read that does not ask for consistency, and each of the index, sees the table as it was `lag_ms` ago. A page ends
after so many items, filtered or not. What a batch writes is not written at once. TTL deletes when `sweep` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from tests.fuzz.store import Item, Key, MemoryStore, _holds, _projected

from .world import Invocation, World

PAGE_ITEMS, INDEX_PAGE_ITEMS = 2, 1

SLOW_MS = 2_500
"""What a slow request takes, or one that is repeated after its answer was lost; store.py waits 3 s for one."""

REFUSED, UNREACHABLE, UNANSWERED = "store refused", "store unreachable", "store did not answer"
REPEATED, SLOW, UNPROCESSED = "store answered the repeat", "store slow", "store left some unprocessed"
FAULTS = (REFUSED, UNREACHABLE, UNANSWERED, REPEATED, SLOW, UNPROCESSED)
"""What may become of a request: not done, twice; done, and told to have failed; done twice, because the answer to the
first was lost; done late; of a batch, half done.
"""

ERRORS = frozenset({REFUSED, UNREACHABLE, UNANSWERED})
"""Those that the code is told of."""

_URL = "https://dynamodb.us-east-1.amazonaws.com"


class TableStore(MemoryStore):
    """A DynamoDB client. `faults` are for the requests that come next, each of one of the `kinds`. `written` is when
    an invocation first put anything into the table (ms).
    """

    kinds = FAULTS

    def __init__(self, world: World) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.lag_ms = 0
        self.written: dict[Invocation, int] = {}
        self._world = world
        self._versions: list[tuple[int, Mapping[Key, Item]]] = [(world.now, {})]

    @property
    def items(self) -> Mapping[Key, Item]:
        """All that is in the table now."""
        return self._versions[-1][1]

    def sweep(self) -> None:
        """TTL: what has expired goes."""
        for key, item in [*self.items.items()]:
            if "expires_at" in item and int(item["expires_at"]["N"]) * 1_000 < self._world.now:
                self._delete(key)

    def get_item(self, **request: Any) -> Any:
        def read() -> Any:
            item = self._seen(request).get((request["Key"]["channel"]["S"], request["Key"]["member"]["S"]))
            return {} if item is None else {"Item": _projected(item, request)}

        return self._request(read)

    def query(self, **request: Any) -> Any:
        return self._request(lambda: self._page(request))

    def put_item(self, **request: Any) -> Any:
        return self._request(lambda: MemoryStore.put_item(self, **request))

    def update_item(self, **request: Any) -> Any:
        return self._request(lambda: MemoryStore.update_item(self, **request))

    def delete_item(self, **request: Any) -> Any:
        return self._request(lambda: MemoryStore.delete_item(self, **request))

    def batch_write_item(self, **request: Any) -> Any:
        [(table, writes)] = request["RequestItems"].items()

        def write(some: list[Any]) -> Any:
            for number, one in enumerate(some):
                if number:
                    self._world.give_way()
                MemoryStore.batch_write_item(self, RequestItems={table: [one]})
            rest = writes[len(some) :]
            return {"UnprocessedItems": {table: rest} if rest else {}}

        return self._request(lambda: write(writes), lambda: write(writes[: len(writes) // 2]))

    def _request(self, act: Callable[[], Any], do_half: Callable[[], Any] | None = None) -> Any:
        self._world.give_way()
        fault = self.faults.pop(0) if self.faults else ""
        if fault:
            self._world.running.hits.append(fault)
        if fault == REFUSED:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "Request")
        if fault == UNREACHABLE:
            raise EndpointConnectionError(endpoint_url=_URL)
        if fault == SLOW:
            self._world.give_way(self._world.now + SLOW_MS)
        if fault in {UNANSWERED, REPEATED}:
            with suppress(ClientError):
                act()
            self._world.give_way(self._world.now + SLOW_MS)
        if fault == UNANSWERED:
            raise ReadTimeoutError(endpoint_url=_URL)
        return do_half() if fault == UNPROCESSED and do_half else act()

    def _seen(self, request: Mapping[str, Any]) -> Mapping[Key, Item]:
        if request.get("ConsistentRead"):
            return self.items
        until = self._world.now - self.lag_ms
        return next((items for since, items in reversed(self._versions) if since <= until), {})

    def _page(self, request: Mapping[str, Any]) -> Any:
        matching = sorted(
            (key, item)
            for key, item in self._seen(request).items()
            if _holds(request["KeyConditionExpression"], item, request)
        )
        if start := request.get("ExclusiveStartKey"):
            after = (start["channel"]["S"], start["member"]["S"])
            matching = [(key, item) for key, item in matching if key > after]
        most = INDEX_PAGE_ITEMS if "IndexName" in request else min(PAGE_ITEMS, request.get("Limit", PAGE_ITEMS))
        page = matching[:most]
        found = [item for _key, item in page if _holds(request.get("FilterExpression", ""), item, request)]
        last = {}
        if len(page) == most:
            names = ("channel", "member", "connection_id") if "IndexName" in request else ("channel", "member")
            last = {"LastEvaluatedKey": {name: page[-1][1][name] for name in names}}
        return {"Items": [_projected(item, request) for item in found], **last}

    def _put(self, item: Item) -> None:
        super()._put(item)
        self.written.setdefault(self._world.running, self._world.now)
        self._keep_version({**self.items, (item["channel"]["S"], item["member"]["S"]): item})

    def _delete(self, key: Key) -> None:
        super()._delete(key)
        self._keep_version({other: item for other, item in self.items.items() if other != key})

    def _keep_version(self, items: Mapping[Key, Item]) -> None:
        self._versions.append((self._world.now, items))
