"""The template's meaning: what a stack of it has, does and allows, and who is told when it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import table
from chalicelib.dialects import ywebrtc
from chalicelib.dialects.frame import Frame, Reply
from chalicelib.model import ConnectionId
from chalicelib.settings import Settings
from ops import permissions
from ops.project import FUNCTIONS, load_stage
from tests.fakes import NOW
from tests.stored import HOME, NEWS, A, B, Stored

from .cloudformation import Stack, expand, references, stack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LOGICAL_IDS = {
    "websocket_connect": "WebsocketConnect",
    "websocket_message": "WebsocketMessage",
    "websocket_disconnect": "WebsocketDisconnect",
    "publish": "Publish",
}


# --- the table


def test_the_table_has_the_keys_and_the_index_that_the_handlers_use(prod: dict[str, Any]) -> None:
    properties = stack(prod).properties("ChannelTable")
    key = table._membership_key(HOME, A)
    assert [each["AttributeName"] for each in properties["KeySchema"]] == list(key)
    (index,) = properties["GlobalSecondaryIndexes"]
    assert index["IndexName"] == table.INDEX == permissions.INDEX
    assert [each["AttributeName"] for each in index["KeySchema"]] == ["connection_id", "channel"]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}


def test_all_that_a_connection_leaves_expires(prod: dict[str, Any], ministack: DynamoDBClient) -> None:
    expiry = stack(prod).properties("ChannelTable")["TimeToLiveSpecification"]
    assert expiry["Enabled"] is True
    stored = Stored(ministack)
    stored.table.connect(A, NOW, HOME)
    stored.table.join(NEWS, A, "pubsub", NOW, NOW)
    stored.table.leave(NEWS, B, NOW)
    items = stored.items()
    assert len(items) == 4
    assert all(set(item[expiry["AttributeName"]]) == {"N"} for item in items)


def test_the_table_is_on_demand_backed_up_tagged_and_outlives_the_stack(prod: dict[str, Any]) -> None:
    resource = stack(prod).resources["ChannelTable"]
    assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"
    properties = resource["Properties"]
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert {each["Key"]: each["Value"] for each in properties["Tags"]} == load_stage("prod").tags


# --- the functions


def test_functions_know_the_table_and_one_another_by_reference(prod: dict[str, Any]) -> None:
    functions = stack(prod).of_type("AWS::Lambda::Function")
    assert functions.keys() == set(LOGICAL_IDS.values())
    variables = {name: each["Environment"]["Variables"] for name, each in functions.items()}
    the_table = {"TABLE_NAME": {"Ref": "ChannelTable"}}
    assert variables == dict.fromkeys(functions, the_table) | {
        "WebsocketMessage": the_table | {"PUBLISH_FUNCTION": {"Ref": "Publish"}}
    }


def test_functions_are_traced_and_their_logs_end(prod: dict[str, Any], dev: dict[str, Any]) -> None:
    for made, days in ((stack(prod), 90), (stack(dev), 7)):
        assert {each["TracingConfig"]["Mode"] for each in made.of_type("AWS::Lambda::Function").values()} == {"Active"}
        logs = made.of_type("AWS::Logs::LogGroup").values()
        assert sorted(each["LogGroupName"]["Fn::Sub"] for each in logs) == sorted(
            f"/aws/lambda/${{{name}}}" for name in LOGICAL_IDS.values()
        )
        assert {each["RetentionInDays"] for each in logs} == {days}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_what_the_table_of_permissions_says(prod: dict[str, Any], function: str) -> None:
    made = stack(prod)
    role_id, attribute = made.properties(LOGICAL_IDS[function])["Role"]["Fn::GetAtt"]
    assert attribute == "Arn"
    role = made.properties(role_id)
    assert role.keys() == {"AssumeRolePolicyDocument", "Policies"}
    (inline,) = role["Policies"]
    assert inline["PolicyDocument"] == permissions.policy(function, permissions.template_arns(load_stage("prod")))
    others = [each["Properties"]["Role"] for name, each in made.resources.items() if "Role" in each["Properties"]]
    assert others.count({"Fn::GetAtt": [role_id, "Arn"]}) == 1


def test_nothing_else_is_allowed_to_anyone_but_the_dead_letters_of_publish(prod: dict[str, Any]) -> None:
    made = stack(prod)
    assert {each["Type"] for each in made.resources.values() if "::IAM::" in each["Type"]} == {
        "AWS::IAM::Role",
        "AWS::IAM::Policy",
    }
    assert len(made.of_type("AWS::IAM::Role")) == len(FUNCTIONS)
    (policy,) = made.of_type("AWS::IAM::Policy").values()
    assert policy["Roles"] == [{"Ref": made.properties("Publish")["Role"]["Fn::GetAtt"][0]}]
    (statement,) = policy["PolicyDocument"]["Statement"]
    (queue,) = made.of_type("AWS::SQS::Queue")
    assert (statement["Action"], statement["Resource"]) == (["sqs:SendMessage"], {"Fn::GetAtt": [queue, "Arn"]})


def test_api_gateway_may_invoke_the_three_handlers_and_no_one_else_may_invoke_any(prod: dict[str, Any]) -> None:
    allowed = stack(prod).of_type("AWS::Lambda::Permission").values()
    assert {each["FunctionName"]["Ref"] for each in allowed} == set(LOGICAL_IDS.values()) - {"Publish"}
    assert len(allowed) == 3
    for each in allowed:
        assert each["Principal"] == "apigateway.amazonaws.com"
        assert each["SourceArn"]["Fn::Sub"][1] == {"WebsocketAPIId": {"Ref": "WebsocketAPI"}}


# --- what publish cannot do


def test_an_invocation_of_publish_that_fails_is_not_repeated_and_not_forgotten(prod: dict[str, Any]) -> None:
    made = stack(prod)
    (settings,) = made.of_type("AWS::Lambda::EventInvokeConfig").values()
    (queue,) = made.of_type("AWS::SQS::Queue")
    assert settings["FunctionName"] == {"Ref": "Publish"}
    assert settings["Qualifier"] == "$LATEST"
    assert settings["MaximumRetryAttempts"] == 0
    assert 60 <= settings["MaximumEventAgeInSeconds"] <= 21_600
    assert settings["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": [queue, "Arn"]}}}


def test_dead_letters_are_encrypted_and_wait_for_two_weeks(prod: dict[str, Any]) -> None:
    (queue,) = stack(prod).of_type("AWS::SQS::Queue").values()
    assert queue == {"MessageRetentionPeriod": 14 * 86_400, "SqsManagedSseEnabled": True}


def test_publish_may_send_dead_letters_before_lambda_is_told_where_to(prod: dict[str, Any]) -> None:
    """Lambda refuses a destination that the role may not send to."""
    made = stack(prod)
    (told,) = made.of_type("AWS::Lambda::EventInvokeConfig")
    (policy,) = made.of_type("AWS::IAM::Policy")
    before, more = set(), {told}
    while more:
        before |= more
        more = {name for each in more for name in references(made.resources[each])} - before
    assert policy in before


# --- the API


def answer(made: Stack, frame: str) -> str:
    """What API Gateway does with a frame: the text that it answers by itself, or the function that it invokes."""
    assert made.properties("WebsocketAPI")["RouteSelectionExpression"] == "$request.body.type"
    try:
        fields = json.loads(frame)
    except ValueError:
        fields = None
    selected = fields.get("type") if isinstance(fields, dict) else None
    routes = {each["RouteKey"]: (name, each) for name, each in made.of_type("AWS::ApiGatewayV2::Route").items()}
    route_id, route = routes[selected if isinstance(selected, str) and selected in routes else "$default"]
    (integration_id,) = references(route["Target"])
    assert route["Target"] == {"Fn::Join": ["/", ["integrations", {"Ref": integration_id}]]}
    integration = made.properties(integration_id)
    if integration["IntegrationType"] == "AWS_PROXY":
        return str(integration["IntegrationUri"]["Fn::Sub"][1]["WebsocketHandler"]["Ref"])

    assert integration["IntegrationType"] == "MOCK"
    request = integration["RequestTemplates"][integration["TemplateSelectionExpression"].replace("\\$", "$")]
    assert json.loads(request) == {"statusCode": 200}
    (response,) = (
        each
        for each in made.of_type("AWS::ApiGatewayV2::IntegrationResponse").values()
        if each["IntegrationId"] == {"Ref": integration_id}
    )
    assert response["IntegrationResponseKey"] == "$default"
    answered = response["ResponseTemplates"][response["TemplateSelectionExpression"].replace("\\$", "$")]
    # Without a route response API Gateway keeps the answer to itself.
    assert route["RouteResponseSelectionExpression"] == "$default"
    (back,) = made.of_type("AWS::ApiGatewayV2::RouteResponse").values()
    assert (back["RouteId"], back["RouteResponseKey"]) == ({"Ref": route_id}, "$default")
    return str(answered)


@pytest.mark.parametrize("frame", ['{"type":"ping"}', '{"type":"ping","action":"chat","message":"m"}'])
def test_api_gateway_answers_a_ping_as_the_dialect_does(prod: dict[str, Any], frame: str) -> None:
    (reply,) = ywebrtc.ping(Frame(frame, json.loads(frame)), ConnectionId("c"))
    assert isinstance(reply, Reply)
    assert answer(stack(prod), frame) == reply.text


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"subscribe","topics":["ping"]}',
        '{"type":"publish","topic":"ping"}',
        '{"type":"message","data":"ping"}',
        '{"type":"Ping"}',
        '{"type":["ping"]}',
        '{"type":null}',
        '{"action":"ping"}',
        '{"action":"joinchannel","channel":"c"}',
        '["ping"]',
        "ping",
        "Marko?",
        "",
    ],
)
def test_every_other_frame_goes_to_the_handler(prod: dict[str, Any], frame: str) -> None:
    assert answer(stack(prod), frame) == "WebsocketMessage"


def test_a_change_of_a_route_is_deployed(prod: dict[str, Any]) -> None:
    stage = stack(prod).properties("WebsocketAPIStage")
    assert stage["AutoDeploy"] is True
    assert "DeploymentId" not in stage


def test_clients_get_what_broadcasts_leave_of_the_default_quota(prod: dict[str, Any]) -> None:
    settings = stack(prod).properties("WebsocketAPIStage")["DefaultRouteSettings"]
    assert int(settings["ThrottlingRateLimit"]) == 10_000 - Settings("any").broadcast_rate
    assert int(settings["ThrottlingBurstLimit"]) == 1_000


# --- alarms


def test_each_way_to_fail_has_an_alarm(prod: dict[str, Any]) -> None:
    alarms = stack(prod).of_type("AWS::CloudWatch::Alarm").values()
    watched = {
        (each["Namespace"], each["MetricName"], json.dumps([list(part.values()) for part in each["Dimensions"]]))
        for each in alarms
    }
    functions = {
        ("AWS/Lambda", metric, json.dumps([["FunctionName", {"Ref": name}]]))
        for metric in ("Errors", "Throttles")
        for name in LOGICAL_IDS.values()
    }
    api = json.dumps([["ApiId", {"Ref": "WebsocketAPI"}], ["Stage", {"Ref": "WebsocketAPIStage"}]])
    queue = json.dumps([["QueueName", {"Fn::GetAtt": ["PublishDeadLetters", "QueueName"]}]])
    assert watched == functions | {
        ("AWS/ApiGateway", "IntegrationError", api),
        ("AWS/ApiGateway", "ExecutionError", api),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", queue),
    }
    assert len(alarms) == len(watched)


def test_an_alarm_is_silent_where_nothing_happens_and_says_what_has_happened(prod: dict[str, Any]) -> None:
    for alarm in stack(prod).of_type("AWS::CloudWatch::Alarm").values():
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        assert alarm["Threshold"] >= 1
        assert alarm["AlarmDescription"].endswith(".")


# --- as a whole


def test_the_stack_says_what_clients_and_backends_need(prod: dict[str, Any]) -> None:
    outputs = {name: each["Value"] for name, each in stack(prod).outputs.items()}
    assert outputs["WebsocketConnectEndpointURL"] == {
        "Fn::Sub": "wss://${WebsocketAPI}.execute-api.${AWS::Region}.${AWS::URLSuffix}/api/"
    }
    assert outputs["TableName"] == {"Ref": "ChannelTable"}
    assert outputs["PublishFunctionName"] == {"Ref": "Publish"}
    assert outputs["PublishDeadLettersURL"] == {"Ref": "PublishDeadLetters"}


@pytest.mark.parametrize("name", ["prod", "dev", "configured"])
def test_cfn_lint_has_nothing_to_say(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(name)
    (tmp_path / "sam.json").write_text(json.dumps(made, indent=2), encoding="utf-8")
    (tmp_path / "expanded.json").write_text(json.dumps(expand(made), indent=2), encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "sam.json", "expanded.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
