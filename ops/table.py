"""The table: made from .chalice/resources.json, compared with it ever after, and never changed in what it holds.

Knows DynamoDB's control plane. What can be turned on without harm is turned on (expiry, backups, protection, tags);
nothing is ever turned off. A table of another shape is reported and left as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from click import echo as say

from .errors import AWSError, ConfigError, Differs
from .project import Stage

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TableDescriptionTypeDef

POLL_S = 2.0
TRIES = 300
"""Ten minutes. A table is there within seconds; one that another index is being made for takes longer."""

Wait = Callable[[float], object]


@dataclass(frozen=True)
class Definition:
    """A table as it should be."""

    name: str
    shape: Mapping[str, Any]
    """Keys, indexes, billing: what CreateTable takes, and what cannot be changed without harm."""
    expires_by: str
    """The attribute that DynamoDB's time to live reads."""
    protected: bool
    """Against deletion."""
    backed_up: bool
    """Point-in-time recovery."""
    tags: Mapping[str, str]


def define(resources: Mapping[str, Any], stage: Stage) -> Definition:
    """The one table of .chalice/resources.json, for that stage. Raises ConfigError.

    A switch that depends on a parameter there is on in production.
    """
    tables = [
        resource.get("Properties", {})
        for resource in resources.get("Resources", {}).values()
        if resource.get("Type") == "AWS::DynamoDB::Table"
    ]
    if len(tables) != 1:
        raise ConfigError(f".chalice/resources.json should define one AWS::DynamoDB::Table, not {len(tables)}.")
    properties = tables[0]
    try:
        return Definition(
            name=stage.table,
            shape={name: properties[name] for name in _SHAPE},
            expires_by=properties["TimeToLiveSpecification"]["AttributeName"],
            protected=_switch(properties.get("DeletionProtectionEnabled"), stage),
            backed_up=_switch(
                properties.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled"), stage
            ),
            tags=stage.tags,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f".chalice/resources.json: the table needs {', '.join(_SHAPE)} and TimeToLiveSpecification."
        ) from error


_SHAPE = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")


def _switch(value: Any, stage: Stage) -> bool:
    return stage.is_production if isinstance(value, dict) else bool(value)


def ensure(client: DynamoDBClient, wanted: Definition, wait: Wait = time.sleep) -> Sequence[str]:
    """The table is there, ACTIVE and as it should be; returns what had to be done for it, nothing the second time.

    Raises Differs for a table of another shape, AWSError for one that does not become ACTIVE.
    """
    done = []
    for status in _statuses(client, wanted.name, wait):
        if status is None:
            done += _create(client, wanted)
        elif status == "ACTIVE":
            break
        elif not status.endswith("ING"):
            raise AWSError(f"The table {wanted.name} is {status}, which DynamoDB does not leave by itself.")
    found = client.describe_table(TableName=wanted.name)["Table"]
    expires_by = _expires_by(client, wanted.name)
    _compare(wanted, found, expires_by)
    if expires_by is None:
        client.update_time_to_live(
            TableName=wanted.name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": wanted.expires_by},
        )
        done.append(f"expiry by {wanted.expires_by} turned on")
    if wanted.protected and not found.get("DeletionProtectionEnabled"):
        client.update_table(TableName=wanted.name, DeletionProtectionEnabled=True)
        done.append("deletion protection turned on")
        _until_active(client, wanted.name, wait)
    if wanted.backed_up and not _is_backed_up(client, wanted.name):
        _back_up(client, wanted.name, wait)
        done.append("point-in-time recovery turned on")
    missing = dict(wanted.tags.items() - _tags(client, found["TableArn"]))
    if missing:
        client.tag_resource(
            ResourceArn=found["TableArn"], Tags=[{"Key": key, "Value": value} for key, value in missing.items()]
        )
        done.append(f"tagged {', '.join(sorted(missing))}")
    return done


def find(client: DynamoDBClient, name: str) -> TableDescriptionTypeDef | None:
    """What DynamoDB says of the table; None where there is none."""
    try:
        return client.describe_table(TableName=name)["Table"]
    except client.exceptions.ResourceNotFoundException:
        return None


def drop(client: DynamoDBClient, name: str, wait: Wait = time.sleep) -> None:
    """Deletes the table with all it holds, and returns when it is gone. Nothing happens where there is none."""
    try:
        client.delete_table(TableName=name)
    except client.exceptions.ResourceNotFoundException:
        return
    for status in _statuses(client, name, wait):
        if status is None:
            return


