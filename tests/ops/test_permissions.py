"""The functions' policies: what they say, and that it is neither more nor less than what the functions call."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import boto3
import pytest
from chalice.utils import to_cfn_resource_name
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from chalicelib import handlers, keys
from chalicelib.broadcast import YOUNG_MS
from chalicelib.model import ChannelName
from ops.permissions import GRANTS, Arns, Resource, deployed_arns, policy, template_arns
from ops.project import FUNCTIONS, load_resources, load_stage
from tests import recorder
from tests.captured import event
from tests.conftest import dynamodb_client, fill
from tests.connections import connections_endpoint
from tests.fakes import NOW
from tests.handshakes import ME, Handlers, handshake
from tests.jwks import SECRET
from tests.recorder import Call
from tests.server import Server, running_server
from tests.tokens import token_for
from tests.vault import Vault, running_aws, use

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PATIENCE = 30
SECRETS = {"JWT_SECRET_PARAMETER": "/channels/prod/jwt", "JWT_SECRET_ID": "/channels/prod/jwt"}
PLAIN = load_stage("prod")
STAGE = replace(PLAIN, variables={**PLAIN.variables, **SECRETS})
"""With both places of a secret: a real one has one of them."""
DEPLOYED = deployed_arns(STAGE, partition="aws-cn", region="cn-north-1", account="123456789012", api_id="a1b2c3d4e5")
TEMPLATE = template_arns(STAGE)

WAYS = [pytest.param(DEPLOYED, id="deployed"), pytest.param(TEMPLATE, id="template")]

HERE = "${AWS::Region}:${AWS::AccountId}"

EXCEPTIONS = ("logs", "xray")
"""Services that Lambda calls in a function's name: no handler does, and so none is seen to."""

Statement = dict[str, Any]


def statements(function: str, arns: Arns) -> list[Statement]:
    document = policy(function, arns)
    assert set(document) == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    said: list[Statement] = document["Statement"]
    return said


def text(arn: object) -> str:
    """An ARN, or its intrinsic, as what it can be compared by."""
    return json.dumps(arn, sort_keys=True)


