"""The table as a deploy leaves it, in a real store: made, mended, compared, and never changed in what it holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from mypy_boto3_dynamodb import DynamoDBClient

from ops import table
from ops.errors import AWSError, ConfigError, Differs
from ops.project import Stage, load_resources, load_stage
from tests.conftest import dynamodb_client

DEV, PROD = load_stage("dev"), load_stage("prod")
RESOURCES = load_resources()

_numbers = count(1)


def wanted(stage: Stage = DEV) -> table.Definition:
    """The project's definition, under a name of its own."""
    return replace(table.define(RESOURCES, stage), name=f"deployed-{next(_numbers)}")


def never(_seconds: float) -> None:
    pytest.fail("there is nothing to wait for")


def make(client: DynamoDBClient, definition: table.Definition, **changes: Any) -> None:
    """A table that is not quite the defined one, as another tool or version has made it."""
    shape: Any = {**copy.deepcopy(dict(definition.shape)), **changes}
    client.create_table(TableName=definition.name, **shape)


def state(client: DynamoDBClient, name: str) -> dict[str, Any]:
    """All that DynamoDB says of the table, but for the moment that it could be restored to, which moves on."""
    described = client.describe_table(TableName=name)["Table"]
    backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    return {
        "table": described,
        "expiry": client.describe_time_to_live(TableName=name)["TimeToLiveDescription"],
        "backed up": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"],
        "tags": client.list_tags_of_resource(ResourceArn=described["TableArn"])["Tags"],
    }


def tags(client: DynamoDBClient, name: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in state(client, name)["tags"]}