def _statuses(client: DynamoDBClient, name: str, wait: Wait) -> Iterator[str | None]:
    """The table's status, None while there is none; asked again and again, and told as long as it takes."""
    last: str | None = ""
    for tried in range(TRIES):
        found = find(client, name)
        status = None if found is None else found["TableStatus"]
        yield status
        if status is None and last is not None:
            last = None  # it has been asked for now, and is most often there at once
            continue
        if status != last or not tried % 5:
            say(f"  it is {status or 'not there yet'}, which takes a moment ...")
        last = status
        wait(POLL_S)
    raise AWSError(f"The table {name} is still {last} after {TRIES * POLL_S:.0f} s. Run this again later.")


def _until_active(client: DynamoDBClient, name: str, wait: Wait) -> None:
    for status in _statuses(client, name, wait):
        if status == "ACTIVE":
            return


def _create(client: DynamoDBClient, wanted: Definition) -> list[str]:
    shape: Any = wanted.shape
    try:
        client.create_table(
            TableName=wanted.name,
            DeletionProtectionEnabled=wanted.protected,
            Tags=[{"Key": key, "Value": value} for key, value in wanted.tags.items()],
            **shape,
        )
    except client.exceptions.ResourceInUseException:  # asked for already: a description may lag behind
        return []
    return ["created"]


def _expires_by(client: DynamoDBClient, name: str) -> str | None:
    answer = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    return answer.get("AttributeName") if answer["TimeToLiveStatus"] in {"ENABLED", "ENABLING"} else None


def _is_backed_up(client: DynamoDBClient, name: str) -> bool:
    answer = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    return answer.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") == "ENABLED"


def _back_up(client: DynamoDBClient, name: str, wait: Wait) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            client.update_continuous_backups(
                TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )
        except client.exceptions.ContinuousBackupsUnavailableException:  # the table is too young
            if not tries_left:
                raise
            wait(POLL_S)
        else:
            return


def _tags(client: DynamoDBClient, arn: str) -> set[tuple[str, str]]:
    pages = client.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
    return {(tag["Key"], tag["Value"]) for page in pages for tag in page["Tags"]}


def _compare(wanted: Definition, found: TableDescriptionTypeDef, expires_by: str | None) -> None:
    """Raises Differs. Indexes and attributes that the project does not know are somebody's own, and in nobody's way."""
    differences = [
        f"{what}: expected {expected}, found {came}"
        for what, expected, came in _aspects(wanted, found, expires_by)
        if expected != came
    ]
    if differences:
        raise Differs(
            f"The table {wanted.name} is not the one that .chalice/resources.json defines, and was left as it is. "
            f"{'; '.join(differences)}. Name another table in TABLE_NAME of .chalice/config.json, or make this one so."
        )


def _aspects(wanted: Definition, found: Mapping[str, Any], expires_by: str | None) -> Iterator[tuple[str, str, str]]:
    shape = wanted.shape
    yield "key", _keys(shape), _keys(found)
    types = {each["AttributeName"]: each["AttributeType"] for each in found["AttributeDefinitions"]}
    for attribute in shape["AttributeDefinitions"]:
        name = attribute["AttributeName"]
        yield f"type of {name}", attribute["AttributeType"], types.get(name, "none")
    indexes = {each["IndexName"]: each for each in found.get("GlobalSecondaryIndexes", ())}
    for index in shape["GlobalSecondaryIndexes"]:
        name = index["IndexName"]
        yield f"index {name}", _index(index), _index(indexes[name]) if name in indexes else "none"
    # DynamoDB says nothing of the billing of a table that was never on demand.
    yield "billing", shape["BillingMode"], found.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    if expires_by is not None:
        yield "expiry by", wanted.expires_by, expires_by


def _keys(schema: Mapping[str, Any]) -> str:
    ordered: Iterable[Mapping[str, str]] = sorted(schema["KeySchema"], key=lambda key: str(key["KeyType"]))
    return " and ".join(f"{key['AttributeName']} ({key['KeyType']})" for key in ordered)


def _index(index: Mapping[str, Any]) -> str:
    projection = index["Projection"]
    attributes = sorted(projection.get("NonKeyAttributes", ()))
    return ", ".join([_keys(index), projection["ProjectionType"], *attributes])
