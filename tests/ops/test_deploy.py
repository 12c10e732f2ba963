"""The parts of a deploy and of its removal, each against an emulator that enforces IAM.

The whole of it, with clients, is tests/aws's.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ops import deploy, deployed, gateway
from ops.aws import Account, sign_in
from ops.errors import ConfigError, Differs
from ops.project import FUNCTIONS, Stage, load_resources, load_stage
from tests.aws.emulator import REGION, Emulator, emulator
from tests.aws.project import Project

RESOURCES = load_resources()
THROTTLES = gateway.Throttles(rate=2000, burst=1000)
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


@pytest.fixture(scope="module")
def aws() -> Iterator[Emulator]:
    with emulator() as served:
        yield served


@pytest.fixture
def account(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> Account:
    for name, value in aws.environment().items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return sign_in()


def stage(name: str) -> Stage:
    """A stage that no other test has."""
    return replace(load_stage("dev"), name=name, table=f"channels-{name}")


def make_api(account: Account, name: str, *calls: str) -> str:
    """A WebSocket API whose integrations call these functions."""
    client = account.client("apigatewayv2")
    api = client.create_api(Name=name, ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")[
        "ApiId"
    ]
    for function in calls:
        arn = f"arn:aws:lambda:{REGION}:{account.number}:function:{function}"
        uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"
        client.create_integration(ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=uri)
    return str(api)


def make_role(account: Account, name: str, region: str | None = None) -> None:
    """A function's role; with its policy for a region, or without one as a deploy leaves it that is ended there."""
    client = account.client("iam")
    client.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    if region:
        logs = {"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": f"arn:aws:logs:{region}:0:log-group:x:*"}
        policy = {"Version": "2012-10-17", "Statement": [logs]}
        client.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=json.dumps(policy))


def roles(account: Account) -> set[str]:
    return {role["RoleName"] for role in account.client("iam").list_roles()["Roles"]}


def test_the_api_is_found_by_its_name_and_by_what_it_calls(account: Account) -> None:
    ours = stage("found")
    client = account.client("apigatewayv2")
    assert gateway.find_api(client, ours) is None
    make_api(account, ours.api, "channels-found_websocket_connect")
    make_api(account, "channels-fou-websocket-api", ours.function("websocket_connect"))
    assert gateway.find_api(client, ours) is None
    api = make_api(account, ours.api, *map(ours.function, FUNCTIONS))
    found = gateway.find_api(client, ours)
    assert found is not None
    assert found.id == api


def test_an_api_that_a_deploy_left_without_integrations_is_found(account: Account) -> None:
    ours = stage("bare")
    api = make_api(account, ours.api)
    found = gateway.find_api(account.client("apigatewayv2"), ours)
    assert found is not None
    assert found.id == api


def test_of_two_apis_none_is_taken_and_both_are_named(account: Account) -> None:
    ours = stage("twice")
    first, second = (make_api(account, ours.api, ours.function("websocket_message")) for _ in range(2))
    with pytest.raises(Differs, match="Delete those that no client uses") as raised:
        gateway.find_api(account.client("apigatewayv2"), ours)
    assert first in str(raised.value)
    assert second in str(raised.value)


def test_throttles_are_set_once_and_what_else_is_set_stays(account: Account) -> None:
    ours, client = stage("throttled"), account.client("apigatewayv2")
    api = gateway.Api(make_api(account, ours.api), "wss://here")
    client.create_stage(
        ApiId=api.id, StageName=ours.gateway_stage, DefaultRouteSettings={"DetailedMetricsEnabled": True}
    )
    assert gateway.ensure_stage(client, api, ours, THROTTLES) == ["set"]
    assert gateway.ensure_stage(client, api, ours, THROTTLES) == []
    settings = client.get_stage(ApiId=api.id, StageName=ours.gateway_stage)["DefaultRouteSettings"]
    assert settings["DetailedMetricsEnabled"] is True
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == (2000, 1000)
    assert gateway.ensure_stage(client, api, ours, replace(THROTTLES, burst=999)) == ["set"]