def test_a_table_is_made_as_the_template_defines_it(ministack: DynamoDBClient) -> None:
    definition = wanted()
    assert table.ensure(ministack, definition, never)[0] == "created"
    there = state(ministack, definition.name)
    assert there["table"]["KeySchema"] == definition.shape["KeySchema"]
    assert there["table"]["GlobalSecondaryIndexes"][0]["IndexName"] == "by_connection"
    assert there["table"]["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert there["expiry"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    assert there["backed up"] == "ENABLED"
    assert tags(ministack, definition.name) == {"app": "channels", "stage": "dev"}


def test_a_second_run_does_nothing(ministack: DynamoDBClient) -> None:
    definition = wanted(PROD)
    table.ensure(ministack, definition, never)
    before = state(ministack, definition.name)
    assert table.ensure(ministack, definition, never) == []
    assert state(ministack, definition.name) == before


@pytest.mark.parametrize(
    ("stage", "protected"),
    [(DEV, False), (PROD, True), (replace(PROD, name="prod-eu"), True), (replace(DEV, name="product"), False)],
    ids=["dev", "prod", "prod-eu", "product"],
)
def test_the_table_is_protected_against_deletion_in_production(
    ministack: DynamoDBClient, stage: Stage, protected: bool
) -> None:
    definition = wanted(stage)
    table.ensure(ministack, definition, never)
    assert bool(state(ministack, definition.name)["table"].get("DeletionProtectionEnabled")) is protected


def test_what_a_table_lacks_is_turned_on_and_what_it_holds_stays(ministack: DynamoDBClient) -> None:
    definition = wanted(PROD)
    make(ministack, definition)
    item = {"channel": {"S": "news"}, "member": {"S": "00#a"}, "connection_id": {"S": "a"}}
    ministack.put_item(TableName=definition.name, Item=item)
    assert table.ensure(ministack, definition, never) == [
        "expiry by expires_at turned on",
        "deletion protection turned on",
        "point-in-time recovery turned on",
        "tagged app, stage",
    ]
    assert table.ensure(ministack, definition, never) == []
    assert ministack.scan(TableName=definition.name)["Items"] == [item]


def test_what_somebody_has_turned_on_or_tagged_besides_stays(ministack: DynamoDBClient) -> None:
    definition = wanted(DEV)
    make(ministack, definition, DeletionProtectionEnabled=True)
    arn = ministack.describe_table(TableName=definition.name)["Table"]["TableArn"]
    ministack.tag_resource(ResourceArn=arn, Tags=[{"Key": "owner", "Value": "ana"}, {"Key": "stage", "Value": "old"}])
    table.ensure(ministack, replace(definition, backed_up=False), never)
    assert tags(ministack, definition.name) == {"owner": "ana", "app": "channels", "stage": "dev"}
    assert state(ministack, definition.name)["table"]["DeletionProtectionEnabled"]


HASH, RANGE = "HASH", "RANGE"


def key(**names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in names.items()]


def attributes(*names: str, **types: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": types.get(name, "S")} for name in (*names, *types)]


def index(name: str = "by_connection", projection: str = "KEYS_ONLY", **keys: str) -> list[dict[str, Any]]:
    keys = keys or {"connection_id": HASH, "channel": RANGE}
    return [{"IndexName": name, "KeySchema": key(**keys), "Projection": {"ProjectionType": projection}}]


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "key": (
        {"KeySchema": key(member=HASH, channel=RANGE)},
        "key: expected channel (HASH) and member (RANGE), found member (HASH) and channel (RANGE)",
    ),
    "no sort key": (
        {"KeySchema": key(channel=HASH), "AttributeDefinitions": attributes("channel", "connection_id")},
        "key: expected channel (HASH) and member (RANGE), found channel (HASH)",
    ),
    "type": (
        {"AttributeDefinitions": attributes("channel", "connection_id", member="B")},
        "type of member: expected S, found B",
    ),
    "no index": (
        {"GlobalSecondaryIndexes": index("by_name")},
        "index by_connection: expected connection_id (HASH) and channel (RANGE), KEYS_ONLY, found none",
    ),
    "index's key": (
        {"GlobalSecondaryIndexes": index(connection_id=HASH)},
        "index by_connection: expected connection_id (HASH) and channel (RANGE), KEYS_ONLY, "
        "found connection_id (HASH), KEYS_ONLY",
    ),
    "projection": (
        {"GlobalSecondaryIndexes": index(projection="ALL")},
        "index by_connection: expected connection_id (HASH) and channel (RANGE), KEYS_ONLY, "
        "found connection_id (HASH) and channel (RANGE), ALL",
    ),
    "billing": (
        {
            "BillingMode": "PROVISIONED",
            "ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
            "GlobalSecondaryIndexes": [
                {**index()[0], "ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 5}}
            ],
        },
        "billing: expected PAY_PER_REQUEST, found PROVISIONED",
    ),
}


@pytest.mark.parametrize(("changes", "difference"), OTHERS.values(), ids=OTHERS)
def test_a_table_of_another_shape_is_reported_and_left_as_it_is(
    ministack: DynamoDBClient, changes: dict[str, Any], difference: str
) -> None:
    definition = wanted(PROD)
    make(ministack, definition, **changes)
    before = state(ministack, definition.name)
    with pytest.raises(Differs) as raised:
        table.ensure(ministack, definition, never)
    assert difference in str(raised.value)
    assert state(ministack, definition.name) == before


def test_all_differences_are_told_at_once(ministack: DynamoDBClient) -> None:
    definition = wanted()
    make(ministack, definition, **{**OTHERS["key"][0], **OTHERS["projection"][0]})
    ministack.update_time_to_live(
        TableName=definition.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
    )
    with pytest.raises(Differs) as raised:
        table.ensure(ministack, definition, never)
    for difference in (OTHERS["key"][1], OTHERS["projection"][1], "expiry by: expected expires_at, found ttl"):
        assert difference in str(raised.value)


def test_an_index_of_somebodys_own_is_in_nobodys_way(ministack: DynamoDBClient) -> None:
    definition = wanted()
    make(
        ministack,
        definition,
        AttributeDefinitions=attributes("channel", "member", "connection_id", "user"),
        GlobalSecondaryIndexes=index() + index("by_user", user=HASH),
    )
    assert "created" not in table.ensure(ministack, definition, never)


def statuses(client: DynamoDBClient, *given: str) -> list[str]:
    """The store's next descriptions of tables have these statuses; what is left of them."""
    left = list(given)

    def change(parsed: dict[str, Any], **_more: Any) -> None:
        if left and "Table" in parsed:
            parsed["Table"]["TableStatus"] = left.pop(0)

    client.meta.events.register("after-call.dynamodb.DescribeTable", change)
    return left


@pytest.fixture(name="client")
def a_client_of_its_own(ministack: DynamoDBClient) -> DynamoDBClient:
    """One whose events may be tampered with."""
    return dynamodb_client(ministack.meta.endpoint_url)


def test_a_table_is_waited_for_until_it_is_active(client: DynamoDBClient, capsys: pytest.CaptureFixture[str]) -> None:
    left, waited = statuses(client, "CREATING", "CREATING", "UPDATING"), list[float]()
    table.ensure(client, wanted(), waited.append)
    assert (left, len(waited)) == ([], 3)
    assert "CREATING" in capsys.readouterr().out


def test_a_table_that_is_being_deleted_is_waited_for_and_made_anew(client: DynamoDBClient) -> None:
    definition = wanted()
    make(client, definition)
    statuses(client, "DELETING")

    def gone(_seconds: float) -> None:
        client.delete_table(TableName=definition.name)

    assert table.ensure(client, definition, gone)[0] == "created"


def test_a_table_that_never_becomes_active_ends_in_a_sentence(client: DynamoDBClient) -> None:
    statuses(client, *["CREATING"] * table.TRIES)
    with pytest.raises(AWSError, match=r"is still CREATING after 600 s\. Run this again"):
        table.ensure(client, wanted(), lambda _seconds: None)


def test_a_table_whose_key_is_lost_ends_in_a_sentence(client: DynamoDBClient) -> None:
    statuses(client, "INACCESSIBLE_ENCRYPTION_CREDENTIALS")
    with pytest.raises(AWSError, match="is INACCESSIBLE_ENCRYPTION_CREDENTIALS, which DynamoDB does not leave"):
        table.ensure(client, wanted(), never)


def test_a_young_table_is_backed_up_once_dynamodb_can(client: DynamoDBClient) -> None:
    body = (
        b'{"__type":"com.amazonaws.dynamodb.v20120810#ContinuousBackupsUnavailableException",'
        b'"message":"Backups are being enabled for the table. Please retry later"}'
    )
    refusals = [body, body]

    def refuse(request: Any, **_more: Any) -> Any:
        return Answer(request.url, refusals.pop()) if refusals else None

    client.meta.events.register("before-send.dynamodb.UpdateContinuousBackups", refuse)
    definition, waited = wanted(), list[float]()
    table.ensure(client, definition, waited.append)
    assert (refusals, len(waited)) == ([], 2)
    assert state(client, definition.name)["backed up"] == "ENABLED"


class Answer(AWSResponse):
    """A refusal by DynamoDB."""

    def __init__(self, url: str, body: bytes) -> None:
        super().__init__(url, 400, HTTPHeaders(), None)
        self._content = body


def test_a_dropped_table_is_gone_when_the_call_returns(ministack: DynamoDBClient) -> None:
    definition = wanted()
    table.ensure(ministack, definition, never)
    table.drop(ministack, definition.name, never)
    assert table.find(ministack, definition.name) is None
    table.drop(ministack, definition.name, never)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda found: found["Resources"].pop("ChannelTable"), "one AWS::DynamoDB::Table, not 0"),
        (
            lambda found: found["Resources"].update(Other=found["Resources"]["ChannelTable"]),
            "one AWS::DynamoDB::Table, not 2",
        ),
        (
            lambda found: found["Resources"]["ChannelTable"]["Properties"].pop("KeySchema"),
            "the table needs .*KeySchema",
        ),
        (
            lambda found: found["Resources"]["ChannelTable"]["Properties"].update(TimeToLiveSpecification=True),
            "the table needs .*TimeToLiveSpecification",
        ),
    ],
    ids=["none", "two", "no key", "another type"],
)
def test_a_template_that_does_not_define_one_table_is_explained(change: Callable[[Any], object], sentence: str) -> None:
    resources = copy.deepcopy(dict(RESOURCES))
    change(resources)
    with pytest.raises(ConfigError, match=sentence):
        table.define(resources, DEV)
