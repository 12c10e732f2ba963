"""What tests do to what is deployed, as the account's root: call it, and take something from it for a while."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .emulator import Emulator


def invoke(aws: Emulator, function: str, event: Any) -> Any:
    """Calls a function, and returns what it does, which must not be to fail."""
    answer = aws.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    assert "FunctionError" not in answer
    return json.load(answer["Payload"])


@contextmanager
def denied(aws: Emulator, function: str, action: str) -> Iterator[None]:
    """Meanwhile that function's role lacks that one right. The emulator looks at its policy for each request anew."""
    iam = aws.client("iam")
    role = aws.client("lambda").get_function_configuration(FunctionName=function)["Role"].rpartition("/")[2]
    [name] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    policy = {"RoleName": role, "PolicyName": name}
    whole = iam.get_role_policy(**policy)["PolicyDocument"]
    rest = [{**each, "Action": [one for one in each["Action"] if one != action]} for each in whole["Statement"]]
    assert rest != whole["Statement"]
    less = {**whole, "Statement": [each for each in rest if each["Action"]]}
    iam.put_role_policy(**policy, PolicyDocument=json.dumps(less))
    try:
        yield
    finally:
        iam.put_role_policy(**policy, PolicyDocument=json.dumps(whole))


@contextmanager
def configured(aws: Emulator, function: str, **variables: str) -> Iterator[None]:
    """Meanwhile that function has those environment variables besides."""
    client = aws.client("lambda")
    whole = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    client.update_function_configuration(FunctionName=function, Environment={"Variables": {**whole, **variables}})
    try:
        yield
    finally:
        client.update_function_configuration(FunctionName=function, Environment={"Variables": whole})
