"""DynamoDB's batches, cut in two: what is carried out, and what comes back undone.

Knows the shape of BatchWriteItem and BatchGetItem, and nothing of who sends them.
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

UNDONE = {"BatchWriteItem": "UnprocessedItems", "BatchGetItem": "UnprocessedKeys"}
"""The operations that may leave a part of themselves undone, and where their answers say it."""

Json = dict[str, Any]


class Batch:
    """A request for many items in which some are to be left undone, at random.

    At least one of them is, and one is carried out if there are several. Raises ValueError if `body` is no batch.
    """

    def __init__(self, operation: str, body: bytes, seed: int) -> None:
        self._undone_at = UNDONE[operation]
        try:
            self._request: Json = json.loads(body)
            tables = {table: _entries(each) for table, each in self._request["RequestItems"].items()}
            places = [(table, index) for table, entries in tables.items() for index in range(len(entries))]
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError("not a batch") from error
        dice = random.Random(seed)  # noqa: S311  a test's dice
        count = dice.randint(1, max(1, len(places) - 1)) if places else 0
        undone = set(dice.sample(places, count))
        self._undone = _part(self._request["RequestItems"], lambda place: place in undone)
        self._done = _part(self._request["RequestItems"], lambda place: place not in undone)

    @property
    def body(self) -> bytes | None:
        """The request for the rest; None if there is no rest, which AWS and its stand-ins refuse to be asked for."""
        return json.dumps({**self._request, "RequestItems": self._done}).encode() if self._done else None

    def answer(self, rest: bytes = b"{}") -> bytes:
        """The answer to the whole, from that to the rest."""
        answer: Json = json.loads(rest)
        undone: Json = answer.setdefault(self._undone_at, {})
        for table, left in self._undone.items():
            if table in undone:
                _entries(undone[table]).extend(_entries(left))
            else:
                undone[table] = left
        if self._undone_at == "UnprocessedKeys":
            answer["Responses"] = {**{table: [] for table in self._undone}, **answer.get("Responses", {})}
        return json.dumps(answer).encode()


def _entries(of_table: Any) -> list[Any]:
    """The requests for one table: a list for writes, its Keys for reads."""
    entries = of_table["Keys"] if isinstance(of_table, dict) else of_table
    if not isinstance(entries, list):
        raise TypeError
    return entries


def _part(items: Json, chosen: Callable[[tuple[str, int]], bool]) -> Json:
    part: Json = {}
    for table, of_table in items.items():
        entries = [entry for index, entry in enumerate(_entries(of_table)) if chosen((table, index))]
        if entries:
            part[table] = {**of_table, "Keys": entries} if isinstance(of_table, dict) else entries
    return part
