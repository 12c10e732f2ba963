"""Faults of the store, as a function with boto3 meets them; what is really in the table is looked up behind them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localaws.dynamodb import Store
from tests.faults import Json, hits, inject, lift
from tests.localaws import invoked, signed
from tests.localaws.faulty import emptied, faulty, faulty_with_table, stored
from tests.localaws.tiny import RECORDER, TABLE_NAME, Tiny, served, until

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

HANDLERS = (
    RECORDER
    + """
import functools
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

@functools.cache
def client():
    return boto3.client("dynamodb", config=Config(retries={"total_max_attempts": 1}))

@app.lambda_function(name="call")
def call(event, context):
    operation, parameters = event
    try:
        answer = getattr(client(), operation)(**parameters)
    except ClientError as error:
        return [str(error.response["ResponseMetadata"]["HTTPStatusCode"]), error.response["Error"]["Code"]]
    except HTTPClientError as error:
        return ["no answer", type(error).__name__]
    del answer["ResponseMetadata"]
    return ["200", answer]

@app.lambda_function(name="endpoint")
def endpoint(event, context):
    return os.environ["AWS_ENDPOINT_URL_DYNAMODB"]
"""
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with faulty_with_table(tmp_path_factory.mktemp("tiny"), HANDLERS) as running:
        yield running


@pytest.fixture
def behind(tiny: Tiny) -> Iterator[DynamoDBClient]:
    """The store itself, emptied; no test leaves faults to the next."""
    yield emptied(tiny)
    lift(tiny.server)


def call(tiny: Tiny, operation: str, **parameters: Any) -> Any:
    """What boto3 gets in a function of the server: "200" and the answer, or a status and an error's code."""
    return invoked.result(tiny, "call", [operation, parameters])


def item(number: int) -> Json:
    return {"channel": {"S": "c"}, "member": {"S": f"{number:03}"}}


def put(tiny: Tiny, number: int) -> Any:
    return call(tiny, "put_item", TableName=TABLE_NAME, Item=item(number))


def unwritten(answer: Json) -> list[int]:
    return sorted(int(each["PutRequest"]["Item"]["member"]["S"]) for each in answer["UnprocessedItems"][TABLE_NAME])


def test_without_faults_requests_pass_unchanged_and_the_store_itself_is_shown(
    tiny: Tiny, behind: DynamoDBClient
) -> None:
    assert put(tiny, 1) == ["200", {}]
    assert call(tiny, "get_item", TableName=TABLE_NAME, Key=item(1)) == ["200", {"Item": item(1)}]
    assert call(tiny, "put_item", TableName="none", Item=item(1)) == ["400", "ResourceNotFoundException"]
    assert invoked.result(tiny, "endpoint") != tiny.server.store
    assert stored(behind) == [1]


@pytest.mark.parametrize(
    ("do", "answer", "there"),
    [
        ("throttle", ["400", "ProvisionedThroughputExceededException"], []),
        ("fail", ["500", "InternalServerError"], []),
        ("forget", ["500", "InternalServerError"], [1]),
        ("down", ["no answer", "ConnectionClosedError"], []),
    ],
)
def test_a_request_is_answered_and_carried_out_as_its_fault_says(
    tiny: Tiny, behind: DynamoDBClient, do: str, answer: Any, there: list[int]
) -> None:
    after = inject(tiny.server, {"at": "store", "do": do, "match": "PutItem", "times": 1})
    assert put(tiny, 1) == answer
    assert stored(behind) == there
    assert call(tiny, "get_item", TableName=TABLE_NAME, Key=item(7)) == ["200", {}]
    assert put(tiny, 2) == ["200", {}]
    (hit,) = hits(tiny.server, after)
    assert (hit.at, hit.do, hit.connection, hit.detail) == ("store", do, None, "PutItem")
    assert "Traceback" not in tiny.server.log()


def test_a_request_that_is_delayed_is_carried_out_later(tiny: Tiny, behind: DynamoDBClient) -> None:
    after = inject(tiny.server, {"at": "store", "do": "delay", "ms": "1000-1500", "match": "PutItem"})
    begun = time.monotonic()
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(put, tiny, 1)
        until(lambda: hits(tiny.server, after) or None, "a delayed request", tiny.server.log)
        assert call(tiny, "get_item", TableName=TABLE_NAME, Key=item(1)) == ["200", {}] or time.monotonic() - begun > 1
        assert slow.result() == ["200", {}]
    assert stored(behind) == [1]


@pytest.mark.parametrize("count", [1, 2, 25])
def test_a_part_of_a_batch_of_writes_is_not_carried_out_and_comes_back(
    tiny: Tiny, behind: DynamoDBClient, count: int
) -> None:
    after = inject(tiny.server, {"at": "store", "do": "unprocessed"})
    writes = [{"PutRequest": {"Item": item(number)}} for number in range(count)]
    status, answer = call(tiny, "batch_write_item", RequestItems={TABLE_NAME: writes})
    undone = unwritten(answer)
    assert status == "200"
    assert sorted(stored(behind) + undone) == list(range(count))
    assert undone
    assert [hit.detail for hit in hits(tiny.server, after)] == ["BatchWriteItem"]
    assert put(tiny, 99) == ["200", {}]


