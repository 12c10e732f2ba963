"""All that is deployed, by kind and name, without what differs from look to look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from .emulator import Emulator

Inventory: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Of each kind, each resource by its name."""

_EPHEMERAL = {
    *("ResponseMetadata", "RevisionId", "LastModified", "LastModifiedDate", "LastUpdatedDate", "RoleLastUsed"),
    *("ItemCount", "TableSizeBytes", "IndexSizeBytes", "storedBytes", "DeploymentId"),
    *("EarliestRestorableDateTime", "LatestRestorableDateTime"),
    # Chalice makes routes and their integrations anew each time; AWS serves those of the deployment meanwhile.
    *("RouteId", "IntegrationId", "Target"),
}


def inventory(aws: Emulator) -> Inventory:
    """Everything of the kinds that a deploy makes."""
    return {
        "functions": _functions(aws.client("lambda")),
        "apis": _apis(aws.client("apigatewayv2")),
        "roles": _roles(aws.client("iam")),
        "tables": _tables(aws.client("dynamodb")),
        "log groups": {
            each["logGroupName"]: _lasting(each) for each in aws.client("logs").describe_log_groups()["logGroups"]
        },
        "alarms": {
            each["AlarmName"]: {"metric": each.get("MetricName"), "threshold": each.get("Threshold")}
            for each in aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
        },
        "queues": {url: {} for url in aws.client("sqs").list_queues().get("QueueUrls", [])},
    }


def names(inventory: Inventory) -> set[str]:
    """What there is, as "kind: name"."""
    return {f"{kind}: {name}" for kind, named in inventory.items() for name in named}


def _functions(client: Any) -> Mapping[str, Any]:
    found = {}
    for each in client.list_functions()["Functions"]:
        name = each["FunctionName"]
        invocation: Any = None
        try:
            invocation = client.get_function_event_invoke_config(FunctionName=name)
        except client.exceptions.ResourceNotFoundException:
            invocation = {}
        policy = client.get_policy(FunctionName=name)["Policy"] if "websocket" in name else ""
        found[name] = _lasting(
            {**client.get_function(FunctionName=name)["Configuration"], "invocation": invocation}
        ) | {"policy": policy}
    return found


def _apis(client: Any) -> Mapping[str, Any]:
    found = {}
    for each in client.get_apis()["Items"]:
        of = {"ApiId": each["ApiId"]}
        integrations = {i["IntegrationId"]: _lasting(i) for i in client.get_integrations(**of)["Items"]}
        routes = {
            r["RouteKey"]: {**_lasting(r), "to": integrations[r["Target"].rpartition("/")[2]]}
            for r in client.get_routes(**of)["Items"]
        }
        stages = {s["StageName"]: _lasting(s) for s in client.get_stages(**of)["Items"]}
        found[f"{each['Name']} {each['ApiId']}"] = _lasting(each) | {"routes": routes, "stages": stages}
    return found


def _roles(client: Any) -> Mapping[str, Any]:
    found = {}
    for each in client.list_roles()["Roles"]:
        of = {"RoleName": each["RoleName"]}
        policies = {
            name: client.get_role_policy(**of, PolicyName=name)["PolicyDocument"]
            for name in client.list_role_policies(**of)["PolicyNames"]
        }
        attached = client.list_attached_role_policies(**of)["AttachedPolicies"]
        found[each["RoleName"]] = _lasting(each) | {"policies": policies, "attached": attached}
    return found


def _tables(client: Any) -> Mapping[str, Any]:
    return {
        name: _lasting(
            {
                **client.describe_table(TableName=name)["Table"],
                "ttl": client.describe_time_to_live(TableName=name)["TimeToLiveDescription"],
                "backups": client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"],
            }
        )
        for name in client.list_tables()["TableNames"]
    }


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if name not in _EPHEMERAL}
    if isinstance(value, list):
        return [_lasting(each) for each in value]
    return value
