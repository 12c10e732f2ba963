"""DynamoDB's requests to the table of channels, in memory: thirty times as fast as ministack's code in this process.

It evaluates the expressions that it is sent, and refuses the keys and the texts that DynamoDB refuses. Expressions of a
form that chalicelib/table.py does not use are errors here. Tables are small: there is one page of everything, and the
index shows what has just been written. tests/test_fuzz.py runs the same events over ministack too.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

from botocore.exceptions import ClientError

Item: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]
"""An item's `channel` and `member`."""

LONGEST_KEY = (2_048, 1_024)
"""In bytes of UTF-8. https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""

_COMPARISONS = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt}
_EXISTS = re.compile(r"(attribute_exists|attribute_not_exists)\((\S+)\)")
_COMPARES = re.compile(r"(\S+) (=|<|<=|>) (:\S+)")
_UPDATE = re.compile(r"(?:SET (?P<set>.+?))?(?: ?\bREMOVE (?P<remove>.+))?")
_ASSIGNS = re.compile(r"(\S+) = (?:if_not_exists\((\S+), (:\S+)\)|(:\S+))(?:, |$)")


class MemoryStore:
    """The table's items, and the keys of those that were `touched`: written or deleted."""

    def __init__(self) -> None:
        self.touched: set[Key] = set()
        self._partitions: dict[str, dict[str, Item]] = {}

    def peek(self, key: Key) -> Item | None:
        return self._partitions.get(key[0], {}).get(key[1])

    def everything(self) -> Iterator[tuple[Key, Item]]:
        for channel, partition in self._partitions.items():
            for member, item in partition.items():
                yield (channel, member), item

    def get_item(self, **request: Any) -> dict[str, Any]:
        item = self.peek(_key(request["Key"]))
        return {} if item is None else {"Item": _projected(item, request)}

    def query(self, **request: Any) -> dict[str, Any]:
        values = request["ExpressionAttributeValues"]
        if "IndexName" in request:
            candidates = [item for _key, item in self.everything()]
        else:
            candidates = list(self._partitions.get(values[":channel"]["S"], {}).values())
        conditions = (request["KeyConditionExpression"], request.get("FilterExpression", ""))
        found = [item for item in candidates if all(_holds(condition, item, request) for condition in conditions)]
        return {"Items": [_projected(item, request) for item in found]}

    def put_item(self, **request: Any) -> dict[str, Any]:
        self._check(_key(request["Item"]), request)
        self._put(request["Item"])
        return {}

    def update_item(self, **request: Any) -> dict[str, Any]:
        key = _key(request["Key"])
        self._check(key, request)
        item = dict(self.peek(key) or request["Key"])
        names = request.get("ExpressionAttributeNames", {})
        assigned, removed = _update(request["UpdateExpression"])
        for alias, default, value in assigned:
            name = names.get(alias, alias)
            if not default or name not in item:
                item[name] = request["ExpressionAttributeValues"][value]
        for name in removed:
            item.pop(names.get(name, name), None)
        self._put(item)
        return {}

    def delete_item(self, **request: Any) -> dict[str, Any]:
        key = _key(request["Key"])
        self._check(key, request)
        self._delete(key)
        return {}

    def batch_write_item(self, **request: Any) -> dict[str, Any]:
        for asked in request["RequestItems"].values():
            for one in asked:
                if "PutRequest" in one:
                    self._put(one["PutRequest"]["Item"])
                else:
                    self._delete(_key(one["DeleteRequest"]["Key"]))
        return {}

    def _check(self, key: Key, request: Mapping[str, Any]) -> None:
        if not _holds(request.get("ConditionExpression", ""), self.peek(key) or {}, request):
            _refuse("ConditionalCheckFailedException")

    def _put(self, item: Item) -> None:
        key = _key(item)
        try:
            lengths = [len(part.encode()) for part in key]
            "".join(text for value in item.values() if (text := value.get("S"))).encode()
        except UnicodeEncodeError:
            _refuse("SerializationException")
        if any(not 0 < length <= longest for length, longest in zip(lengths, LONGEST_KEY, strict=True)):
            _refuse("ValidationException")
        self.touched.add(key)
        self._partitions.setdefault(key[0], {})[key[1]] = item

    def _delete(self, key: Key) -> None:
        self.touched.add(key)
        self._partitions.get(key[0], {}).pop(key[1], None)


def _key(item: Item) -> Key:
    return item["channel"]["S"], item["member"]["S"]


def _projected(item: Item, request: Mapping[str, Any]) -> Item:
    names = request.get("ExpressionAttributeNames", {})
    wanted = (names.get(name, name) for name in request["ProjectionExpression"].split(", "))
    return {name: item[name] for name in wanted if name in item}


def _holds(condition: str, item: Item, request: Mapping[str, Any]) -> bool:
    names, values = request.get("ExpressionAttributeNames", {}), request.get("ExpressionAttributeValues", {})

    def holds(name: str, comparison: str, value: str) -> bool:
        attribute = item.get(names.get(name, name))
        if not value:
            return (attribute is not None) == (comparison == "attribute_exists")
        return attribute is not None and bool(_COMPARISONS[comparison](_value(attribute), _value(values[value])))

    return any(all(holds(*clause) for clause in clauses) for clauses in _alternatives(condition))


def _value(attribute: Mapping[str, Any]) -> Any:
    [(kind, value)] = attribute.items()
    return int(value) if kind == "N" else value


@lru_cache(maxsize=64)
def _alternatives(condition: str) -> list[list[tuple[str, str, str]]]:
    """One of these must hold: all of its clauses, (attribute, comparison, value)."""
    return [[_clause(clause) for clause in part.split(" AND ") if clause] for part in condition.split(" OR ")]


def _clause(text: str) -> tuple[str, str, str]:
    if match := _EXISTS.fullmatch(text):
        return match[2], match[1], ""
    match = _COMPARES.fullmatch(text)
    assert match, f"a condition of another form: {text}"
    return match[1], match[2], match[3]


@lru_cache(maxsize=64)
def _update(expression: str) -> tuple[list[tuple[str, bool, str]], list[str]]:
    """What is assigned, (attribute, only where there is none, value), and what is removed."""
    match = _UPDATE.fullmatch(expression)
    assert match, f"an update of another form: {expression}"
    assignments = match["set"] or ""
    found = list(_ASSIGNS.finditer(assignments))
    assert "".join(one[0] for one in found) == assignments, f"an update of another form: {expression}"
    assigned = [(one[1], one[2] is not None, one[3] or one[4]) for one in found]
    return assigned, match["remove"].split(", ") if match["remove"] else []


def _refuse(code: str) -> NoReturn:
    raise ClientError({"Error": {"Code": code, "Message": ""}}, "Request")