def test_two_rules_leave_more_of_a_batch_undone_than_one(tiny: Tiny, behind: DynamoDBClient) -> None:
    writes = [{"PutRequest": {"Item": item(number)}} for number in range(25)]
    undone = []
    for rules in (1, 2):  # the first draws the same in both
        inject(tiny.server, *rules * [{"at": "store", "do": "unprocessed"}])
        _, answer = call(tiny, "batch_write_item", RequestItems={TABLE_NAME: writes})
        undone.append(set(unwritten(answer)))
    assert undone[0] < undone[1]
    assert {*stored(behind), *undone[0]} == set(range(25))


def test_a_part_of_a_batch_of_reads_comes_back(tiny: Tiny, behind: DynamoDBClient) -> None:
    for number in range(9):
        behind.put_item(TableName=TABLE_NAME, Item=item(number))
    inject(tiny.server, {"at": "store", "do": "unprocessed"})
    keys = [item(number) for number in range(9)]
    status, answer = call(tiny, "batch_get_item", RequestItems={TABLE_NAME: {"Keys": keys}})
    assert status == "200"
    found, undone = answer["Responses"][TABLE_NAME], answer["UnprocessedKeys"][TABLE_NAME]["Keys"]
    assert sorted(each["member"]["S"] for each in found + undone) == [each["member"]["S"] for each in keys]
    assert found and undone


def test_a_batch_that_the_store_refuses_is_refused(tiny: Tiny, behind: DynamoDBClient) -> None:
    inject(tiny.server, {"at": "store", "do": "unprocessed"})
    writes = [{"PutRequest": {"Item": item(number)}} for number in (1, 1, 1)]  # some two of them come through
    assert call(tiny, "batch_write_item", RequestItems={TABLE_NAME: writes * 20}) == ["400", "ValidationException"]


def test_the_same_seed_and_requests_give_the_same_hits_and_leave_the_same_undone(
    tiny: Tiny, behind: DynamoDBClient
) -> None:
    writes = [{"PutRequest": {"Item": item(number)}} for number in range(25)]
    runs = []
    for seed in (1, 1, 2):
        rules = ({"at": "store", "do": "fail", "share": 0.3}, {"at": "store", "do": "unprocessed", "share": 0.5})
        after = inject(tiny.server, *rules, seed=seed)
        answers = [call(tiny, "batch_write_item", RequestItems={TABLE_NAME: writes}) for _ in range(12)]
        runs.append((answers, [(hit.rule, hit.do, hit.detail) for hit in hits(tiny.server, after)]))
    assert runs[0] == runs[1] != runs[2]
    assert {do for _, do, _ in runs[0][1]} == {"fail", "unprocessed"}


def test_a_store_that_is_given_gets_faults_too_and_keeps_its_place_in_the_greeting(tmp_path: Path) -> None:
    with Store() as given:
        env = {"AWS_ENDPOINT_URL_DYNAMODB": given.endpoint}
        with faulty(tmp_path, HANDLERS, env=env) as other:
            assert f"store at {given.endpoint} (from AWS_ENDPOINT_URL_DYNAMODB)" in other.server.log()
            assert call(other, "list_tables") == ["200", {"TableNames": []}]
            inject(other.server, {"at": "store", "do": "fail"})
            assert call(other, "list_tables") == ["500", "InternalServerError"]


def test_a_given_store_that_does_not_answer_is_no_answer_either(tmp_path: Path, unused_port: int) -> None:
    env = {"AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{unused_port}"}
    with faulty(tmp_path, HANDLERS, env=env) as other:
        assert call(other, "list_tables") == ["no answer", "ConnectionClosedError"]
        assert "Traceback" not in other.server.log()


def test_without_the_setting_nothing_stands_before_the_store(tmp_path: Path) -> None:
    with served(tmp_path, HANDLERS) as plain:
        assert invoked.result(plain, "endpoint") in plain.server.log()


def test_a_body_that_is_meant_to_hurt_reaches_the_store_or_nobody(tiny: Tiny, behind: DynamoDBClient) -> None:
    inject(tiny.server, {"at": "store", "do": "unprocessed"})
    port = int(invoked.result(tiny, "endpoint").rpartition(":")[2])
    for body in (b"", b"\xff", b"[" * 100_000, json.dumps({"RequestItems": {"t": 7}}).encode()):
        headers = {"X-Amz-Target": "DynamoDB_20120810.BatchWriteItem", "Content-Type": "application/x-amz-json-1.0"}
        assert 400 <= signed.send(port, "POST", "/", body, headers).status <= 500
    assert call(tiny, "list_tables") == ["200", {"TableNames": [TABLE_NAME]}]
    assert "Traceback" not in tiny.server.log()