def test_an_api_that_a_deploy_left_without_a_stage_gets_one(account: Account) -> None:
    ours, client = stage("stageless"), account.client("apigatewayv2")
    api = gateway.Api(make_api(account, ours.api), "wss://here")
    assert gateway.ensure_stage(client, api, ours, THROTTLES) == ["stage api made", "set"]
    assert client.get_stage(ApiId=api.id, StageName="api")["DeploymentId"]


@pytest.mark.parametrize(
    ("endpoint", "domain", "url"),
    [
        (
            "wss://a1.execute-api.eu-central-1.amazonaws.com",
            None,
            "wss://a1.execute-api.eu-central-1.amazonaws.com/api",
        ),
        ("http://a1.execute-api.localhost:4566", None, "ws://a1.execute-api.localhost:4566/api"),
        ("https://a1.example.net", None, "wss://a1.example.net/api"),
        ("wss://a1.example.net", {"domain_name": "ws.example.com"}, "wss://ws.example.com"),
        ("wss://a1.example.net", {"domain_name": "ws.example.com", "url_prefix": "/"}, "wss://ws.example.com"),
        ("wss://a1.example.net", {"domain_name": "ws.example.com", "url_prefix": "v1"}, "wss://ws.example.com/v1"),
    ],
)
def test_the_url_is_where_clients_connect(endpoint: str, domain: dict[str, str] | None, url: str) -> None:
    assert gateway.url(gateway.Api("a1", endpoint), replace(stage("url"), custom_domain=domain)) == url


def test_the_throttles_are_the_templates() -> None:
    resources = copy.deepcopy(dict(RESOURCES))
    resources["Parameters"]["ThrottlingRate"]["Default"] = 7
    resources["Parameters"]["ThrottlingBurst"]["Default"] = "9"
    assert gateway.throttles(resources) == gateway.Throttles(rate=7, burst=9)
    del resources["Parameters"]["ThrottlingBurst"]
    with pytest.raises(ConfigError, match="ThrottlingRate and ThrottlingBurst need a number"):
        gateway.throttles(resources)


def test_asynchronous_invocations_are_those_of_the_template() -> None:
    assert deploy.asynchronous_invocations(RESOURCES) == {
        "MaximumRetryAttempts": 0,
        "MaximumEventAgeInSeconds": 300,
    }
    with pytest.raises(ConfigError, match="Publish needs an EventInvokeConfig"):
        deploy.asynchronous_invocations({"Resources": {"Publish": {"Properties": {}}}})


def test_asynchronous_invocations_are_set_once_and_a_destination_stays(account: Account) -> None:
    ours, client = stage("asynchronous"), account.client("lambda")
    make_role(account, ours.function("publish"), REGION)
    make_function(account, ours.function("publish"))
    wanted = {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 300}
    assert deploy.ensure_invocations(client, ours, wanted) == ["set"]
    assert deploy.ensure_invocations(client, ours, wanted) == []
    queue = f"arn:aws:sqs:{REGION}:{account.number}:lost"
    client.put_function_event_invoke_config(
        FunctionName=ours.function("publish"), DestinationConfig={"OnFailure": {"Destination": queue}}, **wanted
    )
    assert deploy.ensure_invocations(client, ours, {**wanted, "MaximumEventAgeInSeconds": 60}) == ["set"]
    found = client.get_function_event_invoke_config(FunctionName=ours.function("publish"))
    assert found["MaximumEventAgeInSeconds"] == 60
    assert found["DestinationConfig"]["OnFailure"] == {"Destination": queue}


def make_function(account: Account, name: str) -> None:
    account.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="app.publish",
        Role=f"arn:aws:iam::{account.number}:role/{name}",
        Code={"ZipFile": empty_zip()},
    )


def empty_zip() -> bytes:
    return b"PK\x05\x06" + bytes(18)