def references(value: object) -> Iterator[str]:
    """The logical ids, and pseudo parameters, that a part of a template refers to."""
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": [str(name), *_]}:
            yield name
        case {"Fn::Sub": str(template)}:
            yield from (name.partition(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", template))
        case dict():
            for each in value.values():
                yield from references(each)
        case list():
            for each in value:
                yield from references(each)


def test_every_function_has_its_grants() -> None:
    assert set(GRANTS) == set(FUNCTIONS)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("arns", WAYS)
def test_a_statement_says_what_it_is_for_and_allows_named_actions_on_one_resource(arns: Arns, function: str) -> None:
    said = statements(function, arns)
    for statement in said:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert re.fullmatch("[A-Za-z]{4,}", statement["Sid"])  # all that IAM takes in a Sid, but digits
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            assert re.fullmatch("[a-z-]+:[A-Za-z]+", action)
    assert len({statement["Sid"] for statement in said}) == len(said)
    actions = [(action, text(statement["Resource"])) for statement in said for action in statement["Action"]]
    assert len(set(actions)) == len(actions)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("arns", WAYS)
def test_only_tracing_is_allowed_on_every_resource(arns: Arns, function: str) -> None:
    everywhere = [statement for statement in statements(function, arns) if statement["Resource"] == "*"]
    assert [statement["Action"] for statement in everywhere] == [["xray:PutTraceSegments", "xray:PutTelemetryRecords"]]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_writes_its_own_log_and_makes_no_group(function: str) -> None:
    [deployed] = [each for each in statements(function, DEPLOYED) if "logs:PutLogEvents" in each["Action"]]
    assert deployed["Action"] == ["logs:CreateLogStream", "logs:PutLogEvents"]
    group = f"log-group:/aws/lambda/channels-prod-{function}:*"
    assert deployed["Resource"] == f"arn:aws-cn:logs:cn-north-1:123456789012:{group}"


def test_what_chalice_deploys_is_named_in_full() -> None:
    table = "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/channels-prod"
    assert DEPLOYED.table == table
    assert DEPLOYED.index == f"{table}/index/by_connection"
    api = "arn:aws-cn:execute-api:cn-north-1:123456789012:a1b2c3d4e5"
    assert DEPLOYED.connections == f"{api}/api/POST/@connections/*"
    assert DEPLOYED.closing == f"{api}/api/DELETE/@connections/*"
    assert DEPLOYED.parameter == "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/channels/prod/jwt"
    assert DEPLOYED.secret == "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:/channels/prod/jwt-??????"
    assert DEPLOYED.publish == "arn:aws-cn:lambda:cn-north-1:123456789012:function:channels-prod-publish"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_iam_is_sent_nothing_but_text(function: str) -> None:
    for statement in statements(function, DEPLOYED):
        assert isinstance(statement["Resource"], str)
        assert "$" not in statement["Resource"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_while_there_is_no_api_nothing_is_said_of_connections(function: str) -> None:
    before = deployed_arns(STAGE, partition="aws", region="eu-west-1", account="123456789012", api_id=None)
    assert not [each for each in statements(function, before) if "execute-api" in text(each)]
    assert "None" not in text(statements(function, before))


def test_a_secret_that_is_named_by_its_arn_is_that_one() -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:jwt-a1b2c3"
    stage = replace(PLAIN, variables={**PLAIN.variables, "JWT_SECRET_ID": arn})
    assert template_arns(stage).secret == arn


@pytest.mark.parametrize("function", FUNCTIONS)
def test_where_no_secret_is_configured_none_may_be_read(function: str) -> None:
    said = statements(function, template_arns(PLAIN))
    assert not [each for each in said if "ssm" in text(each) or "secretsmanager" in text(each)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_in_a_template_a_role_depends_on_nothing_that_depends_on_a_function(function: str) -> None:
    """A function depends on its role. The table and the API depend on nothing; a stage of the API does."""
    named = set(references(policy(function, TEMPLATE)))
    pseudo = {name for name in named if name.startswith("AWS::")}
    assert pseudo == {"AWS::Partition", "AWS::Region", "AWS::AccountId", "AWS::StackName"}
    assert named - pseudo <= {"ChannelTable", "WebsocketAPI"}


def test_in_a_template_the_table_is_the_one_of_resources_json() -> None:
    assert load_resources()["Resources"]["ChannelTable"]["Type"] == "AWS::DynamoDB::Table"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_in_a_template_functions_and_their_log_groups_have_the_names_that_resources_json_gives_them(
    function: str,
) -> None:
    given = load_resources()["Resources"][to_cfn_resource_name(function)]["Properties"]["FunctionName"]["Fn::Sub"]
    group = f"log-group:/aws/lambda/{given}:*"
    assert TEMPLATE.log_groups[function] == {"Fn::Sub": f"arn:${{AWS::Partition}}:logs:{HERE}:{group}"}
    if function == "publish":
        assert TEMPLATE.publish == {"Fn::Sub": f"arn:${{AWS::Partition}}:lambda:{HERE}:function:{given}"}


def test_in_a_template_connections_are_those_of_the_api_and_of_its_stage() -> None:
    posts = "${WebsocketAPI}/api/POST/@connections/*"
    assert TEMPLATE.connections == {"Fn::Sub": f"arn:${{AWS::Partition}}:execute-api:{HERE}:{posts}"}


# --- beside what the functions call


def ask(socket: Connection, frame: object) -> Any:
    """Sends a frame; returns the next one that comes, JSON where it is an object, else text."""
    socket.send(json.dumps(frame))
    answer = str(socket.recv(PATIENCE))
    return json.loads(answer) if answer.startswith("{") else answer


def invoke_publish(server: Server, event: object) -> Any:
    with closing(
        boto3.client(
            "lambda",
            endpoint_url=server.http,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
    ) as client:
        answer = client.invoke(FunctionName="channels-dev-publish", Payload=json.dumps(event))
        return json.loads(answer["Payload"].read())


def fill_with_members_that_are_gone(server: Server, *channels: str) -> None:
    """More of them than fit one page, so that part of the rest is handed on."""
    names = [f"IU3k{number:05}AAMCJw=" for number in range(1_300)]
    with closing(dynamodb_client(server.store)) as store:
        for channel in channels:
            fill(store, "channels-dev", ChannelName(channel), names, joined_at=NOW - 2 * YOUNG_MS)


def converse(server: Server) -> None:
    """All that functions do, in each dialect: whatever other tests ran, this shows everything that is called."""
    fill_with_members_that_are_gone(server, "crowd", "hall")
    with connect(server.url) as friend, connect(f"{server.url}?room=lobby") as editor:
        assert ask(friend, {"type": "message", "data": "hello"}) == "hello"
        for to_its_room in ({"action": "message", "messageBody": "hello"}, {"action": "chat", "message": "hello"}):
            assert ask(editor, {**to_its_room, "ack": True})["type"] == "ack"
        editor.send('{"type":"subscribe","topics":["doc"]}')  # which leaves the home channel
        signal = {"type": "publish", "topic": "doc", "data": "hello"}
        assert ask(editor, signal) == {**signal, "clients": 1}
    with connect(f"{server.url}?room=") as page:
        assert ask(page, {"action": "joinchannel", "channel": "news"})["channel"] == "news"
        assert ask(page, {"action": "leavechannel", "channel": "news"})["left"]
        assert ask(page, {"action": "leavechannel", "channel": "news"})["left"]  # which leaves a tombstone
        ack = ask(page, {"action": "sendmessage", "channel": "crowd", "message": "hello", "ack": True})
        assert ack["handed_on"] == 1
        assert ack["stale"] > 0
    order = {"channel": "hall", "message": "hello", "id": "order-5"}
    sent = invoke_publish(server, order)
    assert sent["handed_on"] == 1
    assert sent["stale"] > 0
    assert invoke_publish(server, order)["already_sent"]  # whose claim is held by the one before


def go_over_limits(server: Server) -> None:
    """A client that joins too many channels, and is closed for it."""
    with connect(f"{server.url}?room=") as client:
        assert ask(client, {"action": "joinchannel", "channel": "a"})["channel"] == "a"
        client.send(json.dumps({"action": "joinchannel", "channel": "b"}))
        with pytest.raises(ConnectionClosed):
            while True:
                client.recv(PATIENCE)


def show_tokens(store: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """At connecting and later, with the secret in either place."""
    with running_aws() as vault, connections_endpoint() as clients:
        for service, variable in (("ssm", "JWT_SECRET_PARAMETER"), ("secretsmanager", "JWT_SECRET_ID")):
            with monkeypatch.context() as patch:
                use(patch, vault)
                Vault(service).keep(SECRET)
                made = Handlers(store, patch, {"AUTHENTICATION": "HS256", variable: "jwt"}, f"{clients.url}/api")
                made.lets_in(handshake([("Authorization", f"Bearer {token_for('ada')}")]))
                handlers._assembled.cache_clear()  # another Lambda, which has read no secret yet
                renewal = json.dumps({"action": "authenticate", "token": token_for("ada")})
                made.message(event("message", body=renewal, connectionId=ME))
                [answer] = clients.posts.pop(ME)
                assert json.loads(answer)["action"] == "authenticate"
    keys._client.cache_clear()


@pytest.fixture(scope="module", name="recorded")
def what_was_recorded(recording: Path, ministack: DynamoDBClient) -> set[Call]:
    """What the functions have been seen to call in the conversations above, and in all tests that ran before."""
    two_invocations_for_each_sending = {"BROADCAST_RATE": "8000", "INVOCATION_RATE": "4000"}
    with running_server(env=two_invocations_for_each_sending) as server:
        converse(server)
    with running_server(env={"MAX_CHANNELS": "1", "STRIKES": "1"}) as server:
        go_over_limits(server)
    with pytest.MonkeyPatch.context() as monkeypatch:
        show_tokens(ministack, monkeypatch)
    return recorder.read(recording)


@pytest.mark.parametrize("arns", WAYS)
def test_the_policies_allow_what_the_functions_call_and_nothing_else(recorded: set[Call], arns: Arns) -> None:
    names = {text(getattr(arns, resource)): resource for resource in get_args(Resource)}
    allowed = {
        Call(function, action, names[text(statement["Resource"])])
        for function in FUNCTIONS
        for statement in statements(function, arns)
        for action in statement["Action"]
        if not action.startswith(tuple(f"{service}:" for service in EXCEPTIONS))
    }
    assert recorded - allowed == set(), "called, and not allowed: GRANTS in ops/permissions.py says too little"
    assert allowed - recorded == set(), "allowed, and never called: GRANTS in ops/permissions.py says too much"
