"""Batches cut in two: every item is in one part, and the answer tells of the other."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localaws.batches import Batch

numbers = st.integers(0, 99)
writes = st.dictionaries(st.sampled_from("abc"), st.lists(numbers, min_size=1, max_size=9, unique=True), min_size=1)
seeds = st.integers(0, 2**64 - 1)


@given(writes, seeds)
@settings(deadline=None)
def test_each_write_is_carried_out_or_comes_back_and_at_least_one_does(items: dict[str, list[int]], seed: int) -> None:
    batch = Batch("BatchWriteItem", json.dumps({"RequestItems": items, "Other": 1}).encode(), seed)
    done = json.loads(batch.body)["RequestItems"] if batch.body else {}
    undone = json.loads(batch.answer())["UnprocessedItems"]
    assert undone
    assert bool(done) == (sum(map(len, items.values())) > 1)
    for table, written in items.items():
        assert sorted(done.get(table, []) + undone.get(table, [])) == sorted(written)
    assert all([*done.values(), *undone.values()]), "an empty list of a table is refused by DynamoDB"
    assert batch.body is None or json.loads(batch.body)["Other"] == 1


@given(writes, seeds)
@settings(deadline=None)
def test_each_read_is_carried_out_or_comes_back_with_all_that_was_asked_of_its_table(
    items: dict[str, list[int]], seed: int
) -> None:
    asked = {table: {"Keys": keys, "ConsistentRead": True} for table, keys in items.items()}
    batch = Batch("BatchGetItem", json.dumps({"RequestItems": asked}).encode(), seed)
    done = json.loads(batch.body)["RequestItems"] if batch.body else {}
    answer = json.loads(batch.answer(json.dumps({"Responses": {table: ["found"] for table in done}}).encode()))
    undone = answer["UnprocessedKeys"]
    for table, keys in items.items():
        parts = [part[table] for part in (done, undone) if table in part]
        assert sorted(key for part in parts for key in part["Keys"]) == sorted(keys)
        assert all(part["ConsistentRead"] for part in parts)
        assert answer["Responses"][table] == (["found"] if table in done else [])


def test_what_the_store_itself_left_undone_is_not_forgotten() -> None:
    batch = Batch("BatchWriteItem", json.dumps({"RequestItems": {"a": [1, 2, 3]}}).encode(), 7)
    (stored, *_rest) = json.loads(batch.body or b"")["RequestItems"]["a"]
    told = json.loads(batch.answer(json.dumps({"UnprocessedItems": {"a": [stored], "b": [9]}}).encode()))
    assert stored in told["UnprocessedItems"]["a"]
    assert len(told["UnprocessedItems"]["a"]) >= 2
    assert told["UnprocessedItems"]["b"] == [9]


def test_the_seed_decides_which() -> None:
    body = json.dumps({"RequestItems": {"a": list(range(25))}}).encode()
    assert len({Batch("BatchWriteItem", body, 7).body for _ in range(5)}) == 1
    assert len({Batch("BatchWriteItem", body, seed).body for seed in range(20)}) > 10


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b'{"RequestItems": []}',
        b'{"RequestItems": {"a": 7}}',
        b'{"RequestItems": {"a": {}}}',
    ],
)
def test_what_is_no_batch_is_a_value_error(body: Any) -> None:
    with pytest.raises(ValueError):
        Batch("BatchWriteItem", body, 7)