def test_chalice_is_told_what_there_is_and_keeps_what_it_knows_besides(account: Account, tmp_path: Path) -> None:
    ours = stage("remembered")
    make_role(account, ours.function("publish"), REGION)
    make_function(account, ours.function("publish"))
    api = make_api(account, ours.api, ours.function("websocket_connect"))
    own = {
        "name": "nightly",
        "resource_type": "lambda_function",
        "lambda_arn": f"arn:aws:lambda:{REGION}:{account.number}:function:channels-remembered-nightly",
    }
    path = tmp_path / ".chalice/deployed/remembered.json"
    path.parent.mkdir(parents=True)
    stale = {"name": "websocket_api", "resource_type": "websocket_api", "websocket_api_id": "gone"}
    path.write_text(json.dumps({"resources": [own, stale], "schema_version": "2.0", "backend": "api"}))
    deployed.remember(deployed.find(account, ours), account, ours, tmp_path)
    resources = {each["name"]: each for each in json.loads(path.read_text())["resources"]}
    assert list(resources) == ["nightly", "publish_role", "publish", "websocket_api"]
    assert resources["nightly"] == own
    assert resources["websocket_api"]["websocket_api_id"] == api


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"resources": [{"lambda_arn": "arn:aws:lambda:eu-west-1:1:function:x"}]}']
)
def test_what_chalice_remembers_of_elsewhere_or_not_at_all_is_left_behind(
    account: Account, tmp_path: Path, text: str
) -> None:
    path = tmp_path / ".chalice/deployed/nowhere.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    ours = stage("nowhere")
    deployed.remember(deployed.find(account, ours), account, ours, tmp_path)
    assert json.loads(path.read_text())["resources"] == []


def test_a_custom_domain_is_remembered_where_it_leads_to_the_api(account: Account) -> None:
    ours = replace(stage("domain"), custom_domain={"domain_name": "ws.example.com", "certificate_arn": "arn"})
    client = account.client("apigatewayv2")
    client.create_domain_name(
        DomainName="ws.example.com",
        DomainNameConfigurations=[{"CertificateArn": f"arn:aws:acm:{REGION}:{account.number}:certificate/1"}],
    )
    api = make_api(account, ours.api)
    assert deployed.find(account, ours).domain is None
    client.create_stage(ApiId=api, StageName=ours.gateway_stage)
    client.create_api_mapping(ApiId=api, DomainName="ws.example.com", Stage=ours.gateway_stage, ApiMappingKey="v1")
    found = deployed.find(account, ours).domain
    assert found is not None
    assert (found["domain_name"], found["api_mapping"]) == ("ws.example.com", [{"key": "/v1"}])


def test_a_stage_is_not_deployed_to_a_second_region_nor_destroyed_from_it(
    aws: Emulator, account: Account, tmp_path: Path
) -> None:
    project = Project.copy(tmp_path / "project", aws)
    make_role(account, "channels-staging-publish", "eu-west-1")
    refused = run(project, aws, "deploy", "staging")
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "The roles of stage staging in account 000000000000 are those of its deployment in"
    )
    assert "eu-west-1" in refused.stderr
    assert "channels-staging" not in account.client("dynamodb").list_tables()["TableNames"]
    assert "Nothing to remove." in run(project, aws, "destroy", "staging", "--yes").stdout
    assert "channels-staging-publish" in roles(account)
    account.client("iam").delete_role_policy(RoleName="channels-staging-publish", PolicyName="channels-staging-publish")
    account.client("iam").delete_role(RoleName="channels-staging-publish")


