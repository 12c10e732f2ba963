"""A table in memory whose requests fail where a test says so, in each of the ways in which DynamoDB's may.

A failure here is what chalicelib sees once botocore has given up. What botocore's own repeats may do to the table is
`REPEATED`; that it makes them is seen in test_over_dynamodb.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.fuzz.store import Item, Key, MemoryStore

URL = "https://dynamodb.us-east-1.amazonaws.com"
BATCH = "batch_write_item"

Arguments: TypeAlias = Mapping[str, Any]
Response: TypeAlias = dict[str, Any]
Send: TypeAlias = Callable[[Arguments], Response]
"""Sends a request, and carries it out."""


class PagedStore(MemoryStore):
    """Sorted and, where a limit asks for it, in pages."""

    def query(self, **request: Any) -> Response:
        items = sorted(super().query(**request)["Items"], key=_position)
        after = request.get("ExclusiveStartKey")
        rest = items if after is None else [item for item in items if _position(item) > after["member"]["S"]]
        page, more = rest[: request.get("Limit")], rest[request.get("Limit", len(rest)) :]
        return {"Items": page, **({"LastEvaluatedKey": {"member": page[-1]["member"]}} if more else {})}


def _position(item: Item) -> str:
    return str(item["member"]["S"])


class Fault(NamedTuple):
    """A way to fail: `answer` is given what sends the request, and the request.

    One that `heals`, or `heals_once` where it does not last, is noticed by nobody. One of `batches` is of nothing else.
    """

    name: str
    answer: Callable[[Send, Arguments], Response]
    heals_once: bool = False
    heals: bool = False
    batches: bool = False

    def is_noticed(self, *, lasting: bool) -> bool:
        return not (self.heals or (self.heals_once and not lasting))


def _refused(error: Exception) -> Callable[[Send, Arguments], Response]:
    def answer(_send: Send, _request: Arguments) -> Response:
        raise error.with_traceback(None)  # one error, raised a thousand times

    return answer


def _carried_out(error: Exception) -> Callable[[Send, Arguments], Response]:
    def answer(send: Send, request: Arguments) -> Response:
        with suppress(ClientError):  # a condition that does not hold is an answer that is lost too
            send(request)
        raise error.with_traceback(None)  # one error, raised a thousand times

    return answer


def _repeated(send: Send, request: Arguments) -> Response:
    with suppress(ClientError):
        send(request)
    return send(request)


def _processed(part: Callable[[list[Any]], slice]) -> Callable[[Send, Arguments], Response]:
    """A batch of which that part is written, and the rest is left unprocessed."""

    def answer(send: Send, request: Arguments) -> Response:
        [(table, asked)] = request["RequestItems"].items()
        done = asked[part(asked)]
        rest = [one for one in asked if one not in done]
        send({"RequestItems": {table: done}})
        return {"UnprocessedItems": {table: rest} if rest else {}}

    return answer


def _error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as the test wants it"}}, "Request")


THROTTLED = Fault("throttled", _refused(_error("ProvisionedThroughputExceededException")))
DONE = Fault("failed but done", _carried_out(_error("InternalServerError")))
REPEATED = Fault("done twice", _repeated, heals=True)
FAULTS = (
    THROTTLED,
    Fault("failed", _refused(_error("InternalServerError"))),
    Fault("unreachable", _refused(EndpointConnectionError(endpoint_url=URL))),
    DONE,
    Fault("cut but done", _carried_out(ConnectionClosedError(endpoint_url=URL))),
    Fault("timed out but done", _carried_out(ReadTimeoutError(endpoint_url=URL))),
    REPEATED,
    Fault("unprocessed", _processed(lambda _asked: slice(0)), heals_once=True, batches=True),
    Fault("first half", _processed(lambda asked: slice(len(asked) // 2)), heals_once=True, batches=True),
    Fault("second half", _processed(lambda asked: slice(-(-len(asked) // 2), None)), heals_once=True, batches=True),
)


class Failing:
    """Passes requests on to a store, but for those that are to fail. `requests` are their names, in order.

    `after_each` is called after each, whether it has failed or not.
    """

    def __init__(self) -> None:
        self.store = PagedStore()
        self.requests: list[str] = []
        self.after_each: Callable[[], None] = lambda: None
        self._fault: Fault | None = None
        self._due = range(0)

    def fail(self, fault: Fault, at: int, *, lasting: bool) -> None:
        """Lets the `at`th request from now, counted from 0, fail, or all from that one on."""
        first = len(self.requests) + at
        self._fault, self._due = fault, range(first, first + (1_000_000 if lasting else 1))

    def recover(self) -> None:
        self._due = range(0)

    def items(self) -> dict[Key, Item]:
        return dict(self.store.everything())

    def __getattr__(self, name: str) -> Callable[..., Response]:
        return partial(self._request, name)

    def _request(self, name: str, **arguments: Any) -> Response:
        number = len(self.requests)
        self.requests.append(name)

        def send(request: Arguments) -> Response:
            response: Response = getattr(self.store, name)(**request)
            return response

        try:
            if self._fault is None or number not in self._due or (self._fault.batches and name != BATCH):
                return send(arguments)
            return self._fault.answer(send, arguments)
        finally:
            self.after_each()
