"""What `python -m ops package` writes, as a stack on the emulator, with clients at the address that it puts out.

What the emulator's CloudFormation cannot do, and what is done about it here:

- It has no deployments, integration responses and route responses of APIs, and refuses a template with any. They are
  taken out. It serves routes without a deployment, and sends what a route returns without a route response; the
  integration response, which says what that is, is made through API Gateway.
- It evaluates no Rules of a template.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from ops.conversations import CONVERSATIONS
from ops.verify import hold
from tests.conftest import everything_in

from .conftest import Connect
from .control import denied
from .emulator import Emulator
from .inventory import inventory, names
from .project import Packaged, Project
from .test_deploy import CANNOT

BUCKET = "packages"
UNKNOWN = {f"AWS::ApiGatewayV2::{kind}" for kind in ("Deployment", "IntegrationResponse", "RouteResponse")}
CHECKS: Mapping[str, float] = {"Delay": 0.1, "MaxAttempts": 600}


@dataclass(frozen=True)
class Stack:
    """A packaged project and the stack made of it."""

    project: Project
    name: str
    outputs: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.outputs["WebsocketConnectEndpointURL"]


@pytest.fixture(scope="module")
def stack(aws: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    aws.client("s3").create_bucket(Bucket=BUCKET)
    return create(aws, Project.copy(tmp_path_factory.mktemp("stack") / "project", aws), "one")


@pytest.mark.parametrize("conversation", [name for name in CONVERSATIONS if name not in CANNOT])
def test_clients_of_a_stack_are_kept_what_they_are_promised(
    conversation: str, stack: Stack, names_lead_there: None
) -> None:
    assert hold(stack.url, conversation)[1] is None


def test_a_ping_is_answered_though_no_function_could(aws: Emulator, stack: Stack, connect: Connect) -> None:
    client = connect(stack.url)
    with denied(aws, stack.outputs["WebsocketMessageHandlerName"], "execute-api:ManageConnections"):
        assert client.ask(type="ping") == {"type": "pong"}


def test_an_update_changes_what_clients_that_are_connected_are_answered(
    aws: Emulator, stack: Stack, connect: Connect
) -> None:
    client = connect(stack.url, room="echo")
    assert client.ask(action="shout", message="hi")["code"] == "unknown_action"
    stack.project.add_the_action_of_the_readme()
    aws.client("cloudformation").update_stack(StackName=stack.name, **uploaded(aws, stack.project.package("dev")))
    aws.client("cloudformation").get_waiter("stack_update_complete").wait(StackName=stack.name, WaiterConfig=CHECKS)
    client.send(action="shout", message="hi")
    assert client.text() == "HI"


def test_a_stack_that_is_deleted_leaves_its_table(aws: Emulator, stack: Stack, connect: Connect) -> None:
    before = names(inventory(aws))
    other = create(aws, stack.project, "channels-staging")  # as the stage is called that `make destroy` is told
    assert "Nothing to remove" in stack.project.ops("destroy", "staging", "--yes")
    connect(other.url).join("kept")
    items = everything_in(aws.client("dynamodb"), other.outputs["TableName"])
    assert items
    aws.client("cloudformation").delete_stack(StackName=other.name)
    aws.client("cloudformation").get_waiter("stack_delete_complete").wait(StackName=other.name, WaiterConfig=CHECKS)
    assert names(inventory(aws)) - before == {f"tables: {other.outputs['TableName']}"}
    assert everything_in(aws.client("dynamodb"), other.outputs["TableName"]) == items


def create(aws: Emulator, project: Project, name: str) -> Stack:
    client = aws.client("cloudformation")
    packaged = project.package("dev")
    client.create_stack(StackName=name, **uploaded(aws, packaged))
    client.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig=CHECKS)
    [described] = client.describe_stacks(StackName=name)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}
    answer_pings(aws, outputs["WebsocketAPIId"], packaged.template["Resources"])
    return Stack(project, name, outputs)


def uploaded(aws: Emulator, packaged: Packaged) -> Mapping[str, Any]:
    """Does what `aws cloudformation package` does. Returns what CreateStack takes."""
    key = hashlib.sha256(packaged.code).hexdigest()
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=packaged.code)
    template = copy.deepcopy(dict(packaged.template))
    template["Resources"] = {name: each for name, each in template["Resources"].items() if each["Type"] not in UNKNOWN}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = f"s3://{BUCKET}/{key}"
    return {"TemplateBody": json.dumps(template), "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]}


def answer_pings(aws: Emulator, api_id: str, resources: Mapping[str, Any]) -> None:
    client = aws.client("apigatewayv2")
    integrations = client.get_integrations(ApiId=api_id)["Items"]
    [ping] = [each["IntegrationId"] for each in integrations if each["IntegrationType"] == "MOCK"]
    response = resources["WebsocketPingIntegrationResponse"]["Properties"]
    client.create_integration_response(**{**response, "ApiId": api_id, "IntegrationId": ping})