def run(
    project: Project,
    aws: Emulator,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    keys: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        cwd=project.folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(project.folder), **aws.environment(), **(keys or {})},
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_deploy_that_is_refused_halfway_says_why_and_another_clone_goes_on_from_there(
    aws: Emulator, account: Account, tmp_path: Path
) -> None:
    first = Project.copy(tmp_path / "first", aws)
    keys = make_user(account, "ana", may_not="apigateway:POST")
    refused = run(first, aws, "deploy", "dev", keys=keys)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stdout + refused.stderr
    sentence = refused.stderr.strip().splitlines()[-1]
    assert sentence.startswith("`chalice deploy --stage dev` failed. These credentials may not do CreateApi: ")

    second = Project.copy(tmp_path / "second", aws)
    url = second.deploy("dev")
    third = Project.copy(tmp_path / "third", aws)
    again = run(third, aws, "deploy", "dev")
    assert again.returncode == 0, again.stderr
    assert url in again.stdout
    assert "now that the API has an id" not in again.stdout

    fourth = Project.copy(tmp_path / "fourth", aws)
    asked = run(fourth, aws, "destroy", "dev")
    assert (asked.returncode, asked.stderr.count("YES=1")) == (1, 1)
    assert deployed.find(account, load_stage("dev"))
    account.client("lambda").delete_function(FunctionName="channels-dev-publish")  # as a delete that was interrupted
    gone = run(fourth, aws, "destroy", "dev", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert not deployed.find(account, load_stage("dev"))
    assert "channels-dev" in account.client("dynamodb").list_tables()["TableNames"]
    assert not list((fourth.folder / ".chalice").glob("policies/*"))
    groups = account.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/channels-dev-")["logGroups"]
    assert {group.get("retentionInDays") for group in groups} == {7}


def make_user(account: Account, name: str, *, may_not: str) -> dict[str, str]:
    """The variables of somebody who may do all but one thing."""
    client = account.client("iam")
    client.create_user(UserName=name)
    statements = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": may_not, "Resource": "*"},
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    client.put_user_policy(UserName=name, PolicyName="most", PolicyDocument=document)
    key = client.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def test_a_person_is_asked_for_the_stages_name(aws: Emulator, account: Account, tmp_path: Path) -> None:
    project = Project.copy(tmp_path / "project", aws)
    make_role(account, "channels-staging-publish", REGION)
    code, said = run_at_a_terminal(project, aws, "yes\n", "destroy", "staging")
    assert (code, said) == (1, "That is not the stage's name: nothing was removed.\n")
    assert "channels-staging-publish" in roles(account)
    assert run_at_a_terminal(project, aws, "staging\n", "destroy", "staging") == (0, "")
    assert "channels-staging-publish" not in roles(account)


def run_at_a_terminal(project: Project, aws: Emulator, typed: str, *arguments: str) -> tuple[int, str]:
    """The exit code, and what stands on stderr, when a person has typed that."""
    keyboard, terminal = os.openpty()
    try:
        os.write(keyboard, typed.encode())
        ran = run(project, aws, *arguments, stdin=terminal)
    finally:
        os.close(keyboard)
        os.close(terminal)
    return ran.returncode, ran.stderr


def test_a_protected_table_is_not_dropped_and_nothing_else_goes(
    aws: Emulator, account: Account, tmp_path: Path
) -> None:
    project = Project.copy(tmp_path / "project", aws)
    client = account.client("dynamodb")
    client.create_table(
        TableName="channels-prod",
        KeySchema=[{"AttributeName": "channel", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "channel", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        DeletionProtectionEnabled=True,
    )
    make_role(account, "channels-prod-publish", REGION)
    refused = run(project, aws, "destroy", "prod", "--table", "drop", "--yes")
    assert refused.returncode == 1
    assert "--table-name channels-prod --no-deletion-protection-enabled" in refused.stderr
    assert "channels-prod-publish" in roles(account)
    client.update_table(TableName="channels-prod", DeletionProtectionEnabled=False)
    dropped = run(project, aws, "destroy", "prod", "--table", "drop", "--yes")
    assert dropped.returncode == 0, dropped.stderr
    assert "channels-prod" not in client.list_tables()["TableNames"]
    assert "channels-prod-publish" not in roles(account)
