"""How tests call Lambda's Invoke API."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.localaws import signed
from tests.localaws.tiny import Tiny


def client(tiny: Tiny) -> Any:
    """boto3's client, which does not repeat itself."""
    return boto3.client(
        "lambda",
        endpoint_url=tiny.server.http,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )


def call(tiny: Tiny, function: str, event: object = None, **more: Any) -> Any:
    """boto3's answer, its payload read."""
    answer = client(tiny).invoke(FunctionName=f"tiny-dev-{function}", Payload=json.dumps(event), **more)
    return {**answer, "Payload": answer["Payload"].read()}


def result(tiny: Tiny, function: str, event: object = None) -> Any:
    """What the function returned."""
    answer = call(tiny, function, event)
    assert "FunctionError" not in answer, answer
    return json.loads(answer["Payload"])


def refusal(tiny: Tiny, **parameters: Any) -> tuple[int, str, str]:
    """The status, code and message of boto3's error."""
    with pytest.raises(ClientError) as refused:
        client(tiny).invoke(**parameters)
    response = refused.value.response
    error = response["Error"]
    return response["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error["Message"]


def request(tiny: Tiny, method: str, path: str, body: bytes = b"") -> signed.Answer:
    """The answer to a request that boto3 would not send so."""
    return signed.ask(tiny.server.port, method, path, body, "lambda")
