"""What there is of a stage on AWS, found by its names, and written down where Chalice looks for it.

Chalice believes .chalice/deployed/{stage}.json, which it writes at the end of a deploy and git does not keep. In a
fresh clone it would make a second API; what a deploy that failed had made it would not delete; and in another region or
account it would look for what is not there. So before Chalice is asked to do anything, the file is made to say what is
true.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .aws import Account
from .gateway import Api, find_api
from .project import FUNCTIONS, ROOT, Stage, deployed_file


@dataclass(frozen=True)
class Function:
    """A Lambda function."""

    arn: str
    code: str
    """The hash of its zip, as Lambda gives it."""


@dataclass(frozen=True)
class Deployed:
    """What there is of a stage in one account and region. Functions, roles and log groups are by FUNCTIONS' names."""

    functions: Mapping[str, Function]
    roles: Mapping[str, str]
    """The ARNs of the functions' roles."""
    roles_elsewhere: frozenset[str]
    """Regions that roles of these names are for: IAM has no regions, so two of them cannot share a stage's names."""
    log_groups: Mapping[str, str]
    """Their names. They stay when the functions go."""
    api: Api | None
    domain: Mapping[str, Any] | None
    """The custom domain as Chalice notes it, where it leads to the API."""

    def __bool__(self) -> bool:
        return bool(self.functions or self.roles or self.api)


def find(account: Account, stage: Stage) -> Deployed:
    """Ask AWS. Raises what the SDK raises, and Differs."""
    api = find_api(account.client("apigatewayv2"), stage)
    roles, elsewhere = _roles(account, stage)
    return Deployed(
        functions=_functions(account.client("lambda"), stage),
        roles=roles,
        roles_elsewhere=elsewhere,
        log_groups=_log_groups(account.client("logs"), stage),
        api=api,
        domain=None if api is None else _domain(account.client("apigatewayv2"), stage, api),
    )


def remember(found: Deployed, account: Account, stage: Stage, root: Path = ROOT) -> None:
    """Make Chalice's file say what was found; what it knows besides (functions of your own) stays in it.

    Log groups are left out: Chalice finds those by itself, and those that it remembers it would have kept for ever when
    it deletes their functions.
    """
    ours = [entry for name in FUNCTIONS for entry in _entries(name, found)]
    if found.api is not None:
        ours.append(
            {
                "name": "websocket_api",
                "resource_type": "websocket_api",
                "websocket_api_id": found.api.id,
                "websocket_api_url": f"{found.api.endpoint}/{stage.gateway_stage}/",
            }
        )
    if found.domain is not None:
        ours.append(dict(found.domain))
    known = {"websocket_api", _DOMAIN} | {each for name in FUNCTIONS for each in _names(name)}
    path = deployed_file(stage, root)
    others = [entry for entry in _remembered(path, account) if entry.get("name") not in known]
    path.parent.mkdir(exist_ok=True)
    # Deletions go through it backwards: what depends on others stands after them.
    path.write_text(
        json.dumps({"resources": [*others, *ours], "schema_version": "2.0", "backend": "api"}, indent=2) + "\n",
        encoding="utf-8",
    )


_DOMAIN = "websocket_api_custom_domain"


def _names(function: str) -> tuple[str, str, str]:
    """What Chalice calls a function, its role and its log group."""
    return function, f"{function}_role", f"{function}-log-group"


def _entries(name: str, found: Deployed) -> list[dict[str, str]]:
    function, role, _ = _names(name)
    entries = []
    if name in found.roles:
        arn = found.roles[name]
        entries.append(
            {"name": role, "resource_type": "iam_role", "role_arn": arn, "role_name": arn.rpartition("/")[2]}
        )
    if name in found.functions:
        entries.append({"name": function, "resource_type": "lambda_function", "lambda_arn": found.functions[name].arn})
    return entries


def _remembered(path: Path, account: Account) -> list[dict[str, Any]]:
    """What the file says, unless that is about another account or region, or it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        resources = json.loads(text)["resources"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    here = f":lambda:{account.region}:{account.number}:" in text
    return [entry for entry in resources if isinstance(entry, dict)] if here else []


def _functions(client: Any, stage: Stage) -> dict[str, Function]:
    found = {}
    for name in FUNCTIONS:
        try:
            answer = client.get_function_configuration(FunctionName=stage.function(name))
        except client.exceptions.ResourceNotFoundException:
            continue
        found[name] = Function(answer["FunctionArn"], answer["CodeSha256"])
    return found


def _roles(account: Account, stage: Stage) -> tuple[dict[str, str], frozenset[str]]:
    client, found, elsewhere = account.client("iam"), {}, set()
    for name in FUNCTIONS:
        role = stage.function(name)
        try:
            arn = client.get_role(RoleName=role)["Role"]["Arn"]
        except client.exceptions.NoSuchEntityException:
            continue
        try:
            policy = client.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]
        except client.exceptions.NoSuchEntityException:
            policy = {}
        regions = set(re.findall(r"arn:[\w-]+:logs:([\w-]+):", json.dumps(policy)))
        if regions - {account.region}:
            elsewhere |= regions
        else:
            found[name] = arn
    return found, frozenset(elsewhere)


def _log_groups(client: Any, stage: Stage) -> dict[str, str]:
    prefix = f"/aws/lambda/{stage.function('')}"
    pages = client.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
    there = {group["logGroupName"] for page in pages for group in page["logGroups"]}
    return {name: f"{prefix}{name}" for name in FUNCTIONS if f"{prefix}{name}" in there}


def _domain(client: Any, stage: Stage, api: Api) -> dict[str, Any] | None:
    if stage.custom_domain is None:
        return None
    name = stage.custom_domain["domain_name"]
    try:
        configuration = client.get_domain_name(DomainName=name)["DomainNameConfigurations"][0]
        mappings = client.get_api_mappings(DomainName=name)["Items"]
    except client.exceptions.NotFoundException:
        return None
    keys = [mapping.get("ApiMappingKey", "") for mapping in mappings if mapping["ApiId"] == api.id]
    if not keys:
        return None
    return {
        "name": _DOMAIN,
        "resource_type": "domain_name",
        "domain_name": name,
        "hosted_zone_id": configuration.get("HostedZoneId"),
        "alias_domain_name": configuration.get("ApiGatewayDomainName"),
        "certificate_arn": configuration.get("CertificateArn"),
        "security_policy": configuration.get("SecurityPolicy"),
        "api_mapping": [{"key": f"/{key}"} for key in keys],
    }
