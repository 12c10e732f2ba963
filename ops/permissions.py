"""What each of the four functions may do on AWS, and the IAM policies that say so, for both ways of a deployment.

GRANTS is all that there is to it: one row for each thing that a function does. A test holds it against what the
functions are seen to call, so that it allows neither more nor less. (What Lambda itself sends to a template's queue is
granted beside that queue, in .chalice/resources.json.) Knows IAM's actions, and what the resources' ARNs are; knows no
file and calls nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .project import FUNCTIONS, Stage

Resource: TypeAlias = Literal["table", "index", "connections", "closing", "publish", "parameter", "secret"]
"""What is granted: a field of Arns."""

Arn: TypeAlias = str | Mapping[str, Any]
"""An ARN, or what CloudFormation makes one of."""


@dataclass(frozen=True)
class Grant:
    """Some actions on one resource, and what they are for."""

    purpose: str
    """The statement's Sid: letters and digits."""
    resource: Resource
    actions: tuple[str, ...]


_READ_PARAMETER = Grant("ReadTheSecretOfTokens", "parameter", ("ssm:GetParameter",))
_READ_SECRET = Grant("ReadTheSecretOfTokensInSecretsManager", "secret", ("secretsmanager:GetSecretValue",))
_POST = Grant("PostToConnections", "connections", ("execute-api:ManageConnections",))
_HAND_ON = Grant("HandOnWhatIsLeft", "publish", ("lambda:InvokeFunction",))
_READ_MEMBERS = Grant("ReadMembers", "table", ("dynamodb:Query",))
_FORGET_MEMBERS = Grant("ForgetMembersThatAreGone", "table", ("dynamodb:BatchWriteItem",))

GRANTS: Mapping[str, tuple[Grant, ...]] = {
    "websocket_connect": (
        Grant("RecordTheConnection", "table", ("dynamodb:BatchWriteItem",)),
        _READ_PARAMETER,
        _READ_SECRET,
    ),
    "websocket_message": (
        Grant("FindTheSender", "table", ("dynamodb:GetItem",)),
        Grant("Join", "table", ("dynamodb:UpdateItem",)),
        Grant("Leave", "table", ("dynamodb:DeleteItem",)),
        Grant("LeaveTombstonesAndClaims", "table", ("dynamodb:PutItem",)),
        Grant("FindTheChannelsOfTheSender", "index", ("dynamodb:Query",)),
        _READ_MEMBERS,
        _FORGET_MEMBERS,
        _POST,
        Grant("CloseConnectionsOverTheirLimits", "closing", ("execute-api:ManageConnections",)),
        _HAND_ON,
        _READ_PARAMETER,
        _READ_SECRET,
    ),
    "websocket_disconnect": (
        Grant("FindWhatTheConnectionHas", "index", ("dynamodb:Query",)),
        Grant("RemoveWhatTheConnectionHas", "table", ("dynamodb:BatchWriteItem",)),
    ),
    "publish": (
        Grant("ReadTheAddressAndClaims", "table", ("dynamodb:GetItem",)),
        Grant("ClaimWhatIsSent", "table", ("dynamodb:PutItem",)),
        _READ_MEMBERS,
        _FORGET_MEMBERS,
        _POST,
        _HAND_ON,
    ),
}
"""By function. A publish function may invoke itself: it goes on in the next invocation."""

LOG_ACTIONS = ("logs:CreateLogStream", "logs:PutLogEvents")
"""What Lambda does in a function's name. The log group is made by Chalice, on both ways, since config.json names a
retention; a function that could make it would make one that is kept for ever.
"""

XRAY_ACTIONS = ("xray:PutTraceSegments", "xray:PutTelemetryRecords")
"""The only actions that know no resource
(https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html)."""

INDEX = "by_connection"


@dataclass(frozen=True)
class Arns:
    """Where the resources are."""

    table: Arn
    index: Arn
    connections: Arn | None
    """All connections of the API, to be posted to; None while there is no API."""
    closing: Arn | None
    """The same, to be closed."""
    publish: Arn
    parameter: Arn | None
    """JWT_SECRET_PARAMETER in SSM; None where the stage has none."""
    secret: Arn | None
    """JWT_SECRET_ID in Secrets Manager; None where the stage has none."""
    log_groups: Mapping[str, Arn]
    """By function."""


