"""`make deploy STAGE=dev`: from nothing, or from what is there, to a wss:// address that works.

Knows the order of the steps, and what is said of each. A second run finds nothing to do, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from click import echo as say

from . import deployed, gateway, table
from .aws import Account, explained, sign_in
from .chalice_command import check_runtime, run_chalice
from .errors import AWSError, ConfigError, Differs
from .permissions import deployed_arns, policy
from .project import FUNCTIONS, ROOT, Stage, load_resources


def deploy(stage: Stage, root: Path = ROOT) -> str:
    """Returns the URL. Raises OpsError; what was made until then is there, and the next run goes on from it."""
    resources = load_resources(root)
    definition, throttles = table.define(resources, stage), gateway.throttles(resources)
    invocations = asynchronous_invocations(resources)
    account = sign_in()
    with explained():
        functions, api_gateway = account.client("lambda"), account.client("apigatewayv2")
        check_runtime(functions)
        say(f"Deploying {stage.app}: account {account.number}, region {account.region}, stage {stage.name}")
        say(f"as {account.caller}.\n")
        found = deployed.find(account, stage)
        _refuse_foreign_roles(found, account, stage)

        say(f"Table {stage.table}")
        _tell(table.ensure(account.client("dynamodb"), definition))
        api = _deploy_app(account, stage, found, root)
        say("Asynchronous invocations of publish: none is repeated")
        _tell(ensure_invocations(functions, stage, invocations))
        say(f"Throttles of the API: {throttles.rate:g} requests/s, {throttles.burst} at once")
        _tell(gateway.ensure_stage(api_gateway, api, stage, throttles))
    url = gateway.url(api, stage)
    say(f"\n{stage.app} is served here:\n\n  {url}\n")
    say(f"try it     npx wscat -c {url}")
    say(f"verify it  make verify URL={url} ANY_HOST=1")
    return url


def _tell(done: Sequence[str]) -> None:
    say(f"  {'; '.join(done) or 'unchanged'}")


def _refuse_foreign_roles(found: deployed.Deployed, account: Account, stage: Stage) -> None:
    if found.roles_elsewhere:
        raise Differs(
            f"The roles of stage {stage.name} in account {account.number} are those of its deployment in "
            f"{', '.join(sorted(found.roles_elsewhere))}, and IAM has no regions. For {account.region} add a stage of "
            f"another name to .chalice/config.json, or destroy the other one first."
        )


def _deploy_app(account: Account, stage: Stage, before: deployed.Deployed, root: Path) -> gateway.Api:
    """What Chalice deploys, with policies that name the API: the first time, its id is known only afterwards."""
    deployed.remember(before, account, stage, root)
    _write_policies(account, stage, before.api, root)
    say("Functions and API: chalice deploy (with new roles it waits for IAM, up to a minute)")
    run_chalice("deploy", stage, root)
    after = deployed.find(account, stage)
    if after.api is None:
        raise AWSError(f"Chalice made no API named {stage.api}: app.py should have its three WebSocket functions.")
    if before.api is None or before.api.id != after.api.id:
        _write_policies(account, stage, after.api, root)
        say("Policies of the roles, now that the API has an id that they can name")
        _put_policies(account, stage, root)
    changed = [name for name in FUNCTIONS if before.functions.get(name) != after.functions.get(name)]
    say("Code of the functions")
    _tell([f"new: {', '.join(changed)}"] if changed else [])
    return after.api


def _write_policies(account: Account, stage: Stage, api: gateway.Api | None, root: Path) -> None:
    say("Policies of the functions, in .chalice/policies/")
    arns = deployed_arns(
        stage,
        partition=account.partition,
        region=account.region,
        account=account.number,
        api_id=None if api is None else api.id,
    )
    written = []
    for name in FUNCTIONS:
        path = root / ".chalice" / stage.policy_file(name)
        text = json.dumps(policy(name, arns), indent=2) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(name)
    _tell([f"written: {', '.join(written)}"] if written else [])


def _put_policies(account: Account, stage: Stage, root: Path) -> None:
    """What is written becomes the policies of the roles, which Chalice calls as the roles themselves."""
    client = account.client("iam")
    for name in FUNCTIONS:
        document = (root / ".chalice" / stage.policy_file(name)).read_text(encoding="utf-8")
        client.put_role_policy(RoleName=stage.function(name), PolicyName=stage.function(name), PolicyDocument=document)
    _tell(["set"])


def asynchronous_invocations(resources: Mapping[str, Any]) -> Mapping[str, int]:
    """What the template says of the publish function's asynchronous invocations. Raises ConfigError."""
    try:
        found = resources["Resources"]["Publish"]["Properties"]["EventInvokeConfig"]
        return {name: int(found[name]) for name in ("MaximumRetryAttempts", "MaximumEventAgeInSeconds")}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            ".chalice/resources.json: Publish needs an EventInvokeConfig with MaximumRetryAttempts and "
            "MaximumEventAgeInSeconds, each a number."
        ) from error


def ensure_invocations(client: Any, stage: Stage, wanted: Mapping[str, int]) -> Sequence[str]:
    """Lambda's own second attempt would find the first one's claim, send nothing, and look like a success."""
    name = stage.function("publish")
    try:
        found = client.get_function_event_invoke_config(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        found = {}
    if wanted.items() <= found.items():
        return []
    own = {key: found[key] for key in ("DestinationConfig",) if key in found}  # what is put takes all else away
    client.put_function_event_invoke_config(FunctionName=name, **wanted, **own)
    return ["set"]