def policy(function: str, arns: Arns) -> dict[str, Any]:
    """The policy of one of FUNCTIONS, as IAM takes it. Nothing is said of what there is not."""
    granted = ((grant, getattr(arns, grant.resource)) for grant in GRANTS[function])
    return {
        "Version": "2012-10-17",
        "Statement": [
            *(_allow(grant.purpose, grant.actions, arn) for grant, arn in granted if arn is not None),
            _allow("WriteItsOwnLog", LOG_ACTIONS, arns.log_groups[function]),
            _allow("Trace", XRAY_ACTIONS, "*"),
        ],
    }


def deployed_arns(stage: Stage, *, partition: str, region: str, account: str, api_id: str | None) -> Arns:
    """What `chalice deploy` makes, and the table, by their names."""

    def arn(service: str, resource: str) -> str:
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    return Arns(
        table=arn("dynamodb", f"table/{stage.table}"),
        index=arn("dynamodb", f"table/{stage.table}/index/{INDEX}"),
        connections=None if api_id is None else arn("execute-api", _connections(api_id, stage, "POST")),
        closing=None if api_id is None else arn("execute-api", _connections(api_id, stage, "DELETE")),
        publish=arn("lambda", f"function:{stage.function('publish')}"),
        parameter=_of_tokens(stage, arn, *_PARAMETER),
        secret=_of_tokens(stage, arn, *_SECRET),
        log_groups={name: arn("logs", _streams(stage.function(name))) for name in FUNCTIONS},
    )


def template_arns(stage: Stage) -> Arns:
    """What CloudFormation makes, by the logical ids that Chalice gives its resources.

    A function depends on its role, and so its role on nothing that depends on the function: functions are given by the
    names that .chalice/resources.json gives them. So is the stage, which depends on all of the API's routes.
    """

    def arn(service: str, resource: str) -> Arn:
        return {"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}"}

    def named(function: str) -> str:
        return f"${{AWS::StackName}}_{function}"

    return Arns(
        table={"Fn::GetAtt": ["ChannelTable", "Arn"]},
        index={"Fn::Sub": f"${{ChannelTable.Arn}}/index/{INDEX}"},
        connections=arn("execute-api", _connections("${WebsocketAPI}", stage, "POST")),
        closing=arn("execute-api", _connections("${WebsocketAPI}", stage, "DELETE")),
        publish=arn("lambda", f"function:{named('publish')}"),
        parameter=_of_tokens(stage, arn, *_PARAMETER),
        secret=_of_tokens(stage, arn, *_SECRET),
        log_groups={name: arn("logs", _streams(named(name))) for name in FUNCTIONS},
    )


def _allow(purpose: str, actions: Iterable[str], arn: Arn) -> dict[str, Any]:
    return {"Sid": purpose, "Effect": "Allow", "Action": list(actions), "Resource": arn}


def _connections(api_id: str, stage: Stage, method: str) -> str:
    return f"{api_id}/{stage.gateway_stage}/{method}/@connections/*"


_PARAMETER = ("JWT_SECRET_PARAMETER", "ssm", "parameter/{}")
_SECRET = ("JWT_SECRET_ID", "secretsmanager", "secret:{}-??????")
"""A variable, its service, and how that calls what the variable names. Secrets Manager adds six characters
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_iam-policies.html), and keeps a slash that
a name begins with, as Systems Manager does not.
"""


def _of_tokens(stage: Stage, arn: Callable[[str, str], Arn], variable: str, service: str, resource: str) -> Arn | None:
    name = stage.variables.get(variable)
    if not name:
        return None
    if name.startswith("arn:"):
        return name
    return arn(service, resource.format(name.removeprefix("/") if service == "ssm" else name))


def _streams(function: str) -> str:
    return f"log-group:/aws/lambda/{function}:*"
